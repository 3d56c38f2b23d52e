//! Actions over the wire: applied, run by name, archived; what is wrong is told all at once.

use crate::harness::{Agent, Authorized, Cluster, report, showing};
use longshore_common::wire::status::Refusal;
use longshore_proto::v1::{
    self, access_client::AccessClient, actions_client::ActionsClient, jobs_client::JobsClient,
};
use tonic::Code;

fn actions(cluster: &Cluster) -> ActionsClient<Authorized> {
    ActionsClient::new(cluster.channel.clone())
}

fn parameter(kind: v1::ParameterType) -> v1::ActionParameter {
    v1::ActionParameter { r#type: kind as i32, ..v1::ActionParameter::default() }
}

fn convert(image: &str) -> v1::ActionSpec {
    let epochs = v1::ActionParameter {
        default_value: Some("20".into()),
        min: Some("1".into()),
        max: Some("500".into()),
        ..parameter(v1::ParameterType::Int)
    };
    let format = v1::ActionParameter {
        required: true,
        choices: vec!["mp4".into(), "mkv".into()],
        ..parameter(v1::ParameterType::Choice)
    };
    v1::ActionSpec {
        name: "convert".into(),
        job: Some(v1::JobSpec { image: image.into(), ..v1::JobSpec::default() }),
        parameters: [("EPOCHS".to_owned(), epochs), ("FORMAT".to_owned(), format)].into(),
        inputs: [("bags".to_owned(), v1::ActionInput::default())].into(),
        adjustable: vec!["resources.memory".into()],
        ..v1::ActionSpec::default()
    }
}

async fn apply(cluster: &Cluster, image: &str) -> v1::Action {
    let request = v1::ApplyActionRequest { spec: Some(convert(image)), ..Default::default() };
    actions(cluster).apply(request).await.expect("applied").into_inner().action.expect("an action")
}

fn run(version: u32, set: &[(&str, &str)]) -> v1::SubmitRequest {
    let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let action = Some(v1::ActionRun { name: "convert".into(), version, set });
    v1::SubmitRequest { action, ..v1::SubmitRequest::default() }
}

fn paths(status: &tonic::Status) -> Vec<String> {
    Refusal::from(status).fields.iter().map(|field| field.path.clone()).collect()
}

#[tokio::test]
async fn an_action_is_run_by_its_name_and_its_jobs_keep_their_version() {
    let cluster = Cluster::start().await;
    assert_eq!(apply(&cluster, "a:1").await.version, 1);
    let mut jobs = cluster.jobs.clone();
    let resources = Some(v1::Resources { memory_bytes: Some(1 << 30), ..Default::default() });
    let said = v1::JobSpec { resources, name: "mine".into(), ..Default::default() };
    let request = v1::SubmitRequest { spec: Some(said), ..run(0, &[("FORMAT", "mp4")]) };
    let first = jobs.submit(request).await.expect("taken").into_inner().job.expect("a job");
    let spec = first.spec.clone().expect("a spec");
    assert_eq!((first.action.as_str(), first.action_version, spec.image.as_str()), ("convert", 1, "a:1"));
    assert_eq!((spec.env["FORMAT"].as_str(), spec.env["EPOCHS"].as_str()), ("mp4", "20"));
    assert_eq!((spec.name.as_str(), spec.resources.and_then(|r| r.memory_bytes)), ("mine", Some(1 << 30)));

    assert_eq!(apply(&cluster, "a:2").await.version, 2);
    let second =
        jobs.submit(run(0, &[("FORMAT", "mkv")])).await.expect("taken").into_inner().job.expect("a job");
    let old =
        jobs.submit(run(1, &[("FORMAT", "mkv")])).await.expect("taken").into_inner().job.expect("a job");
    assert_eq!((second.action_version, old.action_version), (2, 1));
    assert_eq!(cluster.get(&first.id).await.job.expect("a job").action_version, 1);
    let filter = Some(v1::JobFilter { action: "convert".into(), action_version: 1, ..Default::default() });
    let listed = jobs.list(v1::ListJobsRequest { filter, ..Default::default() }).await.expect("listed");
    let ids: Vec<_> = listed.into_inner().jobs.into_iter().map(|job| job.id).collect();
    assert_eq!(ids, [old.id.as_str(), first.id.as_str()]);

    let mut agent = Agent::connect(&cluster, "one").await;
    for grant in agent.claim().await {
        let attempt = grant.r#ref.expect("a reference");
        assert!(agent.finish(report(&attempt, "succeeded")).await.is_none());
    }
    let retry = v1::RetryJobRequest { job: first.id.clone(), ..Default::default() };
    let again = jobs.retry(retry).await.expect("taken").into_inner().job.expect("a job");
    assert_eq!((again.action.as_str(), again.action_version), ("convert", 1), "retry keeps the version");
    let of = |version| v1::GetActionRequest { name: "convert".into(), version, ..Default::default() };
    let usage = actions(&cluster).get(of(1)).await.expect("there").into_inner().action.expect("one").usage;
    let usage = usage.expect("counted");
    assert_eq!((usage.jobs, usage.succeeded, usage.failed), (3, 2, 0));
}

#[tokio::test]
async fn all_that_is_wrong_with_a_run_is_told_at_once() {
    let cluster = Cluster::start().await;
    apply(&cluster, "a:1").await;
    let mut jobs = cluster.jobs.clone();
    let deadlines = Some(v1::Deadlines {
        run: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..v1::Deadlines::default()
    });
    let said = v1::JobSpec {
        image: "evil".into(),
        env: [("X".to_owned(), "y".to_owned())].into(),
        deadlines,
        ..v1::JobSpec::default()
    };
    let wrong = run(0, &[("EPOCHS", "many"), ("FROMAT", "mp4")]);
    let status = jobs.submit(v1::SubmitRequest { spec: Some(said), ..wrong }).await.expect_err("wrong");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(paths(&status), ["set.FROMAT", "set.EPOCHS", "set.FORMAT", "deadlines.run", "env", "image"]);
    assert!(status.message().contains("did you mean `FORMAT`?"), "{status}");

    for (request, path, says) in [
        (run(9, &[("FORMAT", "mp4")]), "action.version", "no version 9: the latest is 1"),
        (
            v1::SubmitRequest {
                action: Some(v1::ActionRun { name: "convrt".into(), ..Default::default() }),
                ..Default::default()
            },
            "action.name",
            "did you mean `convert`?",
        ),
    ] {
        let status = jobs.submit(request.clone()).await.expect_err("not there");
        assert_eq!((status.code(), paths(&status)), (Code::InvalidArgument, vec![path.to_owned()]));
        assert!(status.message().contains(says), "{status}");
        let batch = v1::SubmitBatchRequest { requests: vec![request, run(1, &[("FORMAT", "mp4")])] };
        let results = jobs.submit_batch(batch).await.expect("answered").into_inner().results;
        assert!(results[0].error.is_some() && results[1].submitted.is_some(), "{results:?}");
    }
    let request = v1::ApplyActionRequest {
        spec: Some(v1::ActionSpec {
            name: "No Name".into(),
            adjustable: vec!["image".into()],
            ..convert("")
        }),
        ..Default::default()
    };
    let status = actions(&cluster).apply(request).await.expect_err("wrong");
    assert_eq!(
        (status.code(), paths(&status)),
        (Code::InvalidArgument, ["name", "adjustable", "image"].map(String::from).to_vec())
    );
}

#[tokio::test]
async fn a_repeated_run_is_the_same_job_whatever_became_of_the_action() {
    let cluster = Cluster::start().await;
    apply(&cluster, "a:1").await;
    let mut jobs = cluster.jobs.clone();
    let once = |format: &str| v1::SubmitRequest { request_id: "r".into(), ..run(0, &[("FORMAT", format)]) };
    let first = jobs.submit(once("mp4")).await.expect("taken").into_inner().job.expect("a job");
    apply(&cluster, "a:2").await;
    let archive = v1::ArchiveActionRequest { name: "convert".into(), ..Default::default() };
    actions(&cluster).archive(archive).await.expect("archived");
    let again = jobs.submit(once("mp4")).await.expect("known").into_inner();
    assert!(again.existing);
    let again = again.job.expect("a job");
    assert_eq!((again.id, again.action_version), (first.id.clone(), 1));
    let other = jobs.submit(once("mkv")).await.expect_err("another body");
    assert_eq!(other.code(), Code::AlreadyExists, "{other}");
    let refused = jobs.submit(run(1, &[("FORMAT", "mp4")])).await.expect_err("archived");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("longshore actions restore convert"), "{refused}");
    jobs.cancel(v1::CancelJobsRequest { jobs: vec![first.id.clone()], ..Default::default() })
        .await
        .expect("done");
    jobs.remove(v1::RemoveJobsRequest { jobs: vec![first.id], ..Default::default() }).await.expect("removed");
    let gone = jobs.submit(once("mp4")).await.expect_err("its job was removed");
    assert_eq!(gone.code(), Code::AlreadyExists, "{gone}");
}

