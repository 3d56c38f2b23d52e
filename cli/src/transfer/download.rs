//! A job's artifacts into a folder: verified, resumed, never outside of it.

use super::http::{self, Error};
use super::{AT_ONCE, BATCH, contained};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Progress;
use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use longshore_common::{artifact::Artifact, retry::Backoff, wire};
use longshore_proto::v1;
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tokio::io::AsyncWriteExt as _;

const TRIES: u32 = 5;

/// What came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Of them, those that were here already with the right digest.
    pub(crate) kept: u64,
}

/// All artifacts of an attempt (0: the last one) whose path begins with `prefix`.
pub(crate) async fn list(
    client: &Client,
    job: &str,
    attempt: u32,
    prefix: &str,
) -> Result<(Vec<v1::Artifact>, u32), Failure> {
    let mut request = v1::ListArtifactsRequest {
        job: job.to_owned(),
        attempt,
        prefix: prefix.to_owned(),
        page_size: 5_000,
        page_token: String::new(),
    };
    let mut artifacts = Vec::new();
    loop {
        let call = || {
            let (mut jobs, request) = (client.jobs(), request.clone());
            async move { jobs.list_artifacts(request).await }
        };
        let page = client.ask_again(call).await?;
        artifacts.extend(page.artifacts);
        // A retry between two pages must not mix two attempts.
        request.attempt = page.attempt;
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok((artifacts, page.attempt));
        }
    }
}

/// One archive into a file that has its name only when all of it came. A link that is cut is no archive.
pub(crate) async fn archive(client: &Client, url: &str, target: &Path) -> anyhow::Result<u64> {
    let unwritten = |error| Failure::usage(format!("{} cannot be written: {error}", target.display()));
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(unwritten)?;
    }
    let part = target.with_extension("tar.part");
    let http = http::client(client.ca()).context("HTTP cannot be set up")?;
    let (mut response, _) = http::get(&http, url, 0).await?;
    let written = async {
        let mut file = tokio::fs::File::create(&part).await.map_err(unwritten)?;
        let mut bytes = 0;
        while let Some(chunk) = response.chunk().await.map_err(|error| http::unreachable(&error))? {
            file.write_all(&chunk).await.map_err(unwritten)?;
            bytes += chunk.len() as u64;
        }
        file.flush().await.map_err(unwritten)?;
        fs::rename(&part, target).map_err(unwritten)?;
        anyhow::Ok(bytes)
    };
    let written = written.await;
    if written.is_err() {
        // It is made anew each time: nobody goes on with a piece of it.
        drop(fs::remove_file(&part));
    }
    written
}

/// Fetches them into `target`.
pub(crate) async fn all(
    client: &Client,
    job: &str,
    attempt: u32,
    artifacts: Vec<v1::Artifact>,
    target: &Path,
) -> anyhow::Result<Fetched> {
    fs::create_dir_all(target)
        .map_err(|error| Failure::usage(format!("{} cannot be made: {error}", target.display())))?;
    let artifacts: Vec<Artifact> = artifacts
        .into_iter()
        .map(Artifact::try_from)
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::new(format!("an artifact is refused: {error}")))?;
    let http = http::client(client.ca()).context("HTTP cannot be set up")?;
    let bytes = artifacts.iter().map(|artifact| artifact.size).sum();
    let progress = Progress::bytes("collect", bytes);
    let mut fetched = Fetched { files: artifacts.len() as u64, bytes, kept: 0 };
    for batch in artifacts.chunks(BATCH) {
        let urls = addresses(client, job, attempt, batch).await?;
        let kept: Vec<bool> = stream::iter(batch.iter().zip(urls))
            .map(|(artifact, url)| one(&http, artifact, url, target, &progress))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        fetched.kept += kept.into_iter().filter(|kept| *kept).count() as u64;
    }
    progress.clear();
    Ok(fetched)
}

async fn addresses(
    client: &Client,
    job: &str,
    attempt: u32,
    batch: &[Artifact],
) -> anyhow::Result<Vec<String>> {
    let request = v1::GetArtifactUrlsRequest {
        job: job.to_owned(),
        attempt,
        paths: batch.iter().map(|artifact| artifact.path.clone().into()).collect(),
    };
    let call = || {
        let (mut jobs, request) = (client.jobs(), request.clone());
        async move { jobs.get_artifact_urls(request).await }
    };
    let urls = client.ask_again(call).await?.urls;
    anyhow::ensure!(
        urls.len() == batch.len(),
        "the controller answered {} of {} addresses",
        urls.len(),
        batch.len()
    );
    Ok(urls)
}

