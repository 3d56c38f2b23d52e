//! Which addresses jobs make the agent go to. It fetches from the host's own network, as root: what containers are
//! kept from must be closed here too. Decides by address, after names were resolved, and never tells what a name
//! led to.

use crate::runtime::{Block, NetworkConfig};
use longshore_common::job::NetworkMode;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

const MOST_REDIRECTS: usize = 10;
/// Where the agent's own bridges are unless the operator says otherwise; nothing else should be.
const BRIDGES: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);
/// What is no public address (RFC 6890), besides those that `is_never` knows.
const PRIVATE: [(Ipv4Addr, u8); 5] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];
/// A cloud's metadata service, in the middle of the private addresses.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// The variables that name a proxy for https.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "`{0}` leads to this node or its neighbourhood (loopback, link-local, containers); its operator opens it with \
         inputs.also"
    )]
    Never(String),
    #[error(
        "`{0}` leads to a private address, and runtime.network.egress of this node is `internet`; its operator opens \
         it with runtime.network.internet_and or inputs.also"
    )]
    Private(String),
    #[error(
        "`{0}` is not fetched: runtime.network.egress of this node is `none`; give the files with --input NAME=DIR, or \
         let its operator open the address with inputs.also"
    )]
    Outside(String),
}

type Why = fn(String) -> Refused;

/// Clones are handles.
#[derive(Clone, Debug)]
pub(crate) struct Wall(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    egress: NetworkMode,
    /// Besides `BRIDGES`.
    bridge: Option<Block>,
    internet_and: Vec<Block>,
    also: Vec<Block>,
    /// Hosts of the operator's proxies: where they are is no job's choice.
    proxies: BTreeSet<String>,
}

impl Wall {
    pub(crate) fn new(network: &NetworkConfig, also: &[Block]) -> Self {
        let proxies = PROXIES.iter().filter_map(|name| std::env::var(name).ok());
        Self::with_proxies(network, also, proxies)
    }

    fn with_proxies(network: &NetworkConfig, also: &[Block], proxies: impl Iterator<Item = String>) -> Self {
        let host = |proxy: String| {
            let url = if proxy.contains("://") { proxy } else { format!("http://{proxy}") };
            Url::parse(&url).ok()?.host_str().map(str::to_ascii_lowercase)
        };
        Self(Arc::new(Inner {
            egress: network.egress,
            bridge: network.subnet.clone().and_then(|subnet| Block::try_from(subnet).ok()),
            internet_and: network.internet_and.clone(),
            also: also.to_vec(),
            proxies: proxies.filter_map(host).collect(),
        }))
    }

    /// What can be said of an address before its name is resolved.
    pub(crate) fn check(&self, url: &Url) -> Result<(), Refused> {
        let host = url.host_str().unwrap_or_default();
        if self.0.proxies.contains(host) {
            return Err(Refused::Never(host.to_owned()));
        }
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse();
        match literal.ok().and_then(|address| self.refuses(address)) {
            Some(why) => Err(why(host.to_owned())),
            None => Ok(()),
        }
    }

    /// A source may move, but not behind the wall, nor to where everybody on the way can read and change it.
    pub(crate) fn redirects(&self) -> redirect::Policy {
        let wall = self.clone();
        redirect::Policy::custom(move |hop| {
            if hop.url().scheme() != "https" {
                let to = hop.url().host_str().unwrap_or_default().to_owned();
                hop.error(format!("redirects to {to} without https"))
            } else if hop.previous().len() > MOST_REDIRECTS {
                hop.error("redirects too often")
            } else if let Err(refused) = wall.check(hop.url()) {
                hop.error(refused)
            } else {
                hop.follow()
            }
        })
    }

    fn refuses(&self, address: IpAddr) -> Option<Why> {
        let within = |blocks: &[Block]| match plain(address) {
            IpAddr::V4(address) => blocks.iter().any(|block| block.contains(address)),
            IpAddr::V6(_) => false,
        };
        let inner = &self.0;
        if within(&inner.also) {
            None
        } else if is_never(plain(address)) || within(inner.bridge.as_slice()) || is_own(address) {
            Some(Refused::Never)
        } else {
            match inner.egress {
                NetworkMode::Bridge => None,
                NetworkMode::Internet if is_private(plain(address)) && !within(&inner.internet_and) => {
                    Some(Refused::Private)
                }
                NetworkMode::Internet => None,
                NetworkMode::None => Some(Refused::Outside),
            }
        }
    }

    /// Those that may be gone to; if there are none, why.
    fn open(&self, name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
        if self.0.proxies.contains(&name.to_ascii_lowercase()) {
            return Ok(found);
        }
        let mut refused = None;
        let mut open = found;
        open.retain(|address| {
            let why = self.refuses(address.ip());
            refused = refused.or(why);
            why.is_none()
        });
        match refused {
            Some(why) if open.is_empty() => Err(why(name.to_owned())),
            _ => Ok(open),
        }
    }
}

impl Resolve for Wall {
    fn resolve(&self, name: Name) -> Resolving {
        let wall = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let open: Addrs = Box::new(wall.open(name.as_str(), found)?.into_iter());
            Ok(open)
        })
    }
}

/// Why the wall let nobody through, if it was the wall.
pub(crate) fn refused(error: &reqwest::Error) -> Option<Refused> {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<Refused>() {
            return Some(refused.clone());
        }
        cause = inner.source();
    }
    None
}

/// The IPv4 address that a mapped, translated (NAT64) or tunnelled (6to4) one stands for.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

