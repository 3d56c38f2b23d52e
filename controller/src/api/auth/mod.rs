//! Before and after every call, gRPC or HTTP: who makes it, whether they may, how fast, for how long, and a line in the
//! audit log. Handlers find the [`Caller`] in the request.

mod answer;
mod ends;
mod line;
pub mod rules;

pub(crate) use answer::is_grpc;

use super::Context;
use crate::{
    enrolment,
    http::{peer::Peer, timely::Timely},
    identity::{Caller, Denied, Who},
};
use answer::Refused;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use futures::FutureExt as _;
use http::{HeaderMap, header};
use line::Line;
use longshore_common::{tasks, wire::PROJECT};
use rules::{Access, Rule};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tonic::{Code, Status};

/// All routes behind the guard.
pub fn guarded(context: &Arc<Context>, routes: Router) -> Router {
    routes.layer(middleware::from_fn_with_state(Arc::clone(context), guard))
}

async fn guard(State(context): State<Arc<Context>>, mut request: Request<Body>, next: Next) -> Response {
    let grpc = is_grpc(request.headers());
    let Some(rule) = rules::of(request.uri().path()) else {
        return crate::http::not_found(request).await;
    };
    let address = request.extensions().get::<Peer>().map(|peer| peer.address);
    let address = address.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let caller = match admit(&context, rule, &mut request, address.ip()) {
        Ok(caller) => caller,
        Err(turned_away) => {
            let (refused, who) = *turned_away;
            if refused.is_worth_a_line() {
                Line::new(rule, &Caller::new(who, None), address).close(&context, Some(&refused)).await;
            }
            return refused.into_response(grpc);
        }
    };
    request.extensions_mut().insert(caller.clone());
    if let Some(limit) = rule.body {
        request = request.map(|body| Body::new(Timely::new(body, limit)));
    }
    let line = Line::new(rule, &caller, address);
    if rule.changes {
        return changing(context, line, rule.deadline, next.run(request), grpc).await;
    }
    let mut end = ends::of(Arc::clone(&context), caller.clone()).boxed();
    let answered = tokio::select! {
        answered = within(rule.deadline, next.run(request)) => {
            answered.unwrap_or_else(|late| late.into_response(grpc))
        }
        refused = &mut end => refused.into_response(grpc),
    };
    // A stream goes on long after its head.
    let goes_on = rule.deadline.is_none() && matches!(caller.who(), Who::Token(_));
    let answered = if goes_on { answered.map(|body| ends::Until::over(body, end)) } else { answered };
    let refused = answer::refusal_of(&answered).filter(Refused::is_denial);
    // Strangers do not fill the log.
    let strange = rule.access == Access::Signed && !context.identity.limits().may_fail(address.ip());
    if (refused.is_some() && !strange) || caller.was_denied() {
        line.close(&context, refused.as_ref()).await;
    }
    answered
}

async fn within<T>(deadline: Option<Duration>, work: impl Future<Output = T>) -> Result<T, Refused> {
    let Some(deadline) = deadline else { return Ok(work.await) };
    tokio::time::timeout(deadline, work).await.map_err(|_| Refused::late(deadline))
}

/// Goes on to its end when its caller hangs up or its time is over: no change is made by half, and none without a line.
async fn changing(
    context: Arc<Context>,
    line: Line,
    deadline: Option<Duration>,
    call: impl Future<Output = Response> + Send + 'static,
    grpc: bool,
) -> Response {
    if let Err(refused) = line.open(&context).await {
        return refused.into_response(grpc);
    }
    let whole = tasks::spawn("changing-call", async move {
        let answered = call.await;
        line.close(&context, answer::refusal_of(&answered).as_ref()).await;
        answered
    });
    match within(deadline, whole).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(_)) => Refused::broken().into_response(grpc),
        Err(late) => late.into_response(grpc),
    }
}

/// The caller of a request that has passed the guard.
pub(super) fn caller<T>(request: &tonic::Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Status::internal("a call came past its guard"))
}

type Admitted = Result<Caller, Box<(Refused, Who)>>;

fn admit(context: &Context, rule: &Rule, request: &mut Request<Body>, address: IpAddr) -> Admitted {
    let (least, global) = match rule.access {
        Access::Invited if !context.identity.limits().may_knock(address) => {
            return Err(Box::new((Refused::too_many_joins(), Who::Nobody)));
        }
        Access::Open | Access::Signed | Access::Invited => return Ok(Caller::new(Who::Nobody, None)),
        Access::Agent => {
            let agent = super::link::agent(context, request.extensions(), request.headers());
            let refused = |denied: enrolment::Denied| match context.identity.limits().may_fail(address) {
                true => Box::new((denied.into(), Who::Nobody)),
                false => Box::new((Refused::too_wrong(), Who::Nobody)),
            };
            let agent = agent.map_err(refused)?;
            let who = Who::Agent(agent.agent);
            if !context.identity.limits().agent_may_call(agent.agent) {
                return Err(Box::new((Refused::agent_too_fast(agent.agent), who)));
            }
            request.extensions_mut().insert(agent);
            return Ok(Caller::new(who, None));
        }
        Access::Role(least) => (least, false),
        Access::Global(least) => (least, true),
    };
    let token = bearer(request.headers()).and_then(|text| context.identity.authenticate(text));
    let token = token.map_err(|denied| {
        let refused =
            if context.identity.limits().may_fail(address) { denied.into() } else { Refused::too_wrong() };
        Box::new((refused, Who::Nobody))
    })?;
    let who = || Who::Token(token.clone());
    if !context.identity.limits().may_call(&token.id) {
        return Err(Box::new((Refused::too_fast(&token.name), who())));
    }
    if token.role < least {
        return Err(Box::new((Refused::role(&token, least), who())));
    }
    if global && token.project.is_some() {
        return Err(Box::new((Refused::bound(&token), who())));
    }
    let asked = request.headers().get(PROJECT).map(|project| project.to_str().unwrap_or_default());
    let scope = match (token.project.as_deref(), asked.filter(|project| !project.is_empty())) {
        (Some(own), Some(asked)) if own != asked => {
            return Err(Box::new((Refused::elsewhere(&token, asked), who())));
        }
        (own, asked) => own.or(asked).map(str::to_owned),
    };
    Ok(Caller::new(who(), scope.as_deref()))
}

fn bearer(headers: &HeaderMap) -> Result<&str, Denied> {
    let value = headers.get(header::AUTHORIZATION).ok_or(Denied::Missing)?;
    let text = value.to_str().map_err(|_| Denied::NotAToken)?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(Denied::NotAToken),
    }
}

/// The refusal of a call on something of a project that is not the caller's.
pub(super) fn check_project(caller: &Caller, project: &str) -> Result<(), Status> {
    if caller.sees(project) {
        return Ok(());
    }
    let scope = caller.scope().unwrap_or_default();
    let message = format!("this call keeps to project `{scope}`, not `{project}`");
    caller.note_denial(&message);
    Err(Status::new(Code::PermissionDenied, message))
}
