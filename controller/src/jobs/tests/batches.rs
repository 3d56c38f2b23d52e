//! Batches: all or none, so many at once and never one more, cancelled and tried again as one.

use super::*;
use longshore_common::{
    clock::Timestamp,
    ids::ShortId,
    job::{After, When},
};
use std::time::Duration;

fn order(project: &str, spec: JobSpec) -> Order {
    let project = project.to_owned();
    NewJob { request_id: None, project, spec, retry_of: None, own: Vec::new(), submitter: None }.into()
}

fn batch_of(specs: Vec<JobSpec>, max_parallel: Option<u32>) -> NewBatch {
    NewBatch {
        request: None,
        project: "default".into(),
        name: "sweep".into(),
        max_parallel,
        retry_of: None,
        submitter: None,
        jobs: (1..).zip(specs).map(|(row, spec)| (row, order("default", spec))).collect(),
    }
}

fn rows(count: usize, max_parallel: Option<u32>) -> NewBatch {
    batch_of(vec![spec(); count], max_parallel)
}

impl Bench {
    async fn batch(&self, batch: NewBatch) -> ShortId {
        self.jobs.make_batch(batch).await.expect("stored").expect("taken").id
    }

    async fn view(&self, id: &ShortId) -> BatchView {
        self.jobs.batch(id).await.expect("there")
    }

    async fn of_batch(&self, id: &ShortId) -> Vec<JobView> {
        let filter = JobFilter { batch: Some(id.clone()), ..JobFilter::default() };
        let mut jobs = self.jobs.list(&filter, 1_000, "").await.expect("listed").items;
        jobs.sort_by_key(|job| job.batch.as_ref().map(|batch| batch.row));
        jobs
    }

    async fn ends(&self, grant: &Grant, outcome: Outcome) {
        self.finish(report(grant.attempt, outcome)).await.expect("taken");
    }
}

#[tokio::test]
async fn never_more_than_the_bound_go_at_once_and_a_free_place_is_used_in_the_same_commit() {
    let mut bench = Bench::new().await;
    let id = bench.batch(rows(23, Some(4))).await;
    let agents = [AgentId::new(), AgentId::new(), AgentId::new()];
    let (mut held, mut done, mut turn) = (Vec::new(), 0, 0_usize);
    while done < 23 {
        // Each asks for far more than may go.
        let grants = bench.claim(agents[turn % 3], offer(64, 32)).await.grants;
        held.extend(grants);
        turn += 1;
        let counts = bench.view(&id).await.counts;
        let going = counts.queued + counts.running;
        assert!(going <= 4 && held.len() <= 4, "{counts:?}");
        assert_eq!(going, (23 - done).min(4), "no place stays empty: {counts:?}");
        let outcome = if turn.is_multiple_of(2) { Outcome::Succeeded } else { Outcome::ExitCode(3) };
        bench.ends(&held.remove(0), outcome).await;
        done += 1;
        if done == 11 {
            bench = bench.reopen(Config::default()).await;
        }
    }
    let view = bench.view(&id).await;
    assert_eq!((view.counts.succeeded + view.counts.failed, view.counts.unfinished()), (23, 0));
    assert!(view.finished_at.is_some());
    // They began in the order of their rows.
    let started: Vec<_> = bench.of_batch(&id).await.iter().map(|job| job.attempts).collect();
    assert_eq!(started, [1; 23]);
}

