//! Jobs that begin after others: let go in the commit that ends these, ended when that cannot be.

use super::*;
use longshore_common::job::{After, When};

fn behind(jobs: &[(&str, When)]) -> JobSpec {
    let after = jobs.iter().map(|(job, when)| After { job: (*job).to_owned(), when: *when });
    JobSpec { after: after.collect(), ..spec() }
}

impl Bench {
    async fn now(&self, job: &JobView) -> JobView {
        self.jobs.get(job.id).await.expect("there")
    }

    async fn cancelled(&self, job: &JobView) {
        self.jobs.cancel(vec![job.id], "anna", "").await.expect("stored");
    }

    async fn outcome(&self, job: &JobView) -> Option<(Outcome, String)> {
        self.now(job).await.ending.map(|ending| (ending.outcome, ending.detail))
    }
}

#[tokio::test]
async fn a_job_waits_until_all_others_have_ended_as_they_should() {
    let bench = Bench::new().await;
    let (first, second) = (bench.submit(spec()).await, bench.submit(spec()).await);
    let (a, b) = (first.short_id.as_str(), second.short_id.as_str());
    let job = bench.submit(behind(&[(a, When::Succeeded), (b, When::Finished)])).await;
    assert_eq!(job.state, JobState::Waiting);
    let why = bench.jobs.explain(job.id).await.expect("known").summary;
    assert!(why.starts_with("waits for job") && why.contains(a) && why.contains(b), "{why}");
    let waits = bench.jobs.waits(&[bench.now(&job).await]).await.expect("known");
    assert_eq!(waits, [format!("after {a}, {b}")]);
    bench.cancelled(&second).await;
    assert_eq!(bench.now(&job).await.state, JobState::Waiting);
    let grants = bench.claim(AgentId::new(), offer(16, 4)).await.grants;
    assert_eq!(grants.len(), 1, "the one that runs: {grants:?}");
    bench.finish(report(grants[0].attempt, Outcome::Succeeded)).await.expect("taken");
    assert_eq!(bench.now(&job).await.state, JobState::Queued);
    // And over a new start.
    let bench = bench.reopen(Config::default()).await;
    assert_eq!(bench.now(&job).await.state, JobState::Queued);
}

#[tokio::test]
async fn what_can_never_begin_ends_with_all_that_wait_for_it() {
    let bench = Bench::new().await;
    let first = bench.submit(spec()).await;
    let second = bench.submit(behind(&[(first.short_id.as_str(), When::Succeeded)])).await;
    let third = bench.submit(behind(&[(second.short_id.as_str(), When::Succeeded)])).await;
    let cleanup = bench.submit(behind(&[(second.short_id.as_str(), When::Failed)])).await;
    let never = bench.submit(behind(&[(first.short_id.as_str(), When::Failed)])).await;
    bench.cancelled(&first).await;
    for (job, behind) in [(&second, &first), (&third, &second), (&never, &first)] {
        let (outcome, detail) = bench.outcome(job).await.expect("ended");
        assert_eq!(outcome, Outcome::DependencyFailed);
        assert!(detail.contains(behind.short_id.as_str()), "{detail}");
    }
    assert_eq!(bench.now(&cleanup).await.state, JobState::Queued);
    // What has ended already counts at once.
    let late = bench.submit(behind(&[(first.short_id.as_str(), When::Finished)])).await;
    assert_eq!(bench.now(&late).await.state, JobState::Queued);
    let late = bench.submit(behind(&[(first.short_id.as_str(), When::Succeeded)])).await;
    assert_eq!(bench.outcome(&late).await.expect("ended").0, Outcome::DependencyFailed);
    // Who asks for it again has seen that.
    let again = bench.jobs.retry(late.id, None, None, None).await.expect("stored").expect("taken").job;
    assert_eq!(again.state, JobState::Queued);
}

#[tokio::test]
async fn what_others_wait_for_is_kept_and_what_is_not_there_is_named() {
    let bench = Bench::new().await;
    let mut named = spec();
    named.name = Some("train".into());
    let first = bench.submit(named).await;
    let job = bench.submit(behind(&[("train", When::Finished)])).await;
    assert_eq!(job.spec.after[0].job, first.short_id.as_str(), "a name means its job of now");
    let refused = bench.submit_as(None, behind(&[("nothing", When::Finished)])).await.expect_err("not there");
    assert!(
        matches!(&refused, SubmitError::BadInput { field, .. } if field == "after[0].job"),
        "{refused:?}"
    );
    // Ended, it lets the other go; until that has ended it is kept.
    bench.cancelled(&first).await;
    let removed = bench.jobs.remove(vec![first.id]).await.expect("stored");
    assert_eq!((removed.jobs.len(), removed.needed.len()), (0, 1));
    bench.cancelled(&job).await;
    let removed = bench.jobs.remove(vec![first.id]).await.expect("stored");
    assert_eq!(removed.jobs.len(), 1);
}

#[tokio::test]
async fn a_waiting_job_can_be_cancelled_with_what_it_waits_for() {
    let bench = Bench::new().await;
    let first = bench.submit(spec()).await;
    let job = bench.submit(behind(&[(first.short_id.as_str(), When::Succeeded)])).await;
    bench.jobs.cancel(vec![first.id, job.id], "anna", "").await.expect("stored");
    assert_eq!(bench.outcome(&job).await.expect("ended").0, Outcome::Cancelled);
}

#[tokio::test]
async fn a_queue_deadline_that_was_over_before_the_other_job_ended_does_not_end_the_one_behind() {
    let bench = Bench::new().await;
    let first = bench.submit(spec()).await;
    let mut brief = behind(&[(first.short_id.as_str(), When::Finished)]);
    brief.deadlines.queue = Some(Duration::ZERO);
    let job = bench.submit(brief).await;
    assert_eq!(bench.jobs.pass_queue_deadlines().await.expect("looked"), None, "none is in a queue");
    assert_eq!(bench.now(&job).await.state, JobState::Waiting);
    bench.cancelled(&first).await;
    assert_eq!(bench.now(&job).await.state, JobState::Queued);
    bench.jobs.pass_queue_deadlines().await.expect("looked");
    assert_eq!(bench.outcome(&job).await.expect("ended").0, Outcome::QueueTimeout);
}
