//! A local folder into an input: hash every file, put what is not stored yet, name the list.

use super::http::{self, Piece};
use super::walk::{self, LocalFile};
use super::{AT_ONCE, BATCH};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Progress, say, size};
use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use longshore_common::{
    artifact::{UploadTarget, part_size},
    units::plural,
};
use longshore_proto::v1;
use sha2::Digest as _;
use std::{collections::BTreeMap, path::Path, time::SystemTime};

/// Files of one `CreateInput` message.
const PAGE: usize = 2_000;
/// Addresses of parts that one call may ask for.
const ADDRESSES: u64 = 20_000;

#[derive(Clone, Debug)]
struct Hashed {
    file: LocalFile,
    sha256: [u8; 32],
    /// Before it was hashed.
    state: (u64, SystemTime),
}

/// Uploads `folder` and answers the input's id.
pub(crate) async fn folder(client: &Client, name: &str, folder: &Path) -> anyhow::Result<String> {
    let unreadable = |(path, error): (std::path::PathBuf, std::io::Error)| {
        Failure::usage(format!("input {name}: {} cannot be read: {error}", path.display()))
    };
    let found = walk::walk(folder).map_err(unreadable)?;
    for path in &found.skipped {
        say(format!("  input    {name}: {} is no file and is left out", path.display()));
    }
    let total: u64 = found.files.iter().map(|file| file.size).sum();
    let hashing = Progress::bytes("hash", total);
    let files: Vec<_> =
        stream::iter(found.files).map(|file| hash(file, &hashing)).buffered(AT_ONCE).try_collect().await?;
    hashing.clear();
    let stored = send(client, &files).await.with_context(|| format!("input {name}"))?;
    let already = if stored > 0 { format!("  ({stored} already stored)") } else { String::new() };
    let count = plural(files.len() as u64, "file", "files");
    say(format!("  input    {name}  {count}  {}{already}", size(total)));
    create(client, &files).await
}

async fn hash(file: LocalFile, progress: &Progress) -> Result<Hashed, Failure> {
    let read = async {
        let state = state(&file.path).await?;
        let (hash, length) = http::digest(&file.path, u64::MAX).await?;
        Ok::<_, std::io::Error>((state, hash, length))
    };
    let (state, hash, length) = read
        .await
        .map_err(|error| Failure::usage(format!("{} cannot be read: {error}", file.path.display())))?;
    progress.add(length);
    Ok(Hashed { file: LocalFile { size: length, ..file }, sha256: hash.finalize().into(), state })
}

/// Puts what is not stored yet and answers how many contents were.
async fn send(client: &Client, files: &[Hashed]) -> anyhow::Result<usize> {
    let contents: BTreeMap<[u8; 32], &Hashed> = files.iter().map(|file| (file.sha256, file)).collect();
    let all: Vec<_> = contents.values().copied().collect();
    let client_http = http::client(client.ca()).context("HTTP cannot be set up")?;
    let mut stored = 0;
    for batch in batches(&all) {
        let asked = batch
            .iter()
            .map(|file| v1::InputContent { sha256: file.sha256.to_vec().into(), size: file.file.size });
        let request = v1::UploadInputsRequest { contents: asked.collect() };
        let answer = client
            .ask_again(|| {
                let (mut jobs, request) = (client.jobs(), request.clone());
                async move { jobs.upload_inputs(request).await }
            })
            .await?;
        stored += batch.len().saturating_sub(answer.uploads.len());
        let missing: Vec<_> =
            answer.uploads.into_iter().map(|upload| target(upload, &contents)).collect::<Result<_, _>>()?;
        let progress = Progress::bytes("upload", missing.iter().map(|(file, _)| file.file.size).sum());
        let done: Vec<_> = stream::iter(missing)
            .map(|(file, target)| put(&client_http, file, target, &progress))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        progress.clear();
        complete(client, done.into_iter().flatten().collect()).await?;
    }
    Ok(stored)
}