/// Whatever the operator opens to containers: the node itself, its links, nobody and everybody.
fn is_never(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address.is_link_local()
                || address.octets()[0] == 0
                // Multicast, reserved, broadcast.
                || address.octets()[0] >= 224
                || is_within(address, BRIDGES)
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unicast_link_local()
                || address == METADATA
        }
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => PRIVATE.iter().any(|block| is_within(address, *block)),
        // Local use (RFC 8215), unique local and the older site-local ones.
        IpAddr::V6(address) => match address.segments() {
            [0x64, 0xff9b, 1, ..] => true,
            [first, ..] => first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0,
        },
    }
}

const fn is_within(address: Ipv4Addr, (first, prefix): (Ipv4Addr, u8)) -> bool {
    (address.to_bits() ^ first.to_bits()) >> (32 - prefix) == 0
}

/// Whether it is this node's: the way to oneself begins where it ends. Nothing is sent.
fn is_own(address: IpAddr) -> bool {
    let from = match address {
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let way = UdpSocket::bind(from).and_then(|socket| {
        socket.connect((address, 443))?;
        socket.local_addr()
    });
    way.is_ok_and(|way| way.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(blocks: &[&str]) -> Vec<Block> {
        blocks.iter().map(|&block| Block::try_from(block.to_owned()).expect("a block")).collect()
    }

    fn wall(egress: NetworkMode, internet_and: &[&str], also: &[&str]) -> Wall {
        let internet_and = blocks(internet_and);
        let network = NetworkConfig { egress, internet_and, ..NetworkConfig::default() };
        Wall::with_proxies(&network, &blocks(also), ["http://proxy.lab:3128".to_owned()].into_iter())
    }

    fn kind(wall: &Wall, host: &str) -> &'static str {
        let url = Url::parse(&format!("https://{host}/x")).expect("an address");
        match wall.check(&url) {
            Ok(()) => "open",
            Err(Refused::Never(_)) => "never",
            Err(Refused::Private(_)) => "private",
            Err(Refused::Outside(_)) => "outside",
        }
    }

    #[test]
    fn the_agent_goes_no_further_for_a_job_than_its_container_may() {
        let bridge = wall(NetworkMode::Bridge, &[], &[]);
        let internet = wall(NetworkMode::Internet, &["10.1.2.0/24", "127.0.0.0/8"], &[]);
        let none = wall(NetworkMode::None, &["10.1.2.0/24"], &["10.1.2.0/24"]);
        for (host, with_bridge, with_internet, with_none) in [
            ("93.184.215.14", "open", "open", "outside"),
            ("[2606:2800:21f:cb07::1]", "open", "open", "outside"),
            ("data.example", "open", "open", "open"),
            ("10.1.2.3", "open", "open", "open"),
            ("10.1.3.3", "open", "private", "outside"),
            ("172.31.0.1", "open", "private", "outside"),
            ("192.168.1.1", "open", "private", "outside"),
            ("100.64.0.1", "open", "private", "outside"),
            ("[fd12::1]", "open", "private", "outside"),
            ("[::ffff:10.1.3.3]", "open", "private", "outside"),
            ("[64:ff9b::10.1.3.3]", "open", "private", "outside"),
            ("127.0.0.1", "never", "never", "never"),
            ("0x7f.1", "never", "never", "never"),
            ("2130706433", "never", "never", "never"),
            ("[::1]", "never", "never", "never"),
            ("[::ffff:127.0.0.1]", "never", "never", "never"),
            ("[2002:7f00:1::]", "never", "never", "never"),
            ("0.0.0.0", "never", "never", "never"),
            ("[::]", "never", "never", "never"),
            ("169.254.169.254", "never", "never", "never"),
            ("[fe80::1]", "never", "never", "never"),
            ("[fd00:ec2::254]", "never", "never", "never"),
            ("224.0.0.1", "never", "never", "never"),
            ("255.255.255.255", "never", "never", "never"),
            ("[ff02::1]", "never", "never", "never"),
            // A neighbour's container.
            ("198.18.3.2", "never", "never", "never"),
            ("proxy.lab", "never", "never", "never"),
        ] {
            assert_eq!(kind(&bridge, host), with_bridge, "{host}");
            assert_eq!(kind(&internet, host), with_internet, "{host}");
            assert_eq!(kind(&none, host), with_none, "{host}");
        }
        assert_eq!(kind(&wall(NetworkMode::Internet, &[], &["127.0.0.0/8"]), "127.0.0.1"), "open");
    }

    #[test]
    fn of_the_addresses_of_a_name_only_the_open_ones_are_gone_to() {
        let internet = wall(NetworkMode::Internet, &[], &[]);
        let [public, private, own] =
            ["93.184.215.14:0", "10.0.0.1:0", "[::1]:0"].map(|text| text.parse().expect("an address"));
        assert_eq!(internet.open("a.example", vec![private, public, own]), Ok(vec![public]));
        let refused = internet.open("a.example", vec![private]);
        assert_eq!(refused, Err(Refused::Private("a.example".to_owned())));
        let said = refused.expect_err("refused").to_string();
        assert!(!said.contains("10.0.0.1"), "what a name leads to is not told: {said}");
        assert_eq!(internet.open("proxy.lab", vec![private]), Ok(vec![private]), "the operator's proxy");
        assert_eq!(internet.open("nowhere.example", Vec::new()), Ok(Vec::new()));
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_refused_before_anything_is_sent() {
        // Already installed by another test of this process: fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let bridge = wall(NetworkMode::Bridge, &[], &[]);
        let client = reqwest::Client::builder().no_proxy().dns_resolver(bridge).build().expect("a client");
        let error = client.get("http://localhost:9/").send().await.expect_err("refused");
        assert_eq!(refused(&error), Some(Refused::Never("localhost".to_owned())), "{error:?}");
    }

    #[test]
    fn an_address_of_the_node_is_its_own() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_own(Ipv4Addr::new(192, 0, 2, 77).into()));
    }
}
