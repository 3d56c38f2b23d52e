//! Files of keys: written whole or not at all, for their owner alone.

use super::Error;
use longshore_common::durable;
use std::{fs, os::unix::fs::DirBuilderExt as _, path::Path};

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::File { path: path.to_owned(), error })
}

pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let failed = |error| Error::File { path: path.to_owned(), error };
    let folder = path.parent().expect("a file in the data directory");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    durable::replace_private(path, content).map_err(failed)
}