#[tokio::test]
async fn one_that_waits_for_its_turn_says_so_and_its_queue_deadline_counts_from_it() {
    let bench = Bench::new().await;
    let mut spec = spec();
    spec.deadlines.queue = Some(Duration::from_secs(3600));
    let id = bench.batch(batch_of(vec![spec; 3], Some(1))).await;
    let jobs = bench.of_batch(&id).await;
    let states: Vec<_> = jobs.iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Queued, JobState::Waiting, JobState::Waiting]);
    let why = bench.jobs.explain(jobs[1].id).await.expect("known").summary;
    assert_eq!(
        why,
        format!("waits for its turn: batch {id} lets 1 of its jobs go at once, and 1 of them has not ended")
    );
    assert_eq!(bench.jobs.waits(&jobs[1..2]).await.expect("known"), [format!("its turn in batch {id}")]);
    let deadline = async |job: &JobView| bench.jobs.row(job.id).await.expect("there").row.job.queue_deadline;
    assert!(deadline(&jobs[0]).await.is_some() && deadline(&jobs[1]).await.is_none());
    let before = bench.jobs.row(jobs[1].id).await.expect("there").row.queued_at;
    bench.jobs.cancel(vec![jobs[0].id], "anna", "").await.expect("stored");
    assert!(deadline(&jobs[1]).await.is_some(), "it has its turn");
    let row = bench.jobs.row(jobs[1].id).await.expect("there").row;
    assert!(row.queued_at > before, "its age in the queue too");
    let grants = bench.claim(AgentId::new(), offer(64, 32)).await.grants;
    assert_eq!(grants.len(), 1);
    assert_eq!(grants[0].attempt.job, jobs[1].id, "by row");
}

#[tokio::test]
async fn a_retried_attempt_keeps_its_place_and_one_that_cannot_begin_takes_none() {
    let bench = Bench::new().await;
    let first = bench.submit(spec()).await;
    let mut behind = spec();
    behind.after = vec![After { job: first.short_id.to_string(), when: When::Finished }];
    let mut later = spec();
    later.not_before = Some(Timestamp::now().plus(Duration::from_secs(3600)));
    let id = bench.batch(batch_of(vec![behind, later, spec(), spec()], Some(1))).await;
    let state = async |row: usize| bench.of_batch(&id).await[row].state;
    assert_eq!(state(2).await, JobState::Queued, "the first that can begin");
    let grants = bench.claim(AgentId::new(), offer(64, 1)).await.grants;
    // The single job was first; the next claim has the batch's.
    bench.ends(&grants[0], Outcome::Succeeded).await;
    assert_eq!(state(0).await, JobState::Waiting, "it could begin now, and has no turn");
    let grants = bench.claim(AgentId::new(), offer(64, 9)).await.grants;
    assert_eq!(grants.len(), 1);
    bench.ends(&grants[0], Outcome::RuntimeError).await;
    assert_eq!(state(2).await, JobState::Waiting, "its backoff");
    assert_eq!(
        (state(0).await, state(3).await),
        (JobState::Waiting, JobState::Waiting),
        "it keeps its place"
    );
    let again = bench.of_batch(&id).await[2].id;
    bench.jobs.cancel(vec![again], "anna", "").await.expect("stored");
    assert_eq!((state(0).await, state(3).await), (JobState::Queued, JobState::Waiting));
}

#[tokio::test]
async fn a_cancel_ends_all_of_it_and_lets_none_go() {
    let bench = Bench::new().await;
    let id = bench.batch(rows(500, Some(3))).await;
    let agent = AgentId::new();
    let held = bench.claim(agent, offer(64, 2)).await.grants;
    assert_eq!(held.len(), 2);
    bench.ends(&held[0], Outcome::Succeeded).await;
    let view = bench.jobs.cancel_batch(&id, "anna", "wrong table").await.expect("stored");
    assert_eq!((view.counts.running, view.counts.succeeded, view.counts.cancelled), (1, 1, 498));
    assert_eq!((view.counts.waiting, view.counts.queued), (0, 0));
    assert!(bench.claim(AgentId::new(), offer(64, 32)).await.grants.is_empty());
    bench.ends(&held[1], Outcome::Cancelled).await;
    let view = bench.jobs.cancel_batch(&id, "anna", "again").await.expect("stored");
    assert_eq!((view.counts.cancelled, view.counts.unfinished(), view.total), (499, 0, 500));
    let jobs = bench.of_batch(&id).await;
    assert!(jobs.iter().all(|job| job.state.is_terminal()));
}

