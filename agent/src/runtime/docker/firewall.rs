//! Rules that keep containers of the agent's bridge away from the services of their host and from link-local
//! addresses (cloud metadata). Two chains of the agent's own, filled at once; jumps into them are put back when
//! somebody took them out. Never touches a rule that is not the agent's.

use crate::runtime::config::Block;
use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    process::{Output, Stdio},
};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// An agent's chains.
#[derive(Debug)]
pub(super) struct Firewall {
    interface: String,
    /// For traffic to the host, and through it.
    input: String,
    forward: String,
    closed: Closed,
}

/// What is closed beyond the host and the neighbours.
#[derive(Clone, Debug)]
pub(super) enum Closed {
    /// Metadata services, mostly.
    LinkLocal,
    /// All that is not public, but for these.
    PrivateBut(Vec<Block>),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("no iptables on this node: install it (apt-get install iptables)")]
    Missing,
    #[error("{command}: {said}")]
    Refused { command: String, said: String },
}

/// As Docker writes with one of these, the rules must be where its own are.
const TOOLS: [&str; 3] = ["iptables", "iptables-nft", "iptables-legacy"];
/// Docker's chain for the rules of others, before its own.
const DOCKER_USER: &str = "DOCKER-USER";
/// What is no public address (RFC 6890), besides link-local ones.
const PRIVATE: [&str; 10] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
];
/// The resolvers that Docker hands to containers: the second file where the first names only this host's stub.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

impl Firewall {
    /// `tail` tells the agents of one engine apart.
    pub(super) fn new(interface: String, tail: &str, closed: Closed) -> Self {
        Self { interface, input: format!("LS-IN-{tail}"), forward: format!("LS-FW-{tail}"), closed }
    }

