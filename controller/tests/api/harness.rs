//! A controller, its clients, and an agent driven by hand.

use longshore_common::{
    clock::Timestamp,
    ids::{AgentId, ClaimId, SessionId},
    logs::{RecordHeader, Stream},
    shutdown::Shutdown,
    wire::Credentials,
};
use longshore_controller::{Controller, ControllerConfig, Running, identity};
use longshore_proto::v1::{
    self, agent_link_client::AgentLinkClient, jobs_client::JobsClient, link_request, link_response::Message,
};
use std::{num::NonZeroU32, ops::RangeInclusive, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, service::interceptor::InterceptedService, transport::Channel};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Authorized = InterceptedService<Channel, Credentials>;

/// What the first token of the controller with this folder opens.
pub(crate) fn admin(folder: &Path) -> Credentials {
    Credentials::new(&admin_text(folder), "").expect("plain text")
}

pub(crate) fn admin_text(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join(identity::ADMIN_TOKEN)).expect("made at the first start");
    text.trim().to_owned()
}

/// A channel that shows this text, a token or an agent's key.
pub(crate) fn showing(cluster: &Cluster, text: &str) -> Authorized {
    InterceptedService::new(cluster.bare.clone(), Credentials::new(text, "").expect("plain text"))
}

pub(crate) struct Cluster {
    pub(crate) running: Running,
    pub(crate) folder: TempDir,
    pub(crate) jobs: JobsClient<Authorized>,
    /// With the first token.
    pub(crate) channel: Authorized,
    /// With none.
    pub(crate) bare: Channel,
}

pub(crate) fn config(folder: &Path) -> ControllerConfig {
    ControllerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: folder.to_owned(),
        // A table of refusals is no guessing.
        limits: identity::Config { failures_per_minute: NonZeroU32::MAX, ..identity::Config::default() },
        ..ControllerConfig::default()
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder")).await
    }

    /// One that hears so many refusals a minute from one address.
    pub(crate) async fn start_limited(failures: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = config(folder.path());
        config.limits.failures_per_minute = NonZeroU32::new(failures).expect("some");
        Self::start_as(config, folder).await
    }

    pub(crate) async fn start_in(folder: TempDir) -> Self {
        Self::start_as(config(folder.path()), folder).await
    }

    pub(crate) async fn start_as(config: ControllerConfig, folder: TempDir) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let running = Controller::start(config, Shutdown::new()).await.expect("started");
        let channel = Channel::from_shared(running.base_url.clone()).expect("an address");
        let channel = channel.tcp_nodelay(true).connect().await.expect("connected");
        let bare = channel.clone();
        let channel = InterceptedService::new(channel, admin(folder.path()));
        Self { bare, jobs: JobsClient::new(channel.clone()), channel, running, folder }
    }

    /// Stops it and gives its data back.
    pub(crate) async fn stop(self) -> TempDir {
        let Self { running, folder, .. } = self;
        running.shutdown.trigger();
        tokio::time::timeout(PATIENCE, running.join()).await.expect("leaves in time");
        folder
    }

    pub(crate) async fn submit(&self, spec: v1::JobSpec) -> v1::Job {
        let request = v1::SubmitRequest { spec: Some(spec), ..v1::SubmitRequest::default() };
        let answer = self.jobs.clone().submit(request).await.expect("submitted");
        answer.into_inner().job.expect("a job")
    }

    pub(crate) async fn get(&self, job: &str) -> v1::GetJobResponse {
        let request = v1::GetJobRequest { job: job.to_owned() };
        self.jobs.clone().get(request).await.expect("there").into_inner()
    }

    pub(crate) async fn until_queued(&self, job: &str) {
        let started = tokio::time::Instant::now();
        let mut job = self.get(job).await.job.expect("a job");
        while job.state() != v1::JobState::Queued {
            assert!(started.elapsed() < PATIENCE, "{job:?}");
            let request = v1::WaitJobRequest { job: job.id, after_revision: job.revision, timeout: None };
            job = self.jobs.clone().wait(request).await.expect("answered").into_inner().job.expect("a job");
        }
    }

    /// The job when it has ended.
    pub(crate) async fn wait(&self, job: &str) -> v1::Job {
        let request = v1::WaitJobRequest { job: job.to_owned(), ..v1::WaitJobRequest::default() };
        let answer = self.jobs.clone().wait(request).await.expect("answered").into_inner();
        assert!(answer.finished, "{answer:?}");
        answer.job.expect("a job")
    }
}