/// Fetches one file; `true` if it was here already.
async fn one(
    http: &reqwest::Client,
    artifact: &Artifact,
    url: String,
    target: &Path,
    progress: &Progress,
) -> Result<bool, Failure> {
    let shown = String::from_utf8_lossy(&artifact.path).into_owned();
    let failed = |why: String| Failure::new(format!("{shown} cannot be fetched: {why}"));
    let path = contained::place(target, &artifact.path).map_err(|error| failed(error.to_string()))?;
    if is_here(&path, artifact).await {
        progress.add(artifact.size);
        return Ok(true);
    }
    let partial = partial_path(&path, artifact);
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut tries = 1;
    loop {
        match attempt(http, artifact, &url, &partial, progress).await {
            Ok(()) => break,
            Err(error) if error.is_transient() && tries < TRIES => backoff.wait().await,
            Err(error) => return Err(failed(error.to_string())),
        }
        tries += 1;
    }
    finish(&partial, &path, artifact).map_err(|error| failed(error.to_string()))?;
    Ok(false)
}

async fn is_here(path: &Path, artifact: &Artifact) -> bool {
    let same_size =
        fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == artifact.size);
    same_size
        && http::digest(path, u64::MAX).await.is_ok_and(|(hash, _)| hash.finalize()[..] == artifact.sha256)
}

/// Beside the file, named after its content, so that another run goes on with it.
fn partial_path(path: &Path, artifact: &Artifact) -> PathBuf {
    let name = format!(".longshore-{}.part", hex::encode(&artifact.sha256[..12]));
    let place = hex::encode(&Sha256::digest(&artifact.path)[..4]);
    path.with_file_name(format!("{name}.{place}"))
}

async fn attempt(
    http: &reqwest::Client,
    artifact: &Artifact,
    url: &str,
    partial: &Path,
    progress: &Progress,
) -> Result<(), Error> {
    if fs::symlink_metadata(partial).is_ok_and(|found| !found.is_file() || found.len() > artifact.size) {
        fs::remove_file(partial)?;
    }
    let (mut hash, mut length) = match http::digest(partial, artifact.size).await {
        Ok(have) => have,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (Sha256::new(), 0),
        Err(error) => return Err(error.into()),
    };
    let mut file = tokio::fs::OpenOptions::new().append(true).create(true).open(partial).await?;
    progress.add(length);
    if length < artifact.size || length == 0 {
        let (mut response, resumed) = http::get(http, url, length).await?;
        if !resumed && length > 0 {
            file.set_len(0).await?;
            progress.take_back(length);
            (hash, length) = (Sha256::new(), 0);
        }
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => {
                    progress.take_back(length);
                    // The next try reads what is here: nothing may still be on its way to the disk.
                    file.flush().await?;
                    return Err(http::unreachable(&error));
                }
            };
            file.write_all(&chunk).await?;
            hash.update(&chunk);
            length += chunk.len() as u64;
            progress.add(chunk.len() as u64);
        }
    }
    file.flush().await?;
    if length == artifact.size && hash.finalize()[..] == artifact.sha256 {
        return Ok(());
    }
    // A wrong beginning cannot be mended by what follows.
    fs::remove_file(partial)?;
    progress.take_back(length);
    Err(Error::Corrupt(length))
}

fn finish(partial: &Path, path: &Path, artifact: &Artifact) -> std::io::Result<()> {
    // The person who fetches a file may read and write it; set-uid bits stay behind.
    fs::set_permissions(partial, fs::Permissions::from_mode((artifact.mode & 0o777) | 0o600))?;
    if let Some(modified) = artifact.modified_at {
        let micros = u64::try_from(modified.as_micros()).unwrap_or(0);
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
        fs::File::options().write(true).open(partial)?.set_modified(time)?;
    }
    fs::rename(partial, path)
}

/// The digest of an artifact, shortened for people.
pub(crate) fn short_digest(artifact: &v1::Artifact) -> String {
    wire::digest("sha256", &artifact.sha256)
        .map_or_else(|_| "?".to_owned(), |digest| hex::encode(&digest[..6]))
}

#[cfg(test)]
mod tests;
