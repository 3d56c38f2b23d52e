//! A folder as a source: its files, by their paths below it. No link is followed. Blocks.

use super::Object;
use longshore_common::clock::Timestamp;
use std::{
    fs, io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// Folders within folders.
const DEEPEST: usize = 64;

/// `None`: there are more than `most`.
pub(super) fn list(folder: &Path, prefix: &str, most: usize) -> Result<Option<Vec<Object>>, String> {
    let failed = |error: io::Error| format!("the folder {} cannot be read: {error}", folder.display());
    let mut all = Vec::new();
    let mut folders = vec![(folder.to_owned(), String::new(), 0)];
    while let Some((path, key, depth)) = folders.pop() {
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            // It went while others were looked at.
            Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            // Only names that are text can be told to a job.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let key = format!("{key}{name}");
            let Ok(kind) = entry.file_type() else { continue };
            let below = format!("{key}/");
            if kind.is_dir() && depth < DEEPEST && (below.starts_with(prefix) || prefix.starts_with(&below)) {
                folders.push((entry.path(), below, depth + 1));
            } else if kind.is_file() && key.starts_with(prefix) {
                let Ok(metadata) = entry.metadata() else { continue };
                if all.len() >= most {
                    return Ok(None);
                }
                let modified = metadata.modified().ok().and_then(micros);
                all.push(Object { key, size: metadata.len(), etag: String::new(), modified });
            }
        }
    }
    all.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Some(all))
}

fn micros(time: SystemTime) -> Option<Timestamp> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_micros()).ok().map(Timestamp::from_micros)
}
