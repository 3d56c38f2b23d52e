//! Bad input: a clear error that names the place, and nothing lost.

use longshore_proto::v1::{GetJobRequest, JobSpec, ListJobsRequest, SubmitRequest};
use longshore_tests::env::{Client, image, shell};
use std::fs;
use tonic::Code;

#[tokio::test]
async fn a_job_file_with_mistakes_is_refused_with_their_places() {
    let cli = crate::shared::embedded().cli();
    let cases = [
        ("kind: job\nimage: a\nresorces: {cpu: 1}\n", "resorces"),
        ("kind: job\nimage: a\nresources: {memory: -1GiB}\n", "memory"),
        ("kind: job\nimage: a\nresources: {cpu: 1000000}\n", "cpu"),
        ("kind: job\nimage: \"\"\n", "image"),
        ("kind: job\nimage: a\nenv: {A: true}\n", "quote"),
    ];
    for (text, place) in cases {
        fs::write(cli.folder().join("job.yaml"), text).expect("write a job file");
        let done = cli.call(&["submit", "-f", "job.yaml"]).expect(2);
        assert!(done.stderr.contains(place), "{text}: {}", done.stderr);
    }
}

#[tokio::test]
async fn a_spec_with_mistakes_is_refused_with_all_of_them() {
    let client = Client::connect(crate::shared::embedded()).await;
    let mut spec = JobSpec::default();
    spec.resources.get_or_insert_default().memory_bytes = Some(u64::MAX);
    spec.user = "4294967295".to_owned();
    spec.env.insert("BIG".to_owned(), "x".repeat(128 << 10));
    let refusal = client.try_submit(spec).await.expect_err("it is refused");
    assert_eq!(refusal.code(), Code::InvalidArgument);
    for place in ["image", "resources.memory", "user", "env.BIG"] {
        let text = format!("{} {}", refusal.message(), String::from_utf8_lossy(refusal.details()));
        assert!(text.contains(place), "{place}: {text}");
    }
}

#[tokio::test]
async fn an_unknown_job_and_a_foreign_page_token_are_refused() {
    let client = Client::connect(crate::shared::embedded()).await;
    let unknown = client.jobs.clone().get(GetJobRequest { job: "zzzzzzzz".to_owned() }).await;
    assert_eq!(unknown.expect_err("nobody has it").code(), Code::NotFound);
    let request = ListJobsRequest { page_token: "from elsewhere".to_owned(), ..ListJobsRequest::default() };
    let foreign = client.jobs.clone().list(request).await;
    assert_eq!(foreign.expect_err("it is not ours").code(), Code::InvalidArgument);
    crate::shared::embedded().cli().call(&["show", "zzzzzzzz"]).expect(1);
}

#[tokio::test]
async fn a_request_id_means_one_job_and_one_body() {
    let client = Client::connect(crate::shared::embedded()).await;
    let request = |script: &str| SubmitRequest {
        request_id: format!("once-{}", std::process::id()),
        spec: Some(shell(&image(), script)),
        ..SubmitRequest::default()
    };
    let first = client.jobs.clone().submit(request("true")).await.expect("the first").into_inner();
    let again = client.jobs.clone().submit(request("true")).await.expect("the same").into_inner();
    assert!(again.existing && !first.existing);
    assert_eq!(again.job.expect("a job").id, first.job.expect("a job").id);
    let other = client.jobs.clone().submit(request("false")).await.expect_err("another body");
    assert_eq!(other.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn a_request_over_the_message_limit_is_refused_and_the_next_is_served() {
    let client = Client::connect(crate::shared::embedded()).await;
    let mut spec = shell(&image(), "true");
    spec.env.insert("BIG".to_owned(), "x".repeat(17 << 20));
    let refusal = client.try_submit(spec).await.expect_err("too large");
    assert!(matches!(refusal.code(), Code::OutOfRange | Code::ResourceExhausted), "{refusal:?}");
    client.jobs.clone().list(ListJobsRequest::default()).await.expect("it serves on");
}

#[tokio::test]
async fn docker_flags_that_cannot_be_are_refused_with_what_to_type_instead() {
    let cli = crate::shared::embedded().cli();
    for flags in [&["-v", "/a:/b"][..], &["-p", "80:80"], &["-it"], &["--privileged"]] {
        let done = cli.call(&[&["run"], flags, &["image"]].concat()).expect(2);
        assert!(!done.stderr.is_empty());
    }
}
