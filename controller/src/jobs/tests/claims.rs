use super::*;
use longshore_common::{agent::LaneAnswer, job::GpuRequest};

fn with(priority: i32, cores: u32) -> JobSpec {
    let mut spec = spec();
    spec.priority = priority;
    spec.resources.cpu_millis = cores * 1000;
    spec
}

fn lanes() -> [Lane; 3] {
    Lane::of_pool("default")
}

#[tokio::test]
async fn the_best_that_fit_are_granted_several_at_once() {
    let bench = Bench::new().await;
    let old = bench.submit(with(0, 2)).await;
    let large = bench.submit(with(0, 64)).await;
    let urgent = bench.submit(with(10, 2)).await;
    let late = bench.submit(with(0, 2)).await;
    let claimed = bench.claim(AgentId::new(), offer(4, 10)).await;
    let got: Vec<_> = claimed.grants.iter().map(|grant| grant.attempt.job).collect();
    assert_eq!(got, [urgent.id, old.id], "priority, then age");
    assert_eq!(claimed.lanes[&lanes()[0]], LaneAnswer::MoreButNotForYou);
    assert_eq!(claimed.lanes[&lanes()[1]], LaneAnswer::Empty);
    let claimed = bench.claim(AgentId::new(), offer(64, 1)).await;
    assert_eq!(claimed.grants[0].attempt.job, large.id);
    assert_eq!(claimed.lanes[&lanes()[0]], LaneAnswer::MoreButNotForYou, "what is left needs a free core");
    let claimed = bench.claim(AgentId::new(), offer(64, 1)).await;
    assert_eq!(claimed.grants[0].attempt.job, late.id);
    assert_eq!(claimed.lanes[&lanes()[0]], LaneAnswer::Empty);
}

#[tokio::test]
async fn slots_full_but_room_left_is_more() {
    let bench = Bench::new().await;
    bench.submit(with(0, 1)).await;
    bench.submit(with(0, 1)).await;
    let claimed = bench.claim(AgentId::new(), offer(4, 1)).await;
    assert_eq!((claimed.grants.len(), claimed.lanes[&lanes()[0]]), (1, LaneAnswer::More));
}

#[tokio::test]
async fn a_repeated_claim_is_answered_with_the_same_grants_even_by_the_next_controller() {
    let bench = Bench::new().await;
    for _ in 0..3 {
        bench.submit(with(0, 1)).await;
    }
    let command = ClaimCommand {
        claim: ClaimId::new(),
        agent: AgentId::new(),
        offer: offer(2, 2),
        hints: BTreeMap::new(),
    };
    let first = bench.jobs.claim(command.clone()).await.expect("answered");
    assert_eq!(first.grants.len(), 2);
    let bench = bench.reopen(Config::default()).await;
    let again = bench.jobs.claim(command.clone()).await.expect("answered");
    let sorted = |claimed: &Claimed| {
        let mut attempts: Vec<_> = claimed.grants.iter().map(|grant| grant.attempt).collect();
        attempts.sort();
        attempts
    };
    assert_eq!(sorted(&again), sorted(&first));
    let stranger = ClaimCommand { agent: AgentId::new(), ..command };
    assert!(bench.jobs.claim(stranger).await.expect("answered").grants.is_empty());
}

#[tokio::test]
async fn no_job_is_granted_twice_to_agents_that_ask_together() {
    let bench = Bench::new().await;
    for _ in 0..40 {
        bench.submit(with(0, 1)).await;
    }
    let claims = (0..10).map(|_| bench.claim(AgentId::new(), offer(6, 6)));
    let answers = futures::future::join_all(claims).await;
    let mut jobs: Vec<_> = answers.iter().flat_map(|a| &a.grants).map(|grant| grant.attempt.job).collect();
    assert_eq!(jobs.len(), 40);
    jobs.sort();
    jobs.dedup();
    assert_eq!(jobs.len(), 40);
}

