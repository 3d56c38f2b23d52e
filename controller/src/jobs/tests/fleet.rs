//! Cordons, drains, labels and pauses: what is claimed under them, and what stays after a restart.

use super::{
    agents::{Agent, later},
    *,
};
use longshore_common::{
    agent::StopReason,
    clock::Timestamp,
    fleet::{AgentEventKind as Kind, Cordon, Drain, Pause},
    wire::HANDS_BACK,
};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

fn cordon(note: &str) -> Cordon {
    Cordon { note: note.into(), author: "anna".into(), at: Timestamp::now(), until: None, drain: None }
}

fn drain(deadline: Option<Duration>) -> Cordon {
    let deadline = deadline.map(|length| Timestamp::now().plus(length));
    Cordon { drain: Some(Drain { deadline, drained_at: None }), ..cordon("moves out") }
}

fn gpus() -> Vec<Gpu> {
    let gpu = |index: u32| Gpu {
        index,
        uuid: format!("GPU-{index}"),
        model: "A100".into(),
        memory_bytes: 80 * GIB,
        ..Gpu::default()
    };
    (0..2).map(gpu).collect()
}

fn gpu_offer() -> Offer {
    let mut offer = offer(16, 10);
    offer.gpus = gpus();
    offer.free.gpus = 2;
    offer
}

fn gpu_spec() -> JobSpec {
    let mut spec = spec();
    let one = serde_json::json!({ "count": 1, "memory_bytes": 0, "model": null });
    spec.resources.gpu = Some(serde_json::from_value(one).expect("as it is stored"));
    spec
}

fn view(bench: &Bench, name: &str) -> AgentView {
    bench.jobs.agent(name).expect("joined")
}

async fn kinds(bench: &Bench) -> Vec<Kind> {
    bench.jobs.agent_events(0, None, 100).await.expect("read").iter().map(|event| event.kind).collect()
}

async fn explained(bench: &Bench, job: JobId) -> String {
    bench.jobs.explain(job).await.expect("explained").summary
}

#[tokio::test]
async fn a_cordoned_machine_gets_nothing_says_why_and_is_so_after_a_restart_too() {
    let bench = Bench::new().await;
    let agent = Agent::join(&bench, "gpu-04").await;
    bench.jobs.cordon(&view(&bench, "gpu-04"), None, cordon("new fans")).await.expect("stored");
    let job = bench.submit(spec()).await;
    assert!(bench.claim(agent.identity.id, offer(16, 4)).await.grants.is_empty());
    let why = explained(&bench, job.id).await;
    assert_eq!(why, "next in line; gpu-04: cordoned by anna: new fans");
    let identity = agent.identity.clone();
    let bench = bench.reopen(Config::default()).await;
    assert!(bench.claim(identity.id, offer(16, 4)).await.grants.is_empty());
    assert_eq!(view(&bench, "gpu-04").orders.cordon.expect("kept").note, "new fans");
    bench.jobs.uncordon(&view(&bench, "gpu-04"), None, "anna").await.expect("stored");
    bench.jobs.uncordon(&view(&bench, "gpu-04"), None, "anna").await.expect("nothing to do");
    assert_eq!(bench.claim(identity.id, offer(16, 4)).await.grants.len(), 1);
    assert_eq!(kinds(&bench).await, [Kind::Cordoned, Kind::Uncordoned]);
}

