//! Who is at the other end of a connection, as far as the connection itself tells. With every request, as an
//! extension. Knows nothing of tokens.

use longshore_common::{clock::Timestamp, ids::AgentId};
use std::net::SocketAddr;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: SocketAddr,
    /// Over TLS.
    pub secure: bool,
    /// Shown in the handshake and signed by a trusted authority. Whether it is still good is for every call to ask.
    pub agent: Option<AgentCertificate>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentCertificate {
    pub agent: AgentId,
    pub serial: Vec<u8>,
    pub not_after: Timestamp,
}
