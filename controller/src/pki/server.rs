//! The three faces of the port: agents show a certificate and are never resumed, machines that join see the
//! authority's own certificate, everybody else the public one and is asked for nothing.

use super::{Authority, Config, Error, authority, file};
use longshore_common::{
    clock::Timestamp,
    credential::{AGENT_NAME, JOIN_NAME},
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use std::{fmt, fs, path::Path, sync::Arc, time::Duration, time::SystemTime};

/// Of the controller's own server certificate.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// Changes with the files that certificates come from.
pub(super) type Stamp = Vec<SystemTime>;

pub(super) fn stamp(config: &Config, folder: &Path) -> Stamp {
    let own = folder.join(authority::FILE);
    let files = [&config.certificate, &config.key, &config.ca_certificate, &config.ca_key];
    let files = files.into_iter().flatten().map(|path| path.as_path()).chain([own.as_path()]);
    files.filter_map(|path| fs::metadata(path).and_then(|file| file.modified()).ok()).collect()
}

/// Certificates as chain and key.
pub(super) struct Material {
    own: (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    /// The operator's.
    public: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    pub(super) stamp: Stamp,
    due: Timestamp,
}

impl Material {
    pub(super) fn load(
        config: &Config,
        authority: &Authority,
        names: &[String],
        stamp: Stamp,
    ) -> Result<Self, Error> {
        let now = Timestamp::now();
        let own = authority.server(names, now.plus(LIFE))?;
        let renewed = now.plus(LIFE * 2 / 3);
        let due = authority.next_end().map_or(renewed, |end| end.min(renewed));
        let public = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => Some((authority::chain(certificate)?, key_of(key)?)),
            (None, None) => None,
            _ => return Err(Error::Half("tls.certificate", "tls.key")),
        };
        Ok(Self { own, public, stamp, due })
    }

    /// Our own certificate is to be renewed, or an older authority's time is over.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.due
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("due", &self.due).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct Acceptors {
    agents: Arc<ServerConfig>,
    join: Arc<ServerConfig>,
    public: Arc<ServerConfig>,
}

impl Acceptors {
    pub(super) fn new(authority: &Authority, material: &Material) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let (chain, key) = &material.own;
        let roots = Arc::new(authority.roots()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut agents = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())?;
        // A resumed session is not verified again: it would outlive its certificate.
        agents.session_storage = Arc::new(NoServerSessionStorage {});
        agents.send_tls13_tickets = 0;
        let join = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key.clone_key())?;
        let (chain, key) = material.public.as_ref().unwrap_or(&material.own);
        let public = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key.clone_key())?;
        Ok(Self { agents: finished(agents), join: finished(join), public: finished(public) })
    }

    pub(super) fn of(&self, name: Option<&str>) -> Arc<ServerConfig> {
        let is = |own: &str| name.is_some_and(|name| name.eq_ignore_ascii_case(own));
        Arc::clone(if is(AGENT_NAME) {
            &self.agents
        } else if is(JOIN_NAME) {
            &self.join
        } else {
            &self.public
        })
    }
}

fn finished(mut config: ServerConfig) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn key_of(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let text = file::read(path)?;
    let wrong = |error: rustls::pki_types::pem::Error| Error::Content {
        path: path.to_owned(),
        what: format!("holds no private key in PEM: {error}"),
    };
    PrivateKeyDer::from_pem_slice(&text).map_err(wrong)
}
