//! The tests' S3 server as a process of its own, for stories that kill it: `object_store FOLDER PORT`.

use longshore_tests::env::S3;
use std::{env::args, path::Path};

fn main() -> anyhow::Result<()> {
    let [folder, port] = args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|given: Vec<_>| anyhow::anyhow!("usage: object_store FOLDER PORT, not {given:?}"))?;
    S3::serve(Path::new(&folder), port.parse()?);
    Ok(())
}
