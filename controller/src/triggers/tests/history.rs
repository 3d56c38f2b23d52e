//! What is remembered, and for how long.

use super::*;

#[tokio::test]
async fn the_history_is_bounded_and_keeps_what_jobs_were_told() {
    let bench = Bench::new().await;
    bench.apply(trigger("t", hook(60))).await;
    let fired = bench.triggers.fire(("default", "t"), json!({"a": 1}), "test", None).await.expect("fired");
    let origin = bench.job_of(&fired).await.spec.trigger.clone().expect("an origin");
    let later = Timestamp::now().plus(HOUR);
    assert_eq!(bench.jobs.forget_firings(0, later).await.expect("done"), 0, "its job is there");
    bench.triggers.remove("default", "t").await.expect("removed");
    let file = bench.triggers.file_of("default", &origin).await.expect("read").expect("still told");
    assert!(file.contains("\"a\":1"), "{file}");
    let job = bench.job_of(&fired).await;
    bench.cancel(job.id).await;
    bench.jobs.remove(vec![job.id]).await.expect("removed");
    assert_eq!(bench.jobs.forget_firings(0, later).await.expect("done"), 1);
    assert_eq!(bench.triggers.file_of("default", &origin).await.expect("read"), None);
}

#[tokio::test]
async fn a_full_disk_gets_no_payloads() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(folder).await;
    bench.apply(trigger("t", hook(60))).await;
    bench.apply(trigger("new", objects_of("lab"))).await;
    bench.apply(trigger("ends", ends_of("x", &["cancelled"]))).await;
    std::fs::write(bench.folder.path().join("incoming/a"), "x").expect("written");
    let Bench { triggers, jobs, identity, folder, store, .. } = bench;
    drop((triggers, jobs, identity));
    store.close().await;
    let bench = Bench::on(folder, u64::MAX, None).await;
    let mut ended = job();
    ended.name = Some("x".into());
    let ended = bench.submit(ended).await;
    bench.cancel(ended).await;
    let full = bench.triggers.fire(("default", "t"), json!({}), "test", None).await.expect_err("full");
    assert!(full.is_transient() && full.to_string().contains("free some space"), "{full}");
    bench.triggers.look_at_objects().await.expect("looked");
    bench.ends().await;
    for name in ["t", "new", "ends"] {
        assert!(bench.history(name).await.is_empty(), "{name}");
    }
    let bench = bench.reopen().await;
    bench.triggers.look_at_objects().await.expect("looked");
    bench.ends().await;
    for name in ["new", "ends"] {
        assert_eq!(bench.states(name).await, [FiringState::Fired], "{name}");
    }
}

#[tokio::test]
async fn what_a_removed_trigger_left_goes_with_its_jobs() {
    let bench = Bench::new().await;
    bench.apply(trigger("t", hook(60))).await;
    let fired = bench.triggers.fire(("default", "t"), json!({"a": 1}), "test", None).await.expect("fired");
    let later = Timestamp::now().plus(HOUR);
    bench.triggers.remove("default", "t").await.expect("removed");
    assert_eq!(bench.jobs.forget_firings(1_000, later).await.expect("done"), 0, "its job is there");
    let job = bench.job_of(&fired).await;
    bench.cancel(job.id).await;
    bench.jobs.remove(vec![job.id]).await.expect("removed");
    assert_eq!(bench.jobs.forget_firings(1_000, later).await.expect("done"), 1);
    assert_eq!(bench.jobs.firing_payload(fired.id).await.expect("read"), None);
}
