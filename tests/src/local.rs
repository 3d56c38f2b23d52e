//! A whole Longshore in this process: a real controller on a free port, agents on described machines with the
//! scripted runtime, and a client over gRPC.

use crate::token::{self, Authorized};
use longshore_agent::{
    self as agent, AgentConfig, Parts,
    home::Home,
    host::{Host, fake::FakeHost},
    runtime::{self, Runtime},
};
use longshore_common::shutdown::Shutdown;
use longshore_controller::{Controller, ControllerConfig, api::Context, pki};
use longshore_proto::v1::{
    CancelJobsRequest, GetJobRequest, GetJobResponse, Job, JobSpec, JobState, LogRecord, StreamLogsRequest,
    SubmitRequest, WaitJobRequest, jobs_client::JobsClient,
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

/// Far longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Local {
    pub jobs: JobsClient<Authorized>,
    pub url: String,
    controller: longshore_controller::Running,
    agents: Vec<agent::Running>,
    /// What the agents' containers run on, in the order of their machines.
    pub engines: Vec<Arc<dyn Runtime>>,
    /// With TLS: how long agents' certificates are good.
    secured: Option<Duration>,
    dir: TempDir,
}

fn client(url: &str, dir: &Path) -> JobsClient<Authorized> {
    let mut endpoint = Channel::from_shared(url.to_owned()).expect("an address");
    if url.starts_with("https:") {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities(dir)));
        endpoint = endpoint.tls_config(tls).expect("an authority");
    }
    JobsClient::new(token::authorized(endpoint.connect_lazy(), &dir.join("controller")))
}

fn authorities(dir: &Path) -> String {
    let authority = pki::authority(&pki::Config::default(), &dir.join("controller"));
    authority.expect("made at the first start").bundle()
}

impl Local {
    /// A controller, and an agent for each machine.
    pub async fn start(hosts: &[Arc<FakeHost>]) -> Self {
        Self::start_as(hosts, None).await
    }

    /// With an agent on a machine that is no played one.
    pub async fn start_on(host: Arc<dyn Host>) -> Self {
        let mut local = Self::start(&[]).await;
        // Whoever else works on this machine must not count.
        local.enter(host, Some(1 << 50)).await;
        local
    }

    /// With TLS, and certificates of agents that are good for so long.
    pub async fn secured(hosts: &[Arc<FakeHost>], valid: Duration) -> Self {
        Self::start_as(hosts, Some(valid)).await
    }

    async fn start_as(hosts: &[Arc<FakeHost>], secured: Option<Duration>) -> Self {
        // As the binary does; a second installation would be this one again.
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = tempfile::tempdir().expect("a folder for the test");
        let controller = start_controller(SocketAddr::from(([127, 0, 0, 1], 0)), dir.path(), secured).await;
        let url = controller.base_url.clone();
        let jobs = client(&url, dir.path());
        let mut local = Self { jobs, url, controller, agents: Vec::new(), engines: Vec::new(), secured, dir };
        for host in hosts {
            local.join(host).await;
        }
        local
    }

    /// Where everybody's data is, each in a folder of its name.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// The controller from inside.
    pub fn context(&self) -> &Context {
        &self.controller.context
    }

    /// What clients trust, in PEM.
    pub fn authorities(&self) -> String {
        authorities(self.dir.path())
    }

    pub async fn join_token(&self, uses: u32, valid: Duration) -> String {
        self.controller.join_token(uses, valid).await.expect("made")
    }

    /// The controller's database file.
    pub fn database(&self) -> PathBuf {
        self.dir.path().join("controller/longshore.db")
    }

    /// Stops the controller, does something, and starts another one in its place. The agents stay.
    pub async fn while_down(self, deed: impl AsyncFnOnce()) -> Self {
        let Self { url, controller, agents, engines, secured, dir, jobs } = self;
        let address = controller.local_addr;
        drop(jobs);
        controller.shutdown.trigger();
        controller.join().await;
        deed().await;
        let controller = start_controller(address, dir.path(), secured).await;
        let jobs = client(&url, dir.path());
        Self { jobs, url, controller, agents, engines, secured, dir }
    }

    /// One more machine joins.
    pub async fn join(&mut self, host: &Arc<FakeHost>) {
        self.enter(Arc::<FakeHost>::clone(host), None).await;
    }

    async fn enter(&mut self, host: Arc<dyn Host>, allowed: Option<u64>) {
        let seat = self.agents.len();
        let (agent, engine) = start_agent(&self.controller, self.dir.path(), seat, (host, allowed)).await;
        while self.controller.context.jobs.agents().iter().all(|known| known.identity.id != agent.identity.id)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.agents.push(agent);
        self.engines.push(engine);
    }