#[tokio::test]
async fn one_gpu_alone_is_set_aside() {
    let bench = Bench::new().await;
    let identity = identity("gpu-04");
    bench.jobs.hello(identity.clone(), inventory(16, gpus())).await.expect("stored");
    let agent = view(&bench, "gpu-04");
    let until = Some(Timestamp::now().plus(Duration::from_secs(3600)));
    let booked = Cordon { until, ..cordon("for bob") };
    bench.jobs.cordon(&agent, Some(&agent.gpus[0]), booked).await.expect("stored");
    let first = bench.submit(gpu_spec()).await;
    let second = bench.submit(gpu_spec()).await;
    let granted = bench.claim(identity.id, gpu_offer()).await.grants;
    let got: Vec<_> = granted.iter().map(|grant| &grant.gpus[..]).collect();
    assert_eq!(got, [["GPU-1".to_owned()]], "the other one goes on");
    assert_eq!(granted[0].attempt.job, first.id);
    let mut seen = gpus();
    seen[1].job = Some(first.short_id.to_string());
    let report = AgentReport { free: gpu_offer().free, gpus: seen, ..AgentReport::default() };
    bench.jobs.agent_report(identity.id, report);
    let why = explained(&bench, second.id).await;
    assert!(why.contains("GPU 0: cordoned by anna until") && why.contains("for bob"), "{why}");
    let agent = view(&bench, "gpu-04");
    bench.jobs.uncordon(&agent, Some(&agent.gpus[0]), "anna").await.expect("stored");
    assert_eq!(bench.claim(identity.id, gpu_offer()).await.grants[0].gpus, ["GPU-0"]);
}

#[tokio::test]
async fn a_cordon_whose_time_is_over_holds_nothing_back() {
    let bench = Bench::new().await;
    let agent = Agent::join(&bench, "gpu-04").await;
    let until = Some(Timestamp::now().plus(Duration::from_millis(30)));
    let short = Cordon { until, ..cordon("") };
    bench.jobs.cordon(&view(&bench, "gpu-04"), None, short).await.expect("stored");
    bench.submit(spec()).await;
    let mut watch = FleetWatch::default();
    while view(&bench, "gpu-04").orders.cordon.is_some() {
        bench.jobs.sweep_fleet(&mut watch).await.expect("swept");
    }
    assert_eq!(bench.claim(agent.identity.id, offer(16, 4)).await.grants.len(), 1);
    bench.jobs.sweep_fleet(&mut watch).await.expect("swept");
    assert!(kinds(&bench).await.contains(&Kind::Uncordoned), "it is told that it has ended");
}

#[tokio::test]
async fn nothing_is_granted_after_a_drain_was_acknowledged_under_a_stream_of_claims() {
    let bench = Bench::new().await;
    let agent = Agent::join(&bench, "gpu-04").await;
    for _ in 0..400 {
        bench.submit(spec()).await;
    }
    let (granted, acknowledged) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let id = agent.identity.id;
    let claims = async {
        loop {
            let after = acknowledged.load(Ordering::SeqCst) != usize::MAX;
            let grants = futures::future::join_all((0..8).map(|_| bench.claim(id, offer(16, 1)))).await;
            let grants: usize = grants.iter().map(|claimed| claimed.grants.len()).sum();
            granted.fetch_add(grants, Ordering::SeqCst);
            if after {
                assert_eq!(grants, 0, "asked for after the acknowledgement");
                return;
            }
        }
    };
    let drained = async {
        while granted.load(Ordering::SeqCst) < 50 {
            tokio::task::yield_now().await;
        }
        bench.jobs.cordon(&view(&bench, "gpu-04"), None, drain(None)).await.expect("stored");
        acknowledged.store(view(&bench, "gpu-04").jobs.len(), Ordering::SeqCst);
    };
    tokio::join!(claims, drained);
    // What was granted in all is what the machine had when the drain was acknowledged.
    assert_eq!(view(&bench, "gpu-04").jobs.len(), acknowledged.load(Ordering::SeqCst));
    assert_eq!(granted.load(Ordering::SeqCst), acknowledged.load(Ordering::SeqCst));
}

