use super::*;
use longshore_common::credential::JoinToken;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

const HOUR: Duration = Duration::from_secs(3600);

struct Rig {
    enrolment: Enrolment,
    folder: TempDir,
}

async fn open(folder: TempDir, tls: bool, valid: Duration) -> Rig {
    let path = folder.path().join("longshore.db");
    let store = Store::open(&crate::store::Config { path, ..Default::default() }).await.expect("opens");
    let pki =
        tls.then(|| Pki::open(&crate::pki::Config::default(), folder.path(), "localhost").expect("made"));
    let config = Config { credential_valid: valid };
    let enrolment = Enrolment::open(store, pki, config).await.expect("opens");
    Rig { enrolment, folder }
}

async fn rig(tls: bool) -> Rig {
    open(tempfile::tempdir().expect("a folder"), tls, HOUR).await
}

impl Rig {
    async fn token(&self, uses: u32, valid: Duration) -> JoinToken {
        let new = NewJoinToken { uses, valid, created_by: String::new() };
        self.enrolment.create_join_token(new).await.expect("made").0
    }

    async fn join(&self, token: &JoinToken, agent: AgentId, asked: Asked) -> Result<Credential, Error> {
        self.enrolment.join(&token.reveal(), agent, asked).await
    }

    /// From a backup.
    async fn restored(self, tls: bool) -> Self {
        let (database, copy) = (self.folder.path().join("longshore.db"), self.folder.path().join("copy.db"));
        self.enrolment.0.store.close().await;
        crate::store::backup(&database, &copy).await.expect("copied");
        crate::store::restore(&copy, &database, true).await.expect("restored");
        open(self.folder, tls, HOUR).await
    }

    async fn again(self, tls: bool) -> Self {
        self.enrolment.0.store.close().await;
        open(self.folder, tls, HOUR).await
    }
}

fn key() -> ([u8; 32], Asked) {
    let secret: [u8; 32] = rand::random();
    (secret, Asked::Key(Sha256::digest(secret).into()))
}

fn csr() -> Asked {
    let key = KeyPair::generate().expect("a key");
    let request = CertificateParams::default().serialize_request(&key).expect("a request");
    Asked::Certificate(request.der().to_vec())
}

fn text(agent: AgentId, credential: &Credential, secret: [u8; 32]) -> String {
    AgentKey { agent, id: credential.serial[..].try_into().expect("an id"), secret }.reveal()
}

#[tokio::test]
async fn a_key_is_good_until_it_ends_is_renewed_or_its_agent_removed() {
    let rig = rig(false).await;
    let (agent, (secret, asked)) = (AgentId::new(), key());
    let token = rig.token(1, HOUR).await;
    let first = rig.join(&token, agent, asked).await.expect("joined");
    let shown = text(agent, &first, secret);
    assert_eq!(rig.enrolment.by_key(&shown), Ok(agent));
    let other = text(agent, &first, [9; 32]);
    assert_eq!(rig.enrolment.by_key(&other), Err(Denied::Unknown));
    assert_eq!(rig.enrolment.by_key(&text(AgentId::new(), &first, secret)), Err(Denied::Unknown));
    assert_eq!(rig.enrolment.by_key("lsk_"), Err(Denied::Unknown));

    let (next_secret, asked) = key();
    let proof = Proof::Key(shown.parse().expect("a key"));
    let next = rig.enrolment.renew(agent, &proof, asked).await.expect("renewed");
    let next = text(agent, &next, next_secret);
    assert_eq!((rig.enrolment.by_key(&shown), rig.enrolment.by_key(&next)), (Ok(agent), Ok(agent)));
    // What is stored says the same.
    let rig = rig.again(false).await;
    assert_eq!((rig.enrolment.by_key(&shown), rig.enrolment.by_key(&next)), (Ok(agent), Ok(agent)));

    // On no record it is nobody's, but where a backup that knows nothing of it was restored.
    rig.enrolment.0.known.write().expect("no panic").credentials.clear();
    assert_eq!(rig.enrolment.by_key(&shown), Err(Denied::Unknown));
    let rig = rig.restored(false).await;
    rig.enrolment.0.known.write().expect("no panic").credentials.clear();
    assert_eq!(rig.enrolment.by_key(&shown), Ok(agent));
    for wrong in [text(AgentId::new(), &first, secret), text(agent, &first, [9; 32])] {
        assert_eq!(rig.enrolment.by_key(&wrong), Err(Denied::Unknown));
    }
    let rig = rig.again(false).await;

    rig.enrolment.remove(agent).await.expect("removed");
    for shown in [&shown, &next] {
        assert_eq!(rig.enrolment.by_key(shown), Err(Denied::Removed));
    }
    let rig = rig.again(false).await;
    assert_eq!(rig.enrolment.by_key(&next), Err(Denied::Removed));
}

#[tokio::test]
async fn a_removed_agent_comes_back_neither_by_its_used_token_nor_by_a_renewal_under_way() {
    let rig = rig(false).await;
    let (agent, (secret, asked)) = (AgentId::new(), key());
    let token = rig.token(1, HOUR).await;
    let first = rig.join(&token, agent, asked.clone()).await.expect("joined");
    rig.join(&token, agent, asked.clone()).await.expect("the answer was lost");
    let shown = Proof::Key(text(agent, &first, secret).parse().expect("a key"));
    rig.enrolment.remove(agent).await.expect("removed");
    let again = rig.join(&token, agent, asked).await.expect_err("its one use is gone");
    assert!(matches!(again, Error::UsedUp(1)), "{again}");
    // The guard had let it in before the removal.
    let late = rig.enrolment.renew(agent, &shown, key().1).await.expect_err("removed meanwhile");
    assert!(matches!(late, Error::Removed), "{late}");
    let token = rig.token(1, HOUR).await;
    let (secret, asked) = key();
    let back = rig.join(&token, agent, asked).await.expect("let in anew");
    let shown = Proof::Key(text(agent, &back, secret).parse().expect("a key"));
    rig.enrolment.renew(agent, &shown, key().1).await.expect("renewed");
}

