//! Another process in a running job's container: who may, what comes back, what ends it, what is written about it.

use longshore_agent::host::fake::FakeHost;
use longshore_proto::v1::{
    self, CreateTokenRequest, ExecRequest, ExecStart, ListAuditRequest, Project, PutProjectRequest, Role,
    access_client::AccessClient, exec_request::Message as Asked, exec_response::Message as Told,
    jobs_client::JobsClient, projects_client::ProjectsClient,
};
use longshore_tests::{
    local::{Local, scripted},
    token,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

const PATIENCE: Duration = Duration::from_secs(60);

struct Session {
    asks: mpsc::Sender<ExecRequest>,
    told: tonic::Streaming<v1::ExecResponse>,
}

/// How it went.
#[derive(Debug, Default)]
struct Heard {
    stdout: String,
    stderr: String,
    code: i32,
    reason: String,
}

type Jobs = JobsClient<token::Authorized>;

async fn exec(jobs: &Jobs, job: &str, words: &[&str], stdin: bool) -> Result<Session, Status> {
    let start = ExecStart {
        job: job.to_owned(),
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        stdin,
        ..ExecStart::default()
    };
    let (asks, asked) = mpsc::channel(4);
    asks.send(ExecRequest { message: Some(Asked::Start(start)) }).await.expect("room");
    let told = jobs.clone().exec(ReceiverStream::new(asked)).await?.into_inner();
    Ok(Session { asks, told })
}

impl Session {
    async fn end(&mut self) -> Heard {
        let mut heard = Heard::default();
        loop {
            let told = tokio::time::timeout(PATIENCE, self.told.message()).await.expect("in time");
            match told.expect("it goes on").expect("not without an end").message {
                Some(Told::Stdout(data)) => heard.stdout.push_str(&String::from_utf8_lossy(&data)),
                Some(Told::Stderr(data)) => heard.stderr.push_str(&String::from_utf8_lossy(&data)),
                Some(Told::End(end)) => {
                    return Heard { code: end.exit_code, reason: end.reason, ..heard };
                }
                Some(Told::Started(_)) | None => {}
            }
        }
    }

    async fn started(&mut self) {
        let told = tokio::time::timeout(PATIENCE, self.told.message()).await.expect("in time");
        let told = told.expect("it goes on").expect("not the end").message;
        assert!(matches!(told, Some(Told::Started(_))), "{told:?}");
    }

    async fn say(&self, message: Asked) {
        self.asks.send(ExecRequest { message: Some(message) }).await.expect("it listens");
    }
}

async fn a_running_job(local: &Local) -> String {
    let job = local.submit(scripted(&[("FAKE_RUN", "forever")])).await;
    local.running(&job.id).await;
    job.id
}

#[tokio::test]
async fn output_and_code_come_back_and_input_goes_in() {
    let local = Local::start(&[Arc::new(FakeHost::new())]).await;
    let job = a_running_job(&local).await;
    let heard = exec(&local.jobs, &job, &["echo", "ahoy"], false).await.expect("taken").end().await;
    assert_eq!((heard.stdout.as_str(), heard.code, heard.reason.as_str()), ("ahoy\n", 0, ""));
    let heard = exec(&local.jobs, &job, &["exit", "3"], false).await.expect("taken").end().await;
    assert_eq!(heard.code, 3);
    let mut cat = exec(&local.jobs, &job, &["cat"], true).await.expect("taken");
    cat.say(Asked::Stdin("over".into())).await;
    cat.say(Asked::StdinEnd(v1::ExecStdinEnd {})).await;
    let heard = cat.end().await;
    assert_eq!((heard.stdout.as_str(), heard.code), ("over", 0));
    local.cancel(&job).await;
    local.finished(&job).await;
    let log = local.log(&job).await;
    let lines: Vec<_> = log.iter().map(|record| String::from_utf8_lossy(&record.data).into_owned()).collect();
    assert!(lines.iter().any(|line| line.trim_end() == "exec by admin: echo ahoy"), "{lines:?}");
    assert!(
        !lines.iter().any(|line| line.trim_end() == "ahoy"),
        "its output is the caller's alone: {lines:?}"
    );
    local.stop().await;
}

#[tokio::test]
async fn a_cancelled_job_ends_the_session_and_says_so() {
    let local = Local::start(&[Arc::new(FakeHost::new())]).await;
    let job = a_running_job(&local).await;
    let mut session = exec(&local.jobs, &job, &["hang"], false).await.expect("taken");
    session.started().await;
    local.cancel(&job).await;
    let heard = session.end().await;
    assert_eq!(heard.code, 125);
    assert!(heard.reason.contains("cancelled") || heard.reason.contains("ended"), "{heard:?}");
    local.finished(&job).await;
    let refused = exec(&local.jobs, &job, &["echo"], false).await.err().expect("it does not run");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    local.stop().await;
}

#[tokio::test]
async fn both_ends_of_a_session_are_in_the_audit_log() {
    let local = Local::start(&[Arc::new(FakeHost::new())]).await;
    let job = a_running_job(&local).await;
    exec(&local.jobs, &job, &["exit", "3"], false).await.expect("taken").end().await;
    let mut gone = exec(&local.jobs, &job, &["hang"], false).await.expect("taken");
    gone.started().await;
    drop(gone);
    let lines = tokio::time::timeout(PATIENCE, async {
        loop {
            let lines = audit(&local).await;
            if lines.len() == 4 {
                return lines;
            }
        }
    });
    let lines = lines.await.expect("four lines");
    assert_eq!(lines[3], format!("{job} exit 3"));
    assert!(lines[2].starts_with(&format!("{job} exit 3; exit 3 after ")), "{lines:?}");
    assert!(lines[0].contains("hang; exit 125 after ") && lines[0].contains("has gone"), "{lines:?}");
    local.stop().await;
}

/// Lines about sessions, newest first.
async fn audit(local: &Local) -> Vec<String> {
    let mut access = AccessClient::new(channel(local, None).await);
    let lines = access.list_audit(ListAuditRequest::default()).await.expect("read").into_inner().entries;
    let own = lines.iter().filter(|line| line.action.ends_with("Jobs/Exec"));
    own.map(|line| format!("{} {}", line.targets.join(" "), line.message)).collect()
}

/// With this token, or the first one.
async fn channel(local: &Local, text: Option<&str>) -> token::Authorized {
    let channel = Channel::from_shared(local.url.clone()).expect("an address").connect_lazy();
    match text {
        Some(text) => token::showing(channel, text),
        None => token::authorized(channel, &local.folder().join("controller")),
    }
}

async fn policy(local: &Local, exec: v1::ExecPolicy) {
    let project = Project { name: "default".into(), exec: exec as i32, ..Project::default() };
    let request = PutProjectRequest { project: Some(project), create: false };
    ProjectsClient::new(channel(local, None).await).put(request).await.expect("set");
}

async fn submitter(local: &Local, name: &str) -> Jobs {
    let request = CreateTokenRequest {
        name: name.to_owned(),
        role: Role::Submitter as i32,
        project: "default".to_owned(),
        lifetime: None,
    };
    let mut access = AccessClient::new(channel(local, None).await);
    let text = access.create_token(request).await.expect("made").into_inner().text;
    JobsClient::new(channel(local, Some(&text)).await)
}

#[tokio::test]
async fn the_projects_policy_says_who_may() {
    let local = Local::start(&[Arc::new(FakeHost::new())]).await;
    let (anna, bob) = (submitter(&local, "anna").await, submitter(&local, "bob").await);
    let request =
        v1::SubmitRequest { spec: Some(scripted(&[("FAKE_RUN", "forever")])), ..Default::default() };
    let job = anna.clone().submit(request).await.expect("taken").into_inner().job.expect("a job");
    assert_eq!(job.submitted_by, "anna");
    local.running(&job.id).await;
    use v1::ExecPolicy::{Off, Operator, Own};
    for (now, admin, own, other) in [
        (None, true, false, false),
        (Some(Operator), true, false, false),
        (Some(Own), true, true, false),
        (Some(Off), false, false, false),
    ] {
        if let Some(now) = now {
            policy(&local, now).await;
        }
        for (jobs, may) in [(&local.jobs, admin), (&anna, own), (&bob, other)] {
            match exec(jobs, &job.id, &["exit", "0"], false).await {
                Ok(mut session) => {
                    assert!(may, "{now:?}");
                    assert_eq!(session.end().await.code, 0);
                }
                Err(refused) => {
                    assert!(!may, "{now:?}: {refused}");
                    assert_eq!(refused.code(), Code::PermissionDenied);
                }
            }
        }
    }
    local.stop().await;
}

#[tokio::test]
async fn mistakes_are_told_at_once_and_a_waiting_job_is_named() {
    let local = Local::start(&[]).await;
    let job = local.submit(scripted(&[])).await;
    let refused = exec(&local.jobs, &job.id, &["echo"], false).await.err().expect("it waits");
    assert!(refused.code() == Code::FailedPrecondition && refused.message().contains("queued"), "{refused}");
    let refused = exec(&local.jobs, &job.id, &[], false).await.err().expect("no command");
    assert_eq!(refused.code(), Code::InvalidArgument);
    local.stop().await;
}
