//! What attempts list and upload: what is committed of it, and what is removed with the job.

use super::{attempts::impatient, *};
use crate::lifecycle::Refusal;
use longshore_common::{
    artifact::{Artifact, ManifestEntry},
    clock::Timestamp,
};

fn file(ordinal: u64, path: &str) -> ManifestEntry {
    let artifact = Artifact {
        path: path.into(),
        size: 10,
        sha256: [3; 32],
        mode: 0o600,
        modified_at: Some(Timestamp::now()),
    };
    ManifestEntry { ordinal, artifact }
}

#[tokio::test]
async fn a_manifest_commits_only_whole() {
    let bench = Bench::new().await;
    let (_, grant) = bench.held(spec()).await;
    let put = |page, entries| bench.jobs.put_manifest(grant.attempt, page, entries);
    put(0, vec![file(0, "b"), file(1, "a/x"), file(2, "a/y")]).await.expect("stored").expect("its own");
    // A repeat of a page replaces it.
    put(0, vec![file(0, "b"), file(1, "a/x")]).await.expect("stored").expect("its own");
    let mut finish = report(grant.attempt, Outcome::ExitCode(3));
    (finish.manifest_pages, finish.artifact_count, finish.artifact_bytes) = (2, 3, 30);
    assert!(matches!(bench.finish(finish.clone()).await, Err(Refusal::ManifestIncomplete(_))));
    put(1, vec![file(2, "a\u{1F680}")]).await.expect("stored").expect("its own");
    let wrong = FinishReport { artifact_count: 4, ..finish.clone() };
    assert!(matches!(bench.finish(wrong).await, Err(Refusal::ManifestIncomplete(_))));
    assert_eq!(bench.state(&grant).await, JobState::Claimed, "nothing was committed");
    let attempt = bench.jobs.attempts(grant.attempt.job).await.expect("there").remove(0);
    assert!(bench.jobs.artifacts(&attempt, b"", 10, "").await.expect("a page").items.is_empty());
    bench.finish(finish).await.expect("taken");

    let attempt = bench.jobs.attempts(grant.attempt.job).await.expect("there").remove(0);
    assert_eq!((attempt.artifact_count, attempt.artifact_bytes, attempt.committed), (3, 30, true));
    let page = bench.jobs.artifacts(&attempt, b"a", 1, "").await.expect("a page");
    assert_eq!(page.items[0].entry.artifact.path, b"a/x");
    assert_eq!(page.items[0].key, format!("attempt/{}/1", attempt.nonce));
    let token = page.next.expect("more");
    assert!(matches!(bench.jobs.artifacts(&attempt, b"b", 1, &token).await, Err(Error::PageToken)));
    let page = bench.jobs.artifacts(&attempt, b"a", 1, &token).await.expect("a page");
    assert_eq!(page.items[0].entry.artifact.path, "a\u{1F680}".as_bytes());
    let found = bench.jobs.find_artifacts(&attempt, &[b"none".to_vec(), b"b".to_vec()]).await.expect("found");
    assert!(found[0].is_none() && found[1].as_ref().is_some_and(|file| file.entry.ordinal == 0));
}

#[tokio::test]
async fn a_manifest_that_begins_again_forgets_what_an_earlier_agent_process_listed() {
    let bench = Bench::new().await;
    let (_, grant) = bench.held(spec()).await;
    let put = |page, entries| bench.jobs.put_manifest(grant.attempt, page, entries);
    put(0, vec![file(0, "a"), file(1, "b")]).await.expect("stored").expect("its own");
    put(1, vec![file(2, "c"), file(3, "d")]).await.expect("stored").expect("its own");
    // Killed, restarted, and the walk gives another order.
    put(0, vec![file(0, "d"), file(1, "c"), file(2, "b"), file(3, "a")]).await.expect("stored").expect("own");
    let mut finish = report(grant.attempt, Outcome::Succeeded);
    (finish.manifest_pages, finish.artifact_count, finish.artifact_bytes) = (1, 4, 40);
    bench.finish(finish).await.expect("taken");
    let attempt = bench.jobs.attempts(grant.attempt.job).await.expect("there").remove(0);
    let page = bench.jobs.artifacts(&attempt, b"", 10, "").await.expect("a page");
    let ordinals: Vec<_> = page.items.iter().map(|item| item.entry.ordinal).collect();
    assert_eq!(ordinals, [3, 2, 1, 0]);
}

/// What is listed of an attempt whose pages 0 and 1 arrived and whose report counts this many of them.
async fn listed_of_two_pages(mut finish: FinishReport, bench: &Bench, counted: u32) -> (u64, Vec<Vec<u8>>) {
    let attempt = finish.attempt;
    let put = |page, entries| bench.jobs.put_manifest(attempt, page, entries);
    put(0, vec![file(0, "a"), file(1, "b")]).await.expect("stored").expect("its own");
    put(1, vec![file(2, "c")]).await.expect("stored").expect("its own");
    (finish.manifest_pages, finish.artifact_count) = (counted, 2 * u64::from(counted));
    bench.finish(finish.clone()).await.expect("taken");
    bench.finish(finish).await.expect("a repeat is taken");
    let attempt = bench.jobs.attempts(attempt.job).await.expect("there").remove(0);
    let page = bench.jobs.artifacts(&attempt, b"", 10, "").await.expect("a page");
    (attempt.artifact_count, page.items.into_iter().map(|item| item.entry.artifact.path).collect())
}

