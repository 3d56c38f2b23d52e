//! Multipart uploads of the directory store: a folder each, with the object's bytes in their places, a mark per
//! stored part and what was asked for. Completing is checking the marks and a rename.

use super::{
    Error, digest_of_key,
    directory::{Inner, gone_is_fine, io_error, random_name},
    writer,
};
use longshore_common::artifact::part_size;
use serde::{Deserialize, Serialize};
use std::{fs, io, path::Path, time::Duration};

/// Uploads that got no part for this long are removed when another one is opened.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What is remembered of an open multipart upload.
#[derive(Serialize, Deserialize)]
struct Upload {
    key: String,
    parts: u32,
}

impl Inner {
    pub(super) fn open_multipart(&self, key: &str, size: u64) -> io::Result<(String, u32)> {
        let parts = u32::try_from(size.div_ceil(part_size(size))).map_err(io::Error::other)?;
        remove_abandoned(&self.uploads)?;
        let id = random_name();
        let folder = self.uploads.join(&id);
        fs::create_dir(&folder)?;
        fs::File::create(folder.join("data"))?.set_len(size)?;
        let upload = serde_json::to_vec(&Upload { key: key.to_owned(), parts })?;
        fs::write(folder.join("upload.json"), upload)?;
        Ok((id, parts))
    }

    pub(super) fn complete(&self, key: &str, id: &str, etags: &[String]) -> Result<(), Error> {
        let unknown = || Error::Refused(format!("there is no open upload {id} of {key}"));
        let folder = self.upload(id).ok_or_else(unknown)?;
        let target = self.object(key);
        let Ok(upload) = fs::read(folder.join("upload.json")) else {
            // A repeat of a call whose answer was lost.
            return if target.exists() { Ok(()) } else { Err(unknown()) };
        };
        let upload: Upload = serde_json::from_slice(&upload).map_err(|_| unknown())?;
        if upload.key != key {
            return Err(unknown());
        }
        if etags.len() != upload.parts as usize {
            return Err(Error::Refused(format!(
                "upload {id} has {} parts, {} ETags were given",
                upload.parts,
                etags.len()
            )));
        }
        for (part, etag) in (1_u32..).zip(etags) {
            let stored = fs::read_to_string(folder.join(format!("{part}.etag"))).ok();
            if stored.as_deref() != Some(etag.trim_matches('"')) {
                return Err(Error::Refused(format!(
                    "part {part} of upload {id} is missing or has another ETag"
                )));
            }
        }
        let data = folder.join("data");
        if !data.exists() && target.exists() {
            // It has its name already: only the clearing up was cut short.
            return remove_upload(&folder);
        }
        if let Some(expected) = digest_of_key(key) {
            let got = writer::digest_file(&data).map_err(io_error)?;
            writer::check_digest(Some(expected), || got)
                .map_err(|error| Error::Refused(error.to_string()))?;
        }
        match writer::publish(&data, &target) {
            // A repeat of this call was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound && target.exists() => {}
            published => published.map_err(io_error)?,
        }
        remove_upload(&folder)
    }
}

fn remove_upload(folder: &Path) -> Result<(), Error> {
    fs::remove_dir_all(folder).or_else(gone_is_fine).map_err(io_error)
}

fn remove_abandoned(uploads: &Path) -> io::Result<()> {
    for entry in fs::read_dir(uploads)? {
        let entry = entry?;
        // Every stored part makes a mark in the folder. One that is just being completed or aborted is gone.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.modified()?.elapsed().unwrap_or_default() > ABANDONED_AFTER {
            fs::remove_dir_all(entry.path()).or_else(gone_is_fine)?;
        }
    }
    Ok(())
}
