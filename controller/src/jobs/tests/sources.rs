//! What unfinished jobs are made of is kept for them.

use super::*;
use longshore_common::{
    artifact::{Artifact, ManifestEntry},
    job::Input,
};

fn made_of(source: &str) -> JobSpec {
    let mut spec = spec();
    spec.inputs.insert("init".into(), Input::Job { job: source.into(), path: String::new() });
    spec
}

impl Bench {
    async fn ended(&self) -> JobView {
        let job = self.submit(spec()).await;
        self.jobs.cancel(vec![job.id], "anna", "").await.expect("stored").pop().expect("there")
    }

    /// The attempt succeeds and leaves these files.
    async fn leave(&self, attempt: AttemptRef, paths: &[&str]) {
        let file = |path: &&str| Artifact {
            path: (*path).into(),
            size: 1,
            sha256: [7; 32],
            mode: 0o644,
            modified_at: None,
        };
        let entries =
            paths.iter().zip(0..).map(|(path, ordinal)| ManifestEntry { ordinal, artifact: file(path) });
        self.jobs.put_manifest(attempt, 0, entries.collect()).await.expect("stored").expect("its own");
        let mut end = report(attempt, Outcome::Succeeded);
        let count = paths.len() as u64;
        (end.manifest_pages, end.artifact_count, end.artifact_bytes) = (1, count, count);
        self.finish(end).await.expect("taken");
    }

    async fn end(&self, job: &JobView) {
        self.jobs.cancel(vec![job.id], "anna", "").await.expect("stored");
    }
}

/// Everything that may go goes at once.
fn keeps_nothing() -> Config {
    let none = Duration::ZERO;
    Config { retention: none, request_memory: none, ..Config::default() }
}

fn message(refused: SubmitError) -> String {
    match refused {
        SubmitError::BadInput { field, message } if field == "inputs.init" => message,
        other => panic!("{other:?}"),
    }
}

fn new(spec: JobSpec) -> NewJob {
    NewJob {
        request_id: None,
        project: "default".into(),
        spec,
        retry_of: None,
        own: Vec::new(),
        submitter: None,
    }
}

#[tokio::test]
async fn retention_keeps_what_unfinished_jobs_are_made_of() {
    let bench = Bench::new().await.reopen(keeps_nothing()).await;
    let file = InputFile { path: b"a".to_vec(), size: 5, sha256: [7; 32], mode: 0o644 };
    let input = bench.jobs.create_input("default", vec![file]).await.expect("stored");
    let source = bench.ended().await;
    let mut spec = made_of(source.short_id.as_str());
    spec.inputs.insert("bags".into(), Input::Uploaded { id: input.id.clone() });
    let job = bench.submit(spec).await;
    assert_eq!(bench.jobs.remove_expired().await.expect("stored"), 0);
    assert!(bench.jobs.get(source.id).await.is_ok());
    assert_eq!(bench.jobs.input_files("default", &input.id, 10, "").await.expect("kept").items.len(), 1);
    assert!(bench.jobs.garbage("object", 10).await.expect("read").is_empty());
    bench.end(&job).await;
    assert_eq!(bench.jobs.remove_expired().await.expect("stored"), 2);
    assert!(bench.jobs.input_files("default", &input.id, 10, "").await.is_err());
}

#[tokio::test]
async fn a_job_whose_outputs_unfinished_jobs_need_is_not_removed_and_they_are_named() {
    let bench = Bench::new().await;
    let (source, other) = (bench.ended().await, bench.ended().await);
    let mut users = Vec::new();
    for _ in 0..7 {
        users.push(bench.submit(made_of(source.short_id.as_str())).await);
    }
    let removed = bench.jobs.remove(vec![other.id, source.id]).await.expect("answered");
    assert!(removed.jobs.is_empty(), "all or none");
    let by = users[..5].iter().map(|job| job.short_id.clone()).collect();
    let needed = Needed { job: source.short_id.clone(), by, count: 7 };
    assert_eq!(removed.needed, std::slice::from_ref(&needed));
    let text = Error::Needed(needed).to_string();
    assert!(text.contains(users[4].short_id.as_str()) && text.contains("and 2 more"), "{text}");
    for job in &users {
        bench.end(job).await;
    }
    assert_eq!(bench.jobs.remove(vec![other.id, source.id]).await.expect("stored").jobs.len(), 2);
}