#[tokio::test]
async fn a_token_lets_in_as_many_as_it_says_and_no_more() {
    let rig = rig(false).await;
    let token = rig.token(2, HOUR).await;
    let (agent, (_, asked)) = (AgentId::new(), key());
    rig.join(&token, agent, asked.clone()).await.expect("the first");
    rig.join(&token, agent, asked).await.expect("its answer was lost: no use is taken");
    let error = rig.join(&token, agent, key().1).await.expect_err("another machine under its name");
    assert!(matches!(error, Error::Joined(_)), "{error}");
    rig.join(&token, AgentId::new(), key().1).await.expect("the second");
    let error = rig.join(&token, AgentId::new(), key().1).await.expect_err("a third");
    assert!(error.to_string().contains("used 2 times"), "{error}");
    assert_eq!(rig.enrolment.join_tokens().await.expect("listed")[0].used, 2);

    rig.enrolment.remove(agent).await.expect("removed");
    let token = rig.token(1, HOUR).await;
    rig.join(&token, agent, key().1).await.expect("a removed one may come again, with a new token");
}

#[tokio::test]
async fn tokens_that_are_over_revoked_or_made_up_say_so() {
    let rig = rig(false).await;
    let refused = async |token: &JoinToken| {
        rig.join(token, AgentId::new(), key().1).await.expect_err("refused").to_string()
    };
    let over = rig.token(1, Duration::ZERO).await;
    assert!(refused(&over).await.contains("expired at"));
    let revoked = rig.token(1, HOUR).await;
    rig.enrolment.revoke_join_token(revoked.id).await.expect("revoked");
    assert!(refused(&revoked).await.contains("was revoked"));
    let good = rig.token(1, HOUR).await;
    let guessed = JoinToken { secret: [0; 32], ..good.clone() };
    assert!(refused(&guessed).await.contains("not known here"));
    assert!(refused(&JoinToken::new([0; 8], [0; 32], None)).await.contains("not known here"));
    rig.join(&good, AgentId::new(), key().1).await.expect("and none of that used it up");
}

#[tokio::test]
async fn a_certificate_is_its_agents_alone_and_ends() {
    let rig = rig(true).await;
    let agent = AgentId::new();
    let token = rig.token(1, HOUR).await;
    assert_eq!(token.fingerprint, rig.enrolment.pki().map(Pki::fingerprint));
    assert!(matches!(rig.join(&token, agent, key().1).await, Err(Error::Request(_))), "no keys with TLS");
    let given = rig.join(&token, agent, csr()).await.expect("joined");
    let shown = crate::pki::agent_certificate(&given.certificate).expect("an agent's");
    assert_eq!((shown.agent, &shown.serial), (agent, &given.serial));
    assert_eq!(rig.enrolment.by_certificate(&shown), Ok(agent));
    let ended =
        AgentCertificate { not_after: Timestamp::now().minus(Duration::from_secs(1)), ..shown.clone() };
    assert!(matches!(rig.enrolment.by_certificate(&ended), Err(Denied::Ended(_))));
    let stolen = AgentCertificate { agent: AgentId::new(), ..shown.clone() };
    assert_eq!(rig.enrolment.by_certificate(&stolen), Err(Denied::Unknown));
    let key = AgentKey { agent, id: [1; 16], secret: [1; 32] }.reveal();
    assert_eq!(rig.enrolment.by_key(&key), Err(Denied::NotShown), "no bearer secrets beside certificates");

    let unknown = AgentCertificate { serial: vec![1; 16], ..shown.clone() };
    assert_eq!(rig.enrolment.by_certificate(&unknown), Err(Denied::Unknown));
    // From before a restore: on no record, signed by us.
    let rig = rig.restored(true).await;
    assert_eq!(rig.enrolment.by_certificate(&unknown), Ok(agent));
    rig.enrolment.remove(agent).await.expect("removed");
    assert_eq!(rig.enrolment.by_certificate(&shown), Err(Denied::Removed));
    assert_eq!(rig.enrolment.by_certificate(&unknown), Err(Denied::Removed));
}

#[tokio::test]
async fn what_is_asked_for_in_a_request_beside_its_key_counts_for_nothing() {
    let rig = rig(true).await;
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["agent.longshore".to_owned()]).expect("names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, AgentId::new().to_string());
    let request = params.serialize_request(&key).expect("a request").der().to_vec();
    let agent = AgentId::new();
    let token = rig.token(1, HOUR).await;
    let given = rig.join(&token, agent, Asked::Certificate(request)).await.expect("joined");
    assert_eq!(crate::pki::agent_certificate(&given.certificate).expect("an agent's").agent, agent);
    let (_, certificate) = x509_parser::parse_x509_certificate(&given.certificate).expect("parses");
    assert!(!certificate.is_ca());
    assert!(certificate.subject_alternative_name().expect("readable").is_none());
    let usage = certificate.extended_key_usage().expect("readable").expect("said").value;
    assert!(usage.client_auth && !usage.server_auth);
    let error = rig.join(&token, agent, Asked::Certificate(vec![1, 2, 3])).await.expect_err("no request");
    assert!(matches!(error, Error::Request(_)), "{error}");
}
