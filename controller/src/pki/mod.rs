//! TLS of the one port: whether it is on, with which certificates, and the controller's own authority, which signs
//! its agents' certificates. Must never let an agent's connection be resumed: that would outlive its certificate.

mod authority;
mod file;
mod names;
mod policy;
mod server;
#[cfg(test)]
mod tests;

pub use authority::{Authority, Issued};
pub use names::agent_certificate;
pub use policy::{Policy, Refusal};

use longshore_common::{clock::Timestamp, shutdown::Shutdown, tasks};
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use server::{Acceptors, Material};
use sha2::Digest as _;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// Settings of TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: Mode,
    /// Lets others reach the controller without TLS: who listens on the network then reads every secret and token.
    pub insecure: bool,
    /// PEM, for the name of `public_url`; `None`: one of the controller's own authority.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// PEM: the authority that signs agents' certificates, then others that are trusted as well; `None`: the
    /// controller's own, in its data directory.
    pub ca_certificate: Option<PathBuf>,
    pub ca_key: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// On unless only this machine can reach the listener.
    #[default]
    Auto,
    On,
    Off,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Nobody has to set up certificates to try things out, nor to be safe when others come.
            mode: Mode::Auto,
            insecure: false,
            certificate: None,
            key: None,
            ca_certificate: None,
            ca_key: None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{}`: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("`{}`: {what}", path.display())]
    Content { path: PathBuf, what: String },
    #[error("set both of {0} and {1}, or neither")]
    Half(&'static str, &'static str),
    #[error("a certificate was not made: {0}")]
    Signing(#[from] rcgen::Error),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the certificate request is not one: {0}")]
    Request(rcgen::Error),
    #[error(
        "the authority is given by tls.ca_certificate: replace its files, with the old certificate behind the new"
    )]
    Given,
}

impl Error {
    pub const fn is_transient(&self) -> bool {
        false
    }
}

/// Files are looked at again, and certificates renewed.
const TICK: Duration = Duration::from_secs(30);
const FOLDER: &str = "pki";

/// TLS as it is now. Clones are the same.
#[derive(Clone, Debug)]
pub struct Pki(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    folder: PathBuf,
    names: Vec<String>,
    now: RwLock<Arc<Now>>,
}

#[derive(Debug)]
struct Now {
    authority: Authority,
    material: Material,
    acceptors: Acceptors,
}

impl Pki {
    /// `host`: what `public_url` names.
    pub fn open(config: &Config, data_dir: &Path, host: &str) -> Result<Self, Error> {
        let folder = data_dir.join(FOLDER);
        let names = names::of_server(host);
        let now = load(config, &folder, &names)?;
        let now = RwLock::new(Arc::new(now));
        Ok(Self(Arc::new(Inner { config: config.clone(), folder, names, now })))
    }

    /// Renews, and reads files that were replaced, until `shutdown`.
    pub fn keep_fresh(&self, shutdown: Shutdown) {
        let pki = self.clone();
        tasks::spawn("pki", async move {
            loop {
                tokio::select! {
                    () = shutdown.triggered() => return,
                    () = tokio::time::sleep(TICK) => {}
                }
                if let Err(error) = pki.refresh() {
                    tracing::error!(%error, "certificates were not renewed; the old ones go on");
                }
            }
        });
    }

    /// Whether anything changed.
    pub fn refresh(&self) -> Result<bool, Error> {
        let Inner { config, folder, names, now } = &*self.0;
        let current = self.now();
        let stamp = server::stamp(config, folder);
        if stamp == current.material.stamp && !current.material.is_due(Timestamp::now()) {
            return Ok(false);
        }
        let fresh = load(config, folder, names)?;
        tracing::info!(fingerprint = hex::encode(fresh.authority.fingerprint()), "certificates are fresh");
        *now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(true)
    }

    /// How to answer a client that asks for this name.
    pub(crate) fn acceptor(&self, name: Option<&str>) -> Arc<ServerConfig> {
        self.now().acceptors.of(name)
    }

    /// A client certificate for the key of `request` (PKCS #10, DER). Nothing else of the request counts.
    pub fn sign_agent(
        &self,
        agent: longshore_common::ids::AgentId,
        request: &[u8],
        valid: Duration,
    ) -> Result<Issued, Error> {
        self.now().authority.sign_agent(agent, request, valid)
    }

    /// PEM: every authority that is trusted now, the one that signs first.
    pub fn bundle(&self) -> String {
        self.now().authority.bundle()
    }

    /// SHA-256 of the bundle: who has another one asks for it.
    pub fn bundle_digest(&self) -> [u8; 32] {
        sha2::Sha256::digest(self.bundle()).into()
    }

    /// SHA-256 of the certificate of the authority that signs.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.now().authority.fingerprint()
    }

    fn now(&self) -> Arc<Now> {
        Arc::clone(&self.0.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The authority as it is on disk, without a controller. Made if there is none.
pub fn authority(config: &Config, data_dir: &Path) -> Result<Authority, Error> {
    open_authority(config, &data_dir.join(FOLDER))
}

/// A new authority signs from now on; the old one is trusted for `overlap` more. A running controller follows by itself.
pub fn rotate(config: &Config, data_dir: &Path, overlap: Duration) -> Result<Authority, Error> {
    if config.ca_certificate.is_some() {
        return Err(Error::Given);
    }
    let folder = data_dir.join(FOLDER);
    let fresh = open_authority(config, &folder)?.rotated(overlap)?;
    fresh.save(&folder)?;
    Ok(fresh)
}

fn open_authority(config: &Config, folder: &Path) -> Result<Authority, Error> {
    match (&config.ca_certificate, &config.ca_key) {
        (Some(certificate), Some(key)) => Authority::given(certificate, key),
        (None, None) => Authority::own(folder),
        _ => Err(Error::Half("tls.ca_certificate", "tls.ca_key")),
    }
}

fn load(config: &Config, folder: &Path, names: &[String]) -> Result<Now, Error> {
    let stamp = server::stamp(config, folder);
    let authority = open_authority(config, folder)?;
    let stamp = if stamp.is_empty() { server::stamp(config, folder) } else { stamp };
    let material = Material::load(config, &authority, names, stamp)?;
    let acceptors = Acceptors::new(&authority, &material)?;
    Ok(Now { authority, material, acceptors })
}
