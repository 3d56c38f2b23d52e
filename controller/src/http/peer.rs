//! Who is at the other end of a connection; every request carries it.

use longshore_common::{clock::Timestamp, ids::AgentId};
use std::net::SocketAddr;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: SocketAddr,
    /// Under TLS.
    pub secure: bool,
    pub agent: Option<AgentCertificate>,
}

/// What a client certificate of our own CA says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentCertificate {
    pub agent: AgentId,
    pub serial: Vec<u8>,
    pub not_after: Timestamp,
}
