//! The service `AgentLink`: what agents say. Every call checks the attempt's token; a stale one is refused for that
//! attempt alone.

mod caller;
mod exec;
mod fetch;
mod secrets;
mod stream;
mod uploads;

use super::{Context, at_most, enrolment, status};
use crate::{
    jobs::{ClaimCommand, LiveAttempt},
    log_store::Append,
};
pub(super) use caller::agent;
use caller::{Caller, agent_of};
use longshore_common::{
    agent::{FinishReport, Grant},
    artifact::ManifestEntry,
    fields::FieldError,
    ids::{AgentId, AttemptRef, ClaimId, SessionId},
    wire::{self, status::Refusal},
};
use longshore_proto::v1;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// Attempts in one batched call at most.
const BATCH: usize = 2_000;
const MANIFEST_PAGE: usize = 5_000;

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Context>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::agent_link_server::AgentLink for Service {
    type LinkStream = stream::Down;

    async fn link(&self, request: Request<Streaming<v1::LinkRequest>>) -> Answer<Self::LinkStream> {
        stream::open(&self.0, agent_of(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn claim(&self, request: Request<v1::ClaimRequest>) -> Answer<v1::ClaimResponse> {
        let caller = agent_of(&request)?;
        claim(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn append_logs(&self, request: Request<v1::AppendLogsRequest>) -> Answer<v1::AppendLogsResponse> {
        let caller = agent_of(&request)?;
        append_logs(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn resume_log(&self, request: Request<v1::ResumeLogRequest>) -> Answer<v1::ResumeLogResponse> {
        let caller = agent_of(&request)?;
        resume_log(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn fetch_input(&self, request: Request<v1::FetchInputRequest>) -> Answer<v1::FetchInputResponse> {
        let caller = agent_of(&request)?;
        fetch::fetch(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn fetch_secrets(
        &self,
        request: Request<v1::FetchSecretsRequest>,
    ) -> Answer<v1::FetchSecretsResponse> {
        let caller = agent_of(&request)?;
        secrets::fetch(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn open_uploads(
        &self,
        request: Request<v1::OpenUploadsRequest>,
    ) -> Answer<v1::OpenUploadsResponse> {
        let caller = agent_of(&request)?;
        uploads::open(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn complete_uploads(
        &self,
        request: Request<v1::CompleteUploadsRequest>,
    ) -> Answer<v1::CompleteUploadsResponse> {
        let caller = agent_of(&request)?;
        uploads::complete(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn put_manifest(
        &self,
        request: Request<v1::PutManifestRequest>,
    ) -> Answer<v1::PutManifestResponse> {
        let caller = agent_of(&request)?;
        put_manifest(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn finish(&self, request: Request<v1::FinishRequest>) -> Answer<v1::FinishResponse> {
        let caller = agent_of(&request)?;
        finish(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    type ExecStream = exec::Down;

    async fn exec(&self, request: Request<Streaming<v1::AgentExecRequest>>) -> Answer<Self::ExecStream> {
        let caller = agent_of(&request)?;
        exec::open(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Answer<v1::RenewResponse> {
        let caller = agent_of(&request)?;
        let v1::RenewRequest { csr, key_hash } = request.into_inner();
        let asked = enrolment::asked(&csr, &key_hash)?;
        let renewed = self.0.enrolment.renew(caller.agent, &caller.proof, asked).await;
        let credential = Some(renewed.map_err(enrolment::refused)?.into());
        Ok(Response::new(v1::RenewResponse { credential }))
    }
}

/// The attempt a call speaks for, if its token is the latest and it is the caller's own.
fn live(context: &Context, caller: &Caller, message: Option<v1::AttemptRef>) -> Result<LiveAttempt, Refusal> {
    let attempt = AttemptRef::try_from(message)?;
    let live = context.jobs.check_attempt(attempt).map_err(|refusal| status::of_refusal(&refusal))?;
    if live.agent == caller.agent { Ok(live) } else { Err(caller.not_yours(attempt)) }
}

async fn claim(
    context: &Context,
    caller: &Caller,
    request: v1::ClaimRequest,
) -> Result<v1::ClaimResponse, Status> {
    let bad = |path, error: longshore_common::ids::ParseIdError| {
        status::invalid(FieldError::new(path, error.to_string()))
    };
    let agent = AgentId::from_slice(&request.agent_id).map_err(|error| bad("agent_id", error))?;
    caller.is(agent)?;
    let session = SessionId::from_slice(&request.session).map_err(|error| bad("session", error))?;
    if !context.links.has(agent, session) {
        // Without a link there would be no lease, and no way to stop what was granted.
        return Err(Status::unavailable("this agent session has no link here; open one, then claim"));
    }
    context.disk.check()?;
    let command = ClaimCommand {
        claim: ClaimId::from_slice(&request.claim_id).map_err(|error| bad("claim_id", error))?,
        agent,
        offer: wire::required("offer", request.offer).and_then(TryInto::try_into).map_err(status::invalid)?,
        hints: wire::hints_from(request.hints).map_err(status::invalid)?,
    };
    let claimed = context.jobs.claim(command).await.map_err(status::jobs)?;
    context.counters.claims.add(1);
    context.counters.granted.add(claimed.grants.len() as u64);
    Ok(v1::ClaimResponse {
        grants: claimed.grants.iter().map(|grant| sealed(context, grant)).collect(),
        lanes: wire::lane_answers_to(&claimed.lanes),
    })
}

fn sealed(context: &Context, grant: &Grant) -> v1::Grant {
    let sealed = grant.spec.trigger.is_some() || context.secrets.seals(&grant.project, &grant.spec);
    v1::Grant { sealed, ..grant.into() }
}

async fn append_logs(
    context: &Context,
    caller: &Caller,
    request: v1::AppendLogsRequest,
) -> Result<v1::AppendLogsResponse, Status> {
    at_most("appends", request.appends.len(), BATCH)?;
    let mut good = Vec::with_capacity(request.appends.len());
    let mut refused = Vec::with_capacity(request.appends.len());
    for append in request.appends {
        refused.push(live(context, caller, append.r#ref).map_or_else(Some, |live| {
            good.push(Append { key: live.attempt.into(), offset: append.offset, data: append.data });
            None
        }));
    }
    let bytes: usize = good.iter().map(|append| append.data.len()).sum();
    context.counters.log_bytes.add(bytes as u64);
    let mut stored = context.logs.append(good).await.into_iter();
    let results = refused.into_iter().map(|refusal| match refusal {
        Some(refusal) => appended(Err(refusal)),
        None => match stored.next() {
            Some(result) => appended(result.map_err(|error| status::of_logs(&error))),
            None => appended(Err(Refusal::new(tonic::Code::Internal, "no answer to an append"))),
        },
    });
    Ok(v1::AppendLogsResponse { results: results.collect() })
}

async fn resume_log(
    context: &Context,
    caller: &Caller,
    request: v1::ResumeLogRequest,
) -> Result<v1::ResumeLogResponse, Status> {
    let attempt = live(context, caller, request.r#ref)?.attempt;
    let position = crate::log_store::position(&*context.logs, attempt.into()).await;
    let position = position.map_err(|error| Status::from(status::of_logs(&error)))?;
    Ok(position.into())
}

fn appended(result: Result<u64, Refusal>) -> v1::LogAppended {
    match result {
        Ok(stored) => v1::LogAppended { stored, error: None },
        Err(refusal) => v1::LogAppended { stored: 0, error: Some(refusal.into()) },
    }
}

async fn put_manifest(
    context: &Context,
    caller: &Caller,
    request: v1::PutManifestRequest,
) -> Result<v1::PutManifestResponse, Status> {
    at_most("entries", request.entries.len(), MANIFEST_PAGE)?;
    let LiveAttempt { attempt, agent, .. } = live(context, caller, request.r#ref)?;
    let mut entries = Vec::with_capacity(request.entries.len());
    for (index, entry) in request.entries.into_iter().enumerate() {
        let entry = ManifestEntry::try_from(entry);
        entries.push(entry.map_err(|error| status::invalid(error.under(&format!("entries[{index}]"))))?);
    }
    // Its successor collects again, in another order: a page of this one would spoil the list.
    if !request.session.is_empty() {
        let session = SessionId::from_slice(&request.session)
            .map_err(|error| status::invalid(FieldError::new("session", error.to_string())))?;
        if !context.jobs.is_current(agent, session) {
            return Err(Status::unavailable(
                "another process of this agent said hello last; say it, then list",
            ));
        }
    }
    let put = context.jobs.put_manifest(attempt, request.page, entries).await.map_err(status::jobs)?;
    put.map_err(|refusal| status::refusal(&refusal))?;
    Ok(v1::PutManifestResponse {})
}

/// Not refused on a full disk: ending a job frees more than it takes.
async fn finish(
    context: &Context,
    caller: &Caller,
    request: v1::FinishRequest,
) -> Result<v1::FinishResponse, Status> {
    at_most("reports", request.reports.len(), BATCH)?;
    let mut good = Vec::with_capacity(request.reports.len());
    let mut refused = Vec::with_capacity(request.reports.len());
    for report in request.reports {
        refused.push(match FinishReport::try_from(report) {
            // What is over is answered as it was, and changes nothing whoever asks.
            Ok(report)
                if context
                    .jobs
                    .check_attempt(report.attempt)
                    .is_ok_and(|live| live.agent != caller.agent) =>
            {
                Some(caller.not_yours(report.attempt))
            }
            Ok(report) => {
                good.push(report);
                None
            }
            Err(error) => Some(Refusal::from(error)),
        });
    }
    let attempts: Vec<AttemptRef> = good.iter().map(|report| report.attempt).collect();
    let finished = context.jobs.finish(good).await.map_err(status::jobs)?;
    let mut finished = attempts.into_iter().zip(finished);
    let mut results = Vec::with_capacity(refused.len());
    for refusal in refused {
        if let Some(refusal) = refusal {
            results.push(v1::FinishResult { error: Some(refusal.into()) });
            continue;
        }
        let error = match finished.next() {
            Some((attempt, Ok(()))) => {
                context.counters.finished.add(1);
                context.logs.seal(attempt.into()).await;
                None
            }
            Some((_, Err(refusal))) => Some(status::of_refusal(&refusal).into()),
            None => Some(Refusal::new(tonic::Code::Internal, "no answer to a report").into()),
        };
        results.push(v1::FinishResult { error });
    }
    Ok(v1::FinishResponse { results })
}
