//! `Jobs.Exec`: another process in a running job's container. Asks the project's policy, writes the audit log, orders
//! the session from the job's agent, and carries bytes between the two. Looks at none of them.

use super::{
    Context, access,
    execs::{AgentSide, Waiting},
    jobs::resolve,
    status,
};
use crate::{
    http::peer::Peer,
    identity::{Caller, ExecPolicy, Who},
    jobs::{JobView, LiveAttempt},
    store::AuditRow,
};
use futures::{Stream, StreamExt as _};
use longshore_common::{access::Role, clock::Timestamp, exec, job::JobState, tasks, units::HumanDuration};
use longshore_proto::v1::{
    self, agent_exec_request::Message as Up, exec_request::Message as Asked, exec_response::Message as Told,
};
use std::{net::IpAddr, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<v1::ExecResponse, Status>> + Send>>;

const FIRST: Duration = Duration::from_secs(10);
/// For the agent to open what it was told to.
const OPEN: Duration = Duration::from_secs(20);
/// For an agent to end a process whose caller has gone, and to say how it ended.
const HANG_UP: Duration = Duration::from_secs(30);
/// Messages on their way to the caller. One that reads slowly holds the process up.
const WAITING: usize = 16;
/// How often is asked whether the attempt is the job's latest still.
const LOOK: Duration = Duration::from_secs(5);

pub(super) fn address<T>(request: &Request<T>) -> String {
    let peer: Option<IpAddr> = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
    peer.map(|address| address.to_string()).unwrap_or_default()
}

pub(super) async fn open(
    context: &Arc<Context>,
    caller: &Caller,
    from: String,
    mut asked: Streaming<v1::ExecRequest>,
) -> Result<Messages, Status> {
    let mut start = first(&mut asked).await?;
    let read = exec::Start::from(start.clone());
    read.validate().map_err(status::invalid)?;
    let job = resolve(context, caller, &start.job).await?;
    let job = context.jobs.get(job).await.map_err(status::jobs)?;
    caller.touches(&job.short_id);
    caller.touches_project(&job.project);
    permit(context, caller, &job)?;
    let live = running(context, &job)?;
    start.by = match caller.who() {
        Who::Token(token) => token.name.clone(),
        other => other.to_string(),
    };
    let audit = Audit { actor: caller.who().to_string(), from, job: job.clone(), command: read.shown() };
    audit.write(context, audit.command.clone()).await?;
    let waiting = context.execs.want(live.attempt);
    let ordered = context.links.exec(live.agent, waiting.session, live.attempt);
    let (up, messages) = mpsc::channel(WAITING);
    let session = Session { context: Arc::clone(context), live, up };
    drop(tasks::spawn("exec", async move {
        let began = Instant::now();
        let end = if ordered {
            Box::pin(session.run(waiting, start, asked)).await
        } else {
            exec::End::otherwise(
                "the job's agent is not connected; try again when `longshore agents ls` says online",
            )
        };
        let length = HumanDuration(Duration::from_millis(began.elapsed().as_millis() as u64));
        let how = if end.reason.is_empty() { String::new() } else { format!(": {}", end.reason) };
        let line = format!("{}; exit {} after {length}{how}", audit.command, end.code);
        if let Err(error) = audit.write(&session.context, line).await {
            tracing::error!(%error, "the end of an exec session is not in the audit log");
        }
        let end = v1::ExecEnd { exit_code: end.code, reason: end.reason };
        // The caller may have gone.
        drop(session.up.send(Ok(v1::ExecResponse { message: Some(Told::End(end)) })).await);
    }));
    Ok(ReceiverStream::new(messages).boxed())
}

async fn first(asked: &mut Streaming<v1::ExecRequest>) -> Result<v1::ExecStart, Status> {
    let first = timeout(FIRST, asked.message())
        .await
        .map_err(|_| Status::deadline_exceeded("nothing was asked; the first message must be `start`"))??;
    match first {
        Some(v1::ExecRequest { message: Some(Asked::Start(start)) }) => Ok(start),
        _ => Err(status::field("message", "the first message must be `start`")),
    }
}

/// By the project's policy.
fn permit(context: &Context, caller: &Caller, job: &JobView) -> Result<(), Status> {
    let policy = access::project(context, caller, &job.project)?.settings.exec;
    let operator = caller.role() >= Some(Role::Operator);
    let own = match (caller.who(), &job.submitter) {
        (Who::Token(token), Some(submitter)) => token.id == submitter.token,
        _ => false,
    };
    let project = &job.project;
    let change =
        |policy| format!("an admin may change that: longshore projects set {project} --exec {policy}");
    let refused = match policy {
        ExecPolicy::Off => {
            format!("project `{project}` lets nobody into its containers; {}", change("operator"))
        }
        ExecPolicy::Operator if !operator => {
            format!("project `{project}` lets only operators into its containers; {}", change("own"))
        }
        ExecPolicy::Own if !operator && !own => format!(
            "job {} was submitted by {}: in project `{project}` only they and operators get into its container",
            job.short_id,
            job.submitter.as_ref().map_or("another token", |submitter| &submitter.name),
        ),
        ExecPolicy::Operator | ExecPolicy::Own => return Ok(()),
    };
    caller.note_denial(&refused);
    Err(Status::permission_denied(refused))
}

fn running(context: &Context, job: &JobView) -> Result<LiveAttempt, Status> {
    match context.jobs.held(job.id) {
        Some((live, JobState::Running)) => Ok(live),
        other => {
            let state = other.map_or(job.state, |(_, state)| state);
            let next = match state {
                state if state.is_terminal() => "start it again with `longshore retry`",
                JobState::Collecting => "its container has ended",
                _ => "try again when it runs: `longshore logs -f` begins then",
            };
            Err(Status::failed_precondition(format!("job {} is {state}, not running; {next}", job.short_id)))
        }
    }
}

/// Two lines: when it begins, and how it ended.
struct Audit {
    actor: String,
    from: String,
    job: JobView,
    command: String,
}

impl Audit {
    async fn write(&self, context: &Context, message: String) -> Result<(), Status> {
        let row = AuditRow {
            id: *uuid::Uuid::now_v7().as_bytes(),
            at: Timestamp::now(),
            actor: self.actor.clone(),
            address: self.from.clone(),
            action: "longshore.v1.Jobs/Exec".to_owned(),
            project: self.job.project.clone(),
            targets: vec![self.job.short_id.to_string()],
            target_count: 1,
            result: "ok".to_owned(),
            message,
        };
        context.jobs.audit(row).await.map_err(status::jobs)
    }
}

struct Session {
    context: Arc<Context>,
    live: LiveAttempt,
    up: mpsc::Sender<Result<v1::ExecResponse, Status>>,
}

impl Session {
    async fn run(
        &self,
        mut waiting: Waiting,
        start: v1::ExecStart,
        asked: Streaming<v1::ExecRequest>,
    ) -> exec::End {
        let AgentSide { up, down } = match timeout(OPEN, &mut waiting.opened).await {
            Ok(Ok(Ok(agent))) => agent,
            Ok(Ok(Err(refused))) => return exec::End::otherwise(refused),
            Ok(Err(_)) | Err(_) => {
                return exec::End::otherwise("the job's agent did not answer; is it of an older version?");
            }
        };
        let start = v1::ExecRequest { message: Some(Asked::Start(start)) };
        if down.send(Ok(said(start))).await.is_err() {
            return broken();
        }
        self.carry(asked, up, down).await
    }

    async fn carry(
        &self,
        asked: Streaming<v1::ExecRequest>,
        mut told: Streaming<v1::AgentExecRequest>,
        down: mpsc::Sender<Result<v1::AgentExecResponse, Status>>,
    ) -> exec::End {
        let shutdown = &self.context.shutdown;
        let end = tokio::select! {
            end = pass_up(&mut told, Some(&self.up)) => return end,
            () = pass_down(asked, &down) => "whoever asked has gone",
            () = self.up.closed() => "whoever asked has gone",
            () = shutdown.triggered() => "the controller restarts; ask again in a moment",
            () = self.fenced() => "another agent has the job now",
        };
        // It must not wait behind input that nobody reads.
        let hang_up = v1::AgentExecResponse { asked: None, hang_up: true };
        let hung_up = async {
            drop(down.send(Ok(hang_up)).await);
            drop(down);
            pass_up(&mut told, None).await
        };
        let patience = if shutdown.is_triggered() { Duration::from_secs(1) } else { HANG_UP };
        drop(timeout(patience, hung_up).await);
        exec::End::otherwise(end)
    }

    /// Returns when the attempt is not the job's latest any more.
    async fn fenced(&self) {
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            if self.context.jobs.check_attempt(self.live.attempt).is_err() {
                return;
            }
        }
    }
}

