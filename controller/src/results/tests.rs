use super::*;
use crate::{
    blobs::{Blobs, Directory},
    jobs::{ClaimCommand, NewJob, object_key},
    store::{self, Store},
};
use bytes::Bytes;
use futures::TryStreamExt as _;
use longshore_common::{
    agent::{Capacity, FinishReport, Offer, Usage},
    artifact::{Artifact, ManifestEntry},
    ids::{AgentId, ClaimId},
    job::{JobSpec, Outcome, resources::GIB},
    queue::Lane,
};
use std::{collections::BTreeMap, sync::Arc};

#[tokio::test]
async fn a_link_opens_what_it_was_made_for_and_no_changed_one_does() {
    let home = tempfile::tempdir().expect("a folder");
    let config = store::Config { path: home.path().join("db"), ..store::Config::default() };
    let store = Store::open(&config).await.expect("opened");
    let jobs = Jobs::start(store, crate::jobs::Config::default()).await.expect("started");
    let attempt = AttemptRef { job: JobId::new(), number: 3, epoch: Epoch(2) };
    let grant = Grant { attempt, expires: Timestamp::from_micros(1_700_000_000_000_000) };
    let token = jobs.seal_link(&grant.to_bytes());
    assert_eq!(Grant::open(&jobs, &token), Some(grant));
    for at in [0, 20, token.len() - 1] {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("text");
        assert_eq!(Grant::open(&jobs, &changed), None, "{at}");
    }
    for wrong in ["", "x", &token[1..], &token[..token.len() - 4]] {
        assert_eq!(Grant::open(&jobs, wrong), None, "{wrong}");
    }
}

/// More than one page of names.
const FILES: u64 = 501;

#[tokio::test]
async fn an_archive_whose_job_is_removed_while_it_is_read_does_not_end_like_a_whole_one() {
    let home = tempfile::tempdir().expect("a folder");
    let config = store::Config { path: home.path().join("db"), ..store::Config::default() };
    let store = Store::open(&config).await.expect("opened");
    let jobs = Jobs::start(store, crate::jobs::Config::default()).await.expect("started");
    let blobs: Arc<dyn Blobs> =
        Arc::new(Directory::open(&home.path().join("blobs"), "http://x", 0).expect("opened"));
    let attempt = with_files(&jobs, &*blobs).await;
    let whole: Vec<_> = archive(&jobs, &blobs, attempt.clone()).try_collect().await.expect("all of it");
    let length: usize = whole.iter().map(Bytes::len).sum();
    assert_eq!(length as u64, (2 * FILES + 2) * 512);

    let mut cut = Box::pin(archive(&jobs, &blobs, attempt.clone()));
    cut.try_next().await.expect("it begins").expect("a head");
    jobs.remove(vec![attempt.attempt.job]).await.expect("removed");
    let rest: Result<Vec<_>, _> = cut.try_collect().await;
    let error = rest.expect_err("the second page of names is not there any more");
    assert!(error.to_string().contains("500 of 501 files"), "{error}");
}

/// An attempt that has ended and left files of one byte.
async fn with_files(jobs: &Jobs, blobs: &dyn Blobs) -> AttemptView {
    let new = NewJob {
        request_id: None,
        project: "default".into(),
        spec: JobSpec::for_image("a"),
        retry_of: None,
        own: Vec::new(),
        submitter: None,
    };
    jobs.submit(vec![new]).await.expect("stored").remove(0).expect("taken");
    let offer = Offer {
        free: Capacity { cpu_millis: 9_000, memory_bytes: 64 * GIB, scratch_bytes: 640 * GIB, gpus: 0 },
        gpus: Vec::new(),
        slots: 1,
        labels: BTreeMap::new(),
        pool: "default".into(),
        lanes: Lane::of_pool("default").to_vec(),
    };
    let claim = ClaimCommand { claim: ClaimId::new(), agent: AgentId::new(), offer, hints: BTreeMap::new() };
    let attempt = jobs.claim(claim).await.expect("answered").grants.remove(0).attempt;
    let nonce = jobs.attempts(attempt.job).await.expect("there").remove(0).nonce;
    let file = |ordinal: u64| {
        let path = format!("{ordinal:04}").into_bytes();
        let artifact = Artifact { path, size: 1, sha256: [7; 32], mode: 0o644, modified_at: None };
        ManifestEntry { ordinal, artifact }
    };
    jobs.put_manifest(attempt, 0, (0..FILES).map(file).collect()).await.expect("stored").expect("its own");
    for ordinal in 0..FILES {
        blobs.put(&object_key(&nonce, ordinal), Bytes::from_static(b"x")).await.expect("stored");
    }
    let report = FinishReport {
        attempt,
        outcome: Outcome::Succeeded,
        detail: String::new(),
        log_end: 0,
        manifest_pages: 1,
        artifact_count: FILES,
        artifact_bytes: FILES,
        usage: Usage::default(),
        started_at: None,
        exited_at: None,
        notes: Vec::new(),
        digest: None,
    };
    jobs.finish(vec![report]).await.expect("stored").remove(0).expect("taken");
    jobs.attempts(attempt.job).await.expect("there").remove(0)
}
