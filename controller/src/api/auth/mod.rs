//! Before and after every call, gRPC or HTTP: who makes it, whether they may, how fast, for how long, and a line in the
//! audit log. Handlers find the [`Caller`] in the request.

mod answer;
pub mod rules;

pub(crate) use answer::is_grpc;

use super::Context;
use crate::{
    enrolment,
    http::peer::Peer,
    identity::{Caller, Denied, Who},
    store::AuditRow,
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
use longshore_common::{clock::Timestamp, wire::PROJECT};
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
                note(&context, rule, &Caller::new(who, None), address, Some(&refused)).await;
            }
            return refused.into_response(grpc);
        }
    };
    request.extensions_mut().insert(caller.clone());
    let answered = match rule.deadline {
        None => next.run(request).await,
        Some(deadline) => match tokio::time::timeout(deadline, next.run(request)).await {
            Ok(answered) => answered,
            Err(_) => Refused::late(deadline).into_response(grpc),
        },
    };
    let refused = answer::refusal_of(&answered);
    let denied = refused.as_ref().is_some_and(Refused::is_denial);
    if rule.changes || denied {
        note(&context, rule, &caller, address, refused.as_ref()).await;
    }
    answered
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

/// Written before the answer goes out.
async fn note(context: &Context, rule: &Rule, caller: &Caller, from: SocketAddr, refused: Option<&Refused>) {
    let note = caller.note();
    let line = AuditRow {
        id: *uuid::Uuid::now_v7().as_bytes(),
        at: Timestamp::now(),
        actor: caller.who().to_string(),
        address: from.ip().to_string(),
        action: rule.path.trim_start_matches('/').to_owned(),
        project: note.project,
        targets: note.targets,
        target_count: note.count,
        result: refused.map_or("ok", Refused::code_name).to_owned(),
        message: refused.map(|refused| refused.message().to_owned()).unwrap_or_default(),
    };
    if let Err(error) = context.jobs.audit(line).await {
        tracing::error!(%error, action = rule.path, actor = %caller.who(), "the audit log has a gap");
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
