//! Plain HTTP beside gRPC on the one port: signed bytes, health, metrics. Must never answer with more than its
//! caller may see: everything here is readable without a token or carries its own signature.

pub mod bytes;
mod hooks;
mod metrics;
mod patience;
pub mod peer;
mod results;
mod serve;
pub(crate) mod timely;

pub use serve::{Config, serve};

use crate::{
    api::{self, Context},
    blobs::Directory,
};
use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{Request, StatusCode, header};
use std::sync::Arc;

/// Everything that is not gRPC.
pub fn routes(context: Arc<Context>, directory: Option<Directory>) -> Router {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::metrics))
        .with_state(Arc::clone(&context))
        .merge(results::routes(Arc::clone(&context)))
        .merge(hooks::routes(context));
    match directory {
        Some(directory) => router.merge(bytes::routes(directory)),
        None => router,
    }
}

/// One line of text.
fn refuse(status: StatusCode, why: &dyn std::fmt::Display) -> Response {
    answer_with(status)
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .body(Body::from(format!("{why}\n")))
        .expect("the parts are valid")
}

fn answer_with(status: StatusCode) -> http::response::Builder {
    Response::builder().status(status)
}

/// Whether jobs would be taken: database and disk, not what comes back by itself while jobs wait.
async fn ready(State(context): State<Arc<Context>>) -> Response {
    let parts = api::parts(&context).await;
    let ill = |name: &str| parts.iter().any(|part| part.name == name && !part.healthy);
    let status = if context.shutdown.is_triggered() || ill("database") || ill("disk") {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    // Names alone: paths and addresses are for those who log in.
    let line = |part: &longshore_proto::v1::Part| {
        format!("{} {}\n", if part.healthy { "ok" } else { "ill" }, part.name)
    };
    (status, parts.iter().map(line).collect::<String>()).into_response()
}

/// What no route takes: gRPC callers and people are told in their own way.
pub async fn not_found(request: Request<Body>) -> Response {
    if api::auth::is_grpc(request.headers()) {
        let method = request.uri().path();
        return tonic::Status::unimplemented(format!("this controller has no method {method}")).into_http();
    }
    (StatusCode::NOT_FOUND, "nothing is here; try /healthz, /readyz or /metrics\n").into_response()
}
