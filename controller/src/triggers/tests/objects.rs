//! Objects below prefixes.

use super::*;

fn put(folder: &Path, names: impl IntoIterator<Item = String>) {
    for name in names {
        let path: PathBuf = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, "x").expect("written");
    }
}

fn objects(prefix: &str, changed: bool) -> When {
    When::Objects(Objects {
        source: "lab".into(),
        prefix: prefix.into(),
        matching: vec!["*.bag".into()],
        changed,
        existing: false,
        input: None,
        per_hour: PER_HOUR,
    })
}

#[tokio::test]
async fn a_thousand_new_objects_fire_a_thousand_jobs_over_restarts() {
    let bench = Bench::new().await;
    let incoming = bench.folder.path().join("incoming");
    put(&incoming, ["in/old.bag".to_owned()]);
    let mut spec = trigger("bags", objects("in/", false));
    spec.set.insert("FILE".into(), Setting::Payload("/key".into()));
    bench.apply(spec).await;
    put(&incoming, (0..1_000).map(|n| format!("in/{n:04}.bag")));
    put(&incoming, ["in/readme.txt".to_owned(), "in/deep/x.bag".to_owned(), "other/y.bag".to_owned()]);
    assert!(bench.triggers.look_at_objects().await.expect("looked"), "a batch is not all of them");
    // It dies after half of them were noted, and before any of those has its job.
    let bench = bench.reopen().await;
    let rows = bench.jobs.pending_firings(Timestamp::now(), 200).await.expect("read");
    assert_eq!(rows.len(), 200);
    while bench.triggers.look_at_objects().await.expect("looked") {}
    bench.triggers.fire_pending().await.expect("fired");
    let bench = bench.reopen().await;
    while bench.triggers.look_at_objects().await.expect("looked") {}
    bench.triggers.fire_pending().await.expect("fired");
    let jobs = bench.jobs.list(&jobs::JobFilter::default(), 5_000, "").await.expect("listed").items;
    let mut keys: Vec<_> = jobs.iter().map(|job| job.spec.env["FILE"].clone()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!((jobs.len(), keys.len()), (1_000, 1_000));
    assert_eq!((keys[0].as_str(), keys[999].as_str()), ("in/0000.bag", "in/0999.bag"));
    // A late one with an early name is seen too; one that comes again is new.
    put(&incoming, ["in/0.bag".to_owned()]);
    bench.triggers.look_at_objects().await.expect("looked");
    bench.triggers.fire_pending().await.expect("fired");
    assert_eq!(bench.history("bags").await[0].cause, "in/0.bag");
}

#[tokio::test]
async fn an_object_that_is_written_again_fires_only_if_that_is_asked_for() {
    let bench = Bench::new().await;
    let incoming = bench.folder.path().join("incoming");
    bench.apply(trigger("new", objects("in/", false))).await;
    bench.apply(trigger("changed", objects("in/", true))).await;
    put(&incoming, ["in/a.bag".to_owned()]);
    bench.triggers.look_at_objects().await.expect("looked");
    std::fs::write(incoming.join("in/a.bag"), "longer").expect("written");
    bench.triggers.look_at_objects().await.expect("looked");
    bench.triggers.look_at_objects().await.expect("looked");
    assert_eq!((bench.history("new").await.len(), bench.history("changed").await.len()), (1, 2));
    std::fs::remove_dir_all(&incoming).expect("removed");
    bench.triggers.look_at_objects().await.expect("looked");
    let problem = bench.triggers.get("default", "new").await.expect("there").problem;
    assert!(problem.expect("told").contains("cannot be read"));
}

#[tokio::test]
async fn one_that_is_disabled_is_silent_and_goes_on_from_when_it_is_enabled() {
    let bench = Bench::new().await;
    let incoming = bench.folder.path().join("incoming");
    bench.apply(trigger("bags", objects("in/", false))).await;
    bench.apply(trigger("clock", cron("* * * * *", "UTC", Missed::All))).await;
    bench.apply(trigger("after", ends_of("*", &["cancelled"]))).await;
    for name in ["bags", "clock", "after"] {
        bench.triggers.enable("default", name, false).await.expect("disabled");
    }
    put(&incoming, ["in/a.bag".to_owned()]);
    let mut plain = job();
    plain.name = Some("plain".into());
    let gone = bench.submit(plain).await;
    bench.cancel(gone).await;
    let later = Timestamp::now().plus(HOUR);
    let look = async || {
        bench.triggers.tick(later).await.expect("ticked");
        bench.triggers.look_at_objects().await.expect("looked");
        bench.ends().await;
    };
    look().await;
    bench.since("clock", later).await;
    for name in ["bags", "after"] {
        bench.triggers.enable("default", name, true).await.expect("enabled");
    }
    look().await;
    for name in ["bags", "clock", "after"] {
        assert_eq!(bench.history(name).await.len(), 0, "{name}");
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_keeps_no_clock_waiting() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("its address"));
    let bench = Bench::on(tempfile::tempdir().expect("a folder"), 0, Some(&endpoint)).await;
    bench.apply(trigger("hourly", cron("0 * * * *", "UTC", Missed::Once))).await;
    bench.since("hourly", Timestamp::from_micros(NEW_YEAR)).await;
    let spec = trigger("slow", objects_of("bucket"));
    let applying = bench.triggers.apply("default", vec![spec], &bench.owner, false);
    tokio::pin!(applying);
    let asked = std::thread::spawn(move || silent.accept().expect("it is asked"));
    while !asked.is_finished() {
        assert!(futures::poll!(&mut applying).is_pending(), "the store has not answered");
        tokio::task::yield_now().await;
    }
    bench.triggers.tick(Timestamp::from_micros(NEW_YEAR).plus(HOUR)).await.expect("ticked");
    assert_eq!(bench.history("hourly").await.len(), 1);
    assert!(futures::poll!(&mut applying).is_pending(), "it still has not");
}

#[tokio::test]
async fn a_key_that_leads_out_of_its_bucket_is_nobody_s_input() {
    let bench = Bench::on(tempfile::tempdir().expect("a folder"), 0, Some("http://127.0.0.1:9")).await;
    let When::Objects(mut objects) = objects_of("bucket") else { unreachable!("it is of objects") };
    objects.existing = true;
    objects.input = Some("bag".into());
    objects.prefix = "in/".into();
    bench.apply(trigger("t", When::Objects(objects))).await;
    for key in ["in/../../results/x", "in/./x", "in/.."] {
        let payload = json!({ "key": key });
        let firing = bench.triggers.fire(("default", "t"), payload, "test", None).await.expect("answered");
        assert_eq!(firing.state(), FiringState::Refused, "{key}");
        assert!(firing.reason.contains("no address names it"), "{}", firing.reason);
        let signed = bench.triggers.sources().sign(&format!("object://bucket/{key}"), "default", HOUR);
        assert!(signed.is_err(), "{signed:?}");
    }
    let payload = json!({ "key": "in/..a" });
    let firing = bench.triggers.fire(("default", "t"), payload, "test", None).await.expect("answered");
    assert_eq!(firing.state(), FiringState::Fired, "{}", firing.reason);
}

#[tokio::test]
async fn a_folder_that_is_away_for_a_while_brings_nothing_new() {
    let bench = Bench::new().await;
    let incoming = bench.folder.path().join("incoming");
    let away = bench.folder.path().join("away");
    put(&incoming, (0..20).map(|n| format!("in/{n}.bag")));
    bench.apply(trigger("bags", objects("in/", false))).await;
    std::fs::rename(&incoming, &away).expect("unmounted");
    std::fs::create_dir(&incoming).expect("an empty mount point");
    bench.triggers.look_at_objects().await.expect("looked");
    std::fs::remove_dir(&incoming).expect("mounted over");
    std::fs::rename(&away, &incoming).expect("mounted");
    for _ in 0..2 {
        bench.triggers.look_at_objects().await.expect("looked");
    }
    assert!(bench.history("bags").await.is_empty());
    // One that was taken away and comes back as another is new.
    std::fs::remove_file(incoming.join("in/3.bag")).expect("removed");
    bench.triggers.look_at_objects().await.expect("looked");
    std::fs::write(incoming.join("in/3.bag"), "another").expect("written");
    bench.triggers.look_at_objects().await.expect("looked");
    assert_eq!(bench.history("bags").await[0].cause, "in/3.bag");
    // The remembering ends for what was taken away long ago, not for what a place holds that is away itself.
    let day = |row: &TriggerRow| store::Record {
        gone: Some((Timestamp::now().minus(HOUR * 25), vec![(row.id, "in/5.bag".into())])),
        ..store::Record::default()
    };
    let row = bench.triggers.row("default", "bags").expect("there");
    std::fs::remove_file(incoming.join("in/5.bag")).expect("removed");
    bench.jobs.record_firings(day(&row)).await.expect("noted");
    bench.triggers.look_at_objects().await.expect("looked");
    let names: Vec<_> =
        bench.jobs.seen_by(row.id).await.expect("read").into_iter().map(|one| one.name).collect();
    assert!(names.len() == 19 && !names.contains(&"in/5.bag".to_owned()), "{names:?}");
}

#[tokio::test]
async fn what_was_there_fires_once_however_often_the_trigger_is_switched_or_changed() {
    let bench = Bench::new().await;
    let incoming = bench.folder.path().join("incoming");
    put(&incoming, (0..5).map(|n| format!("in/{n}.bag")));
    let existing = |changed, prefix: &str| {
        let When::Objects(mut asked) = objects(prefix, changed) else { unreachable!("it is of objects") };
        asked.existing = true;
        trigger("bags", When::Objects(asked))
    };
    bench.apply(existing(false, "in/")).await;
    let look = async |expected: u32| {
        bench.triggers.look_at_objects().await.expect("looked");
        bench.triggers.fire_pending().await.expect("fired");
        assert_eq!(
            bench.jobs.list(&jobs::JobFilter::default(), 500, "").await.expect("listed").items.len(),
            expected as usize
        );
    };
    look(5).await;
    let ids: Vec<_> = bench
        .jobs
        .list(&jobs::JobFilter::default(), 500, "")
        .await
        .expect("listed")
        .items
        .iter()
        .map(|job| job.id)
        .collect();
    for id in &ids {
        bench.cancel(*id).await;
    }
    bench.jobs.remove(ids).await.expect("removed");
    assert_eq!(bench.jobs.forget_firings(0, Timestamp::now().plus(HOUR)).await.expect("done"), 5);
    bench.triggers.enable("default", "bags", false).await.expect("disabled");
    put(&incoming, ["in/meanwhile.bag".to_owned()]);
    bench.triggers.enable("default", "bags", true).await.expect("enabled");
    look(0).await;
    bench.apply(existing(true, "in/")).await;
    look(0).await;
    put(&incoming, ["in/new.bag".to_owned()]);
    look(1).await;
    // Elsewhere it begins anew.
    put(&incoming, ["other/a.bag".to_owned()]);
    bench.apply(existing(true, "other/")).await;
    look(2).await;
}

#[tokio::test]
async fn a_loop_through_a_prefix_is_held_by_the_hour() {
    let bench = Bench::new().await;
    let incoming = bench.folder.path().join("incoming");
    let When::Objects(mut asked) = objects("in/", false) else { unreachable!("it is of objects") };
    asked.per_hour = 7;
    bench.apply(trigger("bags", When::Objects(asked))).await;
    for round in 0..20 {
        put(&incoming, [format!("in/{round}.bag")]);
        assert!(!bench.triggers.look_at_objects().await.expect("looked"), "it is not asked again at once");
        bench.triggers.fire_pending().await.expect("fired");
    }
    assert_eq!(bench.history("bags").await.len(), 7);
    let problem = bench.triggers.get("default", "bags").await.expect("there").problem.expect("told");
    assert!(problem.contains("7 objects fired within the hour") && problem.contains("`in/`"), "{problem}");
    // Those that wait are let go by the obvious word, and by no other change forgotten.
    let change = async |per_hour, globs: &[&str]| {
        let When::Objects(mut asked) = objects("in/", false) else { unreachable!("it is of objects") };
        asked.per_hour = per_hour;
        asked.matching = globs.iter().map(|glob| (*glob).to_owned()).collect();
        bench.apply(trigger("bags", When::Objects(asked))).await;
        bench.triggers.look_at_objects().await.expect("looked");
    };
    put(&incoming, ["in/old.txt".to_owned()]);
    change(7, &["*.bag", "*.txt"]).await;
    change(100, &["*.bag", "*.txt"]).await;
    let history = bench.history("bags").await;
    assert_eq!(history.len(), 20);
    assert!(
        history.iter().all(|firing| firing.cause.ends_with(".bag")),
        "what is newly looked at goes on from now"
    );
    put(&incoming, ["in/new.txt".to_owned()]);
    bench.triggers.look_at_objects().await.expect("looked");
    assert_eq!(bench.history("bags").await[0].cause, "in/new.txt");
}
