//! The link against a small controller over real sockets.

use super::*;
use crate::link::{Claimed, Event, Report};
use async_trait::async_trait;
use longshore_common::{
    agent::{Capacity, FinishReport, HeldAttempt, Holdings, Inventory, Offer, Usage},
    ids::{AgentId, AttemptRef, ClaimId, ClusterId, Epoch, JobId, SessionId},
    job::{JobState, Outcome},
    queue::{Consumer as _, Lane},
    wire,
};
use longshore_proto::v1::{
    self,
    agent_link_server::{AgentLink, AgentLinkServer},
    link_request::Message as Up,
    link_response::Message as Down,
};
use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Mutex, PoisonError},
};
use tokio::{net::TcpListener, sync::Notify};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Streaming};

type Answer<T> = Result<Response<T>, Status>;

/// One link that was opened: what came up, and what to send down.
struct Opened {
    up: Streaming<v1::LinkRequest>,
    down: mpsc::Sender<Result<v1::LinkResponse, Status>>,
}

#[derive(Clone)]
struct Server {
    opened: mpsc::Sender<Opened>,
    finishes: mpsc::Sender<usize>,
    go: Arc<Notify>,
    claim: Arc<Mutex<Option<Code>>>,
}

fn unused<T>() -> Answer<T> {
    Err(Status::unimplemented("not in this test"))
}

#[tonic::async_trait]
impl AgentLink for Server {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<v1::LinkResponse, Status>> + Send>>;

    async fn link(&self, request: Request<Streaming<v1::LinkRequest>>) -> Answer<Self::LinkStream> {
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer lsk_key");
        let (down, messages) = mpsc::channel(16);
        let opened = Opened { up: request.into_inner(), down };
        assert!(self.opened.send(opened).await.is_ok());
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn claim(&self, _: Request<v1::ClaimRequest>) -> Answer<v1::ClaimResponse> {
        match *self.claim.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(code) => Err(Status::new(code, "scripted")),
            None => Ok(Response::new(v1::ClaimResponse::default())),
        }
    }

    async fn finish(&self, request: Request<v1::FinishRequest>) -> Answer<v1::FinishResponse> {
        let reports = request.into_inner().reports;
        self.finishes.send(reports.len()).await.expect("the test listens");
        self.go.notified().await;
        let fenced = v1::RequestError { code: Code::FailedPrecondition as i32, ..Default::default() };
        let result = |report: &v1::FinishReport| v1::FinishResult {
            error: (report.detail == "fenced").then(|| fenced.clone()),
        };
        Ok(Response::new(v1::FinishResponse { results: reports.iter().map(result).collect() }))
    }

    type ExecStream = Pin<Box<dyn Stream<Item = Result<v1::AgentExecResponse, Status>> + Send>>;

    async fn exec(&self, _: Request<Streaming<v1::AgentExecRequest>>) -> Answer<Self::ExecStream> {
        unused()
    }

    async fn renew(&self, _: Request<v1::RenewRequest>) -> Answer<v1::RenewResponse> {
        unused()
    }

    async fn append_logs(&self, _: Request<v1::AppendLogsRequest>) -> Answer<v1::AppendLogsResponse> {
        unused()
    }

    async fn resume_log(&self, _: Request<v1::ResumeLogRequest>) -> Answer<v1::ResumeLogResponse> {
        unused()
    }

    async fn fetch_input(&self, _: Request<v1::FetchInputRequest>) -> Answer<v1::FetchInputResponse> {
        unused()
    }

    async fn fetch_secrets(&self, _: Request<v1::FetchSecretsRequest>) -> Answer<v1::FetchSecretsResponse> {
        unused()
    }

    async fn open_uploads(&self, _: Request<v1::OpenUploadsRequest>) -> Answer<v1::OpenUploadsResponse> {
        unused()
    }

    async fn complete_uploads(
        &self,
        _: Request<v1::CompleteUploadsRequest>,
    ) -> Answer<v1::CompleteUploadsResponse> {
        unused()
    }

    async fn put_manifest(&self, _: Request<v1::PutManifestRequest>) -> Answer<v1::PutManifestResponse> {
        unused()
    }
}

#[derive(Debug, Default)]
struct Told {
    held: Mutex<Vec<HeldAttempt>>,
    changed: Notify,
}

