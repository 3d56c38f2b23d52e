//! Committed files of attempts. Only manifests are believed, never the object store's own listing.

use super::{Context, at_most, jobs::resolve, page_size, status, views};
use crate::{identity::Caller, jobs::AttemptView};
use futures::{StreamExt as _, TryStreamExt as _, stream};
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
