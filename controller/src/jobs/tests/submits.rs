use super::*;
use longshore_common::job::Input;

#[tokio::test]
async fn the_same_request_is_the_same_job_and_another_body_is_refused() {
    let bench = Bench::new().await;
    let first = bench.submit_as(Some("r1"), spec()).await.expect("taken");
    let again = bench.submit_as(Some("r1"), spec()).await.expect("taken");
    assert!(!first.existing && again.existing);
    assert_eq!(first.job.id, again.job.id);
    let other = bench.submit_as(Some("r1"), JobSpec::for_image("other")).await;
    let expected = SubmitError::RequestIdReused { request_id: "r1".into(), job: first.job.short_id };
    assert_eq!(other.expect_err("refused"), expected);
    let free = bench.submit_as(None, spec()).await.expect("taken");
    assert_ne!(free.job.id, first.job.id);
}

#[tokio::test]
async fn a_request_twice_in_one_batch_is_one_job() {
    let bench = Bench::new().await;
    let new = || NewJob {
        request_id: Some("r".into()),
        project: "p".into(),
        spec: spec(),
        retry_of: None,
        own: Vec::new(),
        submitter: None,
    };
    let answers = bench.jobs.submit(vec![new(), new()]).await.expect("stored");
    let ids: Vec<_> = answers.into_iter().map(|answer| answer.expect("taken").job.id).collect();
    assert_eq!(ids[0], ids[1]);
    let other_project = NewJob { project: "q".into(), ..new() };
    let answer = bench.jobs.submit(vec![other_project]).await.expect("stored").pop().expect("one");
    assert!(!answer.expect("taken").existing);
}

#[tokio::test]
async fn a_request_is_remembered_after_its_job_was_removed() {
    let bench = Bench::new().await;
    let job = bench.submit_as(Some("r"), spec()).await.expect("taken").job;
    bench.jobs.cancel(vec![job.id], "anna", "").await.expect("stored");
    assert_eq!(
        bench.jobs.remove(vec![job.id]).await.expect("stored").jobs,
        std::slice::from_ref(&job.short_id)
    );
    let again = bench.submit_as(Some("r"), spec()).await.expect_err("refused");
    assert_eq!(again, SubmitError::RequestOfRemoved { request_id: "r".into(), job: job.short_id });
}

#[tokio::test]
async fn inputs_must_exist_and_names_become_ids() {
    let bench = Bench::new().await;
    let mut with = spec();
    with.inputs.insert("init".into(), Input::Job { job: "trainer".into(), path: String::new() });
    let field = |error: SubmitError| match error {
        SubmitError::BadInput { field, message } => (field, message),
        other => panic!("{other:?}"),
    };
    let (path, text) = field(bench.submit_as(None, with.clone()).await.expect_err("no such job"));
    assert_eq!(path, "inputs.init");
    assert!(text.contains("no job `trainer`"), "{text}");
    let source = bench.submit(spec()).await;
    let (_, text) = field(bench.submit_as(None, with.clone()).await.expect_err("not ended"));
    assert!(text.contains("has not ended"), "{text}");
    bench.jobs.cancel(vec![source.id], "anna", "").await.expect("stored");
    let job = bench.submit(with).await;
    let expected = Input::Job { job: source.short_id.to_string(), path: String::new() };
    assert_eq!(job.spec.inputs["init"], expected);
    let mut uploaded = spec();
    uploaded.inputs.insert("bags".into(), Input::Uploaded { id: "nowhere".into() });
    let mixed = vec![
        NewJob {
            request_id: None,
            project: "p".into(),
            spec: uploaded,
            retry_of: None,
            own: Vec::new(),
            submitter: None,
        },
        NewJob {
            request_id: None,
            project: "p".into(),
            spec: spec(),
            retry_of: None,
            own: Vec::new(),
            submitter: None,
        },
    ];
    let answers = bench.jobs.submit(mixed).await.expect("stored");
    assert!(answers[0].is_err() && answers[1].is_ok(), "one refusal does not hinder the other");
}