pub(crate) fn spec(image: &str) -> v1::JobSpec {
    v1::JobSpec { image: image.to_owned(), ..v1::JobSpec::default() }
}

pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

/// A log of lines as an agent encodes it.
pub(crate) fn lines(first: u64, texts: &[&str]) -> bytes::Bytes {
    let mut out = Vec::new();
    for (sequence, text) in (first..).zip(texts) {
        let time = Timestamp::from_micros(1_700_000_000_000_000);
        RecordHeader { sequence, time, stream: Stream::Stdout, partial: false }
            .encode(text.as_bytes(), &mut out);
    }
    out.into()
}

/// An agent whose every step the test takes.
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) session: SessionId,
    pub(crate) link: AgentLinkClient<Authorized>,
    pub(crate) up: mpsc::Sender<v1::LinkRequest>,
    pub(crate) down: Streaming<v1::LinkResponse>,
    pub(crate) welcome: v1::Welcome,
}

pub(crate) fn capacity() -> v1::Capacity {
    v1::Capacity { cpu_millis: 64_000, memory_bytes: 1 << 38, scratch_bytes: 1 << 42, gpus: 0 }
}

impl Agent {
    pub(crate) async fn connect(cluster: &Cluster, name: &str) -> Self {
        Self::connect_as(cluster, AgentId::new(), name).await
    }

    /// Another process of it.
    pub(crate) async fn restarted(&self, cluster: &Cluster) -> Self {
        Self::connect_as(cluster, self.id, "restarted").await
    }

    async fn connect_as(cluster: &Cluster, id: AgentId, name: &str) -> Self {
        Self::greet(cluster, id, name, longshore_common::wire::PROTOCOLS).await.expect("linked")
    }

    /// One of another version, which speaks these protocols.
    pub(crate) async fn speaking(
        cluster: &Cluster,
        name: &str,
        protocols: RangeInclusive<u32>,
    ) -> Result<Self, Status> {
        Self::greet(cluster, AgentId::new(), name, protocols).await
    }

    async fn greet(
        cluster: &Cluster,
        id: AgentId,
        name: &str,
        protocols: RangeInclusive<u32>,
    ) -> Result<Self, Status> {
        let session = SessionId::new();
        let key = cluster.running.enrol(id).await.expect("enrolled");
        let mut link = AgentLinkClient::new(showing(cluster, &key));
        let (up, requests) = mpsc::channel(16);
        let hello = v1::Hello {
            protocol_min: *protocols.start(),
            protocol_max: *protocols.end(),
            agent_id: id.as_bytes().to_vec().into(),
            name: name.to_owned(),
            version: "0".to_owned(),
            boot_id: "boot".to_owned(),
            session: session.as_bytes().to_vec().into(),
            pool: "default".to_owned(),
            inventory: Some(v1::Inventory {
                arch: "amd64".to_owned(),
                total: Some(capacity()),
                allocatable: Some(capacity()),
                ..v1::Inventory::default()
            }),
            ..v1::Hello::default()
        };
        up.send(request(link_request::Message::Hello(hello))).await.expect("room");
        let mut down = link.link(ReceiverStream::new(requests)).await?.into_inner();
        let first = down.message().await.expect("a message").expect("not the end");
        let Some(Message::Welcome(welcome)) = first.message else { panic!("no welcome: {first:?}") };
        Ok(Self { id, session, link, up, down, welcome })
    }

    pub(crate) async fn say(&self, message: link_request::Message) {
        self.up.send(request(message)).await.expect("the link is up");
    }

