//! Files that clients bring, and outputs that become inputs.

use crate::harness::{Agent, Cluster, http, report, spec};
use longshore_proto::v1;
use sha2::{Digest as _, Sha256};

fn digest(data: &[u8]) -> bytes::Bytes {
    Sha256::digest(data).to_vec().into()
}

fn content(data: &[u8]) -> v1::InputContent {
    v1::InputContent { sha256: digest(data), size: data.len() as u64 }
}

fn file(path: &str, data: &[u8]) -> v1::InputFile {
    v1::InputFile {
        path: path.as_bytes().to_vec().into(),
        size: data.len() as u64,
        sha256: digest(data),
        mode: 0o644,
    }
}

async fn create(
    cluster: &Cluster,
    files: Vec<v1::InputFile>,
) -> Result<v1::CreateInputResponse, tonic::Status> {
    let pages: Vec<_> = files.chunks(1).map(|page| v1::CreateInputRequest { files: page.to_vec() }).collect();
    cluster.jobs.clone().create_input(tokio_stream::iter(pages)).await.map(tonic::Response::into_inner)
}

fn with_input(source: v1::input::Source) -> v1::JobSpec {
    v1::JobSpec { inputs: [("scans".to_owned(), v1::Input { source: Some(source) })].into(), ..spec("x") }
}

/// What an agent finds in the input: names and contents.
async fn fetch(agent: &mut Agent, attempt: v1::AttemptRef) -> Vec<(String, Vec<u8>)> {
    let request =
        v1::FetchInputRequest { r#ref: Some(attempt), name: "scans".into(), page_token: String::new() };
    let mut found = Vec::new();
    for file in agent.link.fetch_input(request).await.expect("answered").into_inner().files {
        let body = http().get(&file.url).send().await.expect("sent").bytes().await.expect("read");
        assert_eq!((file.size, file.sha256), (body.len() as u64, digest(&body)));
        found.push((String::from_utf8_lossy(&file.path).into_owned(), body.to_vec()));
    }
    found
}

#[tokio::test]
async fn uploads_keep_to_the_projects_storage_and_to_what_one_answer_may_hold() {
    let cluster = Cluster::start().await;
    let quotas = v1::Quotas { storage_bytes: Some(5), ..v1::Quotas::default() };
    let project = v1::Project { name: "default".into(), quotas: Some(quotas), ..v1::Project::default() };
    let put = v1::PutProjectRequest { project: Some(project), create: false };
    let mut projects = v1::projects_client::ProjectsClient::new(cluster.channel.clone());
    projects.put(put).await.expect("set");
    let ask = |contents: Vec<v1::InputContent>| {
        let mut jobs = cluster.jobs.clone();
        async move { jobs.upload_inputs(v1::UploadInputsRequest { contents }).await }
    };
    ask(vec![content(b"four")]).await.expect("there is room");
    let refused = ask(vec![content(b"more than five")]).await.expect_err("there is not");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert!(refused.message().contains("project default keeps"), "{refused}");
    let large = |n: u8| v1::InputContent { sha256: digest(&[n]), size: 72 << 30 };
    let refused = ask((0..40).map(large).collect()).await.expect_err("gigabytes of addresses");
    assert!(refused.message().contains("send fewer in one call"), "{refused}");
}

#[tokio::test]
async fn contents_are_uploaded_once_and_reach_the_agent() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let contents = vec![content(b"one"), content(b"two"), content(b"one")];
    let request = v1::UploadInputsRequest { contents };
    let uploads =
        cluster.jobs.clone().upload_inputs(request.clone()).await.expect("opened").into_inner().uploads;
    assert_eq!(uploads.len(), 2, "the same content once");
    let early = create(&cluster, vec![file("a.txt", b"one")]).await.expect_err("not uploaded yet");
    assert!(early.message().contains("`a.txt` is not stored"), "{early}");
    for upload in uploads {
        let body: &[u8] = if upload.sha256 == digest(b"one") { b"one" } else { b"two" };
        let url = &upload.target.expect("a target").urls[0];
        assert!(http().put(url).body(body).send().await.expect("sent").status().is_success());
    }
    let again = cluster.jobs.clone().upload_inputs(request).await.expect("answered").into_inner();
    assert!(again.uploads.is_empty(), "everything is stored");

    let files = vec![file("b/two.txt", b"two"), file("a.txt", b"one"), file("copy.txt", b"one")];
    let input = create(&cluster, files.clone()).await.expect("made");
    assert_eq!((input.files, input.bytes), (3, 9));
    let mut turned = files;
    turned.reverse();
    assert_eq!(create(&cluster, turned).await.expect("made").id, input.id, "the order does not matter");
    cluster.submit(with_input(v1::input::Source::Uploaded(v1::UploadedInput { id: input.id }))).await;
    let attempt = agent.claim_one().await;
    let expected = [("a.txt", b"one"), ("b/two.txt", b"two"), ("copy.txt", b"one")];
    assert_eq!(
        fetch(&mut agent, attempt).await,
        expected.map(|(name, data)| (name.to_owned(), data.to_vec()))
    );
}

#[tokio::test]
async fn outputs_of_one_job_are_inputs_of_another() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let first = cluster.submit(spec("x")).await;
    let attempt = agent.claim_one().await;
    agent.store(&attempt, &[("ckpt/1.bin", b"1"), ("ckpt/sub/2.bin", b"2"), ("ckpt2/3.bin", b"3")]).await;
    let done = v1::FinishReport {
        manifest_pages: 1,
        artifact_count: 3,
        artifact_bytes: 3,
        ..report(&attempt, "succeeded")
    };
    assert_eq!(agent.finish(done).await, None);
    let source = v1::input::Source::Job(v1::JobInput { job: first.id, path: "ckpt/".to_owned() });
    cluster.submit(with_input(source)).await;
    let attempt = agent.claim_one().await;
    let expected = [("1.bin".to_owned(), b"1".to_vec()), ("sub/2.bin".to_owned(), b"2".to_vec())];
    assert_eq!(fetch(&mut agent, attempt).await, expected);
}

#[tokio::test]
async fn lists_that_leave_their_folder_or_repeat_are_refused() {
    let cluster = Cluster::start().await;
    for (files, word) in [
        (vec![file("../x", b"1")], "does not stay inside"),
        (vec![file("a", b"1"), file("a", b"1")], "named twice"),
    ] {
        let error = create(&cluster, files).await.expect_err("refused");
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        assert!(error.message().contains(word), "{error}");
    }
}

#[tokio::test]
async fn rm_of_a_job_whose_outputs_are_needed_is_refused_and_names_who_needs_them() {
    let cluster = Cluster::start().await;
    let source = cluster.submit(spec("x")).await;
    let cancel = v1::CancelJobsRequest { jobs: vec![source.id.clone()], ..v1::CancelJobsRequest::default() };
    cluster.jobs.clone().cancel(cancel).await.expect("taken");
    let input = v1::JobInput { job: source.id.clone(), path: String::new() };
    let input = v1::Input { source: Some(v1::input::Source::Job(input)) };
    let user = cluster.submit(v1::JobSpec { inputs: [("init".to_owned(), input)].into(), ..spec("x") }).await;
    let remove = v1::RemoveJobsRequest { jobs: vec![source.id.clone()], ..v1::RemoveJobsRequest::default() };
    let refused = cluster.jobs.clone().remove(remove).await.expect_err("needed");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains(&user.id), "{refused:?}");
}