/// As many contents as one call may ask for, by their number and by their parts.
fn batches<'a, 'b>(all: &'b [&'a Hashed]) -> Vec<&'b [&'a Hashed]> {
    let parts = |file: &Hashed| file.file.size.div_ceil(part_size(file.file.size)).max(1);
    let mut batches = Vec::new();
    let mut rest = all;
    while !rest.is_empty() {
        let mut sum = 0;
        let fits = rest.iter().take(BATCH).take_while(|file| {
            sum += parts(file);
            sum <= ADDRESSES
        });
        let (batch, more) = rest.split_at(fits.count().max(1));
        batches.push(batch);
        rest = more;
    }
    batches
}

fn target<'a>(
    upload: v1::InputUpload,
    contents: &BTreeMap<[u8; 32], &'a Hashed>,
) -> anyhow::Result<(&'a Hashed, UploadTarget)> {
    let sha256 = longshore_common::wire::digest("uploads.sha256", &upload.sha256)?;
    let file = contents.get(&sha256).context("the controller asks for a file that was not offered")?;
    let target = longshore_common::wire::required("uploads.target", upload.target)?;
    Ok((file, target.try_into()?))
}

async fn put(
    http: &reqwest::Client,
    file: &Hashed,
    target: UploadTarget,
    progress: &Progress,
) -> anyhow::Result<Option<v1::CompleteInput>> {
    let (path, size) = (&file.file.path, file.file.size);
    let failed = |error: http::Error| Failure::new(format!("{} cannot be uploaded: {error}", path.display()));
    let part = if target.upload_id.is_some() { target.part_size } else { size.max(1) };
    let mut etags = Vec::new();
    for (index, url) in target.urls.iter().enumerate() {
        let offset = part * index as u64;
        let length = part.min(size.saturating_sub(offset));
        let piece = Piece { path, offset, length };
        etags.push(http::put(http, url, piece, progress).await.map_err(failed)?);
    }
    unchanged(file).await?;
    let complete = |upload_id| v1::CompleteInput { sha256: file.sha256.to_vec().into(), upload_id, etags };
    Ok(target.upload_id.map(complete))
}

/// What was sent is what was hashed: a file that is written to meanwhile would be stored under a wrong name.
async fn unchanged(file: &Hashed) -> anyhow::Result<()> {
    if state(&file.file.path).await? == file.state {
        return Ok(());
    }
    let message = format!("{} changed while it was uploaded; try again", file.file.path.display());
    Err(Failure::usage(message).into())
}

/// Length and time of the last change.
async fn state(path: &Path) -> std::io::Result<(u64, SystemTime)> {
    let metadata = tokio::fs::metadata(path).await?;
    Ok((metadata.len(), metadata.modified()?))
}

async fn complete(client: &Client, uploads: Vec<v1::CompleteInput>) -> Result<(), Failure> {
    if uploads.is_empty() {
        return Ok(());
    }
    let request = v1::CompleteInputsRequest { uploads };
    let call = || {
        let (mut jobs, request) = (client.jobs(), request.clone());
        async move { jobs.complete_inputs(request).await }
    };
    client.ask_again(call).await.map(drop)
}

async fn create(client: &Client, files: &[Hashed]) -> anyhow::Result<String> {
    let entry = |file: &Hashed| v1::InputFile {
        path: file.file.name.clone().into(),
        size: file.file.size,
        sha256: file.sha256.to_vec().into(),
        mode: file.file.mode,
    };
    let mut pages: Vec<_> = files
        .chunks(PAGE)
        .map(|page| v1::CreateInputRequest { files: page.iter().map(entry).collect() })
        .collect();
    if pages.is_empty() {
        // An empty folder is an input too.
        pages.push(v1::CreateInputRequest::default());
    }
    let call = || {
        let (mut jobs, pages) = (client.jobs(), pages.clone());
        async move { jobs.create_input(stream::iter(pages)).await }
    };
    Ok(client.ask_again(call).await?.id)
}