#[tokio::test]
async fn past_its_deadline_a_drain_hands_back_without_spending_a_retry() {
    let bench = Bench::new().await;
    let agent = Agent::join(&bench, "gpu-04").await;
    bench.jobs.agent_speaks(agent.identity.id, HANDS_BACK);
    let mut spec = spec();
    spec.retry.attempts = 1;
    bench.submit(spec).await;
    let grant = agent.granted().await;
    let mut watch = FleetWatch::default();
    let due = bench.jobs.cordon(&view(&bench, "gpu-04"), None, drain(Some(Duration::from_secs(60)))).await;
    due.expect("stored");
    bench.jobs.sweep_fleet(&mut watch).await.expect("swept");
    let beat = || agent.beats(vec![held(grant.attempt, JobState::Running)]);
    assert!(beat().await.stops.is_empty(), "it may run on");
    let mut stops = bench.jobs.nudges().stops();
    bench.jobs.cordon(&view(&bench, "gpu-04"), None, drain(Some(Duration::ZERO))).await.expect("stored");
    bench.jobs.sweep_fleet(&mut watch).await.expect("swept");
    assert_eq!(stops.try_recv().expect("told at once").attempt, grant.attempt);
    let said = beat().await.stops;
    assert!(
        matches!(&said[..], [(attempt, StopReason::HandBack(why))]
            if *attempt == grant.attempt && why.contains("draining by anna") && why.contains("moves out")),
        "and with every heartbeat: {said:?}"
    );
    assert!(!view(&bench, "gpu-04").orders.cordon.expect("there").is_drained());
    bench.finish(report(grant.attempt, Outcome::AgentShutdown)).await.expect("taken");
    assert_eq!(bench.state(&grant).await, JobState::Queued);
    bench.jobs.sweep_fleet(&mut watch).await.expect("swept");
    assert!(view(&bench, "gpu-04").orders.cordon.expect("there").is_drained());
    // Of its one attempt by its own policy none is spent: another machine gets it, and it may end well.
    let other = Agent::join(&bench, "gpu-07").await;
    let again = other.granted().await;
    assert_eq!(again.attempt.number, 2);
    let report = report(again.attempt, Outcome::AgentLost);
    bench.finish(report).await.expect("taken");
    assert_eq!(bench.state(&again).await, JobState::Failed, "the second loss is the first that counts");
    bench.jobs.uncordon(&view(&bench, "gpu-04"), None, "anna").await.expect("stored");
    let kinds = kinds(&bench).await;
    let told: Vec<_> = kinds.iter().filter(|kind| !matches!(kind, Kind::Joined | Kind::Connected)).collect();
    assert_eq!(told, [&Kind::Draining, &Kind::Draining, &Kind::Drained, &Kind::Uncordoned]);
}

#[tokio::test]
async fn an_agent_that_cannot_be_asked_to_hand_back_is_fenced() {
    let bench = Bench::new().await;
    let agent = Agent::join(&bench, "old").await;
    bench.submit(spec()).await;
    let grant = agent.granted().await;
    agent.beats(vec![held(grant.attempt, JobState::Running)]).await;
    bench.jobs.cordon(&view(&bench, "old"), None, drain(Some(Duration::ZERO))).await.expect("stored");
    bench.jobs.sweep_fleet(&mut FleetWatch::default()).await.expect("swept");
    assert_eq!(bench.state(&grant).await, JobState::Queued);
    let other = Agent::join(&bench, "gpu-07").await;
    assert_eq!(other.granted().await.attempt.number, 2);
    let answer = agent.beats(vec![held(grant.attempt, JobState::Running)]).await;
    assert_eq!(answer.fenced, [grant.attempt]);
}

#[tokio::test]
async fn labels_are_over_those_of_the_agent_and_stay() {
    let bench = Bench::new().await;
    let agent = Agent::join(&bench, "gpu-04").await;
    let mut wants = spec();
    wants.agents.insert("site".into(), vec!["bern".into()]);
    bench.submit(wants).await;
    let mut offer = offer(16, 4);
    offer.labels.insert("site".into(), "zurich".into());
    assert!(bench.claim(agent.identity.id, offer.clone()).await.grants.is_empty());
    let labels = BTreeMap::from([("site".to_owned(), Some("bern".to_owned())), ("rack".to_owned(), None)]);
    bench.jobs.label_agent(&view(&bench, "gpu-04"), labels, "anna").await.expect("stored");
    let id = agent.identity.id;
    let bench = bench.reopen(Config::default()).await;
    assert_eq!(view(&bench, "gpu-04").identity.labels.get("site").map(String::as_str), Some("bern"));
    assert_eq!(bench.claim(id, offer).await.grants.len(), 1);
}

