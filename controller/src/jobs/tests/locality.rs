//! Where jobs go when machines have, or lack, what they need.

use super::*;
use longshore_common::{
    agent::{Holdings, LaneAnswer},
    job::{PullPolicy, canonical},
};
use std::time::{Duration, Instant};

/// One that is there and has room, with these images and caches.
async fn machine(bench: &Bench, name: &str, images: &[&str], caches: &[&str]) -> AgentId {
    let identity = identity(name);
    let id = identity.id;
    bench.jobs.hello(identity, inventory(16, Vec::new())).await.expect("known");
    let holdings = Holdings {
        images: images.iter().map(|image| canonical(image)).collect(),
        caches: caches.iter().map(|&name| name.to_owned()).collect(),
    };
    let free = offer(16, 1).free;
    bench.jobs.agent_report(id, AgentReport { free, holdings: Some(holdings), ..AgentReport::default() });
    id
}

async fn bench(pulls_at_once: u32) -> Bench {
    Bench::new().await.reopen(Config { pulls_at_once, ..Config::default() }).await
}

async fn asks(bench: &Bench, agent: AgentId) -> (Vec<Grant>, LaneAnswer) {
    let claimed = bench.claim(agent, offer(16, 1)).await;
    (claimed.grants, claimed.lanes[&Lane::new("default", false)])
}

async fn reasons(bench: &Bench, job: JobId) -> BTreeMap<String, String> {
    let explained = bench.jobs.explain(job).await.expect("there");
    explained.agents.into_iter().map(|agent| (agent.agent, agent.reason)).collect()
}

#[tokio::test]
async fn a_fresh_job_goes_where_its_image_is_and_the_others_hear_why() {
    let bench = bench(4).await;
    let far = machine(&bench, "far", &["alpine"], &[]).await;
    machine(&bench, "other", &[], &[]).await;
    let near = machine(&bench, "near", &[&spec().image], &[]).await;
    let job = bench.submit(spec()).await;
    assert_eq!(asks(&bench, far).await, (Vec::new(), LaneAnswer::More), "it is to ask again at once");
    let told = reasons(&bench, job.id).await;
    assert_eq!((told["far"].as_str(), told["other"].as_str()), ("near has the image", "near has the image"));
    assert!(told["near"].starts_with("has room"), "{told:?}");
    assert_eq!(asks(&bench, near).await.0[0].attempt.job, job.id);
    // Nobody free has it: nobody waits for one that is not.
    let other = JobSpec::for_image("registry.example/rsl/other:1");
    bench.submit(other).await;
    assert_eq!(asks(&bench, far).await.0.len(), 1);
}

#[tokio::test]
async fn a_machine_without_the_image_is_idle_for_less_than_a_second() {
    let bench = bench(4).await;
    let far = machine(&bench, "far", &[], &[]).await;
    machine(&bench, "near", &[&spec().image], &[]).await;
    bench.submit(spec()).await;
    let began = Instant::now();
    let mut asked = 0;
    while asks(&bench, far).await.0.is_empty() {
        asked += 1;
        assert!(began.elapsed() < Duration::from_secs(30), "it never got it");
        // As agents do.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert!(asked > 0 && began.elapsed() < Duration::from_secs(1), "{asked} {:?}", began.elapsed());
}

#[tokio::test]
async fn a_cache_draws_its_projects_jobs() {
    let bench = bench(4).await;
    let far = machine(&bench, "far", &[&spec().image], &["other/hf"]).await;
    let near = machine(&bench, "near", &[&spec().image], &["default/hf"]).await;
    let mut wants = spec();
    wants.caches.insert("hf".into(), "/root/hf".into());
    let job = bench.submit(wants).await;
    assert!(asks(&bench, far).await.0.is_empty());
    assert_eq!(reasons(&bench, job.id).await["far"], "near has its caches");
    assert_eq!(asks(&bench, near).await.0.len(), 1);
}

#[tokio::test]
async fn not_more_machines_than_allowed_pull_an_image_at_once() {
    let bench = bench(2).await;
    let mut pullers = Vec::new();
    for name in ["a", "b", "c"] {
        pullers.push(machine(&bench, name, &[], &[]).await);
    }
    let has = machine(&bench, "has", &[&spec().image], &[]).await;
    // It has no room, so nobody is held back for it.
    let full = AgentReport { free: Capacity::default(), ..AgentReport::default() };
    bench.jobs.agent_report(has, full);
    for _ in 0..6 {
        bench.submit(spec()).await;
    }
    // At the same moment too.
    let (a, b, c) =
        tokio::join!(asks(&bench, pullers[0]), asks(&bench, pullers[1]), asks(&bench, pullers[2]));
    let got: Vec<_> = [a, b, c]
        .into_iter()
        .enumerate()
        .filter_map(|(n, (grants, _))| Some((n, grants.into_iter().next()?)))
        .collect();
    assert_eq!(got.len(), 2, "{got:?}");
    let waits = (0..3).find(|n| got.iter().all(|(had, _)| had != n)).expect("the third");
    assert_eq!(asks(&bench, pullers[waits]).await, (Vec::new(), LaneAnswer::MoreButNotForYou));
    let next = bench.submit(spec()).await;
    let told = reasons(&bench, next.id).await;
    let name = ["a", "b", "c"][waits];
    assert!(
        told[name].contains("is being pulled by") && told[name].contains("more than 2 machines"),
        "{told:?}"
    );
    // Who has it, and who brings it already, does not wait.
    assert_eq!(asks(&bench, has).await.0.len(), 1);
    assert_eq!(asks(&bench, pullers[got[0].0]).await.0.len(), 1);
    assert!(asks(&bench, pullers[waits]).await.0.is_empty());
    bench.finish(report(got[1].1.attempt, Outcome::ImageNotFound)).await.expect("taken");
    assert_eq!(asks(&bench, pullers[waits]).await.0.len(), 1, "one of them is over: its turn");
    // Nor does what needs no pull.
    let late = machine(&bench, "late", &[], &[]).await;
    assert!(asks(&bench, late).await.0.is_empty());
    let local = bench.submit(JobSpec { pull: PullPolicy::Never, priority: 5, ..spec() }).await;
    assert_eq!(asks(&bench, late).await.0[0].attempt.job, local.id);
}

#[tokio::test]
async fn a_pull_that_is_done_makes_room_for_the_next() {
    let bench = bench(1).await;
    let first = machine(&bench, "first", &[], &[]).await;
    let second = machine(&bench, "second", &[], &[]).await;
    bench.submit(spec()).await;
    bench.submit(spec()).await;
    let grant = asks(&bench, first).await.0.pop().expect("granted");
    assert!(asks(&bench, second).await.0.is_empty());
    let digest = Some(format!("sha256:{}", "0f".repeat(32)));
    let here = HeldAttempt { digest, ..held(grant.attempt, JobState::Preparing) };
    bench.jobs.heartbeat(first, vec![here]).await.expect("stored");
    assert_eq!(asks(&bench, second).await.0.len(), 1);
}
