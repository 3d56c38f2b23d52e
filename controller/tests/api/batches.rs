//! Batches over the wire: streamed, all or none, watched to their end, and nobody else's.

use crate::harness::{Agent, Authorized, Cluster, PATIENCE, report, showing, spec};
use longshore_common::wire::status::Refusal;
use longshore_proto::v1::{
    self, access_client::AccessClient, batches_client::BatchesClient, create_batch_request::Part,
};
use tonic::{Code, Status};

fn batches(cluster: &Cluster) -> BatchesClient<Authorized> {
    BatchesClient::new(cluster.channel.clone())
}

fn job(image: &str) -> v1::SubmitRequest {
    v1::SubmitRequest { spec: Some(spec(image)), ..v1::SubmitRequest::default() }
}

fn header(request_id: &str, max_parallel: u32) -> v1::BatchHeader {
    v1::BatchHeader { request_id: request_id.into(), max_parallel, ..v1::BatchHeader::default() }
}

async fn create(
    api: &mut BatchesClient<Authorized>,
    header: v1::BatchHeader,
    jobs: Vec<v1::SubmitRequest>,
) -> Result<v1::CreateBatchResponse, Status> {
    let mut parts = vec![Part::Header(header)];
    parts.extend(jobs.chunks(2).map(|jobs| Part::Jobs(v1::BatchJobs { jobs: jobs.to_vec() })));
    let messages = parts.into_iter().map(|part| v1::CreateBatchRequest { part: Some(part) });
    let messages: Vec<_> = messages.collect();
    api.create(tokio_stream::iter(messages)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn every_wrong_row_is_told_and_none_is_made() {
    let cluster = Cluster::start().await;
    let mut api = batches(&cluster);
    let mut wrong = job("alpine");
    let input = v1::JobInput { job: "nothing".into(), path: String::new() };
    let input = v1::Input { source: Some(v1::input::Source::Job(input)) };
    wrong.spec.as_mut().expect("a spec").inputs.insert("d".into(), input);
    let mut own = job("alpine");
    own.project = "default".into();
    let jobs = vec![job("alpine"), job(""), job("alpine"), own, job("")];
    let answer = create(&mut api, header("", 0), jobs).await.expect("answered");
    let fields = |answer: &v1::CreateBatchResponse| {
        let one =
            |error: &v1::RowError| (error.row, error.error.clone().expect("why").fields[0].path.clone());
        answer.errors.iter().map(one).collect::<Vec<_>>()
    };
    let expected = [(2, "image"), (4, "request_id"), (5, "image")].map(|(row, path)| (row, path.to_owned()));
    assert_eq!((answer.batch.as_ref(), fields(&answer)), (None, expected.to_vec()));
    // What only the controller can know comes with its row too.
    let answer = create(&mut api, header("", 0), vec![job("alpine"), wrong]).await.expect("answered");
    assert_eq!(fields(&answer), [(2, "inputs.d".to_owned())]);
    let all = cluster.jobs.clone().list(v1::ListJobsRequest::default()).await.expect("listed").into_inner();
    assert!(all.jobs.is_empty(), "{:?}", all.jobs);
    for (jobs, says) in [(vec![], "one at least"), (vec![job("alpine"); 10_001], "10000")] {
        let status = create(&mut api, header("", 0), jobs).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(Refusal::from(&status).fields.iter().any(|field| field.message.contains(says)), "{status:?}");
    }
    let jobs = Part::Jobs(v1::BatchJobs { jobs: vec![job("alpine")] });
    let headless = tokio_stream::iter([v1::CreateBatchRequest { part: Some(jobs) }]);
    assert_eq!(api.create(headless).await.expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_same_stream_is_the_same_batch_and_its_counts_are_watched_to_the_end() {
    let cluster = Cluster::start().await;
    let mut api = batches(&cluster);
    let jobs = || {
        let mut first = job("a:1");
        // Maps have no order on the wire.
        let names = (0..20).map(|n| (format!("A{n}"), n.to_string()));
        first.spec.as_mut().expect("a spec").env.extend(names);
        vec![first, job("b:2"), job("c:3")]
    };
    let made = create(&mut api, header("once", 1), jobs()).await.expect("made");
    let batch = made.batch.expect("a batch");
    assert_eq!((made.existing, batch.total, batch.max_parallel), (false, 3, 1));
    for _ in 0..5 {
        let again = create(&mut api, header("once", 1), jobs()).await.expect("made");
        assert_eq!((again.existing, again.batch.expect("a batch").id), (true, batch.id.clone()));
    }
    for (header, jobs) in [(header("once", 2), jobs()), (header("once", 1), jobs()[..2].to_vec())] {
        assert_eq!(create(&mut api, header, jobs).await.expect_err("another").code(), Code::AlreadyExists);
    }
    let request = v1::WatchBatchRequest { batch: batch.id.clone() };
    let mut watched = api.watch(request).await.expect("watched").into_inner();
    let mut agent = Agent::connect(&cluster, "a").await;
    let watch = async {
        let mut last = None;
        while let Some(message) = watched.message().await.expect("goes on") {
            let counts = message.batch.as_ref().and_then(|batch| batch.counts).expect("counts");
            assert!(counts.queued + counts.running <= 1, "{counts:?}");
            last = message.batch;
        }
        last.expect("told")
    };
    let work = async {
        for _ in 0..3 {
            let attempt = agent.claim_one().await;
            assert_eq!(agent.finish(report(&attempt, "succeeded")).await, None);
        }
    };
    let (last, ()) = tokio::join!(tokio::time::timeout(PATIENCE, watch), work);
    let last = last.expect("it ends");
    assert_eq!(last.counts.expect("counts").succeeded, 3);
    assert!(last.finished_at.is_some());
    let filter = v1::JobFilter { batch: batch.id, ..v1::JobFilter::default() };
    let request = v1::ListJobsRequest { filter: Some(filter), ..v1::ListJobsRequest::default() };
    let listed = cluster.jobs.clone().list(request).await.expect("listed").into_inner().jobs;
    assert_eq!(listed.iter().map(|job| job.batch_row).collect::<Vec<_>>(), [3, 2, 1]);
}

#[tokio::test]
async fn two_projects_see_nothing_of_each_others_batches() {
    let cluster = Cluster::start().await;
    for name in ["a", "b"] {
        let project = v1::Project { name: name.into(), ..v1::Project::default() };
        let request = v1::PutProjectRequest { project: Some(project), ..v1::PutProjectRequest::default() };
        v1::projects_client::ProjectsClient::new(cluster.channel.clone()).put(request).await.expect("made");
    }
    let token = async |project: &str| {
        let request = v1::CreateTokenRequest {
            name: format!("of-{project}"),
            role: v1::Role::Submitter as i32,
            project: project.into(),
            ..v1::CreateTokenRequest::default()
        };
        let made = AccessClient::new(cluster.channel.clone()).create_token(request).await.expect("made");
        BatchesClient::new(showing(&cluster, &made.into_inner().text))
    };
    let (mut a, mut b) = (token("a").await, token("b").await);
    let made = create(&mut a, header("x", 0), vec![job("alpine")]).await.expect("made");
    let batch = made.batch.expect("a batch");
    assert_eq!(batch.project, "a");
    let of_a = v1::BatchHeader { project: "a".into(), ..header("y", 0) };
    assert_eq!(
        create(&mut b, of_a, vec![job("alpine")]).await.expect_err("a's").code(),
        Code::PermissionDenied
    );
    let id = batch.id;
    let get = v1::GetBatchRequest { batch: id.clone() };
    assert_eq!(b.get(get).await.expect_err("a's").code(), Code::NotFound);
    let cancel = v1::CancelBatchRequest { batch: id.clone(), ..v1::CancelBatchRequest::default() };
    assert_eq!(b.cancel(cancel).await.expect_err("a's").code(), Code::NotFound);
    let retry =
        v1::RetryBatchRequest { batch: id.clone(), cancelled: true, ..v1::RetryBatchRequest::default() };
    assert_eq!(b.retry(retry).await.expect_err("a's").code(), Code::NotFound);
    let watch = v1::WatchBatchRequest { batch: id.clone() };
    assert_eq!(b.watch(watch).await.expect_err("a's").code(), Code::NotFound);
    let list = v1::ListBatchesRequest::default;
    assert!(b.list(list()).await.expect("listed").into_inner().batches.is_empty());
    assert_eq!(a.list(list()).await.expect("listed").into_inner().batches.len(), 1);
    // A request id is its project's.
    assert!(!create(&mut b, header("x", 0), vec![job("alpine")]).await.expect("made").existing);
}