    /// The next message down.
    pub(crate) async fn hear(&mut self) -> Message {
        let heard = tokio::time::timeout(PATIENCE, self.down.message()).await.expect("in time");
        heard.expect("a message").expect("not the end").message.expect("of some kind")
    }

    /// The next one that is not about cordons, which come whenever they do.
    pub(crate) async fn hear_of_work(&mut self) -> Message {
        loop {
            match self.hear().await {
                Message::Orders(_) => {}
                other => return other,
            }
        }
    }

    pub(crate) async fn claim(&mut self) -> Vec<v1::Grant> {
        let answer = self.link.claim(self.claim_request()).await.expect("answered");
        answer.into_inner().grants
    }

    pub(crate) fn claim_request(&self) -> v1::ClaimRequest {
        v1::ClaimRequest {
            claim_id: ClaimId::new().as_bytes().to_vec().into(),
            agent_id: self.id.as_bytes().to_vec().into(),
            session: self.session.as_bytes().to_vec().into(),
            offer: Some(v1::Offer {
                free: Some(capacity()),
                slots: 100,
                pool: "default".to_owned(),
                lanes: self.welcome.lanes.clone(),
                ..v1::Offer::default()
            }),
            hints: std::collections::HashMap::new(),
        }
    }

    /// Claims until the job is granted.
    pub(crate) async fn claim_one(&mut self) -> v1::AttemptRef {
        let mut grants = self.claim().await;
        assert_eq!(grants.len(), 1, "{grants:?}");
        grants.remove(0).r#ref.expect("a reference")
    }

    pub(crate) async fn append(
        &mut self,
        attempt: &v1::AttemptRef,
        offset: u64,
        data: bytes::Bytes,
    ) -> v1::LogAppended {
        let append = v1::LogAppend { r#ref: Some(attempt.clone()), offset, data };
        let request = v1::AppendLogsRequest { appends: vec![append] };
        self.link.append_logs(request).await.expect("answered").into_inner().results.remove(0)
    }

    /// Uploads files and puts them into the manifest's only page.
    pub(crate) async fn store(&mut self, attempt: &v1::AttemptRef, files: &[(&str, &[u8])]) {
        use sha2::{Digest as _, Sha256};
        let opens = (0..).zip(files).map(|(ordinal, (_, data))| v1::OpenUpload {
            ordinal,
            size: data.len() as u64,
            ..v1::OpenUpload::default()
        });
        let request = v1::OpenUploadsRequest { r#ref: Some(attempt.clone()), files: opens.collect() };
        let targets = self.link.open_uploads(request).await.expect("opened").into_inner().targets;
        let mut entries = Vec::new();
        for ((ordinal, (path, data)), target) in (0..).zip(files).zip(targets) {
            let put = http().put(&target.urls[0]).body(data.to_vec()).send().await.expect("sent");
            assert!(put.status().is_success(), "{put:?}");
            let artifact = v1::Artifact {
                path: path.as_bytes().to_vec().into(),
                size: data.len() as u64,
                sha256: Sha256::digest(data).to_vec().into(),
                mode: 0o644,
                modified_at: None,
            };
            entries.push(v1::ManifestEntry { ordinal, artifact: Some(artifact) });
        }
        let session = self.session.as_bytes().to_vec().into();
        let request = v1::PutManifestRequest { r#ref: Some(attempt.clone()), page: 0, entries, session };
        self.link.put_manifest(request).await.expect("kept");
    }

    pub(crate) async fn finish(&mut self, report: v1::FinishReport) -> Option<v1::RequestError> {
        let request = v1::FinishRequest { reports: vec![report] };
        self.link.finish(request).await.expect("answered").into_inner().results.remove(0).error
    }
}

pub(crate) fn report(attempt: &v1::AttemptRef, outcome: &str) -> v1::FinishReport {
    v1::FinishReport {
        r#ref: Some(attempt.clone()),
        outcome: outcome.to_owned(),
        ..v1::FinishReport::default()
    }
}

fn request(message: link_request::Message) -> v1::LinkRequest {
    v1::LinkRequest { message: Some(message) }
}
