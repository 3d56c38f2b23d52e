//! Names in certificates: those a server answers to, and the agent that a client certificate is of.

use crate::http::peer::AgentCertificate;
use longshore_common::{
    clock::Timestamp,
    credential::{AGENT_NAME, JOIN_NAME},
    ids::AgentId,
};

/// The public name, the two that agents ask for, and this machine's own.
pub(super) fn of_server(host: &str) -> Vec<String> {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let mut names = vec![host];
    for own in [AGENT_NAME, JOIN_NAME, "localhost", "127.0.0.1", "::1"] {
        if !names.iter().any(|name| name == own) {
            names.push(own.to_owned());
        }
    }
    names
}

/// What a client certificate that the handshake has verified says; `None`: it is not one of an agent.
pub fn agent_certificate(der: &[u8]) -> Option<AgentCertificate> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(AgentCertificate {
        agent: name.parse::<AgentId>().ok()?,
        serial: certificate.raw_serial().to_vec(),
        not_after: Timestamp::from_micros(
            certificate.validity().not_after.timestamp().saturating_mul(1_000_000),
        ),
    })
}
