//! Triggers over a real store, with a clock that the tests turn.

use super::*;
use crate::{
    actions::Asked,
    identity::{self, Project, Token},
    jobs::{self, NewJob},
    secrets,
    store::{self, FiringState, Store},
};
use longshore_common::{
    access::Role,
    action::{Action, ActionRef, Parameter},
    clock::Timestamp,
    ids::JobId,
    job::{Input, JobSpec, JobState},
    shutdown::Shutdown,
    trigger::{
        Completion, Cron, Kind, MAX_DEPTH, Missed, Objects, Overlap, Run, Setting, Signature, TriggerSpec,
        Webhook, When,
    },
};
use ring::hmac;
use serde_json::json;
use std::path::{Path, PathBuf};

struct Bench {
    triggers: Triggers,
    jobs: Jobs,
    identity: Identity,
    owner: Token,
    folder: tempfile::TempDir,
    store: Store,
}

impl Bench {
    async fn new() -> Self {
        Self::open(tempfile::tempdir().expect("a folder")).await
    }

    async fn open(folder: tempfile::TempDir) -> Self {
        let path = folder.path().join("longshore.db");
        let store = loop {
            match Store::open(&store::Config { path: path.clone(), ..store::Config::default() }).await {
                Ok(store) => break store,
                // The old writer is about to drop its handle.
                Err(store::Error::Locked { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        let jobs = Jobs::start(store.clone(), jobs::Config::default()).await.expect("jobs");
        let (shutdown, limits) = (Shutdown::new(), identity::Config::default());
        let identity =
            Identity::start(&jobs, folder.path(), &limits, shutdown.clone()).await.expect("identity");
        let secrets =
            Secrets::start(&jobs, &secrets::Config::default(), folder.path()).await.expect("secrets");
        let incoming = folder.path().join("incoming");
        std::fs::create_dir_all(&incoming).expect("a folder");
        let source = SourceConfig {
            name: "lab".into(),
            projects: Vec::new(),
            endpoint: None,
            bucket: String::new(),
            region: None,
            access_key: String::new(),
            secret_key_file: None,
            directory: Some(incoming),
        };
        let parts = Parts {
            jobs: jobs.clone(),
            identity: identity.clone(),
            secrets,
            disk: Disk::watch(folder.path(), 0, shutdown),
            sources: Sources::open(&[source], None).expect("a source"),
        };
        let triggers = Triggers::start(parts, Config::default()).await.expect("triggers");
        let owner = match identity.tokens(None).into_iter().find(|token| token.name == "anna") {
            Some(owner) => owner,
            None => identity.create_token("anna", Role::Submitter, None, None, "test").await.expect("made").1,
        };
        Self { triggers, jobs, identity, owner, folder, store }
    }

    /// The process ends and another one takes over.
    async fn reopen(self) -> Self {
        let Self { triggers, jobs, identity, folder, store, .. } = self;
        drop((triggers, jobs, identity));
        store.close().await;
        Self::open(folder).await
    }

    async fn apply(&self, spec: TriggerSpec) -> Applied {
        let mut applied =
            self.triggers.apply("default", vec![spec], &self.owner, false).await.expect("applied");
        applied.pop().expect("one")
    }

    async fn history(&self, name: &str) -> Vec<FiringView> {
        self.triggers.history("default", name, None, 500).await.expect("listed")
    }

    async fn states(&self, name: &str) -> Vec<FiringState> {
        self.history(name).await.iter().map(FiringView::state).collect()
    }

    async fn ends(&self) {
        while self.triggers.look_at_ends(&mut 0).await.expect("looked") {}
        self.triggers.fire_pending().await.expect("fired");
    }

    async fn submit(&self, spec: JobSpec) -> JobId {
        let new = NewJob {
            request_id: None,
            project: "default".into(),
            spec,
            retry_of: None,
            own: vec![],
            submitter: None,
        };
        let mut done = self.jobs.submit(vec![new]).await.expect("answered");
        done.pop().expect("one").expect("taken").job.id
    }

    async fn cancel(&self, job: JobId) {
        self.jobs.cancel(vec![job], "test", "over").await.expect("cancelled");
    }

    async fn job_of(&self, firing: &FiringView) -> crate::jobs::JobView {
        let short = firing.job.as_ref().expect("a job").to_string();
        let id = self.jobs.resolve(&short, Some("default")).await.expect("there");
        self.jobs.get(id).await.expect("there")
    }

    /// Turns the clock of a trigger back, as if it had been made then.
    async fn since(&self, name: &str, at: Timestamp) {
        let row = self.triggers.row("default", name).expect("there");
        let record =
            store::Record { cursors: vec![(row.id, at, row.cursor_revision)], ..store::Record::default() };
        self.jobs.record_firings(record).await.expect("moved");
        self.triggers.keep(TriggerRow { cursor_at: at, ..(*row).clone() });
    }
}

fn job() -> JobSpec {
    let mut spec = JobSpec::for_image("busybox:1");
    spec.env.insert("FILE".into(), "none".into());
    spec
}

fn trigger(name: &str, when: When) -> TriggerSpec {
    TriggerSpec::new(name, when, Run::Job(Box::new(job())))
}

fn cron(schedule: &str, zone: &str, missed: Missed) -> When {
    When::Cron(Cron { schedule: schedule.into(), time_zone: zone.into(), missed, jitter: Duration::ZERO })
}

fn hook(per_minute: u32) -> When {
    When::Webhook(Webhook { signature: Signature::Longshore, per_minute })
}

fn ends_of(name: &str, status: &[&str]) -> When {
    When::Completion(Completion {
        action: None,
        job: Some(name.into()),
        labels: [].into(),
        status: status.iter().map(|word| (*word).to_owned()).collect(),
        itself: false,
        input: None,
    })
}

/// 2026-01-01T00:00:00Z
const NEW_YEAR: i64 = 1_767_225_600_000_000;
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_clock_fires_once_a_day_for_a_year_with_both_turns() {
    let bench = Bench::new().await;
    let mut spec = trigger("nightly", cron("30 2 * * *", "Europe/Zurich", Missed::Once));
    spec.overlap = Overlap::Allow;
    bench.apply(spec).await;
    let start = Timestamp::from_micros(NEW_YEAR);
    bench.since("nightly", start).await;
    let mut now = start;
    while now < start.plus(HOUR * 24 * 365) {
        // A look at the wrong time between two right ones.
        bench.triggers.tick(now.plus(HOUR * 12)).await.expect("ticked");
        now = bench.triggers.tick(now).await.expect("ticked").expect("due");
    }
    let history = bench.history("nightly").await;
    let mut days: Vec<_> = history.iter().map(|firing| firing.cause[..10].to_owned()).collect();
    days.dedup();
    assert_eq!((history.len(), days.len()), (365, 365));
    let causes: Vec<_> = history.iter().map(|firing| firing.cause.as_str()).collect();
    assert!(causes.contains(&"2026-03-29T01:00:00Z"), "in the place of the skipped 02:30");
    assert!(causes.contains(&"2026-10-25T00:30:00Z") && !causes.contains(&"2026-10-25T01:30:00Z"));
}

#[tokio::test]
async fn a_clock_that_is_set_back_or_restarted_fires_nothing_twice() {
    let bench = Bench::new().await;
    bench.apply(trigger("hourly", cron("0 * * * *", "UTC", Missed::Once))).await;
    let start = Timestamp::from_micros(NEW_YEAR);
    bench.since("hourly", start).await;
    let at = start.plus(HOUR);
    for now in [at, at, at.minus(HOUR / 2), start, at.plus(HOUR / 2), at] {
        bench.triggers.tick(now).await.expect("ticked");
    }
    let bench = bench.reopen().await;
    bench.triggers.tick(at.plus(Duration::from_secs(1))).await.expect("ticked");
    assert_eq!(bench.history("hourly").await.len(), 1);
    let next = bench.triggers.tick(at).await.expect("ticked").expect("due");
    assert_eq!(next, at.plus(HOUR));
}

#[tokio::test]
async fn what_was_missed_is_skipped_caught_up_once_or_all_of_it() {
    let bench = Bench::new().await;
    for (name, missed) in [("skip", Missed::Skip), ("once", Missed::Once), ("all", Missed::All)] {
        let mut spec = trigger(name, cron("0 * * * *", "UTC", missed));
        spec.overlap = Overlap::Allow;
        bench.apply(spec).await;
        bench.since(name, Timestamp::from_micros(NEW_YEAR)).await;
    }
    // Half past five: five instants passed, none of them just now.
    let now = Timestamp::from_micros(NEW_YEAR).plus(HOUR * 5 + HOUR / 2);
    bench.triggers.tick(now).await.expect("ticked");
    bench.triggers.fire_pending().await.expect("fired");
    let skipped = bench.history("skip").await;
    assert_eq!(bench.states("skip").await, [FiringState::Skipped]);
    assert!(skipped[0].reason.contains("5 missed while the controller was away"), "{skipped:?}");
    let once = bench.history("once").await;
    assert_eq!((once.len(), once[0].cause.as_str()), (1, "2026-01-01T05:00:00Z"));
    assert_eq!(bench.states("all").await, [FiringState::Fired; 5]);
    // The next one is on time, for each of them.
    bench.triggers.tick(now.plus(HOUR / 2)).await.expect("ticked");
    for (name, count) in [("skip", 2), ("once", 2), ("all", 6)] {
        let history = bench.history(name).await;
        assert_eq!((history.len(), history[0].cause.as_str()), (count, "2026-01-01T06:00:00Z"), "{name}");
    }
    // A year away is bounded.
    bench.triggers.tick(now.plus(HOUR * 24 * 365)).await.expect("ticked");
    assert_eq!(bench.history("all").await.len(), 106);
}

#[tokio::test]
async fn a_former_job_is_waited_for_skipped_or_replaced() {
    let bench = Bench::new().await;
    for overlap in [Overlap::Skip, Overlap::Queue, Overlap::Replace] {
        let name = format!("{overlap:?}").to_lowercase();
        let mut spec = trigger(&name, hook(60));
        spec.overlap = overlap;
        bench.apply(spec).await;
        let fire = async |request: &str| {
            let target = ("default", name.as_str());
            bench.triggers.fire(target, json!({}), "test", Some(request)).await.expect("fired")
        };
        let first = fire("1").await;
        assert_eq!(first.state(), FiringState::Fired, "{first:?}");
        assert_eq!(fire("1").await.job, first.job, "the same request is the same firing");
        let (second, third) = (fire("2").await, fire("3").await);
        let former = bench.job_of(&first).await;
        match overlap {
            Overlap::Skip => {
                assert_eq!((second.state(), third.state()), (FiringState::Skipped, FiringState::Skipped));
                assert!(second.reason.contains(former.short_id.as_str()), "{second:?}");
                bench.cancel(former.id).await;
                assert_eq!(fire("4").await.state(), FiringState::Fired);
            }
            Overlap::Queue => {
                assert_eq!((second.state(), third.state()), (FiringState::Pending, FiringState::Pending));
                bench.cancel(former.id).await;
                bench.ends().await;
                let states = bench.states(&name).await;
                assert_eq!(states, [FiringState::Pending, FiringState::Fired, FiringState::Fired]);
                let second = bench.history(&name).await.remove(1);
                bench.cancel(bench.job_of(&second).await.id).await;
                bench.ends().await;
                assert_eq!(bench.states(&name).await, [FiringState::Fired; 3], "in order");
            }
            Overlap::Replace => {
                assert_eq!((second.state(), third.state()), (FiringState::Fired, FiringState::Fired));
                assert_eq!(former.state, JobState::Cancelled, "{:?}", former.ending);
                let ending = former.ending.expect("ended").detail;
                assert!(ending.contains("trigger replace"), "{ending}");
                assert!(!bench.job_of(&third).await.state.is_terminal());
            }
            Overlap::Allow => unreachable!("not asked for"),
        }
    }
}

#[tokio::test]
async fn an_end_fires_once_and_a_loop_ends_by_itself() {
    let bench = Bench::new().await;
    let mut a = trigger("a", ends_of("start", &["cancelled"]));
    a.when = When::Completion(Completion {
        job: Some("{start,b}".into()),
        ..match ends_of("x", &["cancelled"]) {
            When::Completion(completion) => completion,
            _ => unreachable!("made so above"),
        }
    });
    bench.apply(a).await;
    bench.apply(trigger("b", ends_of("a", &["cancelled"]))).await;
    bench.apply(trigger("own", ends_of("own", &["cancelled"]))).await;
    let mut start = job();
    start.name = Some("start".into());
    let first = bench.submit(start).await;
    bench.ends().await;
    assert_eq!(bench.history("a").await.len(), 0, "it has not ended");
    bench.cancel(first).await;
    bench.ends().await;
    bench.ends().await;
    let history = bench.history("a").await;
    assert_eq!(history.len(), 1, "{history:?}");
    let told = bench.job_of(&history[0]).await;
    let origin = told.spec.trigger.clone().expect("it says so");
    assert_eq!((origin.kind, origin.depth, told.name.as_str()), (Kind::Completion, 1, "a"));
    let file = bench.triggers.file_of("default", &origin).await.expect("read").expect("remembered");
    let file: serde_json::Value = serde_json::from_str(&file).expect("JSON");
    assert_eq!(file["payload"]["outcome"], "cancelled");
    assert_eq!(file["payload"]["name"], "start");
    for _ in 0..12 {
        for name in ["a", "b"] {
            let last = bench.history(name).await;
            if let Some(last) = last.first().filter(|last| last.state() == FiringState::Fired) {
                bench.cancel(bench.job_of(last).await.id).await;
            }
        }
        bench.ends().await;
    }
    let (a, b) = (bench.history("a").await, bench.history("b").await);
    let fired = a.iter().chain(&b).filter(|firing| firing.state() == FiringState::Fired).count();
    assert_eq!(fired, MAX_DEPTH as usize);
    let refused: Vec<_> = a.iter().chain(&b).filter(|f| f.state() == FiringState::Refused).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].reason.contains("max_depth is 8"), "{refused:?}");
    // One that would wait for its own jobs.
    let fired = bench.triggers.fire(("default", "own"), json!({}), "test", None).await.expect("fired");
    bench.cancel(bench.job_of(&fired).await.id).await;
    bench.ends().await;
    let own = bench.history("own").await;
    assert_eq!(own[0].state(), FiringState::Refused);
    assert!(own[0].reason.contains("itself: true"), "{own:?}");
}

#[tokio::test]
async fn an_end_while_the_controller_was_away_is_found_and_its_outputs_become_an_input() {
    let bench = Bench::new().await;
    let mut spec = trigger("after", ends_of("train-*", &["cancelled"]));
    let When::Completion(asked) = &mut spec.when else { unreachable!("made so above") };
    asked.input = Some("model".into());
    bench.apply(spec).await;
    let mut train = job();
    train.name = Some("train-1".into());
    let first = bench.submit(train).await;
    bench.cancel(first).await;
    let bench = bench.reopen().await;
    bench.ends().await;
    let history = bench.history("after").await;
    let made = bench.job_of(&history[0]).await;
    let short = bench.jobs.get(first).await.expect("there").short_id;
    assert_eq!(made.spec.inputs["model"], Input::Job { job: short.to_string(), path: String::new() });
    let bench = bench.reopen().await;
    bench.ends().await;
    assert_eq!(bench.history("after").await.len(), 1);
}

#[tokio::test]
async fn an_owner_who_is_gone_fires_nothing_until_somebody_adopts_it() {
    let bench = Bench::new().await;
    bench.apply(trigger("t", hook(60))).await;
    let fire =
        async || bench.triggers.fire(("default", "t"), json!({}), "test", None).await.expect("answered");
    assert_eq!(fire().await.state(), FiringState::Fired);
    bench.identity.revoke_token("anna", None).await.expect("revoked");
    let refused = fire().await;
    assert_eq!(refused.state(), FiringState::Refused);
    assert!(
        refused.reason.contains("was revoked") && refused.reason.contains("triggers adopt t"),
        "{refused:?}"
    );
    let problem = bench.triggers.get("default", "t").await.expect("there").owner_problem;
    assert_eq!(problem.as_deref(), Some(refused.reason.as_str()));
    let (_, viewer) = bench.identity.create_token("v", Role::Viewer, None, None, "x").await.expect("made");
    bench.triggers.adopt("default", "t", &viewer).await.expect("adopted");
    assert!(fire().await.reason.contains("may not submit"));
    let made = bench.identity.put_project(Project::new("other")).await.expect("made");
    let (_, stranger) =
        bench.identity.create_token("s", Role::Admin, Some(&made.name), None, "x").await.expect("made");
    bench.triggers.adopt("default", "t", &stranger).await.expect("adopted");
    assert!(fire().await.reason.contains("another project"));
    let (_, ben) = bench.identity.create_token("ben", Role::Submitter, None, None, "x").await.expect("made");
    bench.triggers.adopt("default", "t", &ben).await.expect("adopted");
    assert_eq!(fire().await.state(), FiringState::Fired);
}

#[tokio::test]
async fn what_a_quota_refuses_is_tried_again_and_then_given_up() {
    let bench = Bench::new().await;
    let mut project = Project::new("default");
    project.settings.quotas.queued = Some(1);
    bench.identity.put_project(project.clone()).await.expect("put");
    bench.apply(trigger("t", hook(60))).await;
    let mut short = trigger("short", hook(60));
    short.retry_for = Duration::ZERO;
    bench.apply(short).await;
    let fire = async |name: &str| {
        bench.triggers.fire(("default", name), json!({}), "test", None).await.expect("answered")
    };
    let first = fire("t").await;
    let second = fire("t").await;
    assert_eq!(second.state(), FiringState::Pending, "{second:?}");
    assert!(second.reason.contains("default"), "{second:?}");
    assert_eq!(fire("short").await.state(), FiringState::Refused);
    bench.cancel(bench.job_of(&first).await.id).await;
    let row = bench.jobs.firing(second.id).await.expect("read").expect("there");
    let now = store::FiringRow { next_try: Some(Timestamp::now()), ..row };
    bench.jobs.settle_firings(vec![now]).await.expect("set");
    bench.triggers.fire_pending().await.expect("fired");
    assert_eq!(bench.states("t").await, [FiringState::Fired; 2]);
}

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

async fn secret_of(bench: &Bench, name: &str, per_minute: u32) -> (String, String) {
    let applied = bench.apply(trigger(name, hook(per_minute))).await;
    let path = applied.trigger.hook_path.expect("a webhook");
    (path.trim_start_matches("/hooks/").to_owned(), applied.secret.expect("shown once"))
}

fn sign(secret: &str, id: &str, body: &str) -> String {
    let at = Timestamp::now().as_micros() / 1_000_000;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{id}.{body}").as_bytes());
    format!("t={at},id={id},v1={}", hex::encode(tag))
}

fn call<'a>(hook: &'a str, header: &'a str, body: &'a str) -> Delivery<'a> {
    Delivery { hook, longshore: Some(header), github: None, body: body.as_bytes() }
}

