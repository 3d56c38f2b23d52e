//! The pull policy against a real registry that asks for a password.

use super::Node;
use longshore_agent::runtime::{Config, Error, ImageId, ImageRequest, Login, Progress, Runtime as _};
use longshore_common::job::{Outcome, PullPolicy};
use longshore_tests::env::{Registry, docker as docker_cli, image, image_with};
use tokio::sync::mpsc;

/// A node with a login to this registry.
fn node(registry: &Registry) -> Node {
    let (username, password) = registry.credentials();
    let login =
        Login { registry: registry.host(), username: username.to_owned(), password: password.to_owned() };
    Node::with(Config { registries: vec![login], ..Default::default() })
}

async fn ensure(node: &Node, image: &str, policy: PullPolicy) -> (Result<ImageId, Error>, Vec<String>) {
    let (sender, mut lines) = mpsc::channel(64);
    let request =
        ImageRequest { image: image.to_owned(), policy, project: "default".to_owned(), login: None };
    let result = node.docker.ensure_image(&request, &Progress::new(sender)).await.map(|image| image.id);
    let mut said = Vec::new();
    while let Some(line) = lines.recv().await {
        said.push(line);
    }
    (result, said)
}

fn outcome(result: Result<ImageId, Error>) -> Outcome {
    match result {
        Err(Error::Ends { outcome, .. }) => outcome,
        other => panic!("a refusal expected: {other:?}"),
    }
}

fn id(image: &str) -> ImageId {
    ImageId(docker_cli(&["image", "inspect", "-f", "{{.Id}}", image]))
}

#[tokio::test]
async fn the_policy_table_holds() {
    let mut registry = Registry::start();
    let node = node(&registry);
    let (first, second) = (image(), image_with("second", "ENV second=yes"));
    let latest = registry.push(&first, "table");
    let tagged = registry.push(&first, "table:1");

    // Not there: pulled. There: a tag is used as it is, the newest is asked for.
    docker_cli(&["rmi", &latest, &tagged]);
    let (pulled, said) = ensure(&node, &tagged, PullPolicy::Auto).await;
    assert_eq!(pulled.expect("pulled"), id(&first));
    assert!(
        said.last().expect("said").contains("pulled in") || said.last().expect("said").contains("already")
    );
    registry.push(&second, "table:1");
    registry.push(&second, "table");
    docker_cli(&["tag", &first, &tagged]);
    docker_cli(&["tag", &first, &latest]);
    assert_eq!(ensure(&node, &tagged, PullPolicy::Auto).await.0.expect("there"), id(&first));
    assert_eq!(ensure(&node, &latest, PullPolicy::Missing).await.0.expect("there"), id(&first));
    assert_eq!(ensure(&node, &latest, PullPolicy::Auto).await.0.expect("pulled"), id(&second));
    assert_eq!(ensure(&node, &tagged, PullPolicy::Always).await.0.expect("pulled"), id(&second));

    // The registry goes: the copy serves where it may.
    registry.stop();
    let (served, said) = ensure(&node, &latest, PullPolicy::Auto).await;
    assert_eq!(served.expect("the copy serves"), id(&second));
    assert!(said.iter().any(|line| line.contains("local copy serves")), "{said:?}");
    assert_eq!(outcome(ensure(&node, &latest, PullPolicy::Always).await.0), Outcome::RegistryUnavailable);
    let absent = format!("{}/absent:1", registry.host());
    assert_eq!(outcome(ensure(&node, &absent, PullPolicy::Auto).await.0), Outcome::RegistryUnavailable);
    assert_eq!(outcome(ensure(&node, &absent, PullPolicy::Never).await.0), Outcome::ImageNotFound);
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let registry = Registry::start();
    let absent = format!("{}/absent", registry.host());
    let known = node(&registry);
    assert_eq!(outcome(ensure(&known, &absent, PullPolicy::Auto).await.0), Outcome::ImageNotFound);
    assert_eq!(outcome(ensure(&Node::new(), &absent, PullPolicy::Auto).await.0), Outcome::RegistryAuth);
    assert_eq!(outcome(ensure(&known, "Not An Image", PullPolicy::Auto).await.0), Outcome::ImageNotFound);
}

#[tokio::test]
async fn an_image_built_here_serves_when_the_registry_says_no() {
    let registry = Registry::start();
    let built = image_with("built-here", "ENV built=here");
    let name = format!("{}/built-here", registry.host());
    docker_cli(&["tag", &built, &name]);
    for node in [node(&registry), Node::new()] {
        let (served, said) = ensure(&node, &name, PullPolicy::Auto).await;
        assert_eq!(served.expect("built here"), id(&built));
        assert!(said.iter().any(|line| line.contains("built on this node")), "{said:?}");
    }
}

#[tokio::test]
async fn an_image_for_another_processor_is_refused() {
    let other = if cfg!(target_arch = "x86_64") { "arm64" } else { "amd64" };
    let context = longshore_tests::env::fresh_dir("arch");
    let label = longshore_tests::env::run_id();
    std::fs::write(
        context.join("Dockerfile"),
        format!("FROM scratch\nCOPY . /\nLABEL longshore.test={label}\n"),
    )
    .expect("written");
    let context = context.to_str().expect("plain");
    let id = docker_cli(&["build", "-q", "--platform", &format!("linux/{other}"), context]);
    let result = ensure(&Node::new(), &id, PullPolicy::Never).await.0;
    assert_eq!(outcome(result), Outcome::WrongPlatform);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_wishes_are_one_pull_and_one_that_leaves_does_not_end_it() {
    let registry = Registry::start();
    let node = node(&registry);
    let name = registry.push(&image(), "many:1");
    docker_cli(&["rmi", &name]);
    let leaver = tokio::time::timeout(std::time::Duration::ZERO, ensure(&node, &name, PullPolicy::Always));
    let all = futures::future::join_all((0..20).map(|_| ensure(&node, &name, PullPolicy::Always)));
    let (_, all) = tokio::join!(leaver, all);
    for (result, _) in all {
        result.expect("pulled");
    }
}