#[tokio::test]
async fn a_retry_is_a_new_batch_of_the_failed_rows_alone() {
    let bench = Bench::new().await;
    let id = bench.batch(rows(4, Some(2))).await;
    let again = async |asked: &str, request: Option<&str>, cancelled| {
        let id = bench.jobs.resolve_batch(asked, None).await.expect("there");
        bench.jobs.batch_again((&id, asked), cancelled, request.map(str::to_owned), None).await
    };
    assert!(matches!(again(id.as_str(), None, true).await, Err(Error::NothingToRetry { .. })));
    for outcome in [Outcome::Succeeded, Outcome::ExitCode(1), Outcome::RunTimeout] {
        let grants = bench.claim(AgentId::new(), offer(64, 1)).await.grants;
        bench.ends(&grants[0], outcome).await;
    }
    bench.jobs.cancel_batch(&id, "anna", "").await.expect("stored");
    let name = bench.view(&id).await.name;
    let retry = async |request: &str, cancelled| {
        let again = again(&name, Some(request), cancelled).await.expect("some");
        bench.jobs.make_batch(again).await.expect("stored").expect("taken")
    };
    let made = retry("a", false).await;
    // The name means the new batch by now.
    assert_eq!(bench.jobs.resolve_batch(&name, None).await.expect("there"), made.id);
    assert_eq!(retry("a", false).await, MadeBatch { existing: true, ..made.clone() });
    let view = bench.view(&made.id).await;
    assert_eq!((view.total, view.retry_of.as_ref(), view.max_parallel), (2, Some(&id), Some(2)));
    let jobs = bench.of_batch(&made.id).await;
    let rows: Vec<_> = jobs.iter().map(|job| job.batch.as_ref().map(|batch| batch.row)).collect();
    assert_eq!(rows, [Some(2), Some(3)], "rows keep their numbers");
    let old = bench.of_batch(&id).await;
    assert_eq!(jobs[0].retry_of.as_ref(), Some(&old[1].short_id));
    let all = again(id.as_str(), Some("b"), true).await.expect("some");
    let all = bench.jobs.make_batch(all).await.expect("stored").expect("taken");
    assert_eq!(bench.view(&all.id).await.total, 3);
    let reused = again(id.as_str(), Some("a"), true).await.expect("some");
    let reused = bench.jobs.make_batch(reused).await.expect("stored");
    assert!(matches!(reused, Err(BatchError::RequestIdReused { .. })), "{reused:?}");
}

