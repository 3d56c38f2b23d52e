//! Who has an attempt: lost grants, lengths of leases, new controllers.

use super::{agents::*, *};
use longshore_common::agent::StopReason;

#[tokio::test]
async fn a_grant_whose_answer_was_lost_is_queued_again_and_spends_no_retry() {
    let bench = bench(hasty()).await;
    let agent = Agent::join(&bench, "a").await;
    let mut once = spec();
    once.retry.attempts = 1;
    bench.submit(once).await;
    let mut grant = agent.granted().await;
    for number in 2..6 {
        agent.beats(vec![]).await;
        assert_eq!(bench.state(&grant).await, JobState::Claimed, "one heartbeat may have crossed it");
        agent.beats(vec![]).await;
        assert_eq!(bench.state(&grant).await, JobState::Queued);
        let attempts = bench.jobs.attempts(grant.attempt.job).await.expect("there");
        let ending = attempts.last().and_then(|attempt| attempt.ending.clone()).expect("it says why");
        assert_eq!(
            (ending.outcome, ending.detail.as_str()),
            (Outcome::AgentLost, "the grant never came to agent a")
        );
        grant = agent.granted().await;
        assert_eq!(grant.attempt.number, number);
    }
    agent.beats(vec![held(grant.attempt, JobState::Running)]).await;
    bench.finish(report(grant.attempt, Outcome::Succeeded)).await.expect("taken");
}

#[tokio::test]
async fn a_grant_on_its_way_is_not_taken_for_a_lost_one() {
    let bench = Bench::new().await;
    let agent = Agent::join(&bench, "a").await;
    bench.submit(spec()).await;
    let claim = ClaimCommand {
        claim: ClaimId::new(),
        agent: agent.identity.id,
        offer: offer(16, 1),
        hints: BTreeMap::new(),
    };
    let grant = bench.jobs.claim(claim.clone()).await.expect("answered").grants.remove(0);
    let patience = bench.jobs.config().grant_patience;
    for _ in 0..4 {
        for _ in 0..3 {
            agent.beats(vec![]).await;
        }
        assert_eq!(bench.state(&grant).await, JobState::Claimed);
        later(patience - Duration::from_secs(1)).await;
        // The agent has had no answer and asks again.
        assert_eq!(bench.jobs.claim(claim.clone()).await.expect("answered").grants[0].attempt, grant.attempt);
    }
    agent.beats(vec![held(grant.attempt, JobState::Preparing)]).await;
    later(patience * 2).await;
    agent.beats(vec![held(grant.attempt, JobState::Preparing)]).await;
    assert_eq!(bench.state(&grant).await, JobState::Preparing);
}

#[tokio::test]
async fn an_agent_killed_before_it_noted_its_grant_loses_nothing() {
    let bench = Bench::new().await;
    let agent = Agent::join(&bench, "a").await;
    bench.submit(spec()).await;
    let grant = agent.granted().await;
    // No answer can be on its way to a process that did not ask.
    let agent = agent.restarted().await;
    agent.beats(vec![]).await;
    agent.beats(vec![]).await;
    assert_eq!(bench.state(&grant).await, JobState::Queued);
}

#[tokio::test]
async fn the_lease_is_the_jobs_own_tolerance() {
    let bench = Bench::new().await;
    let mut patient = spec();
    patient.disconnect_tolerance = Some(Duration::from_secs(3600));
    let (_, patient) = bench.held(patient).await;
    let mut hurried = spec();
    hurried.disconnect_tolerance = Some(Duration::from_secs(20));
    let (agent, hurried) = bench.held(hurried).await;
    let (_, usual) = bench.held(spec()).await;
    assert_eq!([patient.lease, hurried.lease, usual.lease], [3600, 20, 600].map(Duration::from_secs));
    later(Duration::from_secs(19)).await;
    bench.jobs.heartbeat(agent, vec![held(hurried.attempt, JobState::Running)]).await.expect("answered");
    let grace = Duration::from_secs(5);
    later(Duration::from_secs(24)).await;
    assert_eq!(bench.jobs.expire_leases(grace).await.expect("stored"), 0, "renewed, and a grace");
    later(Duration::from_secs(2)).await;
    assert_eq!(bench.jobs.expire_leases(grace).await.expect("stored"), 1);
    assert_eq!(bench.state(&hurried).await, JobState::Waiting);
    let detail = bench.jobs.attempts(hurried.attempt.job).await.expect("there").remove(0).ending;
    assert!(detail.expect("ended").detail.ends_with("was not heard of for its lease of 20s"));
    later(Duration::from_secs(600)).await;
    assert_eq!(bench.jobs.expire_leases(grace).await.expect("stored"), 1, "the usual one");
    assert_eq!(bench.state(&patient).await, JobState::Claimed);
}

