//! Takes an image off the node, never by force: what anything else needs stays. Never chooses which.

use super::engine::{Client, Engine, status};
use crate::runtime::{Error, ImageId, Removal};
use bollard::{models::ImageInspect, query_parameters::RemoveImageOptions};
use std::collections::BTreeSet;

/// First the names we gave it, then the image itself, unless somebody else has a name for it.
pub(super) async fn image(
    engine: &Engine,
    image: &ImageId,
    names: &BTreeSet<String>,
) -> Result<Removal, Error> {
    let client = engine.client().await?;
    let Some(found) = look(engine, &client, &image.0).await? else { return Ok(Removal::Gone { bytes: 0 }) };
    let bytes = found.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
    for name in names {
        // A name may have moved on to another image, also of somebody else's.
        let named = look(engine, &client, name).await?.and_then(|found| found.id);
        if named.as_deref() == Some(&image.0) && !remove(engine, &client, name).await? {
            return Ok(Removal::Needed);
        }
    }
    match look(engine, &client, &image.0).await? {
        None => Ok(Removal::Gone { bytes }),
        Some(left) if left.repo_tags.as_ref().is_some_and(|tags| !tags.is_empty()) => Ok(Removal::Theirs),
        Some(_) if remove(engine, &client, &image.0).await? => Ok(Removal::Gone { bytes }),
        Some(_) => Ok(Removal::Needed),
    }
}

async fn look(engine: &Engine, client: &Client, name: &str) -> Result<Option<ImageInspect>, Error> {
    match client.api.inspect_image(name).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(engine.failed("look at the image", &error)),
    }
}

/// Whether it is gone.
async fn remove(engine: &Engine, client: &Client, name: &str) -> Result<bool, Error> {
    let options = RemoveImageOptions { force: false, noprune: false, platforms: None };
    match client.api.remove_image(name, Some(options), None).await {
        Ok(_) => Ok(true),
        Err(error) if status(&error) == Some(404) => Ok(true),
        Err(error) if status(&error) == Some(409) => Ok(false),
        Err(error) => Err(engine.failed("remove the image", &error)),
    }
}
