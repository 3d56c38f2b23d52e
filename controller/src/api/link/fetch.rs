//! An attempt's inputs as addresses to fetch, in pages.

use super::{Caller, Context, live, status};
use crate::{
    api::artifacts::sign,
    blobs::content_key,
    jobs::{InputFile, StoredArtifact},
};
use longshore_common::job::Input;
use longshore_proto::v1;
use tonic::Status;

const PAGE: u32 = 500;

pub(super) async fn fetch(
    context: &Context,
    caller: &Caller,
    request: v1::FetchInputRequest,
) -> Result<v1::FetchInputResponse, Status> {
    let attempt = live(context, caller, request.r#ref)?.attempt;
    let job = context.jobs.get(attempt.job).await.map_err(status::jobs)?;
    let Some(input) = job.spec.inputs.get(&request.name) else {
        return Err(status::not_found(format!("job {} has no input `{}`", job.short_id, request.name)));
    };
    match input {
        Input::Uploaded { id } => uploaded(context, &job.project, id, &request.page_token).await,
        Input::Job { job: from, path } => {
            outputs(context, &job.project, from, path, &request.page_token).await
        }
        // Its agent has it.
        Input::Share(_) => Ok(v1::FetchInputResponse::default()),
        Input::Url { url } if input.is_object() => {
            let signed = context.triggers.sources().sign(url, &job.project, context.config.read_valid);
            let signed = signed.map_err(status::not_found)?;
            Ok(one(file_name(url), signed))
        }
        Input::Url { url } => Ok(one(file_name(url), url.clone())),
    }
}

fn one(name: &str, url: String) -> v1::FetchInputResponse {
    let file = v1::FetchFile { path: name.to_owned().into(), mode: 0o644, url, ..v1::FetchFile::default() };
    v1::FetchInputResponse { files: vec![file], next_page_token: String::new() }
}

async fn uploaded(
    context: &Context,
    project: &str,
    id: &str,
    token: &str,
) -> Result<v1::FetchInputResponse, Status> {
    let page = context.jobs.input_files(project, id, PAGE, token).await.map_err(status::jobs)?;
    let urls =
        sign(context, page.items.iter().map(|file| content_key(project, &file.sha256)).collect()).await?;
    let file = |(file, url): (InputFile, String)| v1::FetchFile {
        path: file.path.into(),
        size: file.size,
        sha256: file.sha256.to_vec().into(),
        mode: file.mode,
        url,
    };
    Ok(v1::FetchInputResponse {
        files: page.items.into_iter().zip(urls).map(file).collect(),
        next_page_token: page.next.unwrap_or_default(),
    })
}

/// The committed files of another job's last attempt: all, one folder's content, or one file.
async fn outputs(
    context: &Context,
    project: &str,
    job: &str,
    path: &str,
    token: &str,
) -> Result<v1::FetchInputResponse, Status> {
    let id = context.jobs.resolve(job, Some(project)).await.map_err(status::resolve)?;
    let attempts = context.jobs.attempts(id).await.map_err(status::jobs)?;
    let Some(attempt) = attempts.iter().rev().find(|attempt| attempt.committed) else {
        return Err(status::not_found(format!("job {job} has no outputs: none of its attempts stored any")));
    };
    let path = path.trim_matches('/').as_bytes();
    let page = context.jobs.artifacts(attempt, path, PAGE, token).await.map_err(status::jobs)?;
    let (named, keys): (Vec<_>, Vec<_>) = page
        .items
        .into_iter()
        .filter_map(|stored| {
            let name = below(path, &stored.entry.artifact.path)?.to_vec();
            let key = stored.key.clone();
            Some(((name, stored), key))
        })
        .unzip();
    let urls = sign(context, keys).await?;
    let file = |((name, stored), url): ((Vec<u8>, StoredArtifact), String)| v1::FetchFile {
        path: name.into(),
        size: stored.entry.artifact.size,
        sha256: stored.entry.artifact.sha256.to_vec().into(),
        mode: stored.entry.artifact.mode,
        url,
    };
    Ok(v1::FetchInputResponse {
        files: named.into_iter().zip(urls).map(file).collect(),
        next_page_token: page.next.unwrap_or_default(),
    })
}

/// The name a file gets in the input: relative to the folder asked for, or its last part if it is the file itself.
fn below<'a>(folder: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    if folder.is_empty() {
        return Some(path);
    }
    match path.strip_prefix(folder)? {
        [] => path.rsplit(|b| *b == b'/').next(),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// The last part of an address's path.
fn file_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let name =
        path.split_once("://").map_or("", |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
    match name.rsplit('/').next() {
        Some(name) if !name.is_empty() && name != "." && name != ".." => name,
        _ => "download",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_below_the_folder_asked_for() {
        for (folder, path, name) in [
            ("", "a/b", Some("a/b")),
            ("ckpt", "ckpt/1/w.bin", Some("1/w.bin")),
            ("ckpt", "ckpt2/w.bin", None),
            ("ckpt/w.bin", "ckpt/w.bin", Some("w.bin")),
            ("b", "a/b", None),
        ] {
            let found = below(folder.as_bytes(), path.as_bytes());
            assert_eq!(found, name.map(str::as_bytes), "{folder} {path}");
        }
    }

    #[test]
    fn an_address_names_its_file() {
        for (url, name) in [
            ("https://x.org/data/scan.nii.gz?sig=a/b", "scan.nii.gz"),
            ("https://x.org", "download"),
            ("https://x.org/", "download"),
            ("https://x.org/a/..", "download"),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }
}
