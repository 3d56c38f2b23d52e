//! A controller with TLS and agents that join it: over real sockets, with certificates of its own authority.

use async_trait::async_trait;
use longshore_agent::{
    credential::{Authorities, Wallet},
    home::Home,
    host::fake::FakeHost,
    link::{
        Event, Report, Reporter,
        grpc::{self, Access, Settings},
    },
};
use longshore_common::{
    agent::{AgentIdentity, Inventory},
    credential::{AGENT_NAME, JOIN_NAME, JoinToken},
    ids::{AgentId, SessionId},
    shutdown::Shutdown,
};
use longshore_controller::{enrolment::NewJoinToken, pki};
use longshore_proto::v1::{
    self, GetArtifactUrlsRequest, JobState, agent_link_client::AgentLinkClient,
    enrolment_client::EnrolmentClient, jobs_client::JobsClient,
};
use longshore_tests::local::{Local, scripted};
use rcgen::{CertificateParams, KeyPair};
use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_job_goes_all_its_way_over_tls() {
    let local = Local::secured(&[Arc::new(FakeHost::new())], DAY).await;
    assert!(local.url.starts_with("https://127.0.0.1:"), "{}", local.url);
    let job = local.submit(scripted(&[("FAKE_STDOUT", "hello"), ("FAKE_FILES", "a.txt:3000000")])).await;
    let job = local.finished(&job.id).await;
    assert_eq!(job.state(), JobState::Succeeded, "{job:#?}");
    assert_eq!(local.get(&job.id).await.attempts[0].artifact_count, 1);
    let request = GetArtifactUrlsRequest { job: job.id, paths: vec!["a.txt".into()], ..Default::default() };
    let urls = format!("{:?}", local.jobs.clone().get_artifact_urls(request).await.expect("signed"));
    assert!(urls.contains(&local.url), "bytes went over TLS too: {urls}");
    local.stop().await;
}

/// What an agent shows, as its data directory has it.
fn credential(local: &Local) -> serde_json::Value {
    let text = fs::read(local.folder().join("agent-0/credential.json")).expect("it has joined");
    serde_json::from_slice(&text).expect("JSON")
}

#[tokio::test]
async fn an_agent_follows_when_the_authority_is_replaced() {
    let local = Local::secured(&[Arc::new(FakeHost::new())], DAY).await;
    let job = local.submit(scripted(&[])).await;
    local.finished(&job.id).await;
    let before = credential(&local);
    pki::rotate(&pki::Config::default(), &local.folder().join("controller"), DAY).expect("rotated");
    let context = local.context();
    assert!(context.enrolment.pki().expect("TLS").refresh().expect("read again"));
    for agent in context.jobs.agents() {
        // It links again, and is told that there is another bundle.
        context.links.end(agent.identity.id);
    }
    while credential(&local)["authorities"] == before["authorities"] {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = credential(&local);
    assert_ne!(after["shown"], before["shown"], "a certificate of the new authority");
    assert_eq!(after["authorities"].as_str().expect("PEM").matches("BEGIN").count(), 2);
    let job = local.submit(scripted(&[("FAKE_FILES", "a.txt:5")])).await;
    assert_eq!(local.finished(&job.id).await.state(), JobState::Succeeded);
    local.stop().await;
}

/// An agent's certificate, by hand.
async fn joined(local: &Local) -> (AgentId, Identity) {
    let key = KeyPair::generate().expect("a key");
    let csr = CertificateParams::default().serialize_request(&key).expect("a request").der().to_vec();
    let agent = AgentId::new();
    let request = v1::JoinRequest {
        token: local.join_token(1, HOUR).await,
        agent_id: agent.as_bytes().to_vec().into(),
        csr: csr.into(),
        ..v1::JoinRequest::default()
    };
    let mut enrolment = EnrolmentClient::new(channel(local, JOIN_NAME, None));
    let answer = enrolment.join(request).await.expect("joined").into_inner().credential.expect("there");
    let pem = pem(&answer.certificate);
    (agent, Identity::from_pem(pem, key.serialize_pem()))
}

fn pem(der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}

fn channel(local: &Local, name: &str, identity: Option<Identity>) -> Channel {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(local.authorities()));
    tls = tls.domain_name(name);
    if let Some(identity) = identity {
        tls = tls.identity(identity);
    }
    let endpoint = Channel::from_shared(local.url.clone()).expect("an address");
    endpoint.tls_config(tls).expect("they fit").connect_lazy()
}

async fn speak(link: &mut AgentLinkClient<Channel>) -> Result<(), tonic::Status> {
    link.append_logs(v1::AppendLogsRequest { appends: Vec::new() }).await.map(drop)
}

