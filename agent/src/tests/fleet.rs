//! What operators want of this machine, and what it tells on the node.

use super::rig::{Rig, job};
use crate::{
    link::Event,
    status::{self, Status},
};
use longshore_common::{
    agent::StopReason,
    clock::Timestamp,
    fleet::{Cordon, Orders},
    job::{JobState, Outcome},
};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

fn cordoned() -> Orders {
    let cordon =
        Cordon { note: "fans".into(), author: "anna".into(), at: Timestamp::now(), until: None, drain: None };
    Orders { cordon: Some(cordon), ..Orders::default() }
}

async fn asked(rig: &Rig) -> Status {
    let mut stream = tokio::net::UnixStream::connect(status::path(rig.dir.path())).await.expect("it listens");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("told");
    serde_json::from_str(&text).expect("as it was written")
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_machine_asks_for_nothing_until_it_is_uncordoned() {
    let rig = Rig::start().await;
    rig.controller.until(|fake| (!fake.claims().is_empty()).then_some(())).await;
    rig.controller.say(Event::Orders(cordoned()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = rig.controller.claims().len();
    let attempt = rig.submit(job(&[]));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(rig.controller.claims().len(), before);
    rig.controller.say(Event::Orders(Orders::default()));
    let began = tokio::time::Instant::now();
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::Succeeded);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_handed_back_by_order_ends_with_its_own_grace_and_says_why() {
    let rig = Rig::start().await;
    let mut spec = job(&[("FAKE_RUN", "forever"), ("FAKE_IGNORE_TERM", "1")]);
    spec.deadlines.stop_grace = Duration::from_secs(40);
    let attempt = rig.submit(spec);
    rig.phase(attempt, JobState::Running).await;
    let reason = StopReason::HandBack("the machine is draining by anna: moves out".to_owned());
    rig.controller.say(Event::Stop { attempt, reason });
    let began = tokio::time::Instant::now();
    let report = rig.controller.report(attempt).await;
    assert_eq!(report.outcome, Outcome::AgentShutdown);
    assert!(report.detail.contains("draining by anna: moves out"), "{}", report.detail);
    assert!(began.elapsed() >= Duration::from_secs(40), "{:?}", began.elapsed());
    rig.stop().await;
}

#[tokio::test]
async fn on_the_node_it_tells_what_runs_and_for_whom_and_how_the_link_is() {
    let rig = Rig::start().await;
    let attempt = rig.submit(job(&[("FAKE_RUN", "forever")]));
    rig.phase(attempt, JobState::Running).await;
    rig.controller.say(Event::Orders(cordoned()));
    rig.controller.say(Event::Disconnected { reason: "connection refused".to_owned() });
    let told = loop {
        let told = asked(&rig).await;
        if !told.link.up && !told.cordon.is_empty() {
            break told;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(told.link.last_error, "connection refused");
    assert_eq!(told.cordon, "cordoned by anna: fans");
    let [job] = &told.jobs[..] else { panic!("{told:?}") };
    assert_eq!((&*job.project, job.attempt, &*job.phase), ("default", 1, "running"));
    assert!(told.free.cpu_millis < told.for_jobs.cpu_millis, "{told:?}");
    let socket = status::path(rig.dir.path());
    rig.stop().await;
    while socket.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
