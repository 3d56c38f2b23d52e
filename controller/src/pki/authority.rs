//! The authority that signs: its certificate and key, and the older ones that are still trusted. An older one has
//! signed the newer one's key too (the cross certificate), so that whoever trusts the older alone finds its way; its
//! own key is thrown away with that.

use super::{Error, file};
use longshore_common::{clock::Timestamp, ids::AgentId};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, pem::PemObject as _},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{fmt, path::Path, time::Duration};
use time::OffsetDateTime;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Rotated long before, by whoever cares; nothing breaks for those who do not.
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// Clocks of nodes that lag behind ours take it all the same.
const BACKDATED: Duration = DAY;
pub(super) const FILE: &str = "authority.json";

pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    older: Vec<Older>,
}

/// Trusted for a while yet.
#[derive(Clone)]
struct Older {
    certificate: CertificateDer<'static>,
    /// The next newer one's key, signed by this one. A given authority brings none.
    cross: Option<CertificateDer<'static>>,
    until: Option<Timestamp>,
}

/// A client certificate of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    pub serial: Vec<u8>,
    pub der: Vec<u8>,
    pub not_after: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    certificate: String,
    key: String,
    older: Vec<StoredOlder>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredOlder {
    certificate: String,
    cross: String,
    until: Timestamp,
}

impl Authority {
    /// Of the data directory; the first start makes it.
    pub(super) fn own(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        if !path.exists() {
            let fresh = Self::generate()?;
            fresh.save(folder)?;
            return Ok(fresh);
        }
        let content = |what: String| Error::Content { path: path.clone(), what };
        let stored: Stored =
            serde_json::from_slice(&file::read(&path)?).map_err(|error| content(error.to_string()))?;
        let certificate = parse(&stored.certificate).map_err(content)?;
        let key = KeyPair::from_pem(&stored.key).map_err(|error| content(error.to_string()))?;
        let mut older = Vec::new();
        for old in stored.older {
            older.push(Older {
                certificate: parse(&old.certificate).map_err(content)?,
                cross: Some(parse(&old.cross).map_err(content)?),
                until: Some(old.until),
            });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { certificate, issuer, older })
    }

    /// The operator's.
    pub(super) fn given(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let wrong = |path: &Path, what: String| Error::Content { path: path.to_owned(), what };
        let all = chain(certificate)?;
        let pem = String::from_utf8_lossy(&file::read(key)?).into_owned();
        let pair = KeyPair::from_pem(&pem).map_err(|error| wrong(key, error.to_string()))?;
        let mut all = all.into_iter();
        let first = all.next().ok_or_else(|| wrong(certificate, "holds no certificate".to_owned()))?;
        let issuer = Issuer::from_ca_cert_der(&first, pair)
            .map_err(|error| wrong(certificate, format!("is no authority's: {error}")))?;
        let older = all.map(|certificate| Older { certificate, cross: None, until: None }).collect();
        Ok(Self { certificate: first, issuer, older })
    }

