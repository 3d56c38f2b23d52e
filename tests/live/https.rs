//! Inputs from a web server over TLS, whose certificate comes from a private authority: what arrives is what was
//! there, and what does not arrive says why.

use longshore_common::tasks;
use longshore_proto::v1::{Input, JobSpec, Stream, input::Source};
use longshore_tests::env::{Client, Cluster, embedded, fresh_dir, image, outcome, shell};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use std::{fs, path::PathBuf, sync::Arc};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

fn noise() -> Vec<u8> {
    (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A web server with a certificate for these names; answers its port.
async fn serve(authority: &Authority, names: &[&str]) -> u16 {
    let key = KeyPair::generate().expect("a key");
    let names = names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let params = CertificateParams::new(names).expect("valid names");
    let certificate = params.signed_by(&key, authority).expect("signed");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .expect("key and certificate belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind a server");
    let port = listener.local_addr().expect("bound").port();
    tasks::spawn("test.web", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            drop(tasks::spawn("test.web.call", async move {
                // A client that does not trust us goes away: that is tried here too.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = String::new();
                let mut reader = BufReader::new(&mut stream);
                if reader.read_line(&mut request).await.is_err() {
                    return;
                }
                let mut rest = String::new();
                while reader.read_line(&mut rest).await.is_ok_and(|read| read > 2) {}
                let answer = answer(request.split(' ').nth(1).unwrap_or_default(), port);
                drop(stream.write_all(&answer).await);
                drop(stream.shutdown().await);
                drop(stream.read_u8().await);
            }));
        }
    });
    port
}

fn answer(path: &str, port: u16) -> Vec<u8> {
    let (status, header, body) = match path {
        "/model.bin" => ("200 OK", String::new(), noise()),
        "/moved" => ("302 Found", format!("Location: https://localhost:{port}/model.bin\r\n"), Vec::new()),
        "/downgraded" => ("302 Found", "Location: http://127.0.0.1:9/model.bin\r\n".to_owned(), Vec::new()),
        "/inwards" => ("302 Found", "Location: https://169.254.169.254/latest\r\n".to_owned(), Vec::new()),
        _ => ("404 Not Found", String::new(), b"nobody has that".to_vec()),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{header}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.into_bytes(), body].concat()
}

/// An agent that trusts this authority, as its unit would say.
fn trusting(authority: &Authority) -> Cluster {
    let file: PathBuf = fresh_dir("authority").join("ca.pem");
    fs::write(&file, authority.pem()).expect("write the authority");
    let file = file.to_str().expect("text").to_owned();
    let settings = "[inputs]\npatience_seconds = 2\nalso = [\"127.0.0.0/8\"]\n";
    embedded().agent(settings).environment("SSL_CERT_FILE", &file).start()
}

fn with_input(url: String) -> JobSpec {
    let mut spec = shell(&image(), "cd /in/web && sha256sum *");
    spec.inputs.insert("web".to_owned(), Input { source: Some(Source::Url(url)) });
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_over_tls_arrives_whole_or_says_why_not() {
    let (ours, others) = (authority(), authority());
    let port = serve(&ours, &["localhost"]).await;
    let untrusted = serve(&others, &["localhost"]).await;
    let misnamed = serve(&ours, &["elsewhere.example"]).await;
    let cluster = trusting(&ours);
    let client = Client::connect(&cluster).await;

    for path in ["model.bin", "moved"] {
        let job = client.run(with_input(format!("https://localhost:{port}/{path}"))).await;
        assert_eq!(outcome(&job), "succeeded", "{job:?}");
        let printed = client.printed(&job.id, Stream::Stdout).await;
        assert_eq!(
            String::from_utf8_lossy(&printed),
            format!("{}  {path}\n", hex::encode(Sha256::digest(noise())))
        );
    }
    let refusals = [
        (format!("https://localhost:{port}/missing"), "answered 404 Not Found"),
        (format!("https://localhost:{port}/inwards"), "leads to this node"),
        (format!("https://localhost:{port}/downgraded"), "redirects to 127.0.0.1 without https"),
        (format!("https://localhost:{untrusted}/model.bin"), "certificate"),
        (format!("https://localhost:{misnamed}/model.bin"), "certificate"),
    ];
    for (url, why) in refusals {
        let job = client.run(with_input(url.clone())).await;
        assert_eq!(outcome(&job), "input_failed", "{url}: {job:?}");
        let detail = job.outcome.clone().expect("it ended").detail;
        assert!(detail.contains(why) && detail.contains("web"), "{url}: {detail}");
        assert!(!detail.contains("nobody has that"), "what the source says is not told: {detail}");
    }
}
