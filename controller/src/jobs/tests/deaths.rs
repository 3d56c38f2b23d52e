//! Agents and machines that end under a job, and what is known of it when.

use super::{agents::*, *};

/// Agents that are known to have died under the job.
async fn deaths(bench: &Bench, grant: &Grant) -> usize {
    let views = bench.jobs.inner.shared.store.views(&[grant.attempt.job]).await;
    views.expect("read")[0].row.job.died_on.len()
}

#[tokio::test]
async fn a_restarted_agent_keeps_what_it_lists_and_loses_what_it_does_not() {
    let bench = Bench::new().await;
    let agent = Agent::join(&bench, "a").await;
    bench.submit(quick()).await;
    bench.submit(quick()).await;
    let (kept, gone) = (agent.granted().await, agent.granted().await);
    let running = |grant: &Grant| held(grant.attempt, JobState::Running);
    agent.beats(vec![running(&kept), running(&gone)]).await;
    let agent = agent.restarted().await;
    let answer = agent.beats(vec![running(&kept)]).await;
    assert!(answer.fenced.is_empty() && answer.stops.is_empty());
    assert_eq!(bench.state(&gone).await, JobState::Running, "one heartbeat is not enough");
    agent.beats(vec![running(&kept)]).await;
    assert_eq!((bench.state(&kept).await, bench.state(&gone).await), (JobState::Running, JobState::Queued));
    let again = agent.granted().await;
    assert_eq!((again.attempt.job, again.attempt.number), (gone.attempt.job, 2));
}

#[tokio::test]
async fn a_machine_started_anew_ends_at_once_what_its_agent_does_not_list() {
    let bench = Bench::new().await;
    let agent = Agent::join(&bench, "a").await;
    bench.submit(quick()).await;
    bench.submit(quick()).await;
    let (listed, lost) = (agent.granted().await, agent.granted().await);
    let running = |grant: &Grant| held(grant.attempt, JobState::Running);
    agent.beats(vec![running(&listed), running(&lost)]).await;
    let agent = agent.rebooted().await;
    agent.beats(vec![running(&listed)]).await;
    assert_eq!((bench.state(&listed).await, bench.state(&lost).await), (JobState::Running, JobState::Queued));
    let attempt = bench.jobs.attempts(lost.attempt.job).await.expect("there").remove(0);
    let ending = attempt.ending.expect("ended");
    assert_eq!(
        (ending.outcome, ending.detail.as_str()),
        (Outcome::AgentLost, "the machine of agent a was restarted while it had the job")
    );
}

#[tokio::test]
async fn a_job_under_which_two_machines_died_is_not_given_to_a_third() {
    let bench = Bench::new().await;
    bench.submit(quick()).await;
    let mut last = None;
    for (name, reboots) in [("a", true), ("b", false)] {
        let agent = Agent::join(&bench, name).await;
        let grant = agent.granted().await;
        agent.beats(vec![held(grant.attempt, JobState::Running)]).await;
        let agent = if reboots { agent.rebooted().await } else { agent.restarted().await };
        agent.beats(vec![]).await;
        agent.beats(vec![]).await;
        last = Some(grant);
    }
    let grant = last.expect("two were granted");
    assert_eq!(outcome(&bench, &grant).await, Some(Outcome::LostTooOften));
    let causes = bench.jobs.attempts(grant.attempt.job).await.expect("there");
    let causes: Vec<_> = causes.into_iter().filter_map(|attempt| attempt.ending).map(|e| e.outcome).collect();
    assert_eq!(causes, [Outcome::AgentLost, Outcome::AgentLost], "each attempt keeps its own cause");
}

#[tokio::test]
async fn a_death_that_is_known_only_after_the_lease_counts_and_is_remembered_by_the_next_controller() {
    let impatient = Config { disconnect_tolerance: Duration::ZERO, ..Config::default() };
    let bench = bench(impatient.clone()).await;
    let agent = Agent::join(&bench, "a").await;
    bench.submit(spec()).await;
    let grant = agent.granted().await;
    agent.beats(vec![held(grant.attempt, JobState::Running)]).await;
    while bench.jobs.expire_leases(Duration::ZERO).await.expect("stored") == 0 {}
    let agent = agent.rebooted().await;
    agent.beats(vec![]).await;
    assert_eq!(deaths(&bench, &grant).await, 1);
    drop(agent);
    let bench = bench.reopen(impatient).await;
    assert_eq!(deaths(&bench, &grant).await, 1);
    assert_eq!(bench.state(&grant).await, JobState::Waiting);
}

