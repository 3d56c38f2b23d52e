use super::*;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use std::os::unix::fs::PermissionsExt as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn open(folder: &TempDir) -> Pki {
    Pki::open(&Config::default(), folder.path(), "ship.example").expect("made")
}

fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("an authority");
    }
    roots
}

fn builder(pem: &str) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("known")
        .with_root_certificates(roots(pem))
}

fn stranger(pem: &str) -> ClientConfig {
    builder(pem).with_no_client_auth()
}

/// A client certificate for a new key.
fn agent(pki: &Pki, valid: Duration) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
    let issued = pki.sign_agent(longshore_common::ids::AgentId::new(), request.der(), valid).expect("signed");
    (vec![issued.der.into()], PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
}

/// How the handshake and a byte each way went, for the client; and whether the server saw a certificate, and asked for one.
async fn connect(pki: &Pki, config: &Arc<ClientConfig>, name: &str) -> Result<bool, String> {
    let (near, far) = duplex(64 << 10);
    let pki = pki.clone();
    let server = tasks::spawn("test.server", async move {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), far).await.ok()?;
        let config = pki.acceptor(start.client_hello().server_name());
        let mut stream = start.into_stream(config).await.ok()?;
        stream.write_all(b"!").await.ok()?;
        stream.flush().await.ok()?;
        let mut end = Vec::new();
        drop(stream.read_to_end(&mut end).await);
        Some(stream.get_ref().1.peer_certificates().is_some())
    });
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connector = TlsConnector::from(Arc::clone(config));
    let mut stream = connector.connect(name, near).await.map_err(|error| error.to_string())?;
    let mut byte = [0];
    stream.read_exact(&mut byte).await.map_err(|error| error.to_string())?;
    stream.shutdown().await.map_err(|error| error.to_string())?;
    drop(stream);
    Ok(server.await.expect("no panic").expect("the server agreed"))
}

#[tokio::test]
async fn agents_must_show_a_certificate_and_nobody_else_is_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let pki = open(&folder);
    let anonymous = Arc::new(stranger(&pki.bundle()));
    for name in ["ship.example", "localhost", "127.0.0.1", "join.longshore"] {
        assert_eq!(connect(&pki, &anonymous, name).await, Ok(false), "{name}");
    }
    let refused = connect(&pki, &anonymous, "agent.longshore").await.expect_err("a certificate is demanded");
    assert!(refused.contains("CertificateRequired"), "{refused}");

    let (chain, key) = agent(&pki, DAY);
    let own = builder(&pki.bundle()).with_client_auth_cert(chain.clone(), key.clone_key()).expect("they fit");
    let own = Arc::new(own);
    assert_eq!(connect(&pki, &own, "agent.longshore").await, Ok(true));
    // It has one and would show it.
    assert_eq!(connect(&pki, &own, "ship.example").await, Ok(false));
    let mut upper = own.as_ref().clone();
    upper.enable_sni = true;
    assert_eq!(connect(&pki, &Arc::new(upper), "AGENT.longshore").await, Ok(true), "names have no case");

    let elsewhere = tempfile::tempdir().expect("a folder");
    let (chain, key) = agent(&open(&elsewhere), DAY);
    let foreign = builder(&pki.bundle()).with_client_auth_cert(chain, key).expect("they fit");
    let refused = connect(&pki, &Arc::new(foreign), "agent.longshore").await.expect_err("not of ours");
    assert!(refused.contains("UnknownCA") || refused.contains("DecryptError"), "{refused}");
    let (chain, key) = agent(&pki, Duration::ZERO);
    let over = builder(&pki.bundle()).with_client_auth_cert(chain, key).expect("they fit");
    let over = Arc::new(over);
    // Certificates count whole seconds.
    let refused = loop {
        if let Err(refused) = connect(&pki, &over, "agent.longshore").await {
            break refused;
        }
    };
    assert!(refused.contains("CertificateExpired"), "{refused}");
}

#[tokio::test]
async fn an_agents_session_cannot_be_resumed_and_others_can() {
    let folder = tempfile::tempdir().expect("a folder");
    let pki = open(&folder);
    for (name, resumable) in [("agent.longshore", false), ("ship.example", true)] {
        let (chain, key) = agent(&pki, DAY);
        let config = builder(&pki.bundle()).with_client_auth_cert(chain, key).expect("they fit");
        let config = Arc::new(config);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let (near, far) = duplex(64 << 10);
            let acceptor = pki.acceptor(Some(name));
            let server = tasks::spawn("test.server", async move {
                let mut stream = tokio_rustls::TlsAcceptor::from(acceptor).accept(far).await.expect("agreed");
                stream.write_all(b"!").await.expect("sent");
                stream.flush().await.expect("sent");
                drop(stream.read_u8().await);
                stream.get_ref().1.handshake_kind()
            });
            let name = ServerName::try_from(name).expect("a name");
            let mut stream =
                TlsConnector::from(Arc::clone(&config)).connect(name, near).await.expect("agreed");
            stream.read_u8().await.expect("tickets come before it");
            stream.shutdown().await.expect("sent");
            kinds.push(server.await.expect("no panic").expect("known"));
        }
        let resumed = kinds[1] == rustls::HandshakeKind::Resumed;
        assert_eq!(resumed, resumable, "{name}: {kinds:?}");
    }
}

