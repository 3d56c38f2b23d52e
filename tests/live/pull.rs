//! The pull policies as one table, over a registry with a password.

use longshore_proto::v1::PullPolicy::{self, Always, Auto, Missing, Never};
use longshore_proto::v1::Stream;
use longshore_tests::env::{
    Client, Registry, docker, docker_output, embedded, image, image_with, outcome, registry, shell,
};

/// What the node has under the name, what the registry has, and whether it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Nothing,
    Old,
}

/// Policy, tag, what the node has, whether the registry answers; then what must run, or the outcome.
const TABLE: [(PullPolicy, &str, Node, bool, &str); 14] = [
    (Auto, "1", Node::Nothing, true, "new"),
    (Auto, "1", Node::Old, true, "old"),
    (Auto, "1", Node::Old, false, "old"),
    (Auto, "1", Node::Nothing, false, "registry_unavailable"),
    (Auto, "latest", Node::Old, true, "new"),
    (Auto, "latest", Node::Old, false, "old"),
    (Always, "1", Node::Old, true, "new"),
    (Always, "1", Node::Old, false, "registry_unavailable"),
    (Missing, "latest", Node::Old, true, "old"),
    (Missing, "latest", Node::Nothing, true, "new"),
    (Missing, "1", Node::Nothing, false, "registry_unavailable"),
    (Never, "1", Node::Old, true, "old"),
    (Never, "1", Node::Nothing, true, "image_not_found"),
    (Never, "latest", Node::Old, false, "old"),
];

#[tokio::test]
async fn each_policy_takes_the_image_it_promises() {
    let mut registry = Registry::start();
    let cluster = embedded().login(&registry).start();
    let client = Client::connect(&cluster).await;
    let old = image_with("old", "ENV AGE=old");
    let new = image_with("new", "ENV AGE=new");
    let mut wrong = Vec::new();
    for (number, row) in TABLE.iter().enumerate() {
        let &(policy, tag, node, answers, expected) = row;
        registry.restart();
        let name = format!("age-{number}:{tag}");
        registry.push(&old, &name);
        let reference = registry.push(&new, &name);
        docker(&["rmi", &reference]);
        if node == Node::Old {
            docker(&["tag", &old, &reference]);
        }
        if !answers {
            registry.stop();
        }
        let mut spec = shell(&reference, "printf $AGE");
        spec.pull = policy.into();
        spec.retry.get_or_insert_default().attempts = 1;
        let job = client.run(spec).await;
        let printed = client.printed(&job.id, Stream::Stdout).await;
        let seen = if printed.is_empty() { outcome(&job).into_bytes() } else { printed };
        if seen != expected.as_bytes() {
            wrong.push((row, String::from_utf8_lossy(&seen).into_owned(), job.outcome));
        }
        docker_output(&["rmi", "-f", &reference]);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn an_image_by_digest_is_pulled_once_and_then_used_as_it_is() {
    let cluster = crate::shared::embedded();
    let client = Client::connect(cluster).await;
    let pushed = registry().push(&image(), "digest:1");
    let digest = docker(&["inspect", "-f", "{{range .RepoDigests}}{{println .}}{{end}}", &pushed]);
    let host = registry().host();
    let reference =
        digest.lines().find(|line| line.starts_with(&host)).expect("it was pushed there").to_owned();
    let job = client.run(shell(&reference, "true")).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
}

#[tokio::test]
async fn an_image_that_nobody_has_is_not_found() {
    let client = Client::connect(crate::shared::embedded()).await;
    let job = client.run(shell(&format!("{}/no-such:1", registry().host()), "true")).await;
    assert_eq!(outcome(&job), "image_not_found", "{job:?}");
}

#[tokio::test]
async fn a_registry_that_wants_a_password_says_so() {
    let strange = Registry::start();
    let reference = strange.push(&image(), "locked:1");
    docker(&["rmi", &reference]);
    let client = Client::connect(crate::shared::embedded()).await;
    let job = client.run(shell(&reference, "true")).await;
    assert_eq!(outcome(&job), "registry_auth", "{job:?}");
}

#[tokio::test]
async fn what_ran_is_on_record_and_runs_again_although_its_tag_was_moved() {
    let cluster = crate::shared::embedded();
    let client = Client::connect(cluster).await;
    let (cli, old) = (cluster.cli(), image_with("old", "ENV AGE=old"));
    let reference = registry().push(&old, "pinned:1");
    let job = client.run(shell(&reference, "printf $AGE")).await;
    let digest = client.get(&job.id).await.attempts[0].digest.clone();
    let known = docker(&["inspect", "-f", "{{range .RepoDigests}}{{println .}}{{end}}", &reference]);
    let repository = reference.strip_suffix(":1").expect("a tag");
    assert!(known.contains(&format!("{repository}@{digest}")), "{digest} is none of {known}");
    assert!(cli.call(&["show", &job.id]).expect(0).text().contains(&digest));

    registry().push(&image_with("new", "ENV AGE=new"), "pinned:1");
    docker(&["rmi", "-f", &reference]);
    docker_output(&["rmi", "-f", &format!("{repository}@{digest}")]);
    let retried = async |arguments: &[&str]| {
        let line = [&["retry", &job.id], arguments].concat();
        let id = cli.call(&line).expect(0).text().trim().to_owned();
        assert_eq!(outcome(&client.ended(&id).await), "succeeded");
        client.printed(&id, Stream::Stdout).await
    };
    assert_eq!(retried(&["--pin"]).await, b"old");
    assert_eq!(retried(&[]).await, b"new");
    assert_eq!(retried(&["--pin", "--memory", "64MiB"]).await, b"old");

    let built = image_with("built", "ENV AGE=built");
    let job = client.run(shell(&built, "true")).await;
    assert_eq!(
        (outcome(&job).as_str(), client.get(&job.id).await.attempts[0].digest.as_str()),
        ("succeeded", "")
    );
    let refused = cli.call(&["retry", &job.id, "--pin"]).expect(1);
    assert!(refused.stderr.contains("built on its node"), "{}", refused.stderr);
    let job = client.run(longshore_proto::v1::JobSpec { pin: true, ..shell(&built, "true") }).await;
    assert_eq!(outcome(&job), "image_not_found", "{job:?}");
}
