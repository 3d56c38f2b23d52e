//! Artifacts: a large one through signed parts, and a page of the list that comes late.

use crate::harness::{Agent, Cluster, http, report, spec};
use longshore_proto::v1;
use sha2::{Digest as _, Sha256};

#[tokio::test]
async fn a_large_artifact_is_stored_in_parts() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let job = cluster.submit(spec("x")).await;
    let attempt = agent.claim_one().await;
    let data: Vec<u8> = (0..20_000_000_u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    let size = data.len() as u64;
    let open = v1::OpenUpload { ordinal: 0, size, ..v1::OpenUpload::default() };
    let request = v1::OpenUploadsRequest { r#ref: Some(attempt.clone()), files: vec![open] };
    let target = agent.link.open_uploads(request).await.expect("opened").into_inner().targets.remove(0);
    assert_eq!(target.urls.len(), 3);
    // One that the store lost: said so that the agent begins anew, which it can.
    let lost = v1::CompleteUpload { upload_id: format!("{}0", target.upload_id), etags: vec![], ordinal: 0 };
    let lost = v1::CompleteUploadsRequest { r#ref: Some(attempt.clone()), uploads: vec![lost] };
    let refused = agent.link.complete_uploads(lost).await.expect_err("not there");
    assert_eq!(refused.code(), tonic::Code::NotFound, "{refused}");
    let given_up = format!("{}0", target.upload_id);
    let open = v1::OpenUpload { ordinal: 0, size, given_up };
    let request = v1::OpenUploadsRequest { r#ref: Some(attempt.clone()), files: vec![open] };
    let target = agent.link.open_uploads(request).await.expect("opened").into_inner().targets.remove(0);
    let mut etags = Vec::new();
    for (part, url) in data.chunks(target.part_size as usize).zip(&target.urls) {
        let answer = http().put(url).body(part.to_vec()).send().await.expect("sent");
        etags.push(answer.headers()["etag"].to_str().expect("text").to_owned());
    }
    let upload = v1::CompleteUpload { ordinal: 0, upload_id: target.upload_id, etags };
    let request = v1::CompleteUploadsRequest { r#ref: Some(attempt.clone()), uploads: vec![upload] };
    for _ in 0..2 {
        agent.link.complete_uploads(request.clone()).await.expect("completed, and again");
    }
    let artifact = v1::Artifact {
        path: b"big.bin".to_vec().into(),
        size,
        sha256: Sha256::digest(&data).to_vec().into(),
        mode: 0o600,
        modified_at: None,
    };
    let entries = vec![v1::ManifestEntry { ordinal: 0, artifact: Some(artifact) }];
    let request = v1::PutManifestRequest {
        r#ref: Some(attempt.clone()),
        page: 0,
        entries,
        ..v1::PutManifestRequest::default()
    };
    agent.link.put_manifest(request).await.expect("kept");
    let done = v1::FinishReport {
        manifest_pages: 1,
        artifact_count: 1,
        artifact_bytes: size,
        ..report(&attempt, "succeeded")
    };
    assert_eq!(agent.finish(done).await, None);
    let paths = vec![b"big.bin".to_vec().into()];
    let request = v1::GetArtifactUrlsRequest { job: job.id, attempt: 0, paths };
    let urls = cluster.jobs.clone().get_artifact_urls(request).await.expect("signed").into_inner().urls;
    let body = http().get(&urls[0]).send().await.expect("sent").bytes().await.expect("read");
    assert!(body == data);
}

#[tokio::test]
async fn a_late_page_of_an_agents_earlier_process_does_not_spoil_the_list_of_its_next() {
    let cluster = Cluster::start().await;
    let mut earlier = Agent::connect(&cluster, "a").await;
    let job = cluster.submit(spec("x")).await;
    let attempt = earlier.claim_one().await;
    let page = |agent: &Agent, page, ordinal, name: &str| {
        let artifact = v1::Artifact {
            path: name.as_bytes().to_vec().into(),
            sha256: vec![0; 32].into(),
            mode: 0o644,
            ..v1::Artifact::default()
        };
        v1::PutManifestRequest {
            r#ref: Some(attempt.clone()),
            page,
            entries: vec![v1::ManifestEntry { ordinal, artifact: Some(artifact) }],
            session: agent.session.as_bytes().to_vec().into(),
        }
    };
    let (first, late) = (page(&earlier, 0, 0, "a"), page(&earlier, 1, 0, "a"));
    earlier.link.put_manifest(first).await.expect("kept");
    let mut next = earlier.restarted(&cluster).await;
    for (number, name) in ["b", "a"].into_iter().enumerate() {
        let page = page(&next, u32::try_from(number).expect("small"), number as u64, name);
        next.link.put_manifest(page).await.expect("kept");
    }
    let refused = earlier.link.put_manifest(late).await.expect_err("it has a successor");
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    let done = v1::FinishReport { manifest_pages: 2, artifact_count: 2, ..report(&attempt, "succeeded") };
    assert_eq!(next.finish(done).await, None);
    let request = v1::ListArtifactsRequest { job: job.id, ..v1::ListArtifactsRequest::default() };
    let list = cluster.jobs.clone().list_artifacts(request).await.expect("listed").into_inner();
    let paths: Vec<_> = list.artifacts.iter().map(|artifact| &artifact.path[..]).collect();
    assert_eq!(paths, [b"a", b"b"]);
}