#[tokio::test]
async fn jobs_of_a_paused_project_wait_and_say_so_and_others_pass_them() {
    let bench = Bench::new().await;
    let agent = Agent::join(&bench, "gpu-04").await;
    let pause = |note: &str| Pause { note: note.into(), author: "anna".into(), at: Timestamp::now() };
    bench.jobs.pause(Some("default"), pause("store is full")).await.expect("stored");
    let job = bench.submit(spec()).await;
    assert!(bench.claim(agent.identity.id, offer(16, 4)).await.grants.is_empty());
    let why = explained(&bench, job.id).await;
    assert!(why.starts_with("next in line; project default is paused by anna since"), "{why}");
    let waits = bench.jobs.waits(&[bench.jobs.get(job.id).await.expect("there")]).await.expect("read");
    assert!(waits[0].contains("is paused by anna"), "{waits:?}");
    let other = NewJob {
        request_id: None,
        project: "lab".into(),
        spec: spec(),
        retry_of: None,
        own: Vec::new(),
        submitter: None,
    };
    bench.jobs.put_project(crate::identity::Project::new("lab")).await.expect("made");
    bench.jobs.submit(vec![other]).await.expect("stored").pop().expect("one").expect("taken");
    assert_eq!(bench.claim(agent.identity.id, offer(16, 4)).await.grants[0].project, "lab");
    let id = agent.identity.id;
    let bench = bench.reopen(Config::default()).await;
    bench.jobs.pause(None, pause("broken switch")).await.expect("stored");
    bench.jobs.resume(Some("default")).await.expect("stored");
    assert!(bench.claim(id, offer(16, 4)).await.grants.is_empty());
    assert!(explained(&bench, job.id).await.contains("all projects are paused by anna"));
    bench.jobs.resume(None).await.expect("stored");
    assert_eq!(bench.claim(id, offer(16, 4)).await.grants.len(), 1);
}

#[tokio::test]
async fn orderly_restarts_in_a_row_are_not_taken_for_crashes() {
    let bench = Bench::new().await;
    let mut agent = Agent::join(&bench, "gpu-04").await;
    bench.submit(spec()).await;
    let grant = agent.granted().await;
    for turn in 0..8 {
        let answer = agent.beats(vec![held(grant.attempt, JobState::Running)]).await;
        assert!(answer.fenced.is_empty(), "restart {turn}");
        bench.jobs.agent_leaves(agent.identity.id, agent.identity.session);
        agent = agent.restarted().await;
        later(Duration::from_secs(5)).await;
    }
    // Without a word they are.
    let mut fenced = false;
    for _ in 0..8 {
        let answer = agent.beats(vec![held(grant.attempt, JobState::Running)]).await;
        fenced |= !answer.fenced.is_empty();
        agent = agent.restarted().await;
        later(Duration::from_secs(5)).await;
    }
    assert!(fenced);
}

/// A drain whose deadline is past was due for ever, and hid what is due next.
#[tokio::test]
async fn a_drain_past_its_deadline_hides_no_later_end() {
    let bench = Bench::new().await;
    for name in ["gpu-04", "gpu-05"] {
        Agent::join(&bench, name).await;
    }
    bench.jobs.cordon(&view(&bench, "gpu-04"), None, drain(Some(Duration::ZERO))).await.expect("stored");
    let until = Timestamp::now().plus(Duration::from_secs(3));
    let booked = Cordon { until: Some(until), ..cordon("") };
    bench.jobs.cordon(&view(&bench, "gpu-05"), None, booked).await.expect("stored");
    let mut watch = FleetWatch::default();
    bench.jobs.sweep_fleet(&mut watch).await.expect("swept");
    let before = bench.jobs.agent_events(0, None, 100).await.expect("read").len();
    assert_eq!(bench.jobs.sweep_fleet(&mut watch).await.expect("swept"), Some(until));
    assert_eq!(bench.jobs.agent_events(0, None, 100).await.expect("read").len(), before);
}