#[tokio::test]
async fn a_certificate_that_ends_during_a_connection_is_refused_at_the_next_call() {
    let local = Local::secured(&[], Duration::from_secs(3)).await;
    let (_, identity) = joined(&local).await;
    let mut link = AgentLinkClient::new(channel(&local, AGENT_NAME, Some(identity.clone())));
    let mut calls = 0;
    let refused = loop {
        match speak(&mut link).await {
            Ok(()) => calls += 1,
            Err(refused) => break refused,
        }
    };
    assert!(calls > 0, "it was good at first: {refused:?}");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(
        refused.message().contains("ended at") && refused.message().contains("join-token"),
        "{refused:?}"
    );
    // And a new connection does not come to be, a second later at most: handshakes count whole ones.
    loop {
        let mut late = AgentLinkClient::new(channel(&local, AGENT_NAME, Some(identity.clone())));
        if speak(&mut late).await.expect_err("expired").code() != Code::Unauthenticated {
            break;
        }
    }
    local.stop().await;
}

#[tokio::test]
async fn an_agents_certificate_opens_its_own_service_alone_until_it_is_removed() {
    let local = Local::secured(&[], DAY).await;
    let (agent, identity) = joined(&local).await;
    let as_agent = channel(&local, AGENT_NAME, Some(identity.clone()));
    let mut link = AgentLinkClient::new(as_agent.clone());
    speak(&mut link).await.expect("its own service");
    let others = JobsClient::new(as_agent).list(v1::ListJobsRequest::default()).await;
    assert_eq!(others.expect_err("not a person").code(), Code::Unauthenticated);
    // Under another name nobody asks for the certificate.
    let mut public = AgentLinkClient::new(channel(&local, "localhost", Some(identity)));
    assert_eq!(speak(&mut public).await.expect_err("not shown").code(), Code::Unauthenticated);
    let mut impostor = link.clone();
    let request = v1::ClaimRequest {
        agent_id: AgentId::new().as_bytes().to_vec().into(),
        ..v1::ClaimRequest::default()
    };
    assert_eq!(impostor.claim(request).await.expect_err("another's name").code(), Code::PermissionDenied);

    local.context().enrolment.remove(agent).await.expect("removed");
    let refused = speak(&mut link).await.expect_err("removed");
    assert!(refused.code() == Code::Unauthenticated && refused.message().contains("removed"), "{refused:?}");
    local.stop().await;
}

#[derive(Debug)]
struct Idle;

#[async_trait]
impl Reporter for Idle {
    fn inventory(&self) -> Inventory {
        Inventory::default()
    }

    fn report(&self) -> Report {
        Report::default()
    }

    async fn changed(&self) {
        std::future::pending().await
    }
}

/// What a new machine that is started with this token says of itself.
async fn told(url: &str, token: &str) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let home = Home::open(dir.path()).expect("a home");
    let wallet = Wallet::open(&home, Authorities::default()).expect("empty");
    let access = Access::new(url, token.to_owned(), home.id(), wallet).expect("an address");
    let identity = AgentIdentity {
        id: home.id(),
        name: "new".to_owned(),
        version: "0".to_owned(),
        boot_id: "b".to_owned(),
        session: SessionId::new(),
        labels: BTreeMap::new(),
        pool: "default".to_owned(),
    };
    let leave = Shutdown::new();
    let settings = Settings { url: url.to_owned(), access, identity, heartbeat_every: None };
    let mut linked = grpc::start(settings, Arc::new(Idle), leave.clone()).expect("started");
    let event = tokio::time::timeout(Duration::from_secs(60), linked.events.recv()).await.expect("in time");
    leave.trigger();
    match event.expect("news") {
        Event::Disconnected { reason } => reason,
        Event::Connected(_) => "welcome".to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_join_token_that_is_not_good_says_why_and_what_to_do() {
    let local = Local::secured(&[], DAY).await;
    let url = local.url.clone();
    let good = local.join_token(1, HOUR).await;
    assert_eq!(told(&url, &good).await, "welcome");
    let used = told(&url, &good).await;
    assert!(used.contains("has been used 1 times") && used.contains("make another"), "{used}");
    let expired = told(&url, &local.join_token(1, Duration::ZERO).await).await;
    assert!(expired.contains("expired at"), "{expired}");

    let enrolment = &local.context().enrolment;
    let new = NewJoinToken { uses: 1, valid: HOUR, created_by: String::new() };
    let (token, _) = enrolment.create_join_token(new).await.expect("made");
    enrolment.revoke_join_token(token.id).await.expect("revoked");
    let revoked = told(&url, &token.reveal()).await;
    assert!(revoked.contains("was revoked"), "{revoked}");

    let fresh: JoinToken = local.join_token(1, HOUR).await.parse().expect("a token");
    let false_one = JoinToken { fingerprint: Some([7; 32]), ..fresh.clone() };
    let wrong = told(&url, &false_one.reveal()).await;
    assert!(wrong.contains("fingerprint") && wrong.contains("nothing was sent"), "{wrong}");
    assert_eq!(told(&url, &fresh.reveal()).await, "welcome", "nor was it used up");
    let plain = JoinToken { fingerprint: None, ..fresh };
    let unfit = told(&url, &plain.reveal()).await;
    assert!(unfit.contains("without TLS"), "{unfit}");
    let cut = told(&url, &good[..40]).await;
    assert!(cut.contains("damaged or not whole"), "{cut}");
    let none = told(&url, "").await;
    assert!(none.contains("join-token"), "{none}");
    local.stop().await;
}
