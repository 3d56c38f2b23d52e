//! Chooses the addresses of the agent's bridge. Left to itself the engine gives each bridge a sixteenth of
//! 172.16.0.0/12 and has none left after some thirty.

use std::net::Ipv4Addr;

/// 198.18.0.0/15 is set apart for benchmarks between networks (RFC 2544): no office, home or cloud uses it.
const BASE: u32 = 0xc612_0000;
/// 510 addresses: more containers than an agent runs.
const PREFIX: u8 = 23;
const BLOCKS: u32 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    first: u32,
    prefix: u8,
}

impl Block {
    fn overlaps(self, other: Self) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix.min(other.prefix))).unwrap_or(0);
        self.first & mask == other.first & mask
    }

    /// `198.18.2.0/23`
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let first = u32::from(address.parse::<Ipv4Addr>().ok()?);
        Some(Self { first, prefix: prefix.parse().ok().filter(|prefix| *prefix <= 32)? })
    }
}

/// Free blocks, best first: no route of the host and no network of the engine has them. `seed` spreads the agents
/// of one engine, which choose at the same time.
pub(super) fn free(seed: u32, routes: &str, networks: &[String]) -> Vec<String> {
    let mut taken: Vec<_> = networks.iter().filter_map(|text| Block::parse(text)).collect();
    taken.extend(routes.lines().filter_map(route));
    (0..BLOCKS)
        .map(|turn| (seed.wrapping_add(turn)) % BLOCKS)
        .map(|number| Block { first: BASE + (number << (32 - PREFIX)), prefix: PREFIX })
        .filter(|block| !taken.iter().any(|other| block.overlaps(*other)))
        .map(|block| format!("{}/{PREFIX}", Ipv4Addr::from(block.first)))
        .collect()
}

/// A line of `/proc/net/route`: interface, destination and (eighth) mask in reversed hexadecimal.
fn route(line: &str) -> Option<Block> {
    let mut words = line.split_whitespace().skip(1);
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
    let first = number(words.next()?)?;
    let mask = number(words.nth(5)?)?;
    let prefix = u8::try_from(mask.leading_ones()).ok()?;
    // The default route has everything and means nothing.
    (prefix > 0).then_some(Block { first, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        tun0\t000012C6\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";

    #[test]
    fn blocks_that_a_route_or_a_network_has_are_left_out() {
        let networks = ["198.19.0.0/23".to_owned(), "fd00::/64".to_owned(), "172.17.0.0/16".to_owned()];
        let free = free(0, ROUTES, &networks);
        assert_eq!(free.len(), 127, "the tunnel has one half, a network one block");
        assert_eq!(free[0], "198.19.2.0/23");
    }

    #[test]
    fn agents_begin_at_different_blocks_and_come_round() {
        let (first, second) = (free(7, "", &[]), free(255, "", &[]));
        assert_eq!((first[0].as_str(), first.len()), ("198.18.14.0/23", 256));
        assert_eq!((second[0].as_str(), second[1].as_str()), ("198.19.254.0/23", "198.18.0.0/23"));
    }

    #[test]
    fn overlap_goes_both_ways() {
        let block = |text| Block::parse(text).expect("a block");
        assert!(block("198.18.2.0/23").overlaps(block("198.18.0.0/16")));
        assert!(block("198.18.0.0/16").overlaps(block("198.18.3.0/24")));
        assert!(!block("198.18.2.0/23").overlaps(block("198.18.4.0/23")));
        assert!(block("0.0.0.0/0").overlaps(block("198.18.4.0/23")));
    }
}