#[tokio::test]
async fn a_controller_that_keeps_crashing_does_not_keep_dead_agents_jobs() {
    let lease = |seconds| Config { disconnect_tolerance: Duration::from_secs(seconds), ..Config::default() };
    let bench = Bench::new().await;
    let (agent, grant) = bench.held(spec()).await;
    let expired = async |bench: &Bench| bench.jobs.expire_leases(Duration::ZERO).await.expect("stored");
    // The time is the controllers' own: lengths of nothing have passed at once, an hour has not.
    let bench = bench.reopen(lease(3600)).await;
    let bench = bench.reopen(lease(0)).await;
    let heard = held(grant.attempt, JobState::Running);
    bench.jobs.heartbeat(agent, vec![heard]).await.expect("answered");
    let bench = bench.reopen(lease(3600)).await;
    let bench = bench.reopen(lease(3600)).await;
    let bench = bench.reopen(lease(3600)).await;
    assert_eq!(expired(&bench).await, 0, "what is left of the second lease");
    let bench = bench.reopen(lease(0)).await;
    while expired(&bench).await == 0 {}
    assert_eq!(bench.state(&grant).await, JobState::Waiting);
}

#[tokio::test]
async fn a_third_controller_without_contact_waits_no_longer_than_the_second_would_have() {
    let short = Config { disconnect_tolerance: Duration::from_millis(1), ..Config::default() };
    let bench = Bench::new().await;
    let (_, grant) = bench.held(spec()).await;
    let bench = bench.reopen(short.clone()).await.reopen(short).await;
    let bench = bench.reopen(Config::default()).await;
    while bench.jobs.expire_leases(Duration::ZERO).await.expect("stored") == 0 {}
    assert_eq!(bench.state(&grant).await, JobState::Waiting);
}

#[tokio::test]
async fn a_cancel_while_the_agent_is_away_is_told_at_its_return_also_to_its_next_process() {
    let bench = Bench::new().await;
    let agent = Agent::join(&bench, "a").await;
    bench.submit(spec()).await;
    let grant = agent.granted().await;
    let running = vec![held(grant.attempt, JobState::Running)];
    agent.beats(running.clone()).await;
    bench.jobs.agent_left(agent.identity.id, agent.identity.session);
    bench.jobs.cancel(vec![grant.attempt.job], "anna", "").await.expect("stored");
    let stop = (grant.attempt, StopReason::Cancel("cancelled by anna".into()));
    let agent = agent.restarted().await;
    assert_eq!(agent.beats(running.clone()).await.stops.first(), Some(&stop));
    // And by a controller that was not there when it was said.
    let id = agent.identity.id;
    let bench = bench.reopen(Config::default()).await;
    assert_eq!(bench.jobs.heartbeat(id, running).await.expect("answered").stops, [stop]);
}

#[tokio::test]
async fn a_cancelled_job_whose_agent_never_returns_ends_cancelled_and_its_container_is_fenced() {
    let bench = bench(hasty()).await;
    let agent = Agent::join(&bench, "a").await;
    for _ in 0..2 {
        bench.submit(quick()).await;
    }
    let (running, granted) = (agent.granted().await, agent.granted().await);
    agent.beats(vec![held(running.attempt, JobState::Running)]).await;
    let jobs = vec![running.attempt.job, granted.attempt.job];
    bench.jobs.cancel(jobs, "anna", "").await.expect("stored");
    let agent = agent.restarted().await;
    for _ in 0..2 {
        agent.beats(vec![]).await;
    }
    for grant in [&running, &granted] {
        assert_eq!(outcome(&bench, grant).await, Some(Outcome::Cancelled));
        let refused = bench.finish(report(grant.attempt, Outcome::Succeeded)).await;
        assert_eq!(refused, Err(crate::lifecycle::Refusal::AlreadyFinished(JobState::Cancelled)));
    }
    let answer = agent.beats(vec![held(running.attempt, JobState::Running)]).await;
    assert_eq!(answer.fenced, [running.attempt]);
}

#[tokio::test]
async fn a_token_granted_after_the_backup_is_worth_nothing_once_it_is_restored() {
    let bench = Bench::new().await;
    let job = bench.submit(spec()).await;
    let copy = bench.folder.path().join("copy.db");
    store::backup(&bench.folder.path().join("controller.db"), &copy).await.expect("copied");
    let agent = AgentId::new();
    let old = bench.claim(agent, offer(16, 1)).await.grants.remove(0);
    let Bench { jobs, folder } = bench;
    drop(jobs);
    let database = folder.path().join("controller.db");
    while let Err(error) = store::restore(&copy, &database, true).await {
        // The old writer is about to drop its handle.
        assert!(matches!(error, store::Error::Locked { .. }), "{error}");
        tokio::task::yield_now().await;
    }
    let bench = Bench { jobs: Bench::open(folder.path(), Config::default()).await, folder };
    let new = bench.claim(AgentId::new(), offer(16, 1)).await.grants.remove(0);
    assert_eq!((new.attempt.job, new.attempt.number), (job.id, old.attempt.number), "only the epoch differs");
    let fenced = crate::lifecycle::Refusal::Fenced;
    assert_eq!(bench.jobs.check_attempt(old.attempt), Err(fenced.clone()));
    assert_eq!(bench.finish(report(old.attempt, Outcome::Succeeded)).await, Err(fenced.clone()));
    let page = bench.jobs.put_manifest(old.attempt, 0, vec![]).await.expect("answered");
    assert_eq!(page, Err(fenced));
    let answer = bench.jobs.heartbeat(agent, vec![held(old.attempt, JobState::Running)]).await;
    assert_eq!(answer.expect("answered").fenced, [old.attempt]);
    bench.finish(report(new.attempt, Outcome::Succeeded)).await.expect("taken");
}
