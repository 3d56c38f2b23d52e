//! A former job that has not ended.

use super::*;

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
async fn a_former_job_is_replaced_only_when_there_is_one_in_its_place() {
    let bench = Bench::new().await;
    let mut project = Project::new("default");
    project.settings.quotas.queued = Some(1);
    bench.identity.put_project(project.clone()).await.expect("put");
    let mut spec = trigger("t", hook(60));
    spec.overlap = Overlap::Replace;
    bench.apply(spec).await;
    let fire =
        async || bench.triggers.fire(("default", "t"), json!({}), "test", None).await.expect("answered");
    let first = fire().await;
    assert_eq!(fire().await.state(), FiringState::Pending, "the quota is used up");
    assert!(!bench.job_of(&first).await.state.is_terminal(), "nothing takes its place");
    project.settings.quotas.queued = Some(5);
    bench.identity.put_project(project).await.expect("put");
    bench.try_now("t").await;
    assert_eq!(bench.job_of(&first).await.state, JobState::Cancelled);
    let states: Vec<_> = bench.jobs.list(&jobs::JobFilter::default(), 10, "").await.expect("listed").items;
    assert_eq!(states.iter().filter(|job| !job.state.is_terminal()).count(), 1);
}

#[tokio::test]
async fn what_waits_for_a_job_that_hangs_is_bounded() {
    let bench = Bench::new().await;
    let mut spec = trigger("t", cron("* * * * *", "UTC", Missed::Once));
    spec.overlap = Overlap::Queue;
    bench.apply(spec).await;
    let start = Timestamp::from_micros(NEW_YEAR);
    bench.since("t", start).await;
    for minute in 1..=150 {
        bench.triggers.tick(start.plus(Duration::from_secs(60) * minute)).await.expect("ticked");
        if minute % 10 == 0 {
            bench.try_now("t").await;
        }
    }
    let states = bench.states("t").await;
    let count = |state| states.iter().filter(|known| **known == state).count();
    assert_eq!(count(FiringState::Fired), 1);
    assert!((95..=101).contains(&count(FiringState::Pending)), "{}", count(FiringState::Pending));
    assert!(count(FiringState::Skipped) >= 48, "{}", count(FiringState::Skipped));
}