#[async_trait]
impl Reporter for Told {
    fn inventory(&self) -> Inventory {
        Inventory { arch: "amd64".to_owned(), ..Inventory::default() }
    }

    fn report(&self) -> Report {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Report {
            held,
            free: Capacity::default(),
            gpus: Vec::new(),
            note: "a note".to_owned(),
            closed: "a reason".to_owned(),
            slots: 3,
            disk_low: false,
            holdings: Some(Holdings { images: ["a:1".to_owned()].into(), ..Holdings::default() }),
            caches_bytes: 7,
            leaving: Some(Duration::from_secs(9)),
        }
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }
}

struct Rig {
    linked: Linked,
    told: Arc<Told>,
    opened: mpsc::Receiver<Opened>,
    finishes: mpsc::Receiver<usize>,
    server: Server,
}

async fn rig() -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (opened_sender, opened) = mpsc::channel(16);
    let (finish_sender, finishes) = mpsc::channel(16);
    let server =
        Server { opened: opened_sender, finishes: finish_sender, go: Arc::default(), claim: Arc::default() };
    let router = tonic::transport::Server::builder().add_service(AgentLinkServer::new(server.clone()));
    drop(tasks::spawn("server", router.serve_with_incoming(TcpListenerStream::new(listener))));
    let told = Arc::new(Told::default());
    let identity = AgentIdentity {
        id: AgentId::new(),
        name: "bench".to_owned(),
        version: "0".to_owned(),
        boot_id: "b".to_owned(),
        session: SessionId::new(),
        labels: BTreeMap::new(),
        pool: "default".to_owned(),
    };
    let wallet = crate::credential::Wallet::fixed("lsk_key".to_owned());
    let access = Access::new(&url, String::new(), identity.id, wallet).unwrap();
    let settings = Settings { url, access, identity, heartbeat_every: None };
    let linked = start(settings, Arc::<Told>::clone(&told), Shutdown::new()).unwrap();
    Rig { linked, told, opened, finishes, server }
}

impl Rig {
    /// Accepts the next link.
    async fn welcome(&mut self) -> Opened {
        let mut link = self.opened.recv().await.unwrap();
        let Up::Hello(hello) = link.next().await else { panic!("no hello") };
        assert_eq!(hello.name, "bench");
        link.say(Down::Welcome(v1::Welcome {
            protocol: 1,
            cluster_id: ClusterId::new().to_string(),
            epoch: 1,
            heartbeat_every: Some(wire::duration_to(Duration::from_secs(3600))),
            queue: None,
            lanes: vec!["default.cpu".to_owned()],
            ca: bytes::Bytes::new(),
        }))
        .await;
        let Some(Event::Connected(welcome)) = self.linked.events.recv().await else {
            panic!("not connected")
        };
        assert_eq!(welcome.lanes, [Lane::new("default", false)]);
        link
    }
}

impl Opened {
    async fn next(&mut self) -> Up {
        self.up.message().await.unwrap().unwrap().message.unwrap()
    }

    async fn heartbeat(&mut self) -> v1::Heartbeat {
        loop {
            if let Up::Heartbeat(heartbeat) = self.next().await {
                return heartbeat;
            }
        }
    }

    async fn say(&self, message: Down) {
        self.down.send(Ok(v1::LinkResponse { message: Some(message) })).await.unwrap();
    }
}

fn attempt() -> AttemptRef {
    AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) }
}

fn report(detail: &str) -> FinishReport {
    FinishReport {
        attempt: attempt(),
        outcome: Outcome::Succeeded,
        detail: detail.to_owned(),
        log_end: 0,
        manifest_pages: 0,
        artifact_count: 0,
        artifact_bytes: 0,
        usage: Usage::default(),
        started_at: None,
        digest: None,
        exited_at: None,
        notes: Vec::new(),
    }
}