#[tokio::test]
async fn a_repeated_request_is_its_job_whatever_the_names_in_it_mean_by_now() {
    let bench = Bench::new().await;
    let source = bench.submit(spec()).await;
    bench.jobs.cancel(vec![source.id], "anna", "").await.expect("stored");
    let mut with = spec();
    with.inputs.insert("init".into(), Input::Job { job: "trainer".into(), path: String::new() });
    with.name = Some("second".into());
    let first = bench.submit_as(Some("r"), with.clone()).await.expect("taken").job;
    // The name now means a job that has not ended.
    let newer = bench.submit(spec()).await;
    let again = bench.submit_as(Some("r"), with.clone()).await.expect("the same");
    assert!(again.existing && again.job.id == first.id);
    // Now another one that has.
    bench.jobs.cancel(vec![newer.id, first.id], "anna", "").await.expect("stored");
    let again = bench.submit_as(Some("r"), with.clone()).await.expect("the same");
    assert_eq!(again.job.id, first.id);
    // Now none.
    bench.jobs.remove(vec![source.id, newer.id]).await.expect("stored");
    let again = bench.submit_as(Some("r"), with.clone()).await.expect("the same");
    assert_eq!(again.job.id, first.id);
    with.inputs.insert("more".into(), Input::Job { job: "trainer".into(), path: String::new() });
    let other = bench.submit_as(Some("r"), with.clone()).await.expect_err("another body");
    assert_eq!(other, SubmitError::RequestIdReused { request_id: "r".into(), job: first.short_id });
    assert!(matches!(bench.submit_as(Some("new"), with).await, Err(SubmitError::BadInput { .. })));
}

#[tokio::test]
async fn a_repeated_retry_by_name_is_its_job_though_the_name_means_that_one_now() {
    let bench = Bench::new().await;
    let old = bench.submit(spec()).await;
    bench.jobs.cancel(vec![old.id], "anna", "").await.expect("stored");
    let request = || Some("r".to_owned());
    let new = bench.jobs.retry(old.id, request(), None, None).await.expect("stored").expect("taken").job;
    let named = bench.jobs.resolve("trainer", None).await.expect("there");
    assert_eq!(named, new.id);
    let again = bench.jobs.retry(named, request(), None, None).await.expect("not refused").expect("the same");
    assert_eq!((again.job.id, again.existing), (new.id, true));
}

#[tokio::test]
async fn uploaded_inputs_are_named_by_their_list() {
    let bench = Bench::new().await;
    let file = |path: &[u8]| InputFile { path: path.to_vec(), size: 5, sha256: [7; 32], mode: 0o644 };
    let input = bench.jobs.create_input("default", vec![file(b"b"), file(b"a\xff")]).await.expect("stored");
    assert_eq!((input.files, input.bytes), (2, 10));
    let same = bench.jobs.create_input("default", vec![file(b"a\xff"), file(b"b")]).await.expect("stored");
    assert_eq!(same.id, input.id);
    let page = bench.jobs.input_files("default", &input.id, 1, "").await.expect("a page");
    assert_eq!(page.items, [file(b"a\xff")]);
    let page =
        bench.jobs.input_files("default", &input.id, 1, &page.next.expect("more")).await.expect("a page");
    assert_eq!(page.items, [file(b"b")]);
    assert!(bench.jobs.create_input("default", vec![file(b"a"), file(b"a")]).await.is_err());
    assert!(matches!(bench.jobs.input_files("default", "nowhere", 1, "").await, Err(Error::NotFound { .. })));
    let mut with = spec();
    with.inputs.insert("bags".into(), Input::Uploaded { id: input.id });
    bench.submit(with).await;
}

#[tokio::test]
async fn a_retry_is_a_new_job_from_an_ended_one() {
    let bench = Bench::new().await;
    let old = bench.submit(spec()).await;
    assert!(matches!(bench.jobs.retry(old.id, None, None, None).await, Err(Error::NotEnded { .. })));
    bench.jobs.cancel(vec![old.id], "anna", "").await.expect("stored");
    let mut larger = spec();
    larger.resources.memory_bytes = 8 * GIB;
    let new =
        bench.jobs.retry(old.id, Some("r".into()), Some(larger), None).await.expect("stored").expect("taken");
    assert_eq!(new.job.retry_of, Some(old.short_id));
    assert_eq!(new.job.spec.resources.memory_bytes, 8 * GIB);
    assert_eq!(bench.jobs.get(old.id).await.expect("there").state, JobState::Cancelled);
}

#[tokio::test]
async fn contents_go_with_the_last_input_that_names_them() {
    let bench = Bench::new().await;
    let file =
        |path: &str, digest: u8| InputFile { path: path.into(), size: 5, sha256: [digest; 32], mode: 0o644 };
    bench.jobs.create_input("default", vec![file("a", 1), file("b", 2)]).await.expect("stored");
    let none = Duration::ZERO;
    let bench = bench.reopen(Config { retention: none, request_memory: none, ..Config::default() }).await;
    bench.jobs.remove_expired().await.expect("stored");
    let key = |digest: u8| crate::blobs::content_key("default", &[digest; 32]);
    assert_eq!(bench.jobs.garbage("object", 10).await.expect("read"), [key(1), key(2)]);
    bench.jobs.create_input("default", vec![file("c", 2)]).await.expect("stored");
    assert_eq!(bench.jobs.garbage("object", 10).await.expect("read"), [key(1)], "named again: kept");
}