#[tokio::test]
async fn gpus_are_granted_by_uuid_and_remembered() {
    let bench = Bench::new().await;
    let agent = identity("gpu-04");
    let gpu = |index: u32, gib: u64| Gpu {
        index,
        uuid: format!("GPU-{index}"),
        model: "NVIDIA A10".into(),
        memory_bytes: gib * GIB,
        ..Gpu::default()
    };
    let gpus = vec![gpu(0, 80), gpu(1, 24)];
    bench.jobs.hello(agent.clone(), inventory(16, gpus.clone())).await.expect("stored");
    let mut wants = spec();
    wants.resources.gpu =
        Some(GpuRequest { memory_bytes: 20 * GIB, model: vec!["a10".into()], ..GpuRequest::of(1) });
    let job = bench.submit(wants).await;
    assert_eq!(job.lane, lanes()[1]);
    let mut offer = Offer { gpus, ..offer(16, 4) };
    offer.free.gpus = 2;
    let claimed = bench.claim(agent.id, offer).await;
    assert_eq!(claimed.grants[0].gpus, ["GPU-1"], "the tightest");
    let attempts = bench.jobs.attempts(job.id).await.expect("there");
    assert_eq!(
        (attempts[0].gpus.clone(), attempts[0].agent.as_str()),
        (vec!["1 NVIDIA A10 GPU-1".to_owned()], "gpu-04")
    );
    let held = &bench.jobs.agent("gpu-04").expect("known").jobs;
    let expected =
        HeldJob { job: job.short_id, project: "default".into(), attempt: 1, gpus: vec!["GPU-1".into()] };
    assert_eq!(held, &[expected]);
}

#[tokio::test]
async fn a_job_behind_hundreds_that_do_not_fit_is_found() {
    let bench = Bench::new().await;
    let new = |spec| NewJob {
        request_id: None,
        project: "default".into(),
        spec,
        retry_of: None,
        own: Vec::new(),
        submitter: None,
    };
    let mut picky = with(5, 1);
    picky.agents.insert("site".into(), vec!["nowhere".into()]);
    bench.jobs.submit(vec![new(picky); 300]).await.expect("stored");
    bench.jobs.submit(vec![new(with(5, 64)); 300]).await.expect("stored");
    let small = bench.submit(with(0, 1)).await;
    let claimed = bench.claim(AgentId::new(), offer(4, 1)).await;
    assert_eq!(claimed.grants.iter().map(|g| g.attempt.job).collect::<Vec<_>>(), [small.id]);
    assert_eq!(claimed.lanes[&lanes()[0]], LaneAnswer::MoreButNotForYou);
}

#[tokio::test]
async fn thousands_that_nobody_can_take_do_not_starve_the_ones_behind() {
    let bench = Bench::new().await;
    let new = |spec| NewJob {
        request_id: None,
        project: "default".into(),
        spec,
        retry_of: None,
        own: Vec::new(),
        submitter: None,
    };
    let mut typo = with(0, 1);
    typo.agents.insert("site".into(), vec!["zurihc".into()]);
    for _ in 0..5 {
        bench.jobs.submit(vec![new(typo.clone()); 1000]).await.expect("stored");
    }
    let behind = [bench.submit(with(0, 1)).await.id, bench.submit(with(0, 1)).await.id];
    let agent = AgentId::new();
    let claim = async || {
        let claimed = bench.claim(agent, offer(4, 1)).await;
        (claimed.grants.first().map(|grant| grant.attempt.job), claimed.lanes[&lanes()[0]])
    };
    let mut claims = 0;
    let first = loop {
        match claim().await {
            (Some(job), answer) => break (job, answer),
            (None, answer) => assert_eq!(answer, LaneAnswer::More, "claim {claims}: not the end yet"),
        }
        claims += 1;
        assert!(claims < 8, "5,000 are seen by a few claims");
    };
    assert_eq!(first, (behind[0], LaneAnswer::More), "its place is kept while there is work");
    let urgent = bench.submit(with(1, 1)).await;
    assert_eq!(claim().await.0, Some(urgent.id), "the head of the lane is seen by every claim");
    assert_eq!(claim().await.0, Some(behind[1]), "and the next one goes on behind");
    assert_eq!(claim().await, (None, LaneAnswer::MoreButNotForYou), "all was seen");
    let late = bench.submit(with(0, 1)).await;
    assert_eq!(claim().await.0, Some(late.id), "new ones are found at once");
}

