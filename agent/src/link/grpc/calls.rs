//! The unary calls, each with its own deadline. Never tries twice: callers know what a retry means.

use super::{error, finish::FinishQueue, line::Line, refusal};
use crate::link::{
    Claimed, CompletedUpload, Controller, Error, ExecLine, InputFile, InputPage, LogAppend, WantedUpload,
};
use crate::secrets::{RegistryLogin, Secrets, TriggerFile, Value};
use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use longshore_common::{
    agent::{FinishReport, Grant, Offer},
    artifact::{ManifestEntry, UploadTarget},
    exec::Told,
    ids::{AgentId, AttemptRef, ClaimId, ExecId, SessionId},
    logs::Position,
    queue::Lane,
    wire::{self, WireError},
};
use longshore_proto::v1::{self, agent_link_client::AgentLinkClient};
use std::{collections::BTreeMap, future::Future, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// A claim is one transaction; an agent that waits longer asks again with the same id.
const CLAIM: Duration = Duration::from_secs(15);
const APPEND: Duration = Duration::from_secs(30);
/// Signing thousands of addresses, or completing multipart uploads at a slow store.
const BYTES: Duration = Duration::from_secs(60);

/// Messages of one session on their way up.
const EXEC: usize = 16;

pub(super) type Client = AgentLinkClient<Line>;

#[derive(Debug)]
pub(super) struct GrpcController {
    client: Client,
    agent: AgentId,
    session: SessionId,
    finish: FinishQueue,
}

impl GrpcController {
    pub(super) fn new(client: Client, agent: AgentId, session: SessionId) -> Self {
        let finish = FinishQueue::start(client.clone());
        Self { client, agent, session, finish }
    }
}

#[async_trait]
impl Controller for GrpcController {
    async fn claim(
        &self,
        claim: ClaimId,
        offer: Offer,
        hints: BTreeMap<Lane, u32>,
    ) -> Result<Claimed, Error> {
        let request = v1::ClaimRequest {
            claim_id: claim.as_bytes().to_vec().into(),
            agent_id: self.agent.as_bytes().to_vec().into(),
            session: self.session.as_bytes().to_vec().into(),
            offer: Some((&offer).into()),
            hints: wire::hints_to(&hints),
        };
        let mut client = self.client.clone();
        let answer = within(CLAIM, client.claim(limited(CLAIM, request))).await?;
        Ok(Claimed {
            grants: grants(answer.grants),
            lanes: wire::lane_answers_from(answer.lanes).map_err(garbled)?,
        })
    }

    async fn append_logs(&self, appends: Vec<LogAppend>) -> Result<Vec<Result<u64, Error>>, Error> {
        let asked = appends.len();
        let append = |append: LogAppend| v1::LogAppend {
            r#ref: Some(append.attempt.into()),
            offset: append.offset,
            data: append.data,
        };
        let request = v1::AppendLogsRequest { appends: appends.into_iter().map(append).collect() };
        let mut client = self.client.clone();
        let answer = within(APPEND, client.append_logs(limited(APPEND, request))).await?;
        one_each(asked, answer.results.len())?;
        let result = |result: v1::LogAppended| match result.error {
            None => Ok(result.stored),
            Some(error) => Err(refusal(&error.into())),
        };
        Ok(answer.results.into_iter().map(result).collect())
    }

    async fn resume_log(&self, attempt: AttemptRef) -> Result<Position, Error> {
        let request = v1::ResumeLogRequest { r#ref: Some(attempt.into()) };
        let mut client = self.client.clone();
        within(APPEND, client.resume_log(limited(APPEND, request))).await.map(Into::into)
    }

    async fn fetch_input(
        &self,
        attempt: AttemptRef,
        name: &str,
        page: Option<String>,
    ) -> Result<InputPage, Error> {
        let request = v1::FetchInputRequest {
            r#ref: Some(attempt.into()),
            name: name.to_owned(),
            page_token: page.unwrap_or_default(),
        };
        let mut client = self.client.clone();
        let answer = within(BYTES, client.fetch_input(limited(BYTES, request))).await?;
        let files = answer.files.into_iter().map(input_file).collect::<Result<_, _>>().map_err(garbled)?;
        let next = Some(answer.next_page_token).filter(|token| !token.is_empty());
        Ok(InputPage { files, next })
    }

    async fn fetch_secrets(&self, attempt: AttemptRef) -> Result<Secrets, Error> {
        let request = v1::FetchSecretsRequest { r#ref: Some(attempt.into()) };
        let mut client = self.client.clone();
        let answer = within(APPEND, client.fetch_secrets(limited(APPEND, request))).await?;
        let login = answer.login.map(|login| RegistryLogin {
            host: login.host,
            username: login.username,
            password: Value::new(login.password),
        });
        let values = answer.values.into_iter().map(|(name, value)| (name, Value::new(value))).collect();
        let trigger = answer.trigger.map(|told| TriggerFile {
            name: told.name,
            kind: told.kind,
            content: told.content.to_vec(),
        });
        let run_key = Some(answer.run_key).filter(|key| !key.is_empty()).map(Value::new);
        let no_run_key = Some(answer.no_run_key).filter(|why| !why.is_empty());
        Ok(Secrets { values, login, trigger, run_key, no_run_key })
    }

    async fn open_uploads(
        &self,
        attempt: AttemptRef,
        files: Vec<WantedUpload>,
    ) -> Result<Vec<UploadTarget>, Error> {
        let asked = files.len();
        let open = |file: WantedUpload| v1::OpenUpload {
            ordinal: file.ordinal,
            size: file.size,
            given_up: file.given_up.unwrap_or_default(),
        };
        let request = v1::OpenUploadsRequest {
            r#ref: Some(attempt.into()),
            files: files.into_iter().map(open).collect(),
        };
        let mut client = self.client.clone();
        let answer = within(BYTES, client.open_uploads(limited(BYTES, request))).await?;
        one_each(asked, answer.targets.len())?;
        answer.targets.into_iter().map(|target| target.try_into().map_err(garbled)).collect()
    }

    async fn complete_uploads(
        &self,
        attempt: AttemptRef,
        uploads: Vec<CompletedUpload>,
    ) -> Result<(), Error> {
        let complete = |upload: CompletedUpload| v1::CompleteUpload {
            ordinal: upload.ordinal,
            upload_id: upload.upload_id,
            etags: upload.etags,
        };
        let request = v1::CompleteUploadsRequest {
            r#ref: Some(attempt.into()),
            uploads: uploads.into_iter().map(complete).collect(),
        };
        let mut client = self.client.clone();
        within(BYTES, client.complete_uploads(limited(BYTES, request))).await.map(drop)
    }

    async fn put_manifest(
        &self,
        attempt: AttemptRef,
        page: u32,
        entries: Vec<ManifestEntry>,
    ) -> Result<(), Error> {
        let request = v1::PutManifestRequest {
            r#ref: Some(attempt.into()),
            page,
            entries: entries.iter().map(v1::ManifestEntry::from).collect(),
            session: self.session.as_bytes().to_vec().into(),
        };
        let mut client = self.client.clone();
        within(BYTES, client.put_manifest(limited(BYTES, request))).await.map(drop)
    }

    async fn exec(
        &self,
        attempt: AttemptRef,
        session: ExecId,
        refused: Option<String>,
    ) -> Result<ExecLine, Error> {
        use v1::agent_exec_request::Message;
        let open = v1::ExecOpen {
            session: session.as_bytes().to_vec().into(),
            r#ref: Some(attempt.into()),
            refused: refused.unwrap_or_default(),
        };
        let (up, told) = mpsc::channel(EXEC);
        let first = v1::AgentExecRequest { message: Some(Message::Open(open)) };
        let told = ReceiverStream::new(told)
            .map(|told: Told| v1::AgentExecRequest { message: Some(Message::Told(told.into())) });
        let requests = stream::once(async { first }).chain(told);
        let mut client = self.client.clone();
        // It has no end of its own: only its beginning has a deadline.
        let down = within(CLAIM, client.exec(requests)).await?;
        let down = down.map(|message| match message {
            Ok(message) => wire::exec_asked(message).map_err(garbled),
            Err(status) => Err(error(&status)),
        });
        Ok(ExecLine { up, down: down.boxed() })
    }

    async fn finish(&self, report: FinishReport) -> Result<(), Error> {
        self.finish.report(report).await
    }
}

/// The request with the time the controller has for it.
pub(super) fn limited<T>(length: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(length);
    request
}

/// The answer, or that none came in time.
pub(super) async fn within<T>(
    length: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Error> {
    match tokio::time::timeout(length, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(error(&status)),
        Err(_) => Err(Error::Unreachable(format!("no answer for {} s", length.as_secs()))),
    }
}

/// A grant that cannot be read is left out: absent from the heartbeats, it goes back to the queue.
fn grants(messages: Vec<v1::Grant>) -> Vec<Grant> {
    let read = |message: v1::Grant| match Grant::try_from(message) {
        Ok(grant) => Some(grant),
        Err(error) => {
            tracing::error!(%error, "the controller granted what this agent cannot read; is it newer?");
            None
        }
    };
    messages.into_iter().filter_map(read).collect()
}

fn input_file(message: v1::FetchFile) -> Result<InputFile, WireError> {
    let sha256 = match &message.sha256[..] {
        [] => None,
        bytes => Some(wire::digest("sha256", bytes)?),
    };
    // A file without digest is one that nobody has seen yet: its size is not known either.
    let size = (sha256.is_some() || message.size > 0).then_some(message.size);
    Ok(InputFile { path: message.path.into(), size, sha256, mode: message.mode, url: message.url })
}

pub(super) fn one_each(asked: usize, answered: usize) -> Result<(), Error> {
    if asked == answered {
        return Ok(());
    }
    Err(Error::Refused(format!("the controller answered {answered} of {asked} parts of a call")))
}

fn garbled(error: WireError) -> Error {
    Error::Refused(format!("the controller's answer cannot be read: {error}"))
}