#[tokio::test]
async fn an_authority_is_replaced_while_those_who_trust_the_old_one_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let pki = open(&folder);
    let before = pki.bundle();
    let (chain, key) = agent(&pki, DAY);
    let fingerprint = pki.fingerprint();
    let veteran = |pem: &str| {
        let config = builder(pem).with_client_auth_cert(chain.clone(), key.clone_key()).expect("they fit");
        Arc::new(config)
    };
    // Twice: trust goes over several steps.
    for _ in 0..2 {
        rotate(&Config::default(), folder.path(), DAY).expect("rotated");
        assert!(pki.refresh().expect("read again"));
    }
    assert_ne!(pki.fingerprint(), fingerprint);
    assert_eq!(pki.bundle().matches("BEGIN CERTIFICATE").count(), 3);
    assert_eq!(
        connect(&pki, &veteran(&before), "agent.longshore").await,
        Ok(true),
        "the old certificate and bundle"
    );
    assert_eq!(connect(&pki, &veteran(&pki.bundle()), "agent.longshore").await, Ok(true));
    let newest = pki.bundle();
    let newest = newest.split_inclusive("-----END CERTIFICATE-----\n").next().expect("one");
    let (chain, key) = agent(&pki, DAY);
    let recruit = builder(newest).with_client_auth_cert(chain, key).expect("they fit");
    assert_eq!(connect(&pki, &Arc::new(recruit), "agent.longshore").await, Ok(true), "only the new one");

    rotate(&Config::default(), folder.path(), Duration::ZERO).expect("rotated");
    assert!(pki.refresh().expect("read again"));
    assert!(connect(&pki, &veteran(&before), "agent.longshore").await.is_err(), "no overlap, no trust");
    assert!(connect(&pki, &veteran(&pki.bundle()), "agent.longshore").await.is_err());
}

#[test]
fn keys_are_for_their_owner_and_survive() {
    let folder = tempfile::tempdir().expect("a folder");
    let fingerprint = open(&folder).fingerprint();
    let file = folder.path().join("pki/authority.json");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&folder.path().join("pki"))), (0o600, 0o700));
    assert_eq!(open(&folder).fingerprint(), fingerprint);
    assert!(!format!("{:?}", open(&folder)).contains("PRIVATE"));
    std::fs::write(&file, "{}").expect("spoiled");
    let error = Pki::open(&Config::default(), folder.path(), "x").expect_err("not made anew").to_string();
    assert!(error.contains("authority.json"), "{error}");
}

#[tokio::test]
async fn an_operators_certificate_is_shown_under_the_public_name_alone() {
    let (folder, theirs) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["ship.example".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("signed");
    let at = |name: &str| theirs.path().join(name);
    std::fs::write(at("ship.pem"), certificate.pem()).expect("written");
    std::fs::write(at("ship.key"), key.serialize_pem()).expect("written");
    let config = Config { certificate: Some(at("ship.pem")), key: Some(at("ship.key")), ..Config::default() };
    let pki = Pki::open(&config, folder.path(), "ship.example").expect("made");
    assert_eq!(connect(&pki, &Arc::new(stranger(&certificate.pem())), "ship.example").await, Ok(false));
    assert_eq!(connect(&pki, &Arc::new(stranger(&pki.bundle())), "join.longshore").await, Ok(false));
    let half = Config { key: None, ..config.clone() };
    assert!(matches!(Pki::open(&half, folder.path(), "x"), Err(Error::Half(..))));
    std::fs::write(at("ship.key"), rcgen::KeyPair::generate().expect("a key").serialize_pem())
        .expect("written");
    assert!(Pki::open(&config, folder.path(), "x").is_err(), "a key of another certificate");
}

#[tokio::test]
async fn a_given_authority_signs_and_is_not_rotated_here() {
    let (folder, theirs) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).expect("signed");
    let at = |name: &str| theirs.path().join(name);
    std::fs::write(at("ca.pem"), certificate.pem()).expect("written");
    std::fs::write(at("ca.key"), key.serialize_pem()).expect("written");
    let config =
        Config { ca_certificate: Some(at("ca.pem")), ca_key: Some(at("ca.key")), ..Config::default() };
    let pki = Pki::open(&config, folder.path(), "ship.example").expect("made");
    let (chain, key) = agent(&pki, DAY);
    let own = builder(&certificate.pem()).with_client_auth_cert(chain, key).expect("they fit");
    assert_eq!(connect(&pki, &Arc::new(own), "agent.longshore").await, Ok(true));
    assert!(!folder.path().join("pki").exists());
    assert!(matches!(rotate(&config, folder.path(), DAY), Err(Error::Given)));
}
