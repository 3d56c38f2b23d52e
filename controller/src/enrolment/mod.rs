//! Who may be an agent: join tokens, and the credentials that come of them. With TLS a credential is a certificate of
//! the controller's authority, without it a key of the agent's. Asked at every call; must never remember an answer
//! longer than the call.

mod error;
mod join;
mod mark;
#[cfg(test)]
mod tests;
mod tokens;

pub use error::{Denied, Error};
pub use tokens::{JoinTokenView, NewJoinToken};

use crate::{
    http::peer::AgentCertificate,
    pki::Pki,
    store::{CredentialRow, Store},
};
use longshore_common::{
    clock::Timestamp,
    credential::AgentKey,
    ids::{AgentId, Epoch},
};
use mark::Marker;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long an agent's certificate or key is good; agents renew at two thirds of it.
    pub credential_valid: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // A machine that is switched off over the holidays comes back by itself.
            credential_valid: Duration::from_secs(60 * 24 * 3600),
        }
    }
}

/// A new credential, for the agent that asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub serial: Vec<u8>,
    /// DER; empty: a key, which the agent has already.
    pub certificate: Vec<u8>,
    /// PEM.
    pub authorities: String,
    pub valid: Duration,
}

/// The agent's own half of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A request for a certificate, PKCS #10.
    Certificate(Vec<u8>),
    /// SHA-256 of its secret.
    Key([u8; 32]),
}

/// What a call showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    Certificate(AgentCertificate),
    Key(AgentKey),
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Enrolment(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    pki: Option<Pki>,
    config: Config,
    marker: Marker,
    /// From a backup: credentials that were made after it are good and on no record.
    restored: bool,
    /// As committed.
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    credentials: HashMap<Vec<u8>, CredentialRow>,
}

impl Enrolment {
    pub(crate) async fn open(store: Store, pki: Option<Pki>, config: Config) -> Result<Self, Error> {
        let mut known = Known::default();
        for row in store.credentials().await? {
            known.credentials.insert(row.serial.clone(), row);
        }
        let cluster = store.cluster().await?;
        let (marker, restored) = (Marker::new(&cluster.token_key), cluster.epoch > Epoch(1));
        Ok(Self(Arc::new(Inner { store, pki, config, marker, restored, known: RwLock::new(known) })))
    }

    /// TLS, if this controller speaks it.
    pub fn pki(&self) -> Option<&Pki> {
        self.0.pki.as_ref()
    }

    /// Whose certificate this is, if it is good now.
    pub fn by_certificate(&self, shown: &AgentCertificate) -> Result<AgentId, Denied> {
        if shown.not_after <= Timestamp::now() {
            return Err(Denied::Ended(shown.not_after));
        }
        let known = self.known();
        match known.credentials.get(&shown.serial) {
            Some(row) if row.revoked_at.is_some() => Err(Denied::Removed),
            Some(row) if row.agent != shown.agent || row.hash.is_some() => Err(Denied::Unknown),
            Some(row) if row.not_after <= Timestamp::now() => Err(Denied::Ended(row.not_after)),
            Some(row) => Ok(row.agent),
            None if !self.0.restored => Err(Denied::Unknown),
            // Signed by us and not on record: from before the database was restored from a backup. Of an agent that
            // was ever removed nothing is taken on trust.
            None if known.was_removed(shown.agent) => Err(Denied::Removed),
            None => Ok(shown.agent),
        }
    }

    /// Whose key this is, if it is good now. A controller with TLS takes none.
    pub fn by_key(&self, text: &str) -> Result<AgentId, Denied> {
        let key = text.parse().map_err(|_| Denied::Unknown)?;
        self.check(&Proof::Key(key))
    }

    /// The agent that this proves, if it is still good.
    pub fn check(&self, proof: &Proof) -> Result<AgentId, Denied> {
        let key = match proof {
            Proof::Certificate(certificate) => return self.by_certificate(certificate),
            Proof::Key(_) if self.0.pki.is_some() => return Err(Denied::NotShown),
            Proof::Key(key) => key,
        };
        let known = self.known();
        let shown = Sha256::digest(key.secret);
        let Some(row) = known.credentials.get(&key.id[..]) else {
            // As with certificates: from before a restore.
            return match self.0.marker.ends(key.agent, &key.id, &shown) {
                None => Err(Denied::Unknown),
                Some(_) if !self.0.restored => Err(Denied::Unknown),
                Some(_) if known.was_removed(key.agent) => Err(Denied::Removed),
                Some(end) if end <= Timestamp::now() => Err(Denied::Ended(end)),
                Some(_) => Ok(key.agent),
            };
        };
        let good = row.agent == key.agent && row.hash.as_ref().is_some_and(|hash| same(hash, &shown));
        if !good {
            return Err(Denied::Unknown);
        }
        if row.revoked_at.is_some() {
            return Err(Denied::Removed);
        }
        if row.not_after <= Timestamp::now() {
            return Err(Denied::Ended(row.not_after));
        }
        Ok(row.agent)
    }

    /// Nothing that the agent has is good any more.
    pub async fn remove(&self, agent: AgentId) -> Result<(), Error> {
        let now = Timestamp::now();
        let mut tx = self.0.store.begin().await?;
        tx.remove_agent(agent, now).await?;
        tx.commit().await?;
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        for row in known.credentials.values_mut().filter(|row| row.agent == agent) {
            row.revoked_at.get_or_insert(now);
        }
        Ok(())
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn was_removed(&self, agent: AgentId) -> bool {
        self.credentials.values().any(|row| row.agent == agent && row.revoked_at.is_some())
    }
}

/// Takes as long wherever the first difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |all, (l, r)| all | (l ^ r)) == 0
}
