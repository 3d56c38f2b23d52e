//! How this machine becomes an agent of its controller and stays one: joins with its token once, renews its credential
//! before it ends, and says what to do when it is not taken any more. Never gives up.

use super::{
    calls::{Client, limited, within},
    line::{Address, Line},
    tls,
};
use crate::{
    credential::{Credential, Secret, Shown, Wallet},
    link::Error,
};
use longshore_common::{
    clock::Timestamp,
    credential::{AgentKey, JoinToken},
    ids::AgentId,
    retry::Backoff,
    shutdown::Shutdown,
    wire,
};
use longshore_proto::v1::{self, enrolment_client::EnrolmentClient};
use rcgen::{CertificateParams, KeyPair};
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

const JOIN: Duration = Duration::from_secs(30);
/// Clocks step and machines sleep: what is due is looked at at least this often.
const LOOK: Duration = Duration::from_secs(600);

/// Clones are the same.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    wallet: Wallet,
    agent: AgentId,
    /// `None`: the credential was given, and there is nothing to join.
    address: Option<Address>,
    /// As configured.
    token: String,
    /// Of a token that brought nothing: it is not tried again and again by a credential that is refused.
    spent: Mutex<Option<String>>,
    hurry: Notify,
    renewed: Notify,
}

impl Access {
    pub fn new(url: &str, token: String, agent: AgentId, wallet: Wallet) -> Result<Self, Error> {
        let address = Some(Address::parse(url)?);
        Ok(Self::of(address, token, agent, wallet))
    }

    /// With a credential that somebody else takes care of.
    pub fn fixed(agent: AgentId, wallet: Wallet) -> Self {
        Self::of(None, String::new(), agent, wallet)
    }

    fn of(address: Option<Address>, token: String, agent: AgentId, wallet: Wallet) -> Self {
        let spent = Mutex::default();
        let (hurry, renewed) = (Notify::new(), Notify::new());
        Self(Arc::new(Inner { wallet, agent, address, token, spent, hurry, renewed }))
    }

    pub(super) fn line(&self) -> Result<Option<Line>, Error> {
        let address = self.0.address.clone();
        address.map(|address| Line::new(address, self.0.wallet.clone())).transpose()
    }

    pub(super) fn wallet(&self) -> &Wallet {
        &self.0.wallet
    }

    /// Returns when there is a credential to show.
    pub(super) async fn ready(&self) -> Result<(), Error> {
        if self.0.wallet.now().is_some() {
            return Ok(());
        }
        self.join().await
    }

    /// The controller does not take the credential. A token that was not used yet may bring another one.
    pub(super) async fn refused(&self, why: Error) -> Error {
        let used = self.0.wallet.now().map(|now| now.token.clone());
        let fresh = self.0.token.parse::<JoinToken>().ok().map(|token| token.id.to_string());
        let tried = self.0.spent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.0.address.is_none() || fresh.is_none() || fresh == used || fresh == tried {
            return why;
        }
        tracing::info!("the agent's credential is not taken any more: joining with the new token");
        match self.join().await {
            Ok(()) => Error::Unreachable("the agent has joined again".to_owned()),
            Err(error) => error,
        }
    }

    /// The controller's authorities are not those of the credential.
    pub(super) fn compare(&self, digest: &[u8]) {
        let Some(now) = self.0.wallet.now() else { return };
        if !digest.is_empty() && Sha256::digest(&now.authorities)[..] != *digest {
            self.0.hurry.notify_one();
        }
    }

    /// Returns when the credential is another one. Cancel-safe.
    pub(super) async fn renewed(&self) {
        self.0.renewed.notified().await;
    }

    /// Renews whenever it is time, until `leave`.
    pub(super) async fn keep(self, client: Client, line: Line, leave: Shutdown) {
        let mut backoff = Backoff::new(Duration::from_secs(1), LOOK);
        loop {
            tokio::select! {
                () = leave.triggered() => return,
                () = self.due() => {}
            }
            match self.renew(client.clone()).await {
                Ok(()) => {
                    backoff.reset();
                    if let Err(error) = line.anew() {
                        tracing::error!(%error, "the renewed credential is not used yet");
                    }
                    self.0.renewed.notify_one();
                }
                Err(error) => {
                    tracing::warn!(%error, "the agent's credential was not renewed; trying again");
                    tokio::select! {
                        () = leave.triggered() => return,
                        () = backoff.wait() => self.0.hurry.notify_one(),
                    }
                }
            }
        }
    }