#[tokio::test]
async fn a_collection_that_was_cut_short_commits_no_file() {
    let bench = Bench::new().await;
    for outcome in [Outcome::Cancelled, Outcome::Succeeded] {
        let (_, grant) = bench.held(spec()).await;
        let listed = listed_of_two_pages(report(grant.attempt, outcome), &bench, 0).await;
        assert_eq!(listed, (0, vec![]));
    }
}

#[tokio::test]
async fn a_page_whose_answer_was_lost_neither_counts_nor_keeps_the_report_out() {
    let bench = Bench::new().await;
    let (_, grant) = bench.held(spec()).await;
    let finish = report(grant.attempt, Outcome::ArtifactUploadFailed);
    let listed = listed_of_two_pages(finish, &bench, 1).await;
    assert_eq!(listed, (2, vec![b"a".to_vec(), b"b".to_vec()]));
}

#[tokio::test]
async fn removal_takes_ended_jobs_and_writes_down_their_bytes() {
    let bench = Bench::new().await;
    let (_, grant) = bench.held(spec()).await;
    bench.jobs.put_manifest(grant.attempt, 0, vec![file(4, "a")]).await.expect("stored").expect("its own");
    let refused = bench.jobs.remove(vec![grant.attempt.job]).await.expect("stored");
    assert_eq!((refused.jobs.len(), refused.unfinished), (0, vec![grant.short_id.clone()]));
    let mut finish = report(grant.attempt, Outcome::Succeeded);
    (finish.manifest_pages, finish.artifact_count) = (1, 1);
    bench.finish(finish).await.expect("taken");
    let nonce = bench.jobs.attempts(grant.attempt.job).await.expect("there")[0].nonce.clone();
    let bench = bench.reopen(Config { retention: Duration::ZERO, ..Config::default() }).await;
    assert_eq!(bench.jobs.remove_expired().await.expect("stored"), 0, "its time was set when it ended");
    assert_eq!(bench.jobs.remove(vec![grant.attempt.job]).await.expect("stored").jobs.len(), 1);
    assert!(matches!(bench.jobs.get(grant.attempt.job).await, Err(Error::NotFound { .. })));
    let objects = bench.jobs.garbage("object", 10).await.expect("read");
    assert_eq!(objects, [object_key(&nonce, 4)]);
    assert_eq!(bench.jobs.garbage("log", 10).await.expect("read").len(), 1);
    bench.jobs.drop_garbage("object", objects).await.expect("stored");
    assert!(bench.jobs.garbage("object", 10).await.expect("read").is_empty());
}

#[tokio::test]
async fn one_large_ordinal_does_not_make_a_removal_of_millions() {
    let bench = Bench::new().await;
    let (_, grant) = bench.held(spec()).await;
    let open = async |ordinal: u64| bench.jobs.open_uploads(grant.attempt, std::iter::once(ordinal)).await;
    let refused = open(9_999_999).await.expect_err("far ahead of the first file");
    assert!(matches!(refused, Error::Invalid(_)), "{refused:?}");
    for ordinal in [0, 499, 9_999] {
        open(ordinal).await.expect("stored");
    }
    open(20_000).await.expect_err("too far ahead of these");
    open(19_999).await.expect("stored");
    open(3).await.expect("an old one may be opened again");
}

#[tokio::test]
async fn what_a_lost_attempt_uploaded_and_never_listed_is_removed_with_its_job() {
    let mut quick = spec();
    quick.retry.backoff = Duration::ZERO;
    let bench = Bench::new().await;
    let (_, lost) = bench.held(quick).await;
    let open = async |bench: &Bench, grant: &Grant, ordinals: Vec<u64>| {
        bench.jobs.open_uploads(grant.attempt, ordinals.into_iter()).await.expect("stored");
    };
    open(&bench, &lost, vec![2, 0]).await;
    open(&bench, &lost, vec![1]).await;
    let bench = bench.reopen(impatient()).await;
    open(&bench, &lost, vec![]).await;
    while bench.jobs.expire_leases(Duration::ZERO).await.expect("stored") == 0 {}
    let won = bench.claim(AgentId::new(), offer(16, 1)).await.grants.remove(0);
    open(&bench, &won, vec![0]).await;
    bench.finish(report(won.attempt, Outcome::ExitCode(3))).await.expect("taken");
    let attempts = bench.jobs.attempts(won.attempt.job).await.expect("there");
    bench.jobs.remove(vec![won.attempt.job]).await.expect("stored");
    let key = |attempt: usize, ordinal| object_key(&attempts[attempt].nonce, ordinal);
    let mut expected = vec![key(0, 0), key(0, 1), key(0, 2), key(1, 0)];
    let mut objects = bench.jobs.garbage("object", 10).await.expect("read");
    expected.sort();
    objects.sort();
    assert_eq!(objects, expected);
}

#[tokio::test]
async fn retention_takes_what_is_old() {
    let bench = Bench::new().await.reopen(Config { retention: Duration::ZERO, ..Config::default() }).await;
    let job = bench.submit(spec()).await;
    assert_eq!(bench.jobs.remove_expired().await.expect("stored"), 0);
    bench.jobs.cancel(vec![job.id], "anna", "").await.expect("stored");
    assert_eq!(bench.jobs.remove_expired().await.expect("stored"), 1);
}