#[tokio::test]
async fn a_rebooted_agent_that_tells_the_loss_itself_counts_as_dead() {
    let bench = Bench::new().await;
    bench.submit(quick()).await;
    let mut last = None;
    for name in ["a", "b"] {
        let agent = Agent::join(&bench, name).await;
        let grant = agent.granted().await;
        agent.beats(vec![held(grant.attempt, JobState::Running)]).await;
        let agent = agent.rebooted().await;
        agent.beats(vec![held(grant.attempt, JobState::Running)]).await;
        bench.finish(report(grant.attempt, Outcome::AgentLost)).await.expect("taken");
        last = Some(grant);
    }
    assert_eq!(outcome(&bench, &last.expect("granted")).await, Some(Outcome::LostTooOften));
}

#[tokio::test]
async fn a_rebooted_agent_that_tells_the_loss_before_its_first_heartbeat_counts_as_dead() {
    for expires in [false, true] {
        let bench = bench(hasty()).await;
        bench.submit(quick()).await;
        let mut last = None;
        for name in ["a", "b"] {
            let agent = Agent::join(&bench, name).await;
            let grant = agent.granted().await;
            agent.beats(vec![held(grant.attempt, JobState::Running)]).await;
            if expires {
                later(bench.jobs.config().disconnect_tolerance + Duration::from_secs(1)).await;
                assert_eq!(bench.jobs.expire_leases(Duration::ZERO).await.expect("stored"), 1);
            }
            agent.rebooted().await;
            bench.finish(report(grant.attempt, Outcome::AgentLost)).await.expect("taken");
            last = Some(grant);
        }
        let outcome = outcome(&bench, &last.expect("granted")).await;
        assert_eq!(outcome, Some(Outcome::LostTooOften), "after its lease: {expires}");
    }
}

#[tokio::test]
async fn a_death_after_the_lease_that_could_not_be_stored_is_told_again() {
    let bench = bench(hasty()).await;
    let agent = Agent::join(&bench, "a").await;
    bench.submit(spec()).await;
    let grant = agent.granted().await;
    agent.beats(vec![held(grant.attempt, JobState::Running)]).await;
    later(Duration::from_secs(601)).await;
    assert_eq!(bench.jobs.expire_leases(Duration::ZERO).await.expect("stored"), 1);
    let agent = agent.restarted().await;
    let dead = || {
        let shared = &bench.jobs.inner.shared;
        let process = shared.agents.process(agent.identity.id).expect("it said hello");
        shared.live.missing(agent.identity.id, &process, &[], Duration::ZERO)
    };
    // As a heartbeat whose commit failed.
    assert_eq!(dead().iter().filter(|missing| missing.died).count(), 1);
    assert_eq!(dead().iter().filter(|missing| missing.died).count(), 1);
    agent.beats(vec![]).await;
    assert_eq!(dead(), [], "it is stored, and counts once");
}

/// The lease of what `agent` has runs out, and another agent is granted the job.
async fn moves_on<'a>(agent: &Agent<'a>, grant: &Grant, next: &str) -> (Agent<'a>, Grant) {
    let bench = agent.bench;
    later(bench.jobs.config().disconnect_tolerance + Duration::from_secs(1)).await;
    assert_eq!(bench.jobs.expire_leases(Duration::ZERO).await.expect("stored"), 1);
    let next = Agent::join(bench, next).await;
    let again = next.granted().await;
    assert_eq!((again.attempt.job, again.attempt.number), (grant.attempt.job, grant.attempt.number + 1));
    next.beats(vec![held(again.attempt, JobState::Running)]).await;
    (next, again)
}

#[tokio::test]
async fn a_death_that_is_learnt_when_another_agent_has_the_job_counts() {
    let bench = bench(hasty()).await;
    bench.submit(quick()).await;
    let first = Agent::join(&bench, "a").await;
    let grant = first.granted().await;
    first.beats(vec![held(grant.attempt, JobState::Running)]).await;
    let (second, again) = moves_on(&first, &grant, "b").await;
    let first = first.restarted().await;
    first.beats(vec![]).await;
    assert_eq!(deaths(&bench, &grant).await, 0, "its container may still be looked for");
    first.beats(vec![]).await;
    assert_eq!((deaths(&bench, &grant).await, bench.state(&again).await), (1, JobState::Running));
    let second = second.rebooted().await;
    second.beats(vec![]).await;
    assert_eq!(outcome(&bench, &grant).await, Some(Outcome::LostTooOften));
}

#[tokio::test]
async fn a_rebooted_agent_that_lists_what_another_has_by_now_counts_as_dead() {
    let bench = bench(hasty()).await;
    bench.submit(quick()).await;
    let first = Agent::join(&bench, "a").await;
    let grant = first.granted().await;
    first.beats(vec![held(grant.attempt, JobState::Running)]).await;
    let (_, again) = moves_on(&first, &grant, "b").await;
    let first = first.rebooted().await;
    // From its journal, to give it back.
    first.beats(vec![held(grant.attempt, JobState::Claimed)]).await;
    assert_eq!((deaths(&bench, &grant).await, bench.state(&again).await), (1, JobState::Running));
}