    async fn due(&self) {
        loop {
            let left = match self.0.wallet.now() {
                Some(now) if now.renew_at() <= Timestamp::now() => return,
                Some(now) => now.renew_at().since(Timestamp::now()).min(LOOK),
                None => LOOK,
            };
            tokio::select! {
                () = self.0.hurry.notified() => return,
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    async fn renew(&self, mut client: Client) -> Result<(), Error> {
        let now = self.0.wallet.now();
        let now = now.ok_or_else(|| Error::Unreachable("the agent has not joined yet".to_owned()))?;
        let secret = fresh(matches!(now.shown, Shown::Certificate { .. }))?;
        let (csr, key_hash) = public(&secret)?;
        let call =
            client.renew(limited(JOIN, v1::RenewRequest { csr: csr.into(), key_hash: key_hash.into() }));
        let answer = within(JOIN, call).await?;
        self.keep_new(now.token.clone(), &secret, answer.credential)?;
        tracing::info!("the agent's credential is renewed");
        Ok(())
    }

    async fn join(&self) -> Result<(), Error> {
        let Some(address) = &self.0.address else {
            return Err(Error::Refused("there is no credential".to_owned()));
        };
        if self.0.token.is_empty() {
            return Err(Error::Refused(
                "this machine has not joined: start the agent with the command that `longshore agents join-token` \
                 prints"
                    .to_owned(),
            ));
        }
        let token: JoinToken = self.0.token.parse().map_err(|error| Error::Refused(format!("{error}")))?;
        let config = match (address.secure, token.fingerprint) {
            (true, Some(fingerprint)) => Some(tls::as_newcomer(fingerprint)?),
            (false, None) => None,
            (true, None) => return Err(Error::Refused(PLAIN_TOKEN.to_owned())),
            (false, Some(_)) => return Err(Error::Refused(TLS_TOKEN.to_owned())),
        };
        let id = token.id.to_string();
        let unkept = |error: crate::home::Error| Error::Refused(error.to_string());
        // Made before: the same again, so that a lost answer costs no use of the token.
        let made = fresh(address.secure)?;
        let secret = self.0.wallet.joining(&id, || made).map_err(unkept)?;
        let (csr, key_hash) = public(&secret)?;
        let mut client = EnrolmentClient::new(address.once(config).await?);
        let request = v1::JoinRequest {
            token: self.0.token.trim().to_owned(),
            agent_id: self.0.agent.as_bytes().to_vec().into(),
            csr: csr.into(),
            key_hash: key_hash.into(),
        };
        let joined = within(JOIN, client.join(limited(JOIN, request))).await;
        if let Err(Error::Refused(_)) = &joined {
            *self.0.spent.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.clone());
        }
        self.keep_new(id, &secret, joined?.credential)?;
        tracing::info!(agent.id = %self.0.agent, "this machine has joined the cluster");
        Ok(())
    }

    fn keep_new(
        &self,
        token: String,
        secret: &Secret,
        answer: Option<v1::AgentCredential>,
    ) -> Result<(), Error> {
        let garbled = |what: &dyn fmt::Display| {
            Error::Refused(format!("the credential that the controller sent cannot be read: {what}"))
        };
        let answer = answer.ok_or_else(|| garbled(&"there is none"))?;
        let shown = match secret {
            Secret::PrivateKey(key) => {
                Shown::Certificate { certificate: hex::encode(&answer.certificate), key: key.clone() }
            }
            Secret::Random(secret) => {
                let id = answer.serial[..].try_into().map_err(|error| garbled(&error))?;
                Shown::Key(AgentKey { agent: self.0.agent, id, secret: *secret }.reveal())
            }
        };
        let valid = wire::required("valid", answer.valid)
            .and_then(|valid| wire::duration_from("valid", &valid))
            .map_err(|error| garbled(&error))?;
        let credential =
            Credential { token, shown, authorities: answer.ca, obtained_at: Timestamp::now(), valid };
        self.0.wallet.put(credential).map_err(|error| Error::Unreachable(error.to_string()))
    }

    /// What a connection that is refused without words means, as far as it is known here.
    pub(super) fn explain(&self, error: Error) -> Error {
        let Some(now) = self.0.wallet.now() else { return error };
        let ended = now.ends_at() <= Timestamp::now() && matches!(now.shown, Shown::Certificate { .. });
        let refused = |why: &str| {
            ["CertificateExpired", "UnknownCA", "CertificateUnknown"].iter().any(|alert| why.contains(alert))
        };
        match error {
            Error::Unreachable(why) if ended => Error::Refused(format!(
                "the agent's certificate ended at {} ({why}): join again with the command that `longshore agents \
                 join-token` prints",
                now.ends_at().to_rfc3339()
            )),
            Error::Unreachable(why) if why.contains("UnknownIssuer") => Error::Refused(format!(
                "the controller's certificate is not of the authority that this agent has joined ({why}): this is \
                 another controller, or its authority was replaced; in that case join again with the command that \
                 `longshore agents join-token` prints"
            )),
            Error::Unreachable(why) if refused(&why) => Error::Refused(format!(
                "the controller does not take the agent's certificate ({why}): join again with the command that \
                 `longshore agents join-token` prints"
            )),
            error => error,
        }
    }
}

const PLAIN_TOKEN: &str = "the join token is of a controller without TLS, and the controller's address begins with \
                           https://: use the command as it was printed";
const TLS_TOKEN: &str = "the join token is of a controller with TLS: its address must begin with https://; use the \
                         command as it was printed";

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("agent", &self.0.agent).finish_non_exhaustive()
    }
}

