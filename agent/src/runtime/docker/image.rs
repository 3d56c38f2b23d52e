//! Makes an image present as the pull policy says, and says in the log what it did. Never decides which images a
//! job may have.

use super::{Docker, engine::status, login, pull::State, reference::Reference};
use crate::runtime::{Error, Image, ImageId, ImageRequest, Progress};
use bollard::{models::ImageInspect, query_parameters::ListImagesOptions};
use longshore_common::job::{Outcome, PullPolicy, canonical};
use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// An image on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Local {
    id: String,
    arch: String,
    /// `name@sha256:…` of each registry that has it. None: it was built here.
    digests: Vec<String>,
    user: String,
}

/// When the registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Use,
    /// The local copy may serve if the registry does not.
    PullOrUse,
    Pull,
    Refuse,
}

pub(super) async fn ensure(
    docker: &Docker,
    request: &ImageRequest,
    progress: &Progress,
) -> Result<Image, Error> {
    let began = Instant::now();
    let image = &request.image;
    let reference = Reference::parse(image);
    let local = local(docker, image).await?;
    let plan = plan(request.policy, &reference, local.is_some());
    let before = if plan.asks() { all(docker).await? } else { HashSet::new() };
    let mut asked = plan.asks();
    let used = match (plan, local) {
        (Plan::Use | Plan::PullOrUse, Some(found)) if request.policy == PullPolicy::Never => found,
        (Plan::Use, Some(found)) => {
            progress.say(format!("image {}  already here", short(&found.id)));
            found
        }
        (Plan::PullOrUse, Some(found)) => {
            let patience = Some(docker.config.pull.silence());
            let mut pull = docker.pulls.pull(image, request.login.as_ref(), &docker.config);
            match follow(&mut pull, patience, progress).await {
                Ok(()) => pulled(docker, image, Some(&found), began, progress).await?,
                Err(error) => {
                    asked = false;
                    serve(found, error, image, progress)?
                }
            }
        }
        (Plan::Refuse, _) => {
            let detail = format!("{image} is not on this node and its pull policy is `never`");
            return Err(Error::ends(Outcome::ImageNotFound, detail));
        }
        (Plan::Pull | Plan::Use | Plan::PullOrUse, found) => {
            let mut pull = docker.pulls.pull(image, request.login.as_ref(), &docker.config);
            follow(&mut pull, None, progress).await?;
            pulled(docker, image, found.as_ref(), began, progress).await?
        }
    };
    let pulled = plan.asks() && !before.contains(&used.id);
    let user = used.user.clone();
    let digest = reference.digest_among(&used.digests);
    let given_as = used.digests.clone();
    Ok(Image { id: fits(docker, image, used).await?, pulled, asked, given_as, user, digest })
}

/// Asks the registry for no more than what the image is.
pub(super) async fn check(docker: &Docker, request: &ImageRequest) -> Result<(), Error> {
    let (image, config) = (&request.image, &docker.config);
    let host = Reference::parse(image).registry();
    let login = login::of(host, request.login.as_ref(), config).await;
    let client = docker.engine.client().await?;
    let asked = client.api.inspect_registry_image(image, login.credentials.clone());
    match tokio::time::timeout(config.pull.stall(), asked).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(docker.pulls.read(image, &login, &error)),
        Err(_) => {
            let detail =
                format!("{host} does not say whether project `{}` may have {image}", request.project);
            Err(Error::ends(Outcome::RegistryUnavailable, detail))
        }
    }
}

impl Plan {
    const fn asks(self) -> bool {
        matches!(self, Self::PullOrUse | Self::Pull)
    }
}

fn plan(policy: PullPolicy, reference: &Reference<'_>, present: bool) -> Plan {
    match (policy, present) {
        (PullPolicy::Always, _) => Plan::Pull,
        (PullPolicy::Never, false) => Plan::Refuse,
        (PullPolicy::Never | PullPolicy::Missing, true) => Plan::Use,
        (PullPolicy::Missing | PullPolicy::Auto, false) => Plan::Pull,
        (PullPolicy::Auto, true) if reference.moves() => Plan::PullOrUse,
        (PullPolicy::Auto, true) => Plan::Use,
    }
}

/// The local copy, if it may serve after this failure of a pull.
fn serve(found: Local, error: Error, image: &str, progress: &Progress) -> Result<Local, Error> {
    let Error::Ends { outcome, detail } = &error else { return Err(error) };
    let id = short(&found.id);
    match outcome {
        Outcome::RegistryUnavailable => {
            progress
                .say(format!("image {id}  the local copy serves, the registry does not answer: {detail}"));
            Ok(found)
        }
        Outcome::ImageNotFound | Outcome::RegistryAuth if found.digests.is_empty() => {
            progress
                .say(format!("image {id}  built on this node and used as it is, no registry has {image}"));
            Ok(found)
        }
        _ => Err(error),
    }
}

/// Says how the pull goes until it ends. `patience`: how long the registry may be silent before we give up.
async fn follow(
    state: &mut watch::Receiver<State>,
    patience: Option<Duration>,
    progress: &Progress,
) -> Result<(), Error> {
    let until = patience.map(|patience| Instant::now() + patience);
    loop {
        let now = state.borrow_and_update().clone();
        if let Some(result) = now.done {
            return result;
        }
        if !now.line.is_empty() {
            progress.say(now.line);
        }
        let changed = match until.filter(|_| !now.answered) {
            Some(until) => match tokio::time::timeout_at(until, state.changed()).await {
                Ok(changed) => changed,
                Err(_) => {
                    let detail = "no answer yet, and there is a copy here";
                    return Err(Error::ends(Outcome::RegistryUnavailable, detail));
                }
            },
            None => state.changed().await,
        };
        if changed.is_err() {
            return Err(Error::ends(Outcome::RuntimeError, "the pull broke off"));
        }
    }
}