#[tokio::test]
async fn all_rows_or_none_and_the_same_request_once() {
    let bench = Bench::new().await;
    let mut wrong = spec();
    wrong.after = vec![After { job: "nothing".into(), when: When::Finished }];
    let refused = batch_of(vec![spec(), wrong.clone(), spec(), wrong], None);
    let refused = bench.jobs.make_batch(refused).await.expect("stored").expect_err("two are wrong");
    let BatchError::Rows(errors) = refused else { panic!("{refused}") };
    assert_eq!(errors.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [2, 4]);
    let all = JobFilter::default();
    assert!(bench.jobs.list(&all, 10, "").await.expect("listed").items.is_empty(), "none was made");
    assert!(bench.jobs.batches(&BatchFilter::default(), 10, "").await.expect("listed").items.is_empty());

    let asked = |digest: u8| NewBatch { request: Some(("key".into(), vec![digest])), ..rows(3, None) };
    let (first, second) = tokio::join!(bench.jobs.make_batch(asked(1)), bench.jobs.make_batch(asked(1)));
    let (first, second) = (first.expect("stored").expect("taken"), second.expect("stored").expect("taken"));
    assert_eq!((first.id.clone(), first.existing != second.existing), (second.id, true));
    let reused = bench.jobs.make_batch(asked(2)).await.expect("stored");
    assert!(matches!(reused, Err(BatchError::RequestIdReused { .. })));
    let bench = bench.reopen(Config::default()).await;
    let again = bench.jobs.make_batch(asked(1)).await.expect("stored").expect("taken");
    assert_eq!(again, MadeBatch { id: first.id.clone(), existing: true });
    assert_eq!(bench.of_batch(&first.id).await.len(), 3);
    // It goes with its last job, and its request is remembered.
    bench.jobs.cancel_batch(&first.id, "anna", "").await.expect("stored");
    let jobs: Vec<_> = bench.of_batch(&first.id).await.iter().map(|job| job.id).collect();
    bench.jobs.remove(jobs[..2].to_vec()).await.expect("stored");
    let view = bench.view(&first.id).await;
    assert_eq!((view.counts.removed, view.counts.cancelled), (2, 1));
    bench.jobs.remove(jobs[2..].to_vec()).await.expect("stored");
    assert!(bench.jobs.batch(&first.id).await.is_err());
    let gone = bench.jobs.make_batch(asked(1)).await.expect("stored");
    assert!(matches!(gone, Err(BatchError::RequestOfRemoved { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_batch_is_its_projects_and_is_found_by_id_beginning_and_name() {
    let bench = Bench::new().await;
    let id = bench.batch(rows(1, None)).await;
    let resolve = |text: &str, project: Option<&'static str>| {
        let text = text.to_owned();
        let jobs = bench.jobs.clone();
        async move { jobs.resolve_batch(&text, project).await.ok() }
    };
    for text in [id.as_str(), &id.as_str()[..7], "sweep"] {
        assert_eq!(resolve(text, None).await.as_ref(), Some(&id));
        assert_eq!(resolve(text, Some("default")).await.as_ref(), Some(&id));
        assert_eq!(resolve(text, Some("others")).await, None, "{text}");
    }
    let of = |project: &str| BatchFilter { project: Some(project.into()), unfinished: true };
    let listed =
        async |filter: &BatchFilter| bench.jobs.batches(filter, 10, "").await.expect("listed").items.len();
    assert_eq!((listed(&of("default")).await, listed(&of("others")).await), (1, 0));
    bench.batch(rows(2, None)).await;
    let first = bench.jobs.batches(&of("default"), 1, "").await.expect("listed");
    let second = bench.jobs.batches(&of("default"), 1, &first.next.expect("more")).await.expect("listed");
    assert_eq!((first.items[0].total, second.items[0].total), (2, 1), "newest first, page by page");
    bench.jobs.cancel_batch(&id, "anna", "").await.expect("stored");
    assert_eq!(listed(&of("default")).await, 1, "one has jobs to come");
}

#[tokio::test]
async fn a_job_waits_for_its_time_and_its_queue_deadline_counts_from_then() {
    let bench = Bench::new().await;
    let mut later = spec();
    let start = Timestamp::now().plus(Duration::from_millis(1500));
    later.not_before = Some(start);
    later.deadlines.queue = Some(Duration::from_secs(60));
    let job = bench.submit(later).await;
    assert_eq!((job.state, job.not_before), (JobState::Waiting, Some(start)));
    let why = bench.jobs.explain(job.id).await.expect("known").summary;
    assert_eq!(why, format!("begins at {} at the earliest", start.to_rfc3339()));
    assert_eq!(
        bench.jobs.row(job.id).await.expect("there").row.job.queue_deadline,
        Some(start.plus(Duration::from_secs(60)))
    );
    assert!(bench.claim(AgentId::new(), offer(16, 4)).await.grants.is_empty());
    let bench = bench.reopen(Config::default()).await;
    assert_eq!(bench.jobs.end_backoffs().await.expect("swept"), Some(start), "the next look is then");
    tokio::time::sleep(start.since(Timestamp::now())).await;
    assert_eq!(bench.jobs.end_backoffs().await.expect("swept"), None);
    let job = bench.jobs.get(job.id).await.expect("there");
    assert_eq!((job.state, job.not_before), (JobState::Queued, None));
    assert!(bench.jobs.row(job.id).await.expect("there").row.queued_at >= start);
    let mut past = spec();
    past.not_before = Some(Timestamp::now().minus(Duration::from_secs(5)));
    assert_eq!(bench.submit(past).await.state, JobState::Queued);
}

/// Its time was found due over and over, and the look never ended.
#[tokio::test]
async fn one_whose_time_has_come_and_that_waits_for_others_is_not_due() {
    let bench = Bench::new().await;
    let first = bench.submit(spec()).await;
    let mut spec = spec();
    spec.not_before = Some(Timestamp::now().plus(Duration::from_millis(50)));
    spec.after = vec![After { job: first.short_id.to_string(), when: When::Finished }];
    let job = bench.submit(spec.clone()).await;
    let why = bench.jobs.explain(job.id).await.expect("known").summary;
    assert!(why.starts_with("waits for job ") && why.contains("; begins at "), "{why}");
    tokio::time::sleep(Duration::from_millis(60)).await;
    let swept = tokio::time::timeout(Duration::from_secs(5), bench.jobs.end_backoffs()).await;
    assert_eq!(swept.expect("it ends").expect("swept"), None);
    assert_eq!(bench.jobs.get(job.id).await.expect("there").state, JobState::Waiting);
    bench.jobs.cancel(vec![first.id], "anna", "").await.expect("stored");
    assert_eq!(bench.jobs.get(job.id).await.expect("there").state, JobState::Queued);
}

#[tokio::test]
async fn a_batch_of_ten_thousand_is_one_commit_and_a_quota_refuses_all_of_one() {
    let bench = Bench::new().await;
    let id = bench.batch(rows(10_000, Some(8))).await;
    let view = bench.view(&id).await;
    assert_eq!((view.total, view.counts.queued, view.counts.waiting), (10_000, 8, 9_992));
    let grants = bench.claim(AgentId::new(), offer(640, 320)).await.grants;
    assert_eq!(grants.len(), 8);
    let view = bench.jobs.cancel_batch(&id, "anna", "").await.expect("stored");
    assert_eq!((view.counts.running, view.counts.cancelled), (8, 9_992));

    let mut project = crate::identity::Project::new("default");
    project.settings.quotas.queued = Some(5);
    bench.jobs.put_project(project).await.expect("stored");
    let refused = bench.jobs.make_batch(rows(6, None)).await.expect("stored").expect_err("too many");
    assert!(matches!(&refused, BatchError::Refused(SubmitError::OverQuota { .. })), "{refused:?}");
    assert!(refused.to_string().contains("6 more are too many"), "{refused}");
    bench.batch(rows(5, None)).await;
}

#[tokio::test]
async fn a_name_is_looked_for_before_the_beginning_of_an_id() {
    let bench = Bench::new().await;
    let other = bench.batch(rows(1, None)).await;
    let begins = other.as_str()[..2].to_owned();
    let named = bench.batch(NewBatch { name: begins.clone(), ..rows(1, None) }).await;
    assert_eq!(bench.jobs.resolve_batch(&begins, None).await.expect("there"), named);
    assert_eq!(bench.jobs.resolve_batch(other.as_str(), None).await.expect("there"), other);
    assert_eq!(bench.jobs.resolve_batch(&other.as_str()[..4], None).await.expect("there"), other);
}

#[tokio::test]
async fn what_a_batch_holds_is_bounded_by_what_is_made_of_it() {
    let mut large = spec();
    large.env.insert("BULK".into(), "x".repeat(1 << 20));
    let NewBatch { jobs, .. } = rows(1, None);
    let mut order = jobs.into_iter().next().expect("one").1;
    order.new.spec = large;
    let mut room = Room::default();
    let taken = (0..100).take_while(|_| room.takes(&order)).count();
    assert_eq!(taken, 63);
}
