//! Committed files of attempts. Only manifests are believed, never the object store's own listing.

use super::{Context, at_most, jobs::resolve, page_size, status, views};
use crate::{identity::Caller, jobs::AttemptView, results};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use longshore_common::wire;
use longshore_proto::v1;
use tonic::Status;

const URLS: usize = 1_000;
/// Addresses signed at a time; some stores sign with a call.
pub(super) const AT_ONCE: usize = 32;

pub(super) async fn list(
    context: &Context,
    caller: &Caller,
    request: v1::ListArtifactsRequest,
) -> Result<v1::ListArtifactsResponse, Status> {
    let Some(attempt) = find_attempt(context, caller, &request.job, request.attempt).await? else {
        return Ok(v1::ListArtifactsResponse::default());
    };
    let size = page_size(request.page_size, 1_000, 5_000);
    let page = context.jobs.artifacts(&attempt, request.prefix.as_bytes(), size, &request.page_token).await;
    let page = page.map_err(status::jobs)?;
    Ok(v1::ListArtifactsResponse {
        artifacts: page.items.iter().map(views::artifact).collect(),
        next_page_token: page.next.unwrap_or_default(),
        attempt: attempt.attempt.number,
    })
}

pub(super) async fn urls(
    context: &Context,
    caller: &Caller,
    request: v1::GetArtifactUrlsRequest,
) -> Result<v1::GetArtifactUrlsResponse, Status> {
    at_most("paths", request.paths.len(), URLS)?;
    let Some(attempt) = find_attempt(context, caller, &request.job, request.attempt).await? else {
        return Err(status::not_found("the job was never claimed: it has no artifacts"));
    };
    let paths: Vec<Vec<u8>> = request.paths.iter().map(|path| path.to_vec()).collect();
    let found = context.jobs.find_artifacts(&attempt, &paths).await.map_err(status::jobs)?;
    let mut keys = Vec::with_capacity(found.len());
    for (path, artifact) in paths.iter().zip(found) {
        let artifact = artifact.ok_or_else(|| {
            let path = String::from_utf8_lossy(path);
            status::not_found(format!("attempt {} has no artifact `{path}`", attempt.attempt.number))
        })?;
        keys.push(artifact.key);
    }
    Ok(v1::GetArtifactUrlsResponse { urls: sign(context, keys).await? })
}

pub(super) async fn link(
    context: &Context,
    caller: &Caller,
    request: v1::LinkResultsRequest,
) -> Result<v1::LinkResultsResponse, Status> {
    at_most("paths", request.paths.len(), URLS)?;
    let valid = request.valid.as_ref().map(|valid| wire::duration_from("valid", valid)).transpose();
    let valid = valid.map_err(status::invalid)?.unwrap_or(results::USUAL);
    if valid.is_zero() || valid > results::LONGEST {
        return Err(status::field("valid", "is not between a moment and 7 days"));
    }
    let none = || status::not_found("the job has left no files, or none yet: they are stored at its end");
    let attempt = find_attempt(context, caller, &request.job, request.attempt).await?.ok_or_else(none)?;
    let job = context.jobs.get(attempt.attempt.job).await.map_err(status::jobs)?;
    let link = results::link(&context.jobs, &context.base_url, (&job, &attempt), valid).ok_or_else(none)?;
    let paths: Vec<Vec<u8>> = request.paths.iter().map(|path| path.to_vec()).collect();
    let found = context.jobs.find_artifacts(&attempt, &paths).await.map_err(status::jobs)?;
    let mut files = Vec::with_capacity(paths.len());
    for (path, artifact) in paths.iter().zip(found) {
        if artifact.is_none() {
            let path = String::from_utf8_lossy(path);
            return Err(status::not_found(format!("the job left no file `{path}`")));
        }
        files.push(link.file(path));
    }
    Ok(v1::LinkResultsResponse { link: Some(views::result_link(link)), files })
}

/// Addresses to read from, in order.
pub(super) async fn sign(context: &Context, keys: Vec<String>) -> Result<Vec<String>, Status> {
    let valid = context.config.read_valid;
    stream::iter(keys)
        .map(|key| async move { context.blobs.get_url(&key, valid).await })
        .buffered(AT_ONCE)
        .try_collect()
        .await
        .map_err(status::blobs)
}

/// Zero is the last one. `None`: the job has no attempt yet and none was asked for.
async fn find_attempt(
    context: &Context,
    caller: &Caller,
    job: &str,
    number: u32,
) -> Result<Option<AttemptView>, Status> {
    let id = resolve(context, caller, job).await?;
    let mut attempts = context.jobs.attempts(id).await.map_err(status::jobs)?;
    if number == 0 {
        return Ok(attempts.pop());
    }
    let count = attempts.len();
    match attempts.into_iter().find(|attempt| attempt.attempt.number == number) {
        Some(attempt) => Ok(Some(attempt)),
        None => Err(status::not_found(format!("the job has {count} attempts; there is no attempt {number}"))),
    }
}
