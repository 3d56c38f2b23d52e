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
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Bodies at a time: 64 MiB.
static ROOM: Semaphore = Semaphore::const_new(256);
/// For one body, which is small.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// Anybody can send one, so there is a bound to what they take together, and to how long one takes.
async fn whole(body: Body) -> Result<Bytes, Box<Response>> {
    let Ok(_room) = ROOM.try_acquire() else {
        let again = [(header::RETRY_AFTER, "5")];
        let message = "too many deliveries at once; send it again in a moment\n";
        return Err(Box::new((StatusCode::SERVICE_UNAVAILABLE, again, message).into_response()));
    };
    let read = tokio::time::timeout(PATIENCE, Limited::new(body, MOST_PAYLOAD).collect());
    let Ok(read) = read.await else {
        let message = format!("the body did not come within {} s\n", PATIENCE.as_secs());
        return Err(Box::new((StatusCode::REQUEST_TIMEOUT, message).into_response()));
    };
    match read {
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
    let status = match firing.state() {
        FiringState::Fired | FiringState::Pending | FiringState::Skipped => StatusCode::ACCEPTED,
        FiringState::Refused => StatusCode::CONFLICT,
    };
    let body = json!({
        "trigger": trigger,
        "project": project,
        "firing": firing.id.to_string(),
        "state": firing.state().as_str(),
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