#[tokio::test]
async fn what_would_run_can_be_asked_before() {
    let cluster = Cluster::start().await;
    apply(&cluster, "a:1").await;
    let action = run(0, &[("FORMAT", "mp4")]).action;
    let request = v1::ExplainJobRequest { action, ..Default::default() };
    let answer = cluster.jobs.clone().explain(request).await.expect("answered").into_inner();
    let spec = answer.spec.expect("the whole job");
    assert_eq!((spec.image.as_str(), spec.env["EPOCHS"].as_str()), ("a:1", "20"));
    assert!(!answer.explanation.expect("why").summary.is_empty());
    let dry = v1::ApplyActionRequest { spec: Some(convert("a:2")), dry_run: true, ..Default::default() };
    let dry = actions(&cluster).apply(dry).await.expect("told").into_inner();
    assert_eq!((dry.changed, dry.changes[0].path.as_str(), dry.changes[0].new()), (true, "image", "a:2"));
}

#[tokio::test]
async fn another_projects_actions_are_not_there_and_changes_are_on_record() {
    let cluster = Cluster::start().await;
    apply(&cluster, "a:1").await;
    let project = Some(v1::Project { name: "other".to_owned(), ..v1::Project::default() });
    let mut projects = v1::projects_client::ProjectsClient::new(cluster.channel.clone());
    projects.put(v1::PutProjectRequest { project, create: true }).await.expect("made");
    let mut access = AccessClient::new(cluster.channel.clone());
    let token = v1::CreateTokenRequest {
        name: "spy".into(),
        role: v1::Role::Admin as i32,
        project: "other".into(),
        lifetime: None,
    };
    let text = access.create_token(token).await.expect("made").into_inner().text;
    let channel = showing(&cluster, &text);
    let mut spy = ActionsClient::new(channel.clone());
    let name = || "convert".to_owned();
    let answers = [
        spy.get(v1::GetActionRequest { name: name(), ..Default::default() }).await.map(drop),
        spy.list_versions(v1::ListActionVersionsRequest { name: name(), ..Default::default() })
            .await
            .map(drop),
        spy.diff(v1::DiffActionRequest { name: name(), ..Default::default() }).await.map(drop),
        spy.archive(v1::ArchiveActionRequest { name: name(), ..Default::default() }).await.map(drop),
        spy.restore(v1::RestoreActionRequest { name: name(), ..Default::default() }).await.map(drop),
    ];
    for (index, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.expect_err("not there").code(), Code::NotFound, "call {index}");
    }
    let listed = spy.list(v1::ListActionsRequest::default()).await.expect("its own").into_inner();
    assert!(listed.actions.is_empty(), "{listed:?}");
    let into = v1::ListActionsRequest { project: "default".into(), ..Default::default() };
    assert_eq!(spy.list(into).await.expect_err("another's").code(), Code::PermissionDenied);
    let refused = JobsClient::new(channel).submit(run(0, &[("FORMAT", "mp4")])).await.expect_err("not there");
    assert_eq!((refused.code(), paths(&refused)), (Code::InvalidArgument, vec!["action.name".to_owned()]));

    let audit = access.list_audit(v1::ListAuditRequest::default()).await.expect("listed").into_inner();
    let line = audit.entries.iter().find(|line| line.action.ends_with("Actions/Apply")).expect("a line");
    assert_eq!((line.project.as_str(), &line.targets[..]), ("default", &["convert".to_owned()][..]));
}