    /// Puts the rules in place; says whether some were not.
    pub(super) async fn assert(&self) -> Result<bool, Error> {
        let (tool, forward_from) = choose().await?;
        let rules = self.rules(&resolvers());
        restore(tool, &rules).await?;
        let mut changed = false;
        for (from, to) in [("INPUT", &self.input), (forward_from, &self.forward)] {
            let jump = [from, "-i", self.interface.as_str(), "-j", to];
            if !call(tool, &[&["-C"], &jump[..]].concat()).await?.status.success() {
                checked(tool, &[&["-I", from, "1"], &jump[1..]].concat()).await?;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// What `iptables-restore --noflush` reads: it empties and fills our two chains in one step.
    fn rules(&self, resolvers: &[Ipv4Addr]) -> String {
        let (input, forward, interface) = (&self.input, &self.forward, &self.interface);
        let names: String = [input, forward]
            .iter()
            .flat_map(|chain| {
                resolvers.iter().flat_map(move |address| {
                    ["udp", "tcp"].map(|protocol| {
                        format!("-A {chain} -d {address} -p {protocol} --dport 53 -j RETURN\n")
                    })
                })
            })
            .collect();
        let private = self.private();
        format!(
            "*filter\n:{input} - [0:0]\n:{forward} - [0:0]\n\
             -A {input} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN\n\
             {names}\
             -A {input} -j DROP\n\
             -A {forward} -d 169.254.0.0/16 -j DROP\n\
             -A {forward} -o {interface} -j DROP\n\
             {private}\
             COMMIT\n"
        )
    }

    fn private(&self) -> String {
        let Closed::PrivateBut(open) = &self.closed else { return String::new() };
        let forward = &self.forward;
        let open = open.iter().map(|block| format!("-A {forward} -d {block} -j RETURN\n"));
        open.chain(PRIVATE.iter().map(|block| format!("-A {forward} -d {block} -j DROP\n"))).collect()
    }

    /// Takes everything back, as far as it is there.
    pub(super) async fn remove(&self) -> Result<(), Error> {
        let (tool, forward_from) = choose().await?;
        for (from, chain) in [("INPUT", &self.input), (forward_from, &self.forward)] {
            let jump = ["-D", from, "-i", self.interface.as_str(), "-j", chain];
            for arguments in [&jump[..], &["-F", chain], &["-X", chain]] {
                call(tool, arguments).await?;
            }
        }
        Ok(())
    }
}

/// The tool whose tables hold Docker's rules, and the chain that forwarded packets meet first.
async fn choose() -> Result<(&'static str, &'static str), Error> {
    let mut fallback = None;
    for tool in TOOLS {
        match call(tool, &["-S", DOCKER_USER]).await {
            Ok(output) if output.status.success() => return Ok((tool, DOCKER_USER)),
            Ok(_) if fallback.is_none() => fallback = Some(tool),
            Ok(_) | Err(Error::Missing) => {}
            Err(error) => return Err(error),
        }
    }
    fallback.map(|tool| (tool, "FORWARD")).ok_or(Error::Missing)
}

async fn restore(tool: &str, rules: &str) -> Result<(), Error> {
    let program = format!("{tool}-restore");
    let spawned = Command::new(&program)
        .args(["--noflush", "--wait", "10"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let fed = async {
        let mut child = spawned?;
        let mut input = child.stdin.take().expect("its input is piped");
        input.write_all(rules.as_bytes()).await?;
        drop(input);
        child.wait_with_output().await
    };
    accept(&program, fed.await.map_err(|error| missing(&program, &error))?)
}

async fn checked(tool: &str, arguments: &[&str]) -> Result<(), Error> {
    accept(&format!("{tool} {}", arguments.join(" ")), call(tool, arguments).await?)
}

async fn call(tool: &str, arguments: &[&str]) -> Result<Output, Error> {
    // Docker and others hold the lock now and then.
    let mut command = Command::new(tool);
    command.args(["--wait", "10"]).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command.output().await.map_err(|error| missing(tool, &error))
}

fn accept(command: &str, output: Output) -> Result<(), Error> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Refused { command: command.to_owned(), said })
}

fn missing(command: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::Missing,
        _ => Error::Refused { command: command.to_owned(), said: error.to_string() },
    }
}

fn resolvers() -> Vec<Ipv4Addr> {
    let texts = RESOLVERS.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    let mut addresses: Vec<_> = texts.flat_map(|text| nameservers(&text)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Loopback is left out: a container's own loopback is not the host's.
fn nameservers(text: &str) -> Vec<Ipv4Addr> {
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok());
    named
        .filter_map(|address| match address {
            IpAddr::V4(address) if !address.is_loopback() => Some(address),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_and_everything_else_of_the_host_is_closed() {
        let rules = Firewall::new("ls-1".to_owned(), "1", Closed::LinkLocal)
            .rules(&[Ipv4Addr::new(169, 254, 169, 253)]);
        let at = |part: &str| rules.find(part).unwrap_or_else(|| panic!("{part} in {rules}"));
        assert!(at("-A LS-IN-1 -d 169.254.169.253 -p udp --dport 53 -j RETURN") < at("-A LS-IN-1 -j DROP"));
        assert!(at("-A LS-FW-1 -d 169.254.169.253 -p tcp") < at("-A LS-FW-1 -d 169.254.0.0/16 -j DROP"));
        assert!(rules.contains("-A LS-FW-1 -o ls-1 -j DROP") && rules.ends_with("COMMIT\n"));
    }

    #[test]
    fn the_internet_is_what_is_public_and_what_the_operator_opens() {
        let open = vec![Block::try_from("10.1.2.0/24".to_owned()).expect("a block")];
        let rules = Firewall::new("ls-1-i".to_owned(), "1-i", Closed::PrivateBut(open)).rules(&[]);
        let at = |part: &str| rules.find(part).unwrap_or_else(|| panic!("{part} in {rules}"));
        let opened = at("-A LS-FW-1-i -d 10.1.2.0/24 -j RETURN");
        assert!(opened < at("-A LS-FW-1-i -d 10.0.0.0/8 -j DROP"));
        assert!(at("-A LS-FW-1-i -d 169.254.0.0/16 -j DROP") < opened, "metadata stays closed");
        assert!(at("-A LS-FW-1-i -o ls-1-i -j DROP") < opened);
        assert!(Block::try_from("10.1.2.0/33".to_owned()).is_err());
    }

    #[test]
    fn resolvers_are_read_and_loopback_is_not_one() {
        let text = "# nameserver 1.1.1.1\nnameserver 127.0.0.53\nnameserver  10.0.0.2\nnameserver fe80::1\nsearch x\n";
        assert_eq!(nameservers(text), [Ipv4Addr::new(10, 0, 0, 2)]);
    }

    #[test]
    fn chain_names_fit_into_iptables_28_characters() {
        let firewall = Firewall::new("ls-0123abcd-i".to_owned(), "0123abcd-i", Closed::LinkLocal);
        assert!(firewall.input.len() < 28 && firewall.interface.len() <= 15);
    }
}