    pub async fn stop(self) {
        for agent in self.agents {
            agent.stop().await;
        }
        self.controller.shutdown.trigger();
        self.controller.join().await;
    }

    pub async fn submit(&self, spec: JobSpec) -> Job {
        let request = SubmitRequest { spec: Some(spec), ..SubmitRequest::default() };
        let reply = self.jobs.clone().submit(request).await.expect("the job is accepted");
        reply.into_inner().job.expect("the reply has the job")
    }

    pub async fn get(&self, id: &str) -> GetJobResponse {
        let reply = self.jobs.clone().get(GetJobRequest { job: id.to_owned() }).await;
        reply.expect("the job is known").into_inner()
    }

    pub async fn cancel(&self, id: &str) {
        let request = CancelJobsRequest { jobs: vec![id.to_owned()], ..CancelJobsRequest::default() };
        self.jobs.clone().cancel(request).await.expect("the cancel is taken");
    }

    /// The job once `done` holds of it.
    pub async fn until(&self, id: &str, done: impl Fn(&Job) -> bool) -> Job {
        let turn = async {
            let mut job = self.get(id).await.job.expect("the reply has the job");
            while !done(&job) {
                let request = WaitJobRequest {
                    job: id.to_owned(),
                    after_revision: job.revision,
                    ..WaitJobRequest::default()
                };
                let reply = self.jobs.clone().wait(request).await.expect("wait answers").into_inner();
                job = reply.job.expect("the reply has the job");
            }
            job
        };
        match tokio::time::timeout(PATIENCE, turn).await {
            Ok(job) => job,
            Err(_) => panic!("not so after {PATIENCE:?}: {:#?}", self.get(id).await),
        }
    }

    pub async fn finished(&self, id: &str) -> Job {
        self.until(id, |job| job.finished_at.is_some()).await
    }

    pub async fn running(&self, id: &str) -> Job {
        self.until(id, |job| job.state() == JobState::Running).await
    }

    /// Every record of the log, followed to its end.
    pub async fn log(&self, id: &str) -> Vec<LogRecord> {
        let request = StreamLogsRequest { job: id.to_owned(), follow: true, ..StreamLogsRequest::default() };
        let mut messages = self.jobs.clone().stream_logs(request).await.expect("there is a log").into_inner();
        let mut records = Vec::new();
        while let Some(message) = messages.message().await.expect("the log goes on") {
            records.extend(message.records);
        }
        records
    }
}

/// A job of the scripted runtime: `env` is the script.
pub fn scripted(env: &[(&str, &str)]) -> JobSpec {
    JobSpec {
        image: "scripted:1".into(),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..JobSpec::default()
    }
}

async fn start_controller(
    listen: SocketAddr,
    dir: &Path,
    secured: Option<Duration>,
) -> longshore_controller::Running {
    let data_dir = dir.join("controller");
    let mut config = ControllerConfig { listen, data_dir, ..ControllerConfig::default() };
    if let Some(valid) = secured {
        config.tls.mode = pki::Mode::On;
        config.enrolment.credential_valid = valid;
    }
    Controller::start(config, Shutdown::new()).await.expect("the controller starts")
}

async fn start_agent(
    controller: &longshore_controller::Running,
    dir: &Path,
    seat: usize,
    (host, allowed): (Arc<dyn Host>, Option<u64>),
) -> (agent::Running, Arc<dyn Runtime>) {
    let mut config = AgentConfig {
        controller: controller.base_url.clone(),
        join_token: controller.join_token(1, PATIENCE).await.expect("a join token"),
        name: Some(format!("agent-{seat}")),
        data_dir: dir.join(format!("agent-{seat}")),
        ..AgentConfig::default()
    };
    config.runtime.kind = runtime::Kind::Null;
    config.gpus.recovery_seconds = 1;
    config.capacity.cpu_millis = allowed.map(|_| 1_000_000);
    (config.capacity.memory_bytes, config.capacity.scratch_bytes) = (allowed, allowed);
    let home = Home::open(&config.data_dir).expect("the agent's folder");
    let real = Parts::real(&config, &home).expect("the parts of an agent");
    let parts = Parts { host, ..real };
    let engine = Arc::clone(&parts.runtime);
    let running = agent::start_with(config, home, parts, Shutdown::new()).await.expect("the agent starts");
    (running, engine)
}
