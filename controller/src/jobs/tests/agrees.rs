//! What is told of a waiting job is what the next claim does.

use super::{
    trace::{Dice, EACH, Order, amounts, gpus},
    *,
};
use std::time::Duration;

#[tokio::test]
async fn what_explain_calls_placeable_is_granted_when_asked() {
    let bench = Bench::new().await;
    let agent = identity("a");
    let whole = Inventory { allocatable: amounts(EACH), ..inventory(64, gpus(0..EACH)) };
    bench.jobs.hello(agent.clone(), whole).await.expect("stored");
    let (mut dice, mut placeable) = (Dice(11), 0);
    for _ in 0..150 {
        let order = Order { at: 0, project: "default", gpus: 1 + dice.few(4), seconds: 60 };
        let mut new = order.job();
        let gpu = new.spec.resources.gpu.as_mut().expect("asked for");
        gpu.nvlink = dice.below(3) == 0;
        if dice.below(5) == 0 {
            gpu.model = vec!["!*SXM4*".into()];
        }
        new.spec.resources.cpu_millis = 1000 * (1 + dice.few(80));
        let job = bench.jobs.submit(vec![new]).await.expect("stored").remove(0).expect("taken").job;
        let free: Vec<u32> = (0..EACH).filter(|_| dice.below(3) > 0).collect();
        let amounts =
            Capacity { cpu_millis: 1000 * dice.few(65), ..amounts(u32::try_from(free.len()).expect("few")) };
        let told = gpus(0..EACH).into_iter().map(|gpu| {
            let job = (!free.contains(&gpu.index)).then(|| "other".to_owned());
            Gpu { job, ..gpu }
        });
        let (slots, note) =
            (dice.few(4), if dice.below(3) == 0 { "GPU 1 is slowed down: thermal" } else { "" });
        let report = AgentReport {
            free: amounts,
            gpus: told.collect(),
            slots: Some(slots),
            note: note.into(),
            ..AgentReport::default()
        };
        bench.jobs.agent_report(agent.id, report);
        let says = bench.jobs.explain(job.id).await.expect("there").agents[0].reason.starts_with("has room");
        let asked = Offer { gpus: gpus(free), free: amounts, ..offer(64, slots) };
        let granted = bench.claim(agent.id, asked).await.grants;
        assert_eq!(granted.len() == 1, says, "{:?} on {amounts:?}", job.spec.resources);
        match granted.first() {
            Some(grant) => {
                placeable += 1;
                bench.finish(super::report(grant.attempt, Outcome::Succeeded)).await.expect("taken");
            }
            None => drop(bench.jobs.cancel(vec![job.id], "anna", "").await.expect("stored")),
        }
    }
    assert!((20..130).contains(&placeable), "{placeable} of 150: both answers are seen");
}

/// Beside a machine that is kept for a job of all its GPUs, while another job has one of them.
#[tokio::test]
async fn what_explain_says_of_a_kept_machine_is_what_the_claim_does() {
    let bench = Bench::new().await;
    let bench = bench.reopen(Config { reserve_after: Duration::ZERO, ..Config::default() }).await;
    let agent = identity("a");
    let whole = Inventory { allocatable: amounts(EACH), ..inventory(64, gpus(0..EACH)) };
    bench.jobs.hello(agent.clone(), whole).await.expect("stored");
    let job = async |gpus: u32, seconds: u64| {
        let order = Order { at: 0, project: "default", gpus, seconds };
        bench.jobs.submit(vec![order.job()]).await.expect("stored").remove(0).expect("taken").job
    };
    let claim = async |free: &[u32]| {
        let left = amounts(u32::try_from(free.len()).expect("few"));
        bench
            .claim(agent.id, Offer { gpus: gpus(free.iter().copied()), free: left, ..offer(64, 1) })
            .await
            .grants
    };
    job(1, 1800).await;
    assert_eq!(claim(&[7]).await.len(), 1);
    let large = job(EACH, 60).await;
    job(1, 60).await;
    let passed = claim(&[0]).await;
    bench.finish(super::report(passed[0].attempt, Outcome::Succeeded)).await.expect("taken");
    let kept = || bench.jobs.inner.shared.reserved.of(agent.id).map(|seated| seated.job);
    assert_eq!(kept(), Some(large.id));
    let (mut dice, mut placeable) = (Dice(3), 0);
    for _ in 0..60 {
        let new = job(1 + dice.few(3), 600 * (1 + dice.below(6))).await;
        let free: Vec<u32> = (0..EACH - 1).filter(|_| dice.below(3) > 0).collect();
        let told = gpus(0..EACH).into_iter().map(|gpu| {
            let job = (!free.contains(&gpu.index)).then(|| "other".to_owned());
            Gpu { job, ..gpu }
        });
        let left = amounts(u32::try_from(free.len()).expect("few"));
        let report = AgentReport { free: left, gpus: told.collect(), ..AgentReport::default() };
        bench.jobs.agent_report(agent.id, report);
        let told = bench.jobs.explain(new.id).await.expect("there").agents.remove(0);
        let listed = bench.jobs.waits(&[bench.jobs.get(new.id).await.expect("there")]).await.expect("read");
        assert_eq!(listed[0] == "a has room", told.reason.starts_with("has room"), "{listed:?} {told:?}");
        let granted = claim(&free).await;
        assert_eq!(granted.len() == 1, told.reason.starts_with("has room"), "{told:?} with {free:?}");
        assert_eq!(kept(), Some(large.id));
        match granted.first() {
            Some(grant) => {
                placeable += 1;
                bench.finish(super::report(grant.attempt, Outcome::Succeeded)).await.expect("taken");
            }
            None => drop(bench.jobs.cancel(vec![new.id], "anna", "").await.expect("stored")),
        }
    }
    assert!((5..55).contains(&placeable), "{placeable} of 60: both answers are seen");
}
