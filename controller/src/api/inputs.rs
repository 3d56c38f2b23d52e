//! Inputs that clients bring: contents first, each stored once under its digest, then the list of files.

use super::{Context, access, artifacts::AT_ONCE, at_most, status};
use crate::{
    blobs::content_key,
    identity::{Caller, DEFAULT_PROJECT},
    jobs::InputFile,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use longshore_common::{
    artifact::{is_contained, part_size},
    fields::FieldErrors,
    wire,
};
use longshore_proto::v1;
use std::collections::BTreeMap;
use tonic::{Status, Streaming};

const CONTENTS: usize = 1_000;
/// Signed addresses of one answer: two terabytes and something.
const ADDRESSES: u64 = 20_000;
/// More names than that are a mistake, and would have to be held in memory.
const FILES: usize = 1_000_000;

pub(super) async fn upload(
    context: &Context,
    caller: &Caller,
    request: v1::UploadInputsRequest,
) -> Result<v1::UploadInputsResponse, Status> {
    at_most("contents", request.contents.len(), CONTENTS)?;
    context.disk.check()?;
    let project = project_of(caller);
    let mut wanted = BTreeMap::new();
    let mut errors = FieldErrors::new();
    for content in request.contents {
        if let Some(sha256) = errors.take(wire::digest("contents.sha256", &content.sha256)) {
            wanted.insert(sha256, content.size);
        }
    }
    let wanted = errors.into_result(wanted).map_err(status::invalid)?;
    access::project(context, caller, project)?;
    caller.touches_project(project);
    let missing: Vec<Option<([u8; 32], u64)>> = stream::iter(wanted)
        .map(|(sha256, size)| missing(context, project, sha256, size))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let missing: BTreeMap<[u8; 32], u64> = missing.into_iter().flatten().collect();
    let sum = |of: fn(u64) -> u64| missing.values().fold(0, |sum: u64, size| sum.saturating_add(of(*size)));
    let addresses = sum(parts);
    if addresses > ADDRESSES {
        let text = format!("take {addresses} addresses; send fewer in one call: at most {ADDRESSES}");
        return Err(status::field("contents", text));
    }
    context.jobs.check_storage(project, sum(|size| size)).await.map_err(status::jobs)?;
    // Noted first: nothing that comes and is never listed stays for ever.
    context.jobs.open_contents(project, missing.clone()).await.map_err(status::jobs)?;
    let uploads = stream::iter(missing)
        .map(|(sha256, size)| open(context, project, sha256, size))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(v1::UploadInputsResponse { uploads })
}

/// Addresses of one content.
fn parts(size: u64) -> u64 {
    size.div_ceil(part_size(size)).max(1)
}

/// `None`: it is stored already.
async fn missing(
    context: &Context,
    project: &str,
    sha256: [u8; 32],
    size: u64,
) -> Result<Option<([u8; 32], u64)>, Status> {
    let stored = context.blobs.size(&content_key(project, &sha256)).await.map_err(status::blobs)?;
    Ok((stored != Some(size)).then_some((sha256, size)))
}

async fn open(
    context: &Context,
    project: &str,
    sha256: [u8; 32],
    size: u64,
) -> Result<v1::InputUpload, Status> {
    let key = content_key(project, &sha256);
    let target = context.blobs.open_upload(&key, size, context.config.write_valid).await;
    let target = Some(target.map_err(status::blobs)?.into());
    Ok(v1::InputUpload { sha256: sha256.to_vec().into(), target })
}

pub(super) async fn complete(
    context: &Context,
    caller: &Caller,
    request: v1::CompleteInputsRequest,
) -> Result<v1::CompleteInputsResponse, Status> {
    at_most("uploads", request.uploads.len(), CONTENTS)?;
    let project = project_of(caller);
    for upload in request.uploads {
        let sha256 = wire::digest("uploads.sha256", &upload.sha256).map_err(status::invalid)?;
        let key = content_key(project, &sha256);
        let completed = context.blobs.complete_upload(&key, &upload.upload_id, &upload.etags).await;
        completed.map_err(status::blobs)?;
    }
    Ok(v1::CompleteInputsResponse {})
}

pub(super) async fn create(
    context: &Context,
    caller: &Caller,
    mut requests: Streaming<v1::CreateInputRequest>,
) -> Result<v1::CreateInputResponse, Status> {
    context.disk.check()?;
    let mut files = BTreeMap::new();
    while let Some(request) = requests.message().await? {
        for file in request.files {
            let file = read(&file)?;
            if let Some(twice) = files.insert(file.path.clone(), file) {
                let path = String::from_utf8_lossy(&twice.path);
                return Err(status::field("files.path", format!("`{path}` is named twice")));
            }
        }
        at_most("files", files.len(), FILES)?;
    }
    let files: Vec<InputFile> = files.into_values().collect();
    let project = project_of(caller);
    access::project(context, caller, project)?;
    check_stored(context, project, &files).await?;
    let created = context.jobs.create_input(project, files).await.map_err(status::jobs)?;
    caller.touches_project(project);
    caller.touches(&created.id);
    Ok(v1::CreateInputResponse { id: created.id, files: created.files, bytes: created.bytes })
}

/// Inputs have no field of their own for it: the call keeps to one project, or it is the usual one.
fn project_of(caller: &Caller) -> &str {
    caller.scope().unwrap_or(DEFAULT_PROJECT)
}

fn read(file: &v1::InputFile) -> Result<InputFile, Status> {
    if !is_contained(&file.path) {
        let path = String::from_utf8_lossy(&file.path);
        return Err(status::field("files.path", format!("`{path}` does not stay inside its folder")));
    }
    let sha256 = wire::digest("files.sha256", &file.sha256).map_err(status::invalid)?;
    Ok(InputFile { path: file.path.to_vec(), size: file.size, sha256, mode: file.mode & 0o7777 })
}

/// An input exists when all its bytes do.
async fn check_stored(context: &Context, project: &str, files: &[InputFile]) -> Result<(), Status> {
    let distinct: BTreeMap<[u8; 32], (u64, Vec<u8>)> =
        files.iter().map(|file| (file.sha256, (file.size, file.path.clone()))).collect();
    stream::iter(distinct)
        .map(|(sha256, (size, path))| check_content(context, project, sha256, size, path))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn check_content(
    context: &Context,
    project: &str,
    sha256: [u8; 32],
    size: u64,
    path: Vec<u8>,
) -> Result<(), Status> {
    if context.blobs.size(&content_key(project, &sha256)).await.map_err(status::blobs)? == Some(size) {
        return Ok(());
    }
    let path = String::from_utf8_lossy(&path);
    Err(status::field("files.sha256", format!("the content of `{path}` is not stored; upload it first")))
}
