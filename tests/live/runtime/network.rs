//! Containers are kept away from their host and from one another, and the agent notices when they are not.

use super::Node;
use longshore_agent::runtime::{Block, Config, Firewall, NetworkConfig, Runtime as _};
use longshore_common::job::NetworkMode;
use longshore_tests::env::{docker_output, program};
use std::{net::TcpListener, process::Command};

/// A node whose bridge and rules go when it is dropped.
struct Networked(Node);

impl Networked {
    fn new() -> Self {
        Self(Node::new())
    }

    fn tail(&self) -> String {
        let id = self.0.agent.to_string();
        id[id.len() - 8..].to_owned()
    }

    async fn end(self) {
        self.0.docker.leave().await.expect("leave the node");
    }
}

fn iptables(arguments: &[&str]) -> bool {
    Command::new(program(&["iptables"], "iptables"))
        .args(arguments)
        .output()
        .expect("iptables")
        .status
        .success()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_reaches_neither_its_host_nor_its_neighbour() {
    let node = Networked::new();
    node.0.docker.prepare_network().await.expect("prepared and tried out");
    node.0.docker.prepare_network().await.expect("and again");
    let listener = TcpListener::bind("0.0.0.0:0").expect("listens");
    let port = listener.local_addr().expect("has one").port();
    let mut spec = node.0.shell(&format!(
        "gw=$(ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p'); echo gateway $gw; \
         timeout 2 nc $gw {port} </dev/null && echo reached; \
         timeout 2 nc 169.254.169.254 80 </dev/null && echo reached; true"
    ));
    spec.network = NetworkMode::Bridge;
    let ran = node.0.run(&spec).await;
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(text.starts_with("gateway 198.1") && !text.contains("reached"), "{text}");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_internet_leaves_out_private_addresses_but_those_opened() {
    let opened = Block::try_from("10.213.7.0/24".to_owned()).expect("a block");
    let network = NetworkConfig { internet_and: vec![opened], ..Default::default() };
    let node = Networked(Node::with(Config { network, ..Default::default() }));
    let mut spec = node.0.shell(
        "for to in 10.213.7.9 10.213.8.9 192.168.250.9 169.254.169.254; do timeout 2 nc -w 1 $to 80; done; true",
    );
    spec.network = NetworkMode::Internet;
    node.0.run(&spec).await;
    let chain = format!("LS-FW-{}-i", node.tail());
    let listed = Command::new(program(&["iptables"], "iptables")).args(["-vnxL", &chain]).output();
    let listed = String::from_utf8(listed.expect("iptables").stdout).expect("text");
    let met = |verdict: &str, block: &str| {
        let line = listed.lines().find(|line| line.contains(verdict) && line.trim_end().ends_with(block));
        let line = line.unwrap_or_else(|| panic!("{verdict} {block} in {listed}"));
        line.split_whitespace().next() != Some("0")
    };
    assert!(met("RETURN", "10.213.7.0/24") && met("DROP", "10.0.0.0/8"), "{listed}");
    assert!(met("DROP", "192.168.0.0/16") && met("DROP", "169.254.0.0/16"), "{listed}");
    // What an earlier process made is found again, and goes with the rest.
    let next = node.0.restarted();
    next.prepare_network().await.expect("both bridges");
    next.leave().await.expect("leave the node");
    assert!(!iptables(&["-S", &chain]), "nothing of ours stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_were_taken_out_are_put_back() {
    let node = Networked::new();
    node.0.docker.prepare_network().await.expect("prepared");
    let (interface, chain) = (format!("ls-{}", node.tail()), format!("LS-IN-{}", node.tail()));
    let jump = ["INPUT", "-i", interface.as_str(), "-j", chain.as_str()];
    assert!(iptables(&[&["-D"], &jump[..]].concat()));
    node.0.docker.prepare_network().await.expect("put back");
    assert!(iptables(&[&["-C"], &jump[..]].concat()));
    node.end().await;
    assert!(!iptables(&["-S", &chain]), "nothing of ours stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_gets_through_stops_the_agent_from_claiming() {
    for (firewall, may_claim) in [(Firewall::Required, false), (Firewall::BestEffort, true)] {
        let network = NetworkConfig { firewall, ..Default::default() };
        let node = Networked(Node::with(Config { network, ..Default::default() }));
        let interface = format!("ls-{}", node.tail());
        node.0.docker.prepare_network().await.expect("prepared");
        // An operator's rule above ours lets everything in. A new bridge makes the agent look again.
        let open = ["INPUT", "-i", interface.as_str(), "-j", "ACCEPT"];
        assert!(iptables(&[&["-I"], &open[..]].concat()));
        docker_output(&["network", "rm", &format!("longshore-{}", node.tail())]);
        let problem = node.0.docker.prepare_network().await.expect_err("the door is open");
        assert!(iptables(&[&["-D"], &open[..]].concat()));
        assert!(problem.detail.contains("reaches services of its host"), "{problem:?}");
        assert_eq!(problem.may_claim, may_claim);
        node.end().await;
    }
}
