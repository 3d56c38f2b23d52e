//! Ids of agents' keys, which say of themselves that they are ours and when they end: a key from before the database
//! was restored from a backup is known by that, as a certificate is by its signature.

use hmac::{Hmac, KeyInit as _, Mac as _};
use longshore_common::{clock::Timestamp, ids::AgentId};
use sha2::Sha256;
use std::fmt;

const ENDS: usize = 4;

#[derive(Clone)]
pub(super) struct Marker(Hmac<Sha256>);

impl Marker {
    pub(super) fn new(secret: &[u8]) -> Self {
        let mut mac: Hmac<Sha256> = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        // The same secret signs page tokens.
        mac.update(b"agent keys\n");
        Self(mac)
    }

    /// Four bytes of seconds, and twelve that only we can make.
    pub(super) fn id(&self, agent: AgentId, not_after: Timestamp, hash: &[u8]) -> [u8; 16] {
        let seconds = not_after.as_micros().div_euclid(1_000_000).clamp(0, i64::from(u32::MAX));
        let ends = u32::try_from(seconds).unwrap_or(u32::MAX).to_be_bytes();
        let mut mac = self.0.clone();
        mac.update(agent.as_bytes());
        mac.update(&ends);
        mac.update(hash);
        let mut id = [0; 16];
        id[..ENDS].copy_from_slice(&ends);
        id[ENDS..].copy_from_slice(&mac.finalize().into_bytes()[..16 - ENDS]);
        id
    }

    /// When the key ends, if it is one of ours.
    pub(super) fn ends(&self, agent: AgentId, id: &[u8; 16], hash: &[u8]) -> Option<Timestamp> {
        let seconds = id.first_chunk().map(|ends| u32::from_be_bytes(*ends))?;
        let not_after = Timestamp::from_micros(i64::from(seconds) * 1_000_000);
        super::same(id, &self.id(agent, not_after, hash)).then_some(not_after)
    }
}

impl fmt::Debug for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Marker")
    }
}
