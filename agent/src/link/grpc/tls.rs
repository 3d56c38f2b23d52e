//! TLS to the controller: as an agent that shows its certificate, and as a machine that joins and knows nothing but
//! a fingerprint. Public authorities have no say in either.

use crate::{
    credential::{Credential, Shown},
    link::Error,
};
use longshore_common::credential::{AGENT_NAME, JOIN_NAME};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    version::TLS13,
};
use sha2::{Digest as _, Sha256};
use std::{io, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

pub(super) async fn connect(
    stream: TcpStream,
    config: ClientConfig,
    name: &'static str,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name).expect("a constant name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Nothing that is tried again soon.
pub(super) const NOT_THE_ONE: &str = "the controller's authority does not have the fingerprint of the join token: this is \
                                      another controller, or somebody in between; nothing was sent";

pub(super) const AS_AGENT: &str = AGENT_NAME;
pub(super) const AS_NEWCOMER: &str = JOIN_NAME;

/// For an agent with this credential.
pub(super) fn as_agent(credential: &Credential) -> Result<ClientConfig, Error> {
    let wrong = |what: &dyn std::fmt::Display| {
        Error::Refused(format!("the agent's credential cannot be used: {what}; join again"))
    };
    let Shown::Certificate { certificate, key } = &credential.shown else {
        return Err(wrong(&"it is a key, and the controller's address begins with https://"));
    };
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(credential.authorities.as_bytes()) {
        roots.add(root.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    let certificate = hex::decode(certificate).map_err(|error| wrong(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| wrong(&error))?;
    let config = builder()?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate.into()], key)
        .map_err(|error| wrong(&error))?;
    Ok(finished(config))
}

/// For a machine that was told the fingerprint of the controller's authority.
pub(super) fn as_newcomer(fingerprint: [u8; 32]) -> Result<ClientConfig, Error> {
    let verifier = Arc::new(ByFingerprint { fingerprint, provider: Arc::new(ring::default_provider()) });
    let config = builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok(finished(config))
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| Error::Refused(error.to_string()))
}

fn finished(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// Of what the controller shows, trusts the one certificate with this fingerprint, and what it has signed.
#[derive(Debug)]
struct ByFingerprint {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ByFingerprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let wanted = |certificate: &&CertificateDer<'_>| Sha256::digest(certificate)[..] == self.fingerprint;
        let Some(root) = intermediates.iter().find(wanted) else {
            return Err(rustls::Error::General(NOT_THE_ONE.to_owned()));
        };
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