#[tokio::test]
async fn two_hundred_deliveries_with_wrong_signatures_replays_and_bursts() {
    let bench = Bench::new().await;
    let (hook, secret) = secret_of(&bench, "pushed", 50).await;
    let mut jobs = std::collections::BTreeSet::new();
    for n in 0..50 {
        let (id, body) = (format!("d{n}"), format!("{{\"n\":{n}}}"));
        let good = sign(&secret, &id, &body);
        let wrong = sign("lsh_other", &id, &body);
        for (hook, header, body) in [
            (hook.as_str(), wrong.as_str(), body.as_str()),
            (&hook, &good, "{\"n\":-1}"),
            ("gone", &good, &body),
        ] {
            let denied = bench.triggers.deliver(call(hook, header, body)).await.expect_err("a stranger");
            assert!(matches!(denied, Denied::Signature), "{denied}");
        }
        let answer = bench.triggers.deliver(call(&hook, &good, &body)).await.expect("taken");
        let again = bench.triggers.deliver(call(&hook, &good, &body)).await.expect("taken");
        assert_eq!((answer.again, again.again), (false, true));
        assert_eq!(answer.firing.job, again.firing.job, "a replay is the same job");
        jobs.insert(answer.firing.job.expect("a job"));
    }
    assert_eq!(jobs.len(), 50);
    let header = sign(&secret, "one-more", "{}");
    let denied = bench.triggers.deliver(call(&hook, &header, "{}")).await.expect_err("a burst");
    assert!(matches!(denied, Denied::TooMany(50)), "{denied}");
    assert_eq!(bench.history("pushed").await.len(), 50, "what was refused is not noted");
    // Replays are known after a restart, too, and so is the secret.
    let bench = bench.reopen().await;
    let replay = sign(&secret, "d0", "{\"n\":0}");
    assert!(bench.triggers.deliver(call(&hook, &replay, "{\"n\":0}")).await.expect("known").again);
    let (_, new) = bench.triggers.rotate("default", "pushed", "anna").await.expect("rotated");
    let denied = bench.triggers.deliver(call(&hook, &replay, "{\"n\":0}")).await;
    assert!(matches!(denied, Err(Denied::Signature)));
    let fresh = sign(&new, "fresh", "{}");
    assert!(!bench.triggers.deliver(call(&hook, &fresh, "{}")).await.expect("taken").again);
    bench.triggers.enable("default", "pushed", false).await.expect("disabled");
    let fresh = sign(&new, "fresher", "{}");
    assert!(matches!(bench.triggers.deliver(call(&hook, &fresh, "{}")).await, Err(Denied::Disabled)));
    bench.triggers.remove("default", "pushed").await.expect("removed");
    assert!(matches!(bench.triggers.deliver(call(&hook, &fresh, "{}")).await, Err(Denied::Signature)));
}

