//! Artifacts are the bytes the program wrote: listed so, and stored so.

use crate::{client::Client, stream::Accepted};
use anyhow::{Context as _, ensure};
use longshore_proto::v1::Artifact;
use sha2::{Digest as _, Sha256};

/// What is wrong with the files of a job that ran to its end.
pub(super) async fn wrong(client: &Client, http: &reqwest::Client, accepted: &Accepted) -> Option<String> {
    compare(client, http, accepted).await.err().map(|error| format!("{error:#}"))
}

async fn compare(client: &Client, http: &reqwest::Client, accepted: &Accepted) -> anyhow::Result<()> {
    let stored = client.files(&accepted.uuid).await?;
    let names: Vec<_> =
        stored.iter().map(|(file, _)| String::from_utf8_lossy(&file.path).into_owned()).collect();
    let mut wanted: Vec<_> = accepted.order.files.iter().map(|file| file.name.clone()).collect();
    wanted.sort_unstable();
    ensure!(names == wanted, "files {names:?} instead of {wanted:?}");
    for (file, url) in stored {
        let name = String::from_utf8_lossy(&file.path).into_owned();
        let wanted =
            accepted.order.files.iter().find(|wanted| wanted.name == name).context("it was just compared")?;
        ensure!(
            file.sha256 == wanted.sha256 && file.size == wanted.size,
            "{name} is listed with another digest"
        );
        bytes(http, &file, &url).await.with_context(|| name.clone())?;
    }
    Ok(())
}

async fn bytes(http: &reqwest::Client, file: &Artifact, url: &str) -> anyhow::Result<()> {
    let answer = http.get(url).send().await?.error_for_status()?;
    let bytes = answer.bytes().await?;
    ensure!(Sha256::digest(&bytes).as_slice() == file.sha256, "what is stored has another digest");
    Ok(())
}