#[tokio::test]
async fn labels_that_nobody_has_any_more_are_not_remembered() {
    let bench = Bench::new().await;
    Agent::join(&bench, "gpu-04").await;
    let set = |value: Option<&str>| BTreeMap::from([("site".to_owned(), value.map(str::to_owned))]);
    bench.jobs.label_agent(&view(&bench, "gpu-04"), set(Some("bern")), "anna").await.expect("stored");
    bench.jobs.label_agent(&view(&bench, "gpu-04"), set(None), "anna").await.expect("stored");
    let id = view(&bench, "gpu-04").identity.id;
    let standing = bench.jobs.inner.shared.store.standings().await.expect("read").remove(&id);
    assert!(standing.is_none_or(|standing| standing.labels.is_empty()));
}

/// One agent's events pushed everybody else's out.
#[tokio::test]
async fn a_noisy_machine_pushes_out_its_own_events_alone() {
    use crate::jobs::fleet::{Change, Happening, Named};
    let bench = Bench::new().await;
    let happened = |agent: &Named, count: usize| {
        let one = Happening {
            agent: agent.clone(),
            kind: Kind::Note,
            detail: String::new(),
            author: String::new(),
        };
        Change::Happened(vec![one; count])
    };
    let [quiet, noisy] = ["quiet", "noisy"].map(|name| Named { id: AgentId::new(), name: name.into() });
    bench.jobs.fleet(happened(&quiet, 1)).await.expect("stored");
    for _ in 0..3 {
        bench.jobs.fleet(happened(&noisy, 1000)).await.expect("stored");
    }
    let kept =
        async |agent: &Named| bench.jobs.agent_events(0, Some(agent.id), 9000).await.expect("read").len();
    assert_eq!((kept(&quiet).await, kept(&noisy).await), (1, 2000));
}

/// By a word to its process, not by an operator's: so it is over with the process.
#[tokio::test]
async fn a_machine_whose_agent_was_told_to_stop_is_draining_until_that_is_gone() {
    let bench = Bench::new().await;
    let agent = Agent::join(&bench, "gpu-04").await;
    let job = bench.submit(spec()).await;
    let mut watch = FleetWatch::default();
    bench.jobs.sweep_fleet(&mut watch).await.expect("swept");
    let mut first = None;
    for left in [60, 59] {
        let leaving = Some(Cordon::leaving(Timestamp::now(), Duration::from_secs(left)));
        bench.jobs.agent_report(agent.identity.id, AgentReport { leaving, ..AgentReport::default() });
        bench.jobs.sweep_fleet(&mut watch).await.expect("swept");
        let shown = view(&bench, "gpu-04").orders.cordon.expect("draining");
        let drain = shown.drain.expect("what runs is waited for");
        assert_eq!(*first.get_or_insert(drain.deadline), drain.deadline, "it does not wander");
    }
    assert!(bench.claim(agent.identity.id, offer(16, 4)).await.grants.is_empty());
    let why = explained(&bench, job.id).await;
    assert!(why.contains("draining, jobs may run until") && why.contains("was told to stop"), "{why}");
    // An operator's drain says more.
    bench.jobs.cordon(&view(&bench, "gpu-04"), None, drain(None)).await.expect("stored");
    assert_eq!(view(&bench, "gpu-04").orders.cordon.expect("draining").author, "anna");
    bench.jobs.uncordon(&view(&bench, "gpu-04"), None, "anna").await.expect("stored");
    let told = kinds(&bench).await.into_iter().filter(|kind| *kind == Kind::Draining).count();
    assert_eq!(told, 2, "one of the agent's, one of the operator's");
    bench.jobs.agent_left(agent.identity.id, agent.identity.session);
    assert_eq!(view(&bench, "gpu-04").orders.cordon, None);
    bench.jobs.hello(agent.identity.clone(), inventory(16, Vec::new())).await.expect("stored");
    assert_eq!(bench.claim(agent.identity.id, offer(16, 4)).await.grants.len(), 1);
}