#[tokio::test]
async fn a_payload_sets_what_was_written_down_and_nothing_else() {
    let bench = Bench::new().await;
    let mut spec = trigger("pushed", hook(60));
    spec.set.insert("FILE".into(), Setting::Payload("/object/key".into()));
    bench.apply(spec).await;
    let fire = async |payload: serde_json::Value| {
        bench.triggers.fire(("default", "pushed"), payload, "test", None).await.expect("answered")
    };
    let evil = json!({
        "object": {"key": "a/b.bag"}, "image": "evil", "env": {"LD_PRELOAD": "x"}, "resources": {"cpu": 999},
        "priority": 100, "job": {"image": "evil"}, "command": ["rm"], "project": "other",
    });
    let made = bench.job_of(&fire(evil).await).await;
    let mut expected = job();
    expected.env.insert("FILE".into(), "a/b.bag".into());
    expected.name = Some("pushed".into());
    expected.trigger.clone_from(&made.spec.trigger);
    assert_eq!(*made.spec, expected);
    assert_eq!(bench.job_of(&fire(json!({})).await).await.spec.env["FILE"], "none");
    let refused = fire(json!({"object": {"key": ["a"]}})).await;
    assert_eq!(refused.state(), FiringState::Refused);
    assert!(refused.reason.contains("set.FILE"), "{refused:?}");
}