#[tokio::test]
async fn an_agent_that_is_rid_of_its_container_before_its_first_heartbeat_is_not_counted_as_dead() {
    let bench = bench(hasty()).await;
    bench.submit(quick()).await;
    let first = Agent::join(&bench, "a").await;
    let grant = first.granted().await;
    first.beats(vec![held(grant.attempt, JobState::Running)]).await;
    moves_on(&first, &grant, "b").await;
    let first = first.restarted().await;
    // It asks where the log is, and hears that the attempt is fenced.
    assert!(bench.jobs.check_attempt(grant.attempt).is_err());
    for _ in 0..2 {
        first.beats(vec![]).await;
    }
    assert_eq!(deaths(&bench, &grant).await, 0);
}

#[tokio::test]
async fn an_agent_that_comes_back_alive_or_with_its_container_is_not_counted_as_dead() {
    let bench = bench(hasty()).await;
    bench.submit(quick()).await;
    let alive = Agent::join(&bench, "a").await;
    let grant = alive.granted().await;
    alive.beats(vec![held(grant.attempt, JobState::Running)]).await;
    let (keeps, second) = moves_on(&alive, &grant, "b").await;
    alive.beats(vec![]).await;
    let (_, third) = moves_on(&keeps, &second, "c").await;
    let keeps = keeps.restarted().await;
    let answer = keeps.beats(vec![held(second.attempt, JobState::Running)]).await;
    assert_eq!(answer.fenced, [second.attempt]);
    // What becomes of their later processes has nothing to do with this job.
    for agent in [alive.restarted().await, keeps.rebooted().await] {
        for _ in 0..2 {
            agent.beats(vec![]).await;
        }
    }
    assert_eq!((deaths(&bench, &grant).await, bench.state(&third).await), (0, JobState::Running));
}

#[tokio::test]
async fn a_job_that_ends_its_agent_at_every_take_over_is_taken_away_and_lost_too_often() {
    let bench = bench(hasty()).await;
    bench.submit(quick()).await;
    let mut last = None;
    for (dead, name) in ["a", "b"].into_iter().enumerate() {
        let mut agent = Agent::join(&bench, name).await;
        let grant = agent.granted().await;
        let listed = || vec![held(grant.attempt, JobState::Running)];
        agent.beats(listed()).await;
        // It had it for long: whatever ended it came from elsewhere.
        later(Duration::from_secs(300)).await;
        for _ in 0..5 {
            agent = agent.restarted().await;
            assert_eq!(agent.beats(listed()).await.fenced, []);
        }
        assert_eq!((deaths(&bench, &grant).await, bench.state(&grant).await), (dead, JobState::Running));
        agent = agent.restarted().await;
        assert_eq!(agent.beats(listed()).await.fenced, [grant.attempt], "the container goes");
        agent = agent.restarted().await;
        assert_eq!(agent.beats(listed()).await.fenced, [grant.attempt], "also from who did not hear it");
        last = Some(grant);
    }
    assert_eq!(outcome(&bench, &last.expect("granted")).await, Some(Outcome::LostTooOften));
}

#[tokio::test]
async fn an_agent_that_is_restarted_often_over_days_keeps_its_job() {
    let bench = bench(hasty()).await;
    bench.submit(quick()).await;
    let mut agent = Agent::join(&bench, "a").await;
    let grant = agent.granted().await;
    for _ in 0..20 {
        agent = agent.restarted().await;
        assert_eq!(agent.beats(vec![held(grant.attempt, JobState::Running)]).await.fenced, []);
        later(Duration::from_secs(121)).await;
    }
    assert_eq!((deaths(&bench, &grant).await, bench.state(&grant).await), (0, JobState::Running));
}

#[tokio::test]
async fn an_orderly_restart_of_a_machine_is_no_death_and_spends_no_try() {
    for listed in [false, true] {
        let bench = Bench::new().await;
        let mut spec = quick();
        spec.retry.attempts = 1;
        bench.submit(spec).await;
        for name in ["a", "b", "c"] {
            let agent = Agent::join(&bench, name).await;
            let grant = agent.granted().await;
            agent.beats(vec![held(grant.attempt, JobState::Running)]).await;
            bench.jobs.agent_leaves(agent.identity.id, agent.identity.session);
            let agent = agent.rebooted().await;
            if listed {
                agent.beats(vec![held(grant.attempt, JobState::Running)]).await;
                bench.finish(report(grant.attempt, Outcome::AgentLost)).await.expect("taken");
            } else {
                agent.beats(vec![]).await;
            }
            assert_eq!(deaths(&bench, &grant).await, 0, "listed: {listed}");
            assert_eq!(bench.state(&grant).await, JobState::Queued, "listed: {listed}");
        }
    }
}
