//! What is refused, with which words.

use crate::harness::{Agent, Cluster, config, lines, report, spec};
use longshore_common::{ids::SessionId, shutdown::Shutdown, wire::status::Refusal};
use longshore_controller::{Controller, StartError};
use longshore_proto::v1;
use tonic::Code;

#[tokio::test]
async fn all_wrong_fields_are_told_together() {
    let cluster = Cluster::start().await;
    let wrong = v1::JobSpec {
        image: String::new(),
        priority: 5_000,
        resources: Some(v1::Resources { memory_bytes: Some(1), ..v1::Resources::default() }),
        ..v1::JobSpec::default()
    };
    let request = v1::SubmitRequest { spec: Some(wrong), project: "No Name".into(), ..Default::default() };
    let status = cluster.jobs.clone().submit(request).await.expect_err("wrong");
    assert_eq!(status.code(), Code::InvalidArgument);
    let refusal = Refusal::from(&status);
    let paths: Vec<_> = refusal.fields.iter().map(|field| field.path.as_str()).collect();
    for path in ["project", "image", "priority", "resources.memory"] {
        assert!(paths.contains(&path), "{path} in {paths:?}");
    }
}

#[tokio::test]
async fn a_batch_refuses_only_its_bad_jobs() {
    let cluster = Cluster::start().await;
    let request = |image: &str| v1::SubmitRequest { spec: Some(spec(image)), ..Default::default() };
    let requests = vec![request("a"), request(""), request("b")];
    let answer =
        cluster.jobs.clone().submit_batch(v1::SubmitBatchRequest { requests }).await.expect("answered");
    let results = answer.into_inner().results;
    let images: Vec<_> =
        results.iter().map(|result| Some(result.submitted.clone()?.job?.spec?.image)).collect();
    assert_eq!(images, [Some("a".to_owned()), None, Some("b".to_owned())]);
    let error = results[1].error.as_ref().expect("refused");
    assert_eq!((error.code, error.fields[0].path.as_str()), (Code::InvalidArgument as i32, "image"));
}

#[tokio::test]
async fn a_request_id_is_one_request() {
    let cluster = Cluster::start().await;
    let request = |image: &str| v1::SubmitRequest {
        request_id: "r-1".into(),
        spec: Some(spec(image)),
        ..Default::default()
    };
    let first = cluster.jobs.clone().submit(request("a")).await.expect("made").into_inner();
    let again = cluster.jobs.clone().submit(request("a")).await.expect("known").into_inner();
    assert!(!first.existing && again.existing);
    assert_eq!(first.job.expect("a job").id, again.job.expect("a job").id);
    let other = cluster.jobs.clone().submit(request("b")).await.expect_err("another body");
    assert_eq!(other.code(), Code::AlreadyExists);
    assert!(other.message().contains("r-1"), "{other}");
}