    fn generate() -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let params = authority_params();
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { certificate, issuer: Issuer::new(params, key), older: Vec::new() })
    }

    /// The next one, and this one among the older for as long as `overlap`.
    pub(super) fn rotated(self, overlap: Duration) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let params = authority_params();
        let certificate = params.self_signed(&key)?.der().clone();
        let mut older = Vec::new();
        if !overlap.is_zero() {
            let cross = Some(params.signed_by(&key, &self.issuer)?.der().clone());
            let until = Some(Timestamp::now().plus(overlap));
            older.push(Older { certificate: self.certificate, cross, until });
            older.extend(self.older.into_iter().filter(Older::is_trusted));
        }
        Ok(Self { certificate, issuer: Issuer::new(params, key), older })
    }

    pub(super) fn save(&self, folder: &Path) -> Result<(), Error> {
        let older = self.trusted().filter_map(|old| {
            Some(StoredOlder {
                certificate: pem(&old.certificate),
                cross: pem(old.cross.as_ref()?),
                until: old.until?,
            })
        });
        let stored = Stored {
            certificate: pem(&self.certificate),
            key: self.issuer.key().serialize_pem(),
            older: older.collect(),
        };
        let text = serde_json::to_vec_pretty(&stored).expect("texts and numbers");
        file::write(&folder.join(FILE), &text)
    }

    pub(super) fn sign_agent(
        &self,
        agent: AgentId,
        request: &[u8],
        valid: Duration,
    ) -> Result<Issued, Error> {
        let request = CertificateSigningRequestDer::from(request);
        let request = CertificateSigningRequestParams::from_der(&request).map_err(Error::Request)?;
        let mut serial: [u8; 16] = rand::random();
        // A positive number of exactly this length, so that it reads back as the same bytes.
        serial[0] = serial[0] & 0x7f | 0x40;
        // Certificates count whole seconds.
        let end = Timestamp::now().plus(valid).as_micros().div_euclid(1_000_000);
        let mut params = leaf_params(&agent.to_string(), ExtendedKeyUsagePurpose::ClientAuth, seconds(end));
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let certificate = params.signed_by(&request.public_key, &self.issuer)?;
        Ok(Issued {
            serial: serial.to_vec(),
            der: certificate.der().to_vec(),
            not_after: Timestamp::from_micros(end * 1_000_000),
        })
    }

    /// Leaf first, and behind it all that leads to any trusted authority.
    pub(super) fn server(
        &self,
        names: &[String],
        until: Timestamp,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let key = KeyPair::generate()?;
        let end = seconds(until.as_micros().div_euclid(1_000_000));
        let mut params = leaf_params("Longshore controller", ExtendedKeyUsagePurpose::ServerAuth, end);
        params.subject_alt_names = CertificateParams::new(names.to_vec())?.subject_alt_names;
        let mut chain = vec![params.signed_by(&key, &self.issuer)?.der().clone()];
        chain.extend(self.trusted().filter_map(|old| old.cross.clone()));
        // Agents that join look for the one they were told the fingerprint of.
        chain.extend(self.certificates().cloned());
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|what| Error::Tls(rustls::Error::General(what.to_owned())))?;
        Ok((chain, key))
    }

    /// For verifying agents.
    pub(super) fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates() {
            roots.add(certificate.clone())?;
        }
        Ok(roots)
    }

    /// PEM, the one that signs first.
    pub fn bundle(&self) -> String {
        self.certificates().map(pem).collect()
    }

    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// When the next of the older ones loses its trust.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.trusted().filter_map(|old| old.until).min()
    }

    fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        std::iter::once(&self.certificate).chain(self.trusted().map(|old| &old.certificate))
    }

    fn trusted(&self) -> impl Iterator<Item = &Older> {
        self.older.iter().filter(|old| old.is_trusted())
    }
}

impl Older {
    fn is_trusted(&self) -> bool {
        self.until.is_none_or(|until| until > Timestamp::now())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("fingerprint", &hex::encode(self.fingerprint()))
            .finish_non_exhaustive()
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    let generation: [u8; 4] = rand::random();
    params.distinguished_name = named(&format!("Longshore authority {}", hex::encode(generation)));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = Timestamp::now();
    params.not_before = offset(now.minus(BACKDATED));
    params.not_after = offset(now.plus(AUTHORITY_LIFE));
    params
}

fn leaf_params(name: &str, usage: ExtendedKeyUsagePurpose, end: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params.not_before = offset(Timestamp::now().minus(BACKDATED));
    params.not_after = end;
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn offset(time: Timestamp) -> OffsetDateTime {
    seconds(time.as_micros().div_euclid(1_000_000))
}

fn seconds(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Every certificate of a PEM file.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |what: String| Error::Content { path: path.to_owned(), what };
    let text = file::read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| wrong(error.to_string()))?;
    if all.is_empty() {
        return Err(wrong("holds no certificate in PEM".to_owned()));
    }
    Ok(all)
}

fn parse(text: &str) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| error.to_string())
}

fn pem(certificate: &CertificateDer<'static>) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let body = STANDARD.encode(certificate);
    let lines = body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
    let lines: String = lines.collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}
