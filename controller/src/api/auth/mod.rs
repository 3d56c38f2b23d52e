//! Before and after every call, gRPC or HTTP: who makes it, whether they may, how fast, for how long, and a line in the
//! audit log. Handlers find the [`Caller`] in the request.

mod answer;
mod line;
pub mod rules;

pub(crate) use answer::is_grpc;

use super::Context;
use crate::{
    enrolment,
    http::peer::Peer,
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
use http::{HeaderMap, header};
use line::Line;
use longshore_common::{tasks, wire::PROJECT};
use rules::{Access, Rule};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
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
    let line = Line::new(rule, &caller, address);
    let call = bounded(rule, request, next, grpc);
    if rule.changes {
        return changing(context, line, call, grpc).await;
    }
    let answered = call.await;
    if let Some(refused) = answer::refusal_of(&answered).filter(Refused::is_denial) {
        line.close(&context, Some(&refused)).await;
    }
    answered
}

async fn bounded(rule: &'static Rule, request: Request<Body>, next: Next, grpc: bool) -> Response {
    let Some(deadline) = rule.deadline else { return next.run(request).await };
    let answered = tokio::time::timeout(deadline, next.run(request)).await;
    answered.unwrap_or_else(|_| Refused::late(deadline).into_response(grpc))
}

/// Goes on to its end when its caller hangs up: nobody may change something and leave no line.
async fn changing(
    context: Arc<Context>,
    line: Line,
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
    whole.await.unwrap_or_else(|_| Refused::broken().into_response(grpc))
}

/// The caller of a request that has passed the guard.
pub(super) fn caller<T>(request: &tonic::Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Status::internal("a call came past its guard"))
}

type Admitted = Result<Caller, Box<(Refused, Who)>>;

fn admit(context: &Context, rule: &Rule, request: &mut Request<Body>, address: IpAddr) -> Admitted {
    let (least, global) = match rule.access {
        Access::Open | Access::Signed | Access::Invited => return Ok(Caller::new(Who::Nobody, None)),
        Access::Agent => {
            let agent = super::link::agent(context, request.extensions(), request.headers());
            let refused = |denied: enrolment::Denied| match context.identity.limits().may_fail(address) {
                true => Box::new((denied.into(), Who::Nobody)),
                false => Box::new((Refused::too_wrong(), Who::Nobody)),
            };
            let agent = agent.map_err(refused)?;
            let who = Who::Agent(agent.agent);
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
    Err(Status::new(Code::PermissionDenied, format!("this call keeps to project `{scope}`, not `{project}`")))
}
