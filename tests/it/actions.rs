//! An action's life: applied, run by its name, changed, archived and brought back; its jobs keep what they ran.

use longshore_agent::host::fake::FakeHost;
use longshore_proto::v1::{
    Action, ActionParameter, ActionRun, ActionSpec, ApplyActionRequest, ArchiveActionRequest,
    GetActionRequest, Job, JobSpec, JobState, ParameterType, RestoreActionRequest, SubmitRequest,
    actions_client::ActionsClient,
};
use longshore_tests::{
    local::{Local, scripted},
    token::{self, Authorized},
};
use std::sync::Arc;
use tonic::{Code, Status, transport::Channel};

fn actions(local: &Local) -> ActionsClient<Authorized> {
    let channel = Channel::from_shared(local.url.clone()).expect("an address").connect_lazy();
    ActionsClient::new(token::authorized(channel, &local.folder().join("controller")))
}

/// One that writes what it is told, and ends with `code`.
fn echo(code: &str) -> ActionSpec {
    let text = ActionParameter { required: true, ..ActionParameter::default() };
    let level = ActionParameter {
        r#type: ParameterType::Choice as i32,
        choices: vec!["low".into(), "high".into()],
        default_value: Some("low".into()),
        ..ActionParameter::default()
    };
    ActionSpec {
        name: "echo".into(),
        job: Some(JobSpec {
            labels: [("kind".into(), "echo".into())].into(),
            ..scripted(&[("FAKE_EXIT", code)])
        }),
        parameters: [("FAKE_STDOUT".to_owned(), text), ("LEVEL".to_owned(), level)].into(),
        ..ActionSpec::default()
    }
}

async fn apply(local: &Local, code: &str) -> Action {
    let request = ApplyActionRequest { spec: Some(echo(code)), ..ApplyActionRequest::default() };
    actions(local).apply(request).await.expect("applied").into_inner().action.expect("an action")
}

async fn run(local: &Local, version: u32, set: &[(&str, &str)]) -> Result<Job, Status> {
    let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let action = Some(ActionRun { name: "echo".into(), version, set });
    let answer = local.jobs.clone().submit(SubmitRequest { action, ..SubmitRequest::default() }).await?;
    Ok(answer.into_inner().job.expect("a job"))
}

async fn said(local: &Local, job: &Job) -> String {
    let records = local.log(&job.id).await;
    records.iter().map(|record| String::from_utf8_lossy(&record.data).into_owned()).collect()
}

#[tokio::test]
async fn an_action_is_run_changed_archived_and_brought_back_and_its_jobs_keep_their_version() {
    let local = Local::start(&[Arc::new(FakeHost::new())]).await;
    assert_eq!(apply(&local, "0").await.version, 1);
    let first = run(&local, 0, &[("FAKE_STDOUT", "ahoy ⚓")]).await.expect("taken");
    assert!(said(&local, &first).await.contains("ahoy ⚓"));
    assert_eq!(local.finished(&first.id).await.state(), JobState::Succeeded);

    assert_eq!(apply(&local, "3").await.version, 2);
    let second = run(&local, 0, &[("FAKE_STDOUT", "x"), ("LEVEL", "high")]).await.expect("taken");
    let second = local.finished(&second.id).await;
    assert_eq!((second.action_version, second.outcome.map(|o| o.exit_code)), (2, Some(3)));
    let old = local.get(&first.id).await.job.expect("a job");
    let label = old.spec.as_ref().and_then(|spec| spec.labels.get("kind").cloned());
    assert_eq!((old.action.as_str(), old.action_version, label.as_deref()), ("echo", 1, Some("echo")));
    let again = run(&local, 1, &[("FAKE_STDOUT", "x")]).await.expect("an old version still runs");
    assert_eq!(local.finished(&again.id).await.state(), JobState::Succeeded);

    let wrong = run(&local, 0, &[("LEVEL", "mid"), ("TEXT", "x")]).await.expect_err("wrong in three places");
    assert_eq!(wrong.code(), Code::InvalidArgument);
    for says in ["`mid` is not one of low, high", "is no parameter of echo@2", "set.FAKE_STDOUT: is missing"]
    {
        assert!(wrong.message().contains(says), "{says}: {wrong}");
    }

    let archive = ArchiveActionRequest { name: "echo".into(), ..ArchiveActionRequest::default() };
    actions(&local).archive(archive).await.expect("archived");
    let refused = run(&local, 1, &[("FAKE_STDOUT", "x")]).await.expect_err("archived");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let restore = RestoreActionRequest { name: "echo".into(), version: 1, ..RestoreActionRequest::default() };
    let restored = actions(&local).restore(restore).await.expect("restored").into_inner();
    assert!(restored.changed, "the first definition is the third version");
    let third = run(&local, 0, &[("FAKE_STDOUT", "x")]).await.expect("taken");
    let third = local.finished(&third.id).await;
    assert_eq!((third.action_version, third.state()), (3, JobState::Succeeded));

    let request = GetActionRequest { name: "echo".into(), version: 1, ..GetActionRequest::default() };
    let kept = actions(&local).get(request).await.expect("there").into_inner().action.expect("an action");
    let usage = kept.usage.expect("counted");
    assert_eq!((usage.jobs, usage.succeeded, usage.failed, kept.latest), (2, 2, 0, 3));
    local.stop().await;
}