#[tokio::test]
async fn a_source_removed_while_its_job_was_on_its_way_is_refused() {
    let bench = Bench::new().await;
    let source = bench.ended().await;
    let checked = bench.jobs.check(new(made_of("trainer"))).await.expect("looked at");
    assert_eq!(bench.jobs.remove(vec![source.id]).await.expect("stored").jobs.len(), 1);
    let mut answers = bench.jobs.call(Command::Submit, vec![checked]).await.expect("answered");
    let text = message(answers.remove(0).expect_err("refused"));
    assert_eq!(text, format!("job {} was removed, and its outputs with it", source.short_id));
}

#[tokio::test]
async fn of_a_removal_and_a_submit_in_one_batch_only_the_first_is_done() {
    let bench = Bench::new().await;
    let source = bench.ended().await;
    let check = async || bench.jobs.check(new(made_of(source.short_id.as_str()))).await.expect("looked at");
    let submit = |checked| bench.jobs.call(Command::Submit, vec![checked]);
    let checked = check().await;
    let (taken, removed) = tokio::join!(submit(checked), bench.jobs.remove(vec![source.id]));
    let job = taken.expect("answered").remove(0).expect("taken").job;
    assert_eq!(removed.expect("answered").needed[0].by, std::slice::from_ref(&job.short_id));
    bench.end(&job).await;
    let checked = check().await;
    let (removed, refused) = tokio::join!(bench.jobs.remove(vec![source.id]), submit(checked));
    assert_eq!(removed.expect("answered").jobs.len(), 1);
    assert!(message(refused.expect("answered").remove(0).expect_err("refused")).contains("was removed"));
}

#[tokio::test]
async fn an_uploaded_input_gone_meanwhile_is_refused() {
    let bench = Bench::new().await.reopen(keeps_nothing()).await;
    let file = InputFile { path: b"a".to_vec(), size: 5, sha256: [7; 32], mode: 0o644 };
    let input = bench.jobs.create_input("default", vec![file]).await.expect("stored");
    let mut spec = spec();
    spec.inputs.insert("init".into(), Input::Uploaded { id: input.id });
    let checked = bench.jobs.check(new(spec)).await.expect("looked at");
    bench.jobs.remove_expired().await.expect("stored");
    let mut answers = bench.jobs.call(Command::Submit, vec![checked]).await.expect("answered");
    assert!(message(answers.remove(0).expect_err("refused")).contains("upload the folder again"));
}

#[tokio::test]
async fn a_path_that_the_source_did_not_leave_is_refused_and_named() {
    let bench = Bench::new().await;
    let (_, grant) = bench.held(spec()).await;
    let source = bench.jobs.get(grant.attempt.job).await.expect("there");
    bench.leave(grant.attempt, &["ckpt-old", "ckpt/1/w.bin"]).await;
    for (path, good) in [
        ("", true),
        ("ckpt/", true),
        ("ckpt/1/w.bin", true),
        ("ckpt-old", true),
        ("ckp", false),
        ("ckpt/2", false),
    ] {
        let mut spec = made_of(source.short_id.as_str());
        spec.inputs.insert("init".into(), Input::Job { job: source.short_id.to_string(), path: path.into() });
        match bench.jobs.submit(vec![new(spec)]).await.expect("answered").remove(0) {
            Ok(_) => assert!(good, "{path}"),
            Err(refused) => {
                let text = message(refused);
                assert!(!good && text.contains(&format!("left nothing at `{path}`")), "{path}: {text}");
            }
        }
    }
}
