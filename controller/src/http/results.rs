//! Serves links to results. The link is the only permission; bytes are streamed from the store.

use super::{answer_with, refuse};
use crate::{
    api::Context,
    jobs::{AttemptView, JobView},
    results::{self, ARCHIVE, FILES, Grant},
};
use axum::{
    Router,
    body::Body,
    extract::{RawQuery, State},
    response::Response,
    routing::get,
};
use http::{Request, StatusCode, header};
use longshore_common::clock::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, percent_encode};
use std::sync::Arc;

const ROOT: &str = "/results/";
/// Files on one page.
const PAGE: u32 = 1_000;

pub(super) fn routes(context: Arc<Context>) -> Router {
    Router::new().route("/results/{*link}", get(answer)).with_state(context)
}

async fn answer(
    State(context): State<Arc<Context>>,
    RawQuery(query): RawQuery,
    request: Request<Body>,
) -> Response {
    // As it came: names of files need not be text.
    let path = request.uri().path().strip_prefix(ROOT).unwrap_or_default();
    let Some((token, what)) = path.split_once('/') else {
        let whole = format!("{ROOT}{path}/");
        return answer_with(StatusCode::PERMANENT_REDIRECT)
            .header(header::LOCATION, whole)
            .body(Body::empty())
            .unwrap_or_else(|_| refuse(StatusCode::NOT_FOUND, &"nothing is here"));
    };
    let (job, attempt, expires) = match linked(&context, token).await {
        Ok(linked) => linked,
        Err(refusal) => return refusal,
    };
    match what {
        "" => folder(&context, (&job, &attempt, expires), &query.unwrap_or_default()).await,
        ARCHIVE => archive(&context, &job, attempt),
        file => match file.strip_prefix(FILES) {
            Some(path) => one(&context, &attempt, &percent_decode(path.as_bytes()).collect::<Vec<_>>()).await,
            None => refuse(StatusCode::NOT_FOUND, &"nothing is here"),
        },
    }
}

async fn linked(context: &Context, token: &str) -> Result<(JobView, AttemptView, Timestamp), Response> {
    let unsigned = "the link was not made by this controller, or was changed";
    let gone = || refuse(StatusCode::GONE, &"the job was removed, and its files with it");
    let Grant { attempt, expires } =
        Grant::open(&context.jobs, token).ok_or_else(|| refuse(StatusCode::FORBIDDEN, &unsigned))?;
    if expires < Timestamp::now() {
        let expired = "the link is over; `longshore artifacts link JOB` makes a new one";
        return Err(refuse(StatusCode::GONE, &expired));
    }
    let job = context.jobs.get(attempt.job).await.map_err(|error| match error {
        crate::jobs::Error::NotFound { .. } => gone(),
        error => failed(&error),
    })?;
    let attempts = context.jobs.attempts(attempt.job).await.map_err(|error| failed(&error))?;
    let found = attempts.into_iter().find(|known| known.attempt == attempt && known.committed);
    Ok((job, found.ok_or_else(gone)?, expires))
}

async fn folder(
    context: &Context,
    (job, attempt, expires): (&JobView, &AttemptView, Timestamp),
    query: &str,
) -> Response {
    let after = query.strip_prefix("after=").unwrap_or_default();
    match context.jobs.artifacts(attempt, b"", PAGE, after).await {
        Ok(files) => {
            let page = results::page(job, attempt, &files, expires);
            with(header::HeaderValue::from_static("text/html; charset=utf-8"), None, Body::from(page))
        }
        Err(crate::jobs::Error::PageToken) => refuse(StatusCode::BAD_REQUEST, &"there is no such page"),
        Err(error) => failed(&error),
    }
}

fn archive(context: &Context, job: &JobView, attempt: AttemptView) -> Response {
    let name = format!("{}-{}.tar", job.name, job.short_id);
    let body = Body::from_stream(results::archive(&context.jobs, &context.blobs, attempt));
    with(header::HeaderValue::from_static("application/x-tar"), Some(name.as_bytes()), body)
}

async fn one(context: &Context, attempt: &AttemptView, path: &[u8]) -> Response {
    let found = match context.jobs.find_artifacts(attempt, &[path.to_vec()]).await {
        Ok(mut found) => found.pop().flatten(),
        Err(error) => return failed(&error),
    };
    let Some(found) = found else { return refuse(StatusCode::NOT_FOUND, &"the job left no such file") };
    let size = found.entry.artifact.size;
    match results::whole(&*context.blobs, &found.key, size).await {
        Ok(bytes) => {
            let name = path.rsplit(|byte| *byte == b'/').next();
            let binary = header::HeaderValue::from_static("application/octet-stream");
            let mut response = with(binary, name, Body::from_stream(bytes));
            response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
            response
        }
        Err(error) => failed(&error),
    }
}

/// What came from a job is never run as a part of this site, and the link is told to nobody.
fn with(kind: header::HeaderValue, name: Option<&[u8]>, body: Body) -> Response {
    let mut response = answer_with(StatusCode::OK)
        .header(header::CONTENT_TYPE, kind)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::CONTENT_SECURITY_POLICY, "sandbox allow-downloads; default-src 'none'")
        .header(header::REFERRER_POLICY, "no-referrer")
        .header(header::CACHE_CONTROL, "private, no-store")
        .header("x-robots-tag", "noindex");
    if let Some(name) = name {
        let encoded = percent_encode(name, NON_ALPHANUMERIC);
        let disposition = format!("attachment; filename*=UTF-8''{encoded}");
        response = response.header(header::CONTENT_DISPOSITION, disposition);
    }
    response.body(body).expect("the parts are valid")
}

fn failed(error: &dyn std::fmt::Display) -> Response {
    tracing::warn!(%error, "a result was not read");
    refuse(StatusCode::INTERNAL_SERVER_ERROR, &"the result could not be read; try again")
}
