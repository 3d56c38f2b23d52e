//! Several agents and clusters on one engine: each clears away its own, and nothing else.

use super::Node;
use longshore_agent::runtime::{ContainerSpec, Runtime as _, sweep::Sweeper};
use longshore_common::ids::{AttemptRef, ClusterId};
use std::{collections::BTreeSet, time::Duration};

/// A container that has ended, with its folders.
async fn ended(node: &Node, cluster: ClusterId) -> ContainerSpec {
    let mut spec = node.shell("true");
    spec.cluster = cluster;
    let id = node.docker.create(&spec).await.expect("create");
    drop(node.docker.start(&id).await.expect("start"));
    node.docker.wait(&id).await.expect("wait");
    spec
}

async fn attempts(node: &Node) -> BTreeSet<AttemptRef> {
    node.docker.list().await.expect("list").into_iter().map(|known| known.attempt).collect()
}

#[tokio::test]
async fn neighbours_on_one_engine_sweep_only_their_own() {
    let (one, other) = (Node::new(), Node::new());
    let (here, there) = (ClusterId::new(), ClusterId::new());
    let mine = ended(&one, here).await;
    let held = ended(&one, here).await;
    let of_another_cluster = ended(&one, there).await;
    let of_another_agent = ended(&other, here).await;
    let mut sweeper = Sweeper::after(Duration::ZERO);
    let hold = || Some(BTreeSet::from([held.attempt]));
    let swept = sweeper.sweep(&one.docker, here, hold).await.expect("swept");
    assert_eq!(swept.removed, [mine.attempt]);
    assert!(!mine.scratch.out.exists() && held.scratch.out.exists());
    assert_eq!(attempts(&one).await, BTreeSet::from([held.attempt, of_another_cluster.attempt]));
    assert_eq!(attempts(&other).await, BTreeSet::from([of_another_agent.attempt]));
    for (node, cluster) in [(&one, here), (&one, there), (&other, here)] {
        let left =
            Sweeper::after(Duration::ZERO).sweep(&node.docker, cluster, || Some(BTreeSet::new())).await;
        assert_eq!(left.expect("swept").removed.len(), 1);
    }
}