#[tokio::test]
async fn a_change_goes_up_at_once_and_orders_come_down() {
    let mut rig = rig().await;
    let mut link = rig.welcome().await;
    let first = link.heartbeat().await;
    assert_eq!((first.held.len(), first.note.as_str()), (0, "a note"));
    assert_eq!((first.closed_because.as_str(), first.slots), ("a reason", Some(3)));
    assert_eq!(first.leaving.map(|left| left.seconds), Some(9));
    let held = HeldAttempt {
        attempt: attempt(),
        phase: JobState::Running,
        started_at: None,
        digest: None,
        exited_at: None,
        usage: Usage::default(),
    };
    let late = HeldAttempt { attempt: attempt(), ..held.clone() };
    let listed = vec![held.clone(), late.clone()];
    rig.told.held.lock().unwrap().extend(listed.clone());
    rig.told.changed.notify_one();
    // The next regular heartbeat is an hour away.
    let second = link.heartbeat().await;
    assert_eq!(second.held, listed.iter().map(v1::HeldAttempt::from).collect::<Vec<_>>());
    assert!(second.sequence > first.sequence);
    // What lies there is told once, and again when it has changed.
    assert_eq!((first.holdings.expect("told").images, second.holdings), (vec!["a:1".to_owned()], None));

    let (fenced, expired) = (vec![held.attempt.into()], vec![late.attempt.into()]);
    link.say(Down::Renewed(v1::Renewed { sequence: 2, fenced, expired })).await;
    let Some(Event::Renewed { renewed, fenced, asked_at }) = rig.linked.events.recv().await else {
        panic!("an answer to the second heartbeat")
    };
    assert_eq!((renewed, fenced), (vec![], vec![held.attempt]));
    assert!(asked_at <= tokio::time::Instant::now());
}

#[tokio::test]
async fn lanes_go_up_and_hints_come_down() {
    let mut rig = rig().await;
    let mut link = rig.welcome().await;
    let lane = Lane::new("default", false);
    rig.linked.bell.consume(std::slice::from_ref(&lane)).await.unwrap();
    loop {
        if let Up::Listen(listen) = link.next().await
            && listen.lanes == ["default.cpu"]
        {
            break;
        }
    }
    link.say(Down::Work(v1::Work { lane: lane.to_string(), hints: 1 })).await;
    assert_eq!(rig.linked.bell.next().await.lane, lane);
}

#[tokio::test]
async fn a_link_that_ends_is_opened_again() {
    let mut rig = rig().await;
    for _ in 0..3 {
        let link = rig.welcome().await;
        drop(link);
        let event = rig.linked.events.recv().await;
        assert!(matches!(event, Some(Event::Disconnected { .. })), "{event:?}");
    }
}

#[tokio::test]
async fn reports_that_wait_go_together_and_each_gets_its_answer() {
    let mut rig = rig().await;
    let controller = Arc::clone(&rig.linked.controller);
    let finish = |detail: &'static str| {
        let controller = Arc::clone(&controller);
        tasks::spawn("finish", async move { controller.finish(report(detail)).await })
    };
    let first = finish("");
    assert_eq!(rig.finishes.recv().await, Some(1));
    let fenced = finish("fenced");
    let others: Vec<_> = (0..20).map(|_| finish("")).collect();
    // They wait while the first call is under way.
    tokio::task::yield_now().await;
    rig.server.go.notify_one();
    assert!(first.await.unwrap().is_ok());
    let mut seen = 0;
    while seen < 21 {
        seen += rig.finishes.recv().await.unwrap();
        rig.server.go.notify_one();
    }
    assert!(matches!(fenced.await.unwrap(), Err(Error::Fenced(_))));
    for other in others {
        assert!(other.await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn a_status_says_whether_to_try_again() {
    let rig = rig().await;
    let claim = async |code| {
        *rig.server.claim.lock().unwrap() = code;
        let offer = Offer {
            free: Capacity::default(),
            gpus: vec![],
            slots: 1,
            labels: BTreeMap::new(),
            pool: "default".to_owned(),
            lanes: vec![],
        };
        rig.linked.controller.claim(ClaimId::new(), offer, BTreeMap::new()).await
    };
    assert_eq!(claim(None).await.unwrap(), Claimed { grants: vec![], lanes: BTreeMap::new() });
    for code in [Code::Unavailable, Code::ResourceExhausted, Code::Internal, Code::DeadlineExceeded] {
        assert!(claim(Some(code)).await.unwrap_err().is_transient(), "{code:?}");
    }
    assert!(matches!(claim(Some(Code::FailedPrecondition)).await, Err(Error::Fenced(_))));
    assert!(matches!(claim(Some(Code::Unauthenticated)).await, Err(Error::Denied(_))));
    for code in [Code::InvalidArgument, Code::PermissionDenied, Code::DataLoss] {
        assert!(matches!(claim(Some(code)).await, Err(Error::Refused(_))), "{code:?}");
    }
}