fn said(asked: v1::ExecRequest) -> v1::AgentExecResponse {
    v1::AgentExecResponse { asked: Some(asked), hang_up: false }
}

fn broken() -> exec::End {
    exec::End::otherwise("the link to the job's agent broke; what was started is ended there")
}

/// What the process says, to its end. `None`: nobody listens.
async fn pass_up(
    told: &mut Streaming<v1::AgentExecRequest>,
    up: Option<&mpsc::Sender<Result<v1::ExecResponse, Status>>>,
) -> exec::End {
    loop {
        let Ok(Some(v1::AgentExecRequest { message: Some(Up::Told(told)) })) = told.message().await else {
            return broken();
        };
        match (told.message, up) {
            (Some(Told::End(v1::ExecEnd { exit_code, reason })), _) => {
                return exec::End { code: exit_code, reason };
            }
            // One that has gone is noticed by whoever waits for that.
            (message @ Some(_), Some(up)) => drop(up.send(Ok(v1::ExecResponse { message })).await),
            _ => {}
        }
    }
}

/// What the caller says. Returns when it has gone; the end of what it says is no end of the session.
async fn pass_down(
    mut asked: Streaming<v1::ExecRequest>,
    down: &mpsc::Sender<Result<v1::AgentExecResponse, Status>>,
) {
    loop {
        let message = match asked.message().await {
            Ok(Some(v1::ExecRequest { message: Some(Asked::Start(_)) | None })) => continue,
            Ok(Some(message)) => message,
            Ok(None) => {
                let end = v1::ExecRequest { message: Some(Asked::StdinEnd(v1::ExecStdinEnd {})) };
                drop(down.send(Ok(said(end))).await);
                return std::future::pending().await;
            }
            Err(_) => return,
        };
        if down.send(Ok(said(message))).await.is_err() {
            // The agent's own end says why.
            return std::future::pending().await;
        }
    }
}