#[tokio::test]
async fn an_apply_says_what_it_does_and_does_all_of_it_or_nothing() {
    let bench = Bench::new().await;
    let change = async |spec: TriggerSpec, dry_run| {
        let mut done =
            bench.triggers.apply("default", vec![spec], &bench.owner, dry_run).await.expect("taken");
        let one = done.pop().expect("one");
        (one.change, one.changed)
    };
    let spec = trigger("t", cron("0 3 * * *", "UTC", Missed::Once));
    assert_eq!(change(spec.clone(), true).await.0, "created");
    assert_eq!(bench.triggers.list("default").await.expect("listed").len(), 0, "a dry run does nothing");
    assert_eq!(change(spec.clone(), false).await.0, "created");
    assert_eq!(change(spec.clone(), false).await.0, "unchanged");
    let mut other = spec.clone();
    other.overlap = Overlap::Queue;
    other.when = cron("0 4 * * *", "UTC", Missed::Once);
    assert_eq!(change(other, false).await, ("changed", vec!["cron".to_owned(), "overlap".to_owned()]));
    let mut secret = spec.clone();
    let Run::Job(job) = &mut secret.run else { unreachable!("made so above") };
    job.secret_env.insert("TOKEN".into(), "gone".into());
    secret.name = "u".into();
    let wrong = vec![trigger("v", hook(1)), secret, trigger("w", objects_of("nowhere"))];
    let error = bench.triggers.apply("default", wrong, &bench.owner, false).await.expect_err("wrong");
    let error = error.to_string();
    assert!(
        error.contains("triggers[1].job.env.TOKEN.secret") && error.contains("triggers[2].objects.source"),
        "{error}"
    );
    assert_eq!(bench.triggers.list("default").await.expect("listed").len(), 1);
    assert!(bench.triggers.get("other", "t").await.is_err(), "another project's is not there");
}