async fn pulled(
    docker: &Docker,
    image: &str,
    before: Option<&Local>,
    began: Instant,
    progress: &Progress,
) -> Result<Local, Error> {
    let Some(found) = local(docker, image).await? else {
        let detail =
            format!("{image} was pulled and is gone again: is something pruning images on the node?");
        return Err(Error::ends(Outcome::RuntimeError, detail));
    };
    let id = short(&found.id);
    if before.is_some_and(|before| before.id == found.id) {
        progress.say(format!("image {id}  already here, and the registry has the same"));
    } else {
        progress.say(format!("image {id}  pulled in {:.1} s", began.elapsed().as_secs_f64()));
    }
    Ok(found)
}

/// The ids of every image on the node, those without a name too.
async fn all(docker: &Docker) -> Result<HashSet<String>, Error> {
    let client = docker.engine.client().await?;
    let options = ListImagesOptions { all: true, ..Default::default() };
    match client.api.list_images(Some(options)).await {
        Ok(found) => Ok(found.into_iter().map(|image| image.id).collect()),
        Err(error) => Err(docker.engine.failed("list the images", &error)),
    }
}

/// The newest, so many at most.
pub(super) async fn names(docker: &Docker, most: usize) -> Result<BTreeSet<String>, Error> {
    let client = docker.engine.client().await?;
    let listed = client.api.list_images(None::<ListImagesOptions>).await;
    let mut found = listed.map_err(|error| docker.engine.failed("list the images", &error))?;
    found.sort_by_key(|image| std::cmp::Reverse(image.created));
    let names = found.into_iter().flat_map(|image| image.repo_tags.into_iter().chain(image.repo_digests));
    Ok(names.filter(|name| !name.contains("<none>")).take(most).map(|name| canonical(&name)).collect())
}

async fn local(docker: &Docker, image: &str) -> Result<Option<Local>, Error> {
    let client = docker.engine.client().await?;
    match client.api.inspect_image(image).await {
        Ok(found) => Ok(Some(read(found))),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) if status(&error) == Some(400) => {
            let detail = format!("`{image}` is not an image name");
            Err(Error::ends(Outcome::ImageNotFound, detail))
        }
        Err(error) => Err(docker.engine.failed("look for the image", &error)),
    }
}

fn read(found: ImageInspect) -> Local {
    Local {
        id: found.id.unwrap_or_default(),
        arch: found.architecture.unwrap_or_default(),
        digests: found.repo_digests.unwrap_or_default(),
        user: found.config.and_then(|config| config.user).unwrap_or_default(),
    }
}

/// Refuses an image made for a processor that the node does not have.
async fn fits(docker: &Docker, image: &str, used: Local) -> Result<ImageId, Error> {
    let client = docker.engine.client().await?;
    let node = &client.facts.arch;
    if runs(&used.arch, node) {
        return Ok(ImageId(used.id));
    }
    let detail = format!("{image} is made for {}, this node is {node}", used.arch);
    Err(Error::ends(Outcome::WrongPlatform, detail))
}

fn runs(image: &str, node: &str) -> bool {
    // An image that was imported may not say.
    image.is_empty() || image == node || matches!((image, node), ("386", "amd64") | ("arm", "arm64"))
}

/// The first eight digits of the digest.
fn short(id: &str) -> &str {
    let digest = id.strip_prefix("sha256:").unwrap_or(id);
    digest.get(..8).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[test]
    fn the_policy_table() {
        use PullPolicy::{Always, Auto, Missing, Never};
        let cases = [
            (Auto, "app", true, Plan::PullOrUse),
            (Auto, "app:latest", true, Plan::PullOrUse),
            (Auto, "app:2", true, Plan::Use),
            (Auto, "app@sha256:00", true, Plan::Use),
            (Auto, "app:2", false, Plan::Pull),
            (Missing, "app", true, Plan::Use),
            (Missing, "app", false, Plan::Pull),
            (Always, "app:2", true, Plan::Pull),
            (Never, "app", true, Plan::Use),
            (Never, "app", false, Plan::Refuse),
        ];
        for (policy, image, present, expected) in cases {
            assert_eq!(
                plan(policy, &Reference::parse(image), present),
                expected,
                "{policy:?} {image} {present}"
            );
        }
    }

    #[test]
    fn a_copy_serves_when_the_registry_is_silent_and_one_built_here_also_when_it_says_no() {
        let (sender, mut lines) = mpsc::channel(8);
        let progress = Progress::new(sender);
        let serves = |built_here, outcome| {
            let (id, arch, user) = ("sha256:3f9c01d2aa".to_owned(), String::new(), String::new());
            let digests = if built_here { Vec::new() } else { vec!["app@sha256:00".to_owned()] };
            let local = Local { id, arch, digests, user };
            serve(local, Error::ends(outcome, "x"), "app", &progress).is_ok()
        };
        assert!(serves(false, Outcome::RegistryUnavailable));
        assert!(!serves(false, Outcome::ImageNotFound));
        assert!(!serves(false, Outcome::RegistryAuth));
        assert!(serves(true, Outcome::ImageNotFound));
        assert!(serves(true, Outcome::RegistryAuth));
        assert!(!serves(true, Outcome::RuntimeError));
        assert!(lines.try_recv().expect("said").contains("3f9c01d2"));
    }

    #[test]
    fn processors_that_run_each_others_programs_are_accepted() {
        assert!(runs("amd64", "amd64") && runs("386", "amd64") && runs("", "arm64"));
        assert!(!runs("arm64", "amd64") && !runs("amd64", "arm64"));
    }
}
