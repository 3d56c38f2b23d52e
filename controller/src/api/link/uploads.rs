//! Where an attempt puts its files. What is uploaded counts only when a manifest names it.

use super::{Caller, Context, at_most, live, status};
use crate::{
    api::artifacts::AT_ONCE,
    blobs,
    jobs::{LiveAttempt, object_key},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use longshore_common::job::spec::MOST_FILES;
use longshore_proto::v1;
use tonic::Status;

const FILES: usize = 500;

pub(super) async fn open(
    context: &Context,
    caller: &Caller,
    request: v1::OpenUploadsRequest,
) -> Result<v1::OpenUploadsResponse, Status> {
    at_most("files", request.files.len(), FILES)?;
    let LiveAttempt { attempt, nonce, .. } = live(context, caller, request.r#ref)?;
    if request.files.iter().any(|file| file.ordinal >= MOST_FILES) {
        return Err(status::field("files", format!("an ordinal is not below {MOST_FILES}")));
    }
    let ordinals = request.files.iter().map(|file| file.ordinal);
    context.jobs.open_uploads(attempt, ordinals).await.map_err(status::jobs)?;
    let valid = context.config.write_valid;
    let files = request.files.into_iter().map(|file| (object_key(&nonce, file.ordinal), file));
    let targets = stream::iter(files)
        .map(|(key, file)| async move {
            if !file.given_up.is_empty() {
                give_up(context, &key, &file.given_up).await?;
            }
            context.blobs.open_upload(&key, file.size, valid).await
        })
        .buffered(AT_ONCE)
        .map_ok(v1::UploadTarget::from)
        .try_collect()
        .await
        .map_err(status::blobs)?;
    Ok(v1::OpenUploadsResponse { targets })
}

/// What the store will not hear of is gone, or goes with the attempt.
async fn give_up(context: &Context, key: &str, upload: &str) -> Result<(), blobs::Error> {
    match context.blobs.abort_upload(key, upload).await {
        Err(error) if !error.is_transient() => {
            tracing::debug!(%error, "an upload that was given up is left to the store");
            Ok(())
        }
        done => done,
    }
}

/// A store that was killed, or that cleans up, may know an upload no more: the agent then begins a new one.
fn refused(error: blobs::Error) -> Status {
    if error.is_transient() { status::blobs(error) } else { Status::not_found(error.to_string()) }
}

pub(super) async fn complete(
    context: &Context,
    caller: &Caller,
    request: v1::CompleteUploadsRequest,
) -> Result<v1::CompleteUploadsResponse, Status> {
    at_most("uploads", request.uploads.len(), FILES)?;
    let nonce = live(context, caller, request.r#ref)?.nonce;
    let uploads = request.uploads.into_iter().map(|upload| (object_key(&nonce, upload.ordinal), upload));
    stream::iter(uploads)
        .map(|(key, upload)| async move {
            context.blobs.complete_upload(&key, &upload.upload_id, &upload.etags).await
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
        .map_err(refused)?;
    Ok(v1::CompleteUploadsResponse {})
}