fn objects_of(source: &str) -> When {
    When::Objects(Objects {
        source: source.into(),
        prefix: String::new(),
        matching: vec![],
        changed: false,
        existing: false,
        input: None,
    })
}

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
async fn an_action_is_started_by_its_name_with_the_parameters_that_it_lets_be_set() {
    let bench = Bench::new().await;
    let actions = Actions::new(&bench.jobs);
    let put = async |default: &str| {
        let mut action = Action::new("convert", "busybox:1");
        let file = Parameter { required: true, ..Parameter::default() };
        let quality = Parameter { default: Some(default.to_owned()), ..Parameter::default() };
        let seed = Parameter { default: Some("7".to_owned()), adjustable: false, ..Parameter::default() };
        action.parameters = [("FILE", file), ("QUALITY", quality), ("SEED", seed)]
            .map(|(name, parameter)| (name.to_owned(), parameter))
            .into();
        let asked = Asked { project: "default".into(), request: None, by: "anna".into() };
        actions.apply(asked, action, None).await.expect("applied")
    };
    put("80").await;
    let target = |version| Run::Action(ActionRef { name: "convert".into(), version });
    let with = |name: &str, version, set: &[(&str, &str)]| {
        let mut spec = TriggerSpec::new(name, hook(60), target(version));
        let setting =
            |(name, pointer): &(&str, &str)| ((*name).to_owned(), Setting::Payload((*pointer).to_owned()));
        spec.set = set.iter().map(setting).collect();
        spec
    };
    bench.apply(with("newest", None, &[("FILE", "/key")])).await;
    bench.apply(with("pinned", Some(1), &[("FILE", "/key")])).await;
    put("95").await;
    for (name, version, quality) in [("newest", 2, "95"), ("pinned", 1, "80")] {
        let evil = json!({"key": "a.bag", "SEED": "8", "image": "evil"});
        let fired = bench.triggers.fire(("default", name), evil, "test", None).await.expect("fired");
        let made = bench.job_of(&fired).await;
        let action = made.action.clone().expect("a run of an action");
        assert_eq!((action.name.as_str(), action.version), ("convert", version));
        let env: Vec<_> = made.spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(env, ["FILE=a.bag".to_owned(), format!("QUALITY={quality}"), "SEED=7".to_owned()]);
        assert_eq!((made.spec.image.as_str(), made.name.as_str()), ("busybox:1", "convert"));
    }
    let refused =
        bench.triggers.fire(("default", "newest"), json!({}), "test", None).await.expect("answered");
    assert!(refused.reason.contains("set.FILE: is missing"), "{refused:?}");
    let wrong = [
        with("a", None, &[]),
        with("b", None, &[("FILE", "/key"), ("SEED", "/seed"), ("HOME", "/home")]),
        with("c", Some(9), &[]),
    ];
    let error = bench.triggers.apply("default", wrong.into(), &bench.owner, false).await.expect_err("wrong");
    for says in [
        "triggers[0].set.FILE: is missing",
        "triggers[1].set.SEED: is fixed by convert",
        "triggers[1].set.HOME: is no parameter",
        "triggers[2].action: action convert has no version 9",
    ] {
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}