fn fresh(certificate: bool) -> Result<Secret, Error> {
    if !certificate {
        return Ok(Secret::Random(rand::random()));
    }
    let key = KeyPair::generate().map_err(|error| Error::Refused(format!("no key can be made: {error}")))?;
    Ok(Secret::PrivateKey(key.serialize_pem()))
}

/// The half that may be sent: a request for a certificate, or the hash of a random secret.
fn public(secret: &Secret) -> Result<(Vec<u8>, Vec<u8>), Error> {
    match secret {
        Secret::Random(secret) => Ok((Vec::new(), Sha256::digest(secret).to_vec())),
        Secret::PrivateKey(key) => {
            let request = KeyPair::from_pem(key)
                .and_then(|key| CertificateParams::default().serialize_request(&key))
                .map_err(|error| Error::Refused(format!("the agent's key cannot be used: {error}")))?;
            Ok((request.der().to_vec(), Vec::new()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::process::{Process, WallClock};
    use tokio::time::Instant;

    fn wallet(valid: Duration) -> Wallet {
        let dir = tempfile::tempdir().expect("a folder");
        let home = crate::home::Home::open(dir.path()).expect("the agent's folder");
        let wallet = Wallet::open(&home, crate::credential::Authorities::default()).expect("nothing yet");
        let credential = Credential {
            token: "a".to_owned(),
            shown: Shown::Key("lsk_x".to_owned()),
            authorities: String::new(),
            obtained_at: Timestamp::now(),
            valid,
        };
        wallet.put(credential).expect("kept");
        wallet
    }

    async fn waits(access: &Access) -> Duration {
        let began = Instant::now();
        access.due().await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_is_due_at_two_thirds_of_its_life_or_when_somebody_hurries() {
        let clock = Arc::new(WallClock::new(Timestamp::from_micros(1_800_000_000_000_000)));
        let played = Process::new(Arc::clone(&clock));
        played
            .within(async {
                let day = Duration::from_secs(24 * 3600);
                let access = Access::fixed(AgentId::new(), wallet(60 * day));
                let waited = waits(&access).await;
                assert!(waited >= 40 * day && waited < 40 * day + Duration::from_secs(2), "{waited:?}");
                assert!(waits(&access).await.is_zero(), "still due: what failed is tried again");
                // A machine that slept, or whose clock was put right.
                let access = Access::fixed(AgentId::new(), wallet(60 * day));
                clock.set_ahead(41 * day);
                let waited = waits(&access).await;
                assert!(waited <= LOOK + Duration::from_secs(1), "{waited:?}");
                let access = Access::fixed(AgentId::new(), wallet(60 * day));
                access.0.hurry.notify_one();
                assert!(waits(&access).await.is_zero(), "the authority is another");
            })
            .await;
    }
}