#[tokio::test]
async fn what_was_passed_over_is_looked_at_again_when_it_fits() {
    let bench = Bench::new().await;
    let new = |spec| NewJob {
        request_id: None,
        project: "default".into(),
        spec,
        retry_of: None,
        own: Vec::new(),
        submitter: None,
    };
    let mut typo = with(0, 1);
    typo.agents.insert("site".into(), vec!["zurihc".into()]);
    for _ in 0..2 {
        bench.jobs.submit(vec![new(typo.clone()); 1000]).await.expect("stored");
    }
    let large = bench.submit(with(0, 8)).await;
    for _ in 0..2 {
        bench.jobs.submit(vec![new(typo.clone()); 1000]).await.expect("stored");
    }
    let agent = AgentId::new();
    while bench.claim(agent, offer(4, 1)).await.lanes[&lanes()[0]] == LaneAnswer::More {}
    let mut claims = 0;
    while bench.claim(agent, offer(8, 1)).await.grants.first().map(|grant| grant.attempt.job)
        != Some(large.id)
    {
        claims += 1;
        assert!(claims < 10, "4,000 are seen again by a few claims");
    }
    // Another machine by the same id begins at the head.
    let at_home = Offer { labels: [("site".into(), "zurihc".into())].into(), ..offer(8, 1) };
    assert_eq!(bench.claim(agent, at_home).await.grants.len(), 1);
}

#[tokio::test]
async fn explain_says_what_the_claim_would() {
    let bench = Bench::new().await;
    let job = bench.submit(with(0, 64)).await;
    assert_eq!(
        bench.jobs.explain(job.id).await.expect("there").summary,
        "next in line; no agent has ever joined"
    );
    bench.jobs.hello(identity("small"), inventory(4, vec![])).await.expect("stored");
    let explanation = bench.jobs.explain(job.id).await.expect("there");
    let expected = AgentReason {
        agent: "small".into(),
        reason: "needs 64 cpu, has 4".into(),
        permanent: true,
        until: None,
    };
    assert_eq!((explanation.place, explanation.agents), (1, vec![expected]));
    assert_eq!(explanation.summary, "no agent can ever take it; small: needs 64 cpu, has 4");
    let behind = bench.submit(with(0, 1)).await;
    let explanation = bench.jobs.explain(behind.id).await.expect("there");
    assert_eq!(explanation.place, 2);
    assert!(explanation.summary.starts_with("2nd in line; small: "), "{}", explanation.summary);
    let running = bench.submit(with(0, 1)).await;
    bench.jobs.cancel(vec![running.id], "anna", "").await.expect("stored");
    let mut views = bench.jobs.get_many(&[job.id, behind.id, running.id]).await.expect("there");
    let expected = ["no agent can ever take it; small: needs 64 cpu, has 4", "small has room", ""];
    assert_eq!(bench.jobs.waits(&views).await.expect("read"), expected);
    (views[0].state, views[0].attempts) = (JobState::Waiting, 1);
    assert_eq!(bench.jobs.waits(&views).await.expect("read")[0], "attempt 2 follows now");
    assert_eq!(explanation.agents[0].reason, "has room; it takes the job with its next claim");
}

#[tokio::test]
async fn explain_of_a_job_that_needs_no_agent_lists_none() {
    let bench = Bench::new().await;
    let agent = identity("a");
    bench.jobs.hello(agent.clone(), inventory(4, vec![])).await.expect("stored");
    let job = bench.submit(with(0, 1)).await;
    let grant = bench.claim(agent.id, offer(4, 1)).await.grants.remove(0);
    let held = bench.jobs.explain(job.id).await.expect("there");
    assert_eq!((held.summary.as_str(), held.agents), ("is claimed on a, not in a queue", vec![]));
    let end = FinishReport { detail: "exited with 3".into(), ..report(grant.attempt, Outcome::ExitCode(3)) };
    bench.finish(end).await.expect("taken");
    let ended = bench.jobs.explain(job.id).await.expect("there");
    assert_eq!((ended.summary.as_str(), ended.place), ("has ended: exit_code(3): exited with 3", 0));
    assert_eq!(ended.agents, []);
}

#[tokio::test]
async fn an_answer_with_large_specs_stays_below_what_agents_read() {
    let bench = Bench::new().await;
    for _ in 0..20 {
        let mut large = spec();
        large.env.insert("DATA".into(), "x".repeat(900_000));
        bench.submit(large).await;
    }
    let mut granted = 0;
    for _ in 0..3 {
        let claimed = bench.claim(AgentId::new(), offer(64, 100)).await;
        let bytes: usize = claimed.grants.iter().map(|grant| grant.spec.env["DATA"].len()).sum();
        assert!(bytes < 17 << 20, "{bytes}");
        granted += claimed.grants.len();
        if granted < 20 {
            assert_eq!(claimed.lanes[&lanes()[0]], LaneAnswer::More);
        }
    }
    assert_eq!(granted, 20);
}
