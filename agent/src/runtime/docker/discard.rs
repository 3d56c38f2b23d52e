//! Takes an image off the node, never by force: what anything else needs stays. Never chooses which.

use super::engine::{Client, Engine, status};
use crate::runtime::{Error, ImageId, Removal};
use bollard::{
    models::ImageInspect,
    query_parameters::{ListContainersOptions, RemoveImageOptions},
};
use std::collections::{BTreeSet, HashMap};

/// First the names we gave it, then the image itself, unless somebody else has a name for it. One that any container was
/// made of keeps its names too: its owner starts it again by them.
pub(super) async fn image(
    engine: &Engine,
    image: &ImageId,
    names: &BTreeSet<String>,
) -> Result<Removal, Error> {
    let client = engine.client().await?;
    let Some(found) = look(engine, &client, &image.0).await? else { return Ok(Removal::Gone { bytes: 0 }) };
    if is_used(engine, &client, image).await? {
        return Ok(Removal::Needed);
    }
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

/// Whether a container, running or not, was made of it or of what was built on it.
async fn is_used(engine: &Engine, client: &Client, image: &ImageId) -> Result<bool, Error> {
    let filters = HashMap::from([("ancestor".to_owned(), vec![image.0.clone()])]);
    let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
    let made = client.api.list_containers(Some(options)).await;
    made.map(|made| !made.is_empty()).map_err(|error| engine.failed("list the image's containers", &error))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{
        Config,
        docker::{Docker, play::Process},
    };
    use longshore_common::ids::AgentId;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    #[tokio::test]
    async fn an_image_that_a_container_was_made_of_keeps_its_names() {
        let home = tempfile::tempdir().expect("a folder");
        let socket = home.path().join("engine.sock");
        let removals = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&removals);
        let process = Process::start(&socket, move |method, path| {
            if method == "DELETE" {
                count.fetch_add(1, Ordering::AcqRel);
                return Some((200, "[]".to_owned()));
            }
            let container = r#"[{"Id":"c1"}]"#;
            let image = r#"{"Id":"sha256:1","RepoTags":["app:1"],"Size":9}"#;
            Some((200, if path.contains("/containers/json") { container } else { image }.to_owned()))
        });
        let host = format!("unix://{}", socket.display());
        let docker = Docker::new(Config { host: Some(host), ..Config::default() }, AgentId::new());
        let names = BTreeSet::from(["app:1".to_owned()]);
        let removal = image(&docker.engine, &ImageId("sha256:1".to_owned()), &names).await.expect("answered");
        process.end().await;
        assert_eq!((removal, removals.load(Ordering::Acquire)), (Removal::Needed, 0));
    }
}
