//! From a join token to a credential, and from one credential to the next.

use super::{Asked, Credential, Enrolment, Error, Proof, same};
use crate::store::{CredentialRow, JoinTokenRow, Tx};
use longshore_common::{
    clock::Timestamp,
    credential::{AgentKey, JoinToken},
    ids::AgentId,
};
use sha2::{Digest as _, Sha256};
use std::sync::PoisonError;

impl Enrolment {
    /// The same token, agent and key again is the same machine, whose first answer was lost: no use is taken.
    pub async fn join(&self, text: &str, agent: AgentId, asked: Asked) -> Result<Credential, Error> {
        let token: JoinToken = text.parse().map_err(|error| Error::Request(format!("{error}")))?;
        let now = Timestamp::now();
        // Strangers get no signature and no turn at the one connection that writes.
        check(&token, self.0.store.join_token(token.id).await?, now)?;
        let binding = asked.binding()?;
        let (credential, row) = self.issue(agent, asked)?;
        let mut tx = self.0.store.begin().await?;
        let known = check(&token, tx.join_token(token.id).await?, now)?;
        if tx.join_use(token.id, agent).await?.is_none_or(|before| before != binding) {
            admit(&mut tx, &known, agent, now).await?;
            tx.use_join_token(token.id, agent, &binding, now).await?;
        }
        // Those of a lost answer, or of a life before.
        tx.drop_other_credentials(agent, &[]).await?;
        tx.forget_broker_salt(agent).await?;
        tx.put_credential(&row).await?;
        tx.commit().await?;
        tracing::info!(agent.id = %agent, token = %token.id, "agent joined");
        self.remember(row, None);
        Ok(credential)
    }

    /// In place of what the call showed, which stays good to its own end.
    pub async fn renew(&self, agent: AgentId, shown: &Proof, asked: Asked) -> Result<Credential, Error> {
        let (credential, row) = self.issue(agent, asked)?;
        let shown = match shown {
            Proof::Certificate(certificate) => &certificate.serial[..],
            Proof::Key(key) => &key.id[..],
        };
        let mut tx = self.0.store.begin().await?;
        // It may have been removed since the guard let the call in.
        let own = tx.credentials_of(agent).await?;
        let good = own.iter().any(|row| row.serial == shown && row.revoked_at.is_none());
        if !good && (!self.0.restored || own.iter().any(|row| row.revoked_at.is_some())) {
            return Err(Error::Removed);
        }
        tx.drop_other_credentials(agent, shown).await?;
        tx.put_credential(&row).await?;
        tx.commit().await?;
        tracing::info!(agent.id = %agent, "agent has renewed its credential");
        self.remember(row, Some(shown));
        Ok(credential)
    }

    /// A key for an agent of this process.
    pub async fn admit(&self, agent: AgentId) -> Result<AgentKey, Error> {
        let secret: [u8; 32] = rand::random();
        let (credential, row) = self.issue(agent, Asked::Key(Sha256::digest(secret).into()))?;
        let mut tx = self.0.store.begin().await?;
        tx.put_credential(&row).await?;
        tx.commit().await?;
        self.remember(row, Some(&[]));
        let id = credential.serial.try_into().map_err(|_| Error::Request("a serial of a key".to_owned()))?;
        Ok(AgentKey { agent, id, secret })
    }

    fn issue(&self, agent: AgentId, asked: Asked) -> Result<(Credential, CredentialRow), Error> {
        let (now, valid) = (Timestamp::now(), self.0.config.credential_valid);
        let mut row = CredentialRow {
            serial: Vec::new(),
            agent,
            hash: None,
            issued_at: now,
            not_after: now.plus(valid),
            revoked_at: None,
        };
        let mut certificate = Vec::new();
        let mut authorities = String::new();
        match (asked, &self.0.pki) {
            (Asked::Certificate(request), Some(pki)) => {
                let issued = pki.sign_agent(agent, &request, valid)?;
                (row.serial, row.not_after, certificate) = (issued.serial, issued.not_after, issued.der);
                authorities = pki.bundle();
            }
            (Asked::Key(hash), None) => {
                let id = self.0.marker.id(agent, row.not_after, &hash);
                (row.serial, row.hash) = (id.to_vec(), Some(hash.to_vec()));
            }
            (Asked::Certificate(_), None) => return Err(wrong("csr", "speaks no TLS: ask for a key")),
            (Asked::Key(_), Some(_)) => return Err(wrong("key_hash", "speaks TLS: ask for a certificate")),
        }
        let credential = Credential {
            serial: row.serial.clone(),
            certificate,
            authorities,
            valid: row.not_after.since(now),
        };
        Ok((credential, row))
    }

    /// After the commit. `kept`: the agent's other credential that stays; `None`: no other one.
    fn remember(&self, row: CredentialRow, kept: Option<&[u8]>) {
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        known.credentials.retain(|serial, other| {
            let stays = kept.is_some_and(|kept| kept.is_empty() || kept == &serial[..]);
            other.agent != row.agent || other.revoked_at.is_some() || stays
        });
        known.credentials.insert(row.serial.clone(), row);
    }
}

impl Asked {
    /// What tells one machine from another that has the same token.
    fn binding(&self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Key(hash) => Ok(hash.to_vec()),
            Self::Certificate(request) => {
                let request = request.as_slice().into();
                let request = rcgen::CertificateSigningRequestParams::from_der(&request)
                    .map_err(|error| Error::from(crate::pki::Error::Request(error)))?;
                use rcgen::PublicKeyData as _;
                Ok(Sha256::digest(request.public_key.der_bytes()).to_vec())
            }
        }
    }
}

fn check(token: &JoinToken, known: Option<JoinTokenRow>, now: Timestamp) -> Result<JoinTokenRow, Error> {
    let known = known.filter(|row| same(&row.hash, &Sha256::digest(token.secret)));
    let known = known.ok_or(Error::UnknownToken)?;
    if known.revoked_at.is_some() {
        return Err(Error::Revoked);
    }
    if known.expires_at <= now {
        return Err(Error::Expired(known.expires_at));
    }
    Ok(known)
}

/// A machine that has not come with this token before.
async fn admit(tx: &mut Tx, token: &JoinTokenRow, agent: AgentId, now: Timestamp) -> Result<(), Error> {
    if token.used >= token.uses {
        return Err(Error::UsedUp(token.uses));
    }
    let others = tx.credentials_of(agent).await?;
    if others.iter().any(|other| other.revoked_at.is_none() && other.not_after > now) {
        return Err(Error::Joined(agent));
    }
    Ok(())
}

fn wrong(field: &str, what: &str) -> Error {
    Error::Request(format!("{field}: this controller {what}"))
}
