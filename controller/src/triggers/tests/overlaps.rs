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