#[tokio::test]
async fn an_unknown_job_is_not_found_everywhere() {
    let cluster = Cluster::start().await;
    let job = "zzzzzzzz".to_owned();
    let mut jobs = cluster.jobs.clone();
    let errors = [
        jobs.get(v1::GetJobRequest { job: job.clone() }).await.err(),
        jobs.explain(v1::ExplainJobRequest { job: job.clone(), ..Default::default() }).await.err(),
        jobs.wait(v1::WaitJobRequest { job: job.clone(), ..Default::default() }).await.err(),
        jobs.stream_logs(v1::StreamLogsRequest { job: job.clone(), ..Default::default() }).await.err(),
        jobs.cancel(v1::CancelJobsRequest { jobs: vec![job.clone()], ..Default::default() }).await.err(),
        jobs.list_artifacts(v1::ListArtifactsRequest { job: job.clone(), ..Default::default() }).await.err(),
    ];
    for error in errors {
        let error = error.expect("refused");
        assert_eq!(error.code(), Code::NotFound, "{error}");
        assert!(error.message().contains(&job), "{error}");
    }
    let empty = jobs.get(v1::GetJobRequest::default()).await.expect_err("empty");
    assert_eq!(empty.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_page_token_from_elsewhere_is_refused() {
    let cluster = Cluster::start().await;
    for _ in 0..3 {
        cluster.submit(spec("a")).await;
    }
    let mut jobs = cluster.jobs.clone();
    let list = |filter: Option<v1::JobFilter>, token: &str| v1::ListJobsRequest {
        filter,
        page_size: 2,
        page_token: token.to_owned(),
    };
    let first = jobs.list(list(None, "")).await.expect("listed").into_inner();
    assert_eq!(first.jobs.len(), 2);
    let rest = jobs.list(list(None, &first.next_page_token)).await.expect("listed").into_inner();
    assert_eq!((rest.jobs.len(), rest.next_page_token.as_str()), (1, ""));
    let other = v1::JobFilter { unfinished: true, ..Default::default() };
    let garbage = jobs.list(list(None, "garbage")).await.expect_err("garbage");
    let elsewhere = jobs.list(list(Some(other), &first.next_page_token)).await.expect_err("another list's");
    for error in [garbage, elsewhere] {
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(Refusal::from(&error).fields.iter().next().expect("a field").path, "page_token");
    }
    let agents = v1::agents_client::AgentsClient::new(cluster.channel.clone())
        .list(v1::ListAgentsRequest { page_token: first.next_page_token, ..Default::default() })
        .await
        .expect_err("a token of jobs");
    assert_eq!(agents.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_request_over_the_message_limit_is_refused_by_its_size() {
    let cluster = Cluster::start().await;
    let big = v1::JobSpec { env: [("A".to_owned(), "x".repeat(17 << 20))].into(), ..spec("a") };
    let request = v1::SubmitRequest { spec: Some(big), ..Default::default() };
    let status = cluster.jobs.clone().submit(request).await.expect_err("too large");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert!(status.message().contains(&(16 << 20).to_string()), "{status}");
}

#[tokio::test]
async fn a_second_controller_on_the_same_data_is_refused() {
    let cluster = Cluster::start().await;
    let error = Controller::start(config(cluster.folder.path()), Shutdown::new()).await.expect_err("taken");
    assert!(matches!(error, StartError::Store(_)), "{error}");
    assert!(error.to_string().contains("in use by another controller"), "{error}");
}

#[tokio::test]
async fn others_are_not_let_in_without_a_public_url() {
    let folder = tempfile::tempdir().expect("a folder");
    let config =
        longshore_controller::ControllerConfig { listen: ([0, 0, 0, 0], 0).into(), ..config(folder.path()) };
    let error = Controller::start(config, Shutdown::new()).await.expect_err("open to others");
    assert!(error.to_string().contains("set public_url"), "{error}");
}

#[tokio::test]
async fn a_stale_token_is_refused_for_its_attempt_alone() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    cluster.submit(spec("x")).await;
    let good = agent.claim_one().await;
    let stale = v1::AttemptRef { attempt: 7, ..good.clone() };
    let append = |attempt: &v1::AttemptRef| v1::LogAppend {
        r#ref: Some(attempt.clone()),
        offset: 0,
        data: lines(0, &["x\n"]),
    };
    let request = v1::AppendLogsRequest { appends: vec![append(&stale), append(&good)] };
    let results = agent.link.append_logs(request).await.expect("answered").into_inner().results;
    let refused = results[0].error.as_ref().expect("fenced");
    assert_eq!(refused.code, Code::FailedPrecondition as i32);
    assert!(results[1].error.is_none() && results[1].stored > 0);
    let refused = agent.finish(report(&stale, "succeeded")).await.expect("fenced");
    assert_eq!(refused.code, Code::FailedPrecondition as i32);
    let open = v1::OpenUploadsRequest { r#ref: Some(stale), files: vec![] };
    let status = agent.link.open_uploads(open).await.expect_err("fenced");
    assert_eq!(status.code(), Code::FailedPrecondition);
    let log = agent.append(&good, 3, bytes::Bytes::from_static(b"garbage")).await;
    assert_eq!(log.error.expect("refused").code, Code::InvalidArgument as i32);
}

#[tokio::test]
async fn only_a_linked_session_may_claim() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let stranger =
        v1::ClaimRequest { session: SessionId::new().as_bytes().to_vec().into(), ..agent.claim_request() };
    let status = agent.link.claim(stranger).await.expect_err("another session");
    assert_eq!(status.code(), Code::Unavailable);
}
