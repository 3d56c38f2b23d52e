//! `POST /hooks/<id>`: signed calls that start jobs. Reads the request and says the answer; who may is `triggers`'.

use crate::{
    api::Context,
    store::FiringState,
    triggers::{Answer, Delivery, Denied, Error, GITHUB, LONGSHORE},
};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    response::{IntoResponse as _, Response},
    routing::post,
};
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use longshore_common::trigger::MOST_PAYLOAD;
use serde_json::json;
use std::sync::Arc;

pub(super) fn routes(context: Arc<Context>) -> Router {
    Router::new().route("/hooks/{hook}", post(called)).with_state(context)
}

async fn called(
    State(context): State<Arc<Context>>,
    Path(hook): Path<String>,
    request: Request<Body>,
) -> Response {
    let (head, body) = request.into_parts();
    let body = match whole(body).await {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    let text = |name: &str| text(&head.headers, name);
    let call = Delivery { hook: &hook, longshore: text(LONGSHORE), github: text(GITHUB), body: &body };
    match context.triggers.deliver(call).await {
        Ok(answer) => answered(&answer),
        Err(denied) => refused(&denied),
    }
}

async fn whole(body: Body) -> Result<Bytes, Box<Response>> {
    match Limited::new(body, MOST_PAYLOAD).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the body is larger than {} KiB\n", MOST_PAYLOAD >> 10);
            Err(Box::new((StatusCode::PAYLOAD_TOO_LARGE, message).into_response()))
        }
        Err(_) => Err(Box::new((StatusCode::BAD_REQUEST, "the body broke off\n").into_response())),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn answered(Answer { trigger, project, firing, again }: &Answer) -> Response {
    let (status, state) = match firing.state() {
        FiringState::Fired => (StatusCode::ACCEPTED, "fired"),
        FiringState::Pending => (StatusCode::ACCEPTED, "pending"),
        FiringState::Skipped => (StatusCode::ACCEPTED, "skipped"),
        FiringState::Refused => (StatusCode::CONFLICT, "refused"),
    };
    let body = json!({
        "trigger": trigger,
        "project": project,
        "firing": firing.id.to_string(),
        "state": state,
        "job": firing.job.as_ref().map(ToString::to_string),
        "reason": firing.reason,
        "again": again,
    });
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

fn refused(denied: &Denied) -> Response {
    let message = format!("{denied}\n");
    match denied {
        Denied::Signature => (StatusCode::UNAUTHORIZED, message).into_response(),
        Denied::Disabled => (StatusCode::CONFLICT, message).into_response(),
        Denied::TooMany(_) => {
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "60")], message).into_response()
        }
        Denied::Failed(error) if error.is_transient() => unavailable(error),
        Denied::Failed(error) => {
            tracing::error!(%error, "a webhook's delivery was not taken");
            (StatusCode::INTERNAL_SERVER_ERROR, "the delivery was not taken; the controller's log says why\n")
                .into_response()
        }
    }
}

fn unavailable(error: &Error) -> Response {
    tracing::warn!(%error, "a webhook's delivery is not taken now");
    let again = [(header::RETRY_AFTER, "5")];
    (StatusCode::SERVICE_UNAVAILABLE, again, "not now; send it again in a moment\n").into_response()
}
