//! Sources of inputs as one text, in flags and tables: `DIR`, `job:ID/path`, `share:NAME/path[:rw]`, `https://…`.

use crate::job::{Input, ShareInput};
use std::path::PathBuf;

/// Where an input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Ready(Input),
    /// To be uploaded.
    Folder(PathBuf),
}

/// What the text means, or why it means nothing. The disk is not asked.
pub fn source(text: &str) -> Result<Source, String> {
    if let Some(rest) = text.strip_prefix("job:") {
        let (job, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (job, path) = (job.to_owned(), path.to_owned());
        return Ok(Source::Ready(Input::Job { job, path }));
    }
    if text.starts_with("https://") {
        return Ok(Source::Ready(Input::Url { url: text.to_owned() }));
    }
    if let Some(rest) = text.strip_prefix("share:") {
        let (rest, writable) = rest.strip_suffix(":rw").map_or((rest, false), |rest| (rest, true));
        let (share, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (share, path) = (share.to_owned(), path.to_owned());
        return Ok(Source::Ready(Input::Share(ShareInput { share, path, writable })));
    }
    match ["s3://", "http://"].into_iter().find(|scheme| text.starts_with(scheme)) {
        Some(scheme) => Err(format!(
            "`{text}`: {scheme} is not available in this version; DIR, job:ID/path, share:NAME/path and https:// are"
        )),
        None => Ok(Source::Folder(PathBuf::from(text))),
    }
}
