//! GPUs that fail, hang, vanish, are divided, and are used by strangers: through the real NVML wrapper, an agent and a
//! controller, over a library that plays what is described.

use fake_nvml::{Description, Event, Fault, Gpu, Instance, Process};
use longshore_agent::host::{Config, Machine};
use longshore_common::agent::AgentState;
use longshore_proto::v1::{
    self, GpuRequest, JobSpec, JobState, ResetGpuHealthRequest, Resources, agents_client::AgentsClient,
};
use longshore_tests::{
    local::{Local, scripted},
    token,
};
use std::{
    process::{Child, Command},
    sync::{Arc, Mutex},
    time::Duration,
};
use tonic::transport::Channel;

/// A node whose NVML plays a description.
pub(crate) struct Node {
    pub(crate) local: Local,
    description: Mutex<Description>,
    library: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

pub(crate) fn gpu(number: u32, model: &str, memory_mib: u64) -> Gpu {
    Gpu { uuid: uuid(number), model: model.to_owned(), memory_mib, ..Gpu::default() }
}

pub(crate) fn uuid(number: u32) -> String {
    format!("GPU-{number:08}-0000-4000-8000-000000000000")
}

pub(crate) fn a100s(count: u32) -> Vec<Gpu> {
    (0..count).map(|number| gpu(number, "NVIDIA A100-SXM4-80GB", 81_920)).collect()
}

impl Node {
    pub(crate) async fn start(gpus: Vec<Gpu>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let library = fake_nvml::install(folder.path());
        let description = Description { gpus, ..Description::default() };
        description.write(&fake_nvml::description_of(&library));
        let config = Config { nvml_library: Some(library.clone()), nvml_answer_seconds: 1 };
        let host = Arc::new(Machine::new(&config, folder.path()).expect("a machine"));
        let local = Local::start_on(host).await;
        Self { local, description: Mutex::new(description), library, _folder: folder }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Description)) {
        let mut description = self.description.lock().expect("nobody panics with it");
        change(&mut description);
        description.write(&fake_nvml::description_of(&self.library));
    }

    pub(crate) async fn submit(&self, spec: JobSpec) -> String {
        self.local.submit(spec).await.id
    }

    /// UUIDs of the GPUs that a running job has.
    pub(crate) async fn gpus_of(&self, job: &str) -> Vec<String> {
        self.local.running(job).await;
        let attempts = self.local.get(job).await.attempts;
        let last = attempts.last().expect("it runs");
        last.gpus.iter().map(|gpu| gpu.rsplit(' ').next().expect("a UUID").to_owned()).collect()
    }

    pub(crate) fn agent(&self) -> longshore_controller::jobs::AgentView {
        self.local.context().jobs.agents().into_iter().next().expect("it joined")
    }

    pub(crate) async fn until(
        &self,
        what: &str,
        done: impl Fn(&longshore_controller::jobs::AgentView) -> bool,
    ) {
        let waiting = async {
            while !done(&self.agent()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert!(came.is_ok(), "{what}: {:#?}", self.agent());
    }

    pub(crate) async fn until_reason(&self, job: &str, part: &str) {
        let waiting = async {
            loop {
                let told = self.local.get(job).await.waiting;
                let agents = told.map(|told| told.agents).unwrap_or_default();
                if agents.iter().any(|agent| agent.reason.contains(part)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert!(came.is_ok(), "no `{part}`: {:#?}", self.local.get(job).await.waiting);
    }

    fn agents(&self) -> AgentsClient<token::Authorized> {
        let channel = Channel::from_shared(self.local.url.clone()).expect("an address").connect_lazy();
        AgentsClient::new(token::authorized(channel, &self.local.folder().join("controller")))
    }

    pub(crate) async fn attempts(&self, job: &str) -> Vec<v1::Attempt> {
        self.local.get(job).await.attempts
    }
}

pub(crate) fn on(count: u32, model: &str, script: &[(&str, &str)]) -> JobSpec {
    let gpu = GpuRequest { count, model: model.to_owned(), ..GpuRequest::default() };
    JobSpec { resources: Some(Resources { gpu: Some(gpu), ..Resources::default() }), ..scripted(script) }
}

pub(crate) fn outcome(attempt: &v1::Attempt) -> &str {
    attempt.outcome.as_ref().map_or("", |outcome| outcome.name.as_str())
}

/// A process of this machine that NVML can be said to list.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        Self(Command::new("sleep").arg("300").spawn().expect("sleep is there"))
    }

    fn on_a_gpu(&self, memory_mib: u64) -> Vec<Process> {
        vec![Process { pid: self.0.id(), memory_mib, graphics: false }]
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn of_eight_mixed_gpus_the_one_a_stranger_has_is_left_alone_until_the_stranger_leaves() {
    let mut gpus = a100s(4);
    gpus.extend([4, 5].map(|number| gpu(number, "Tesla T4", 15_360)));
    gpus.extend([6, 7].map(|number| gpu(number, "NVIDIA L4", 23_034)));
    let stranger = Stranger::new();
    gpus[5].processes = stranger.on_a_gpu(8_192);
    let node = Node::start(gpus).await;
    assert_eq!(node.agent().gpus.len(), 8);
    let both = node.submit(on(2, "*T4*", &[("FAKE_RUN", "50ms")])).await;
    let (one, large) = (node.submit(on(1, "*T4*", &[])).await, node.submit(on(4, "*A100*", &[])).await);
    assert_eq!(node.local.finished(&one).await.state(), JobState::Succeeded);
    assert_eq!(node.local.finished(&large).await.state(), JobState::Succeeded);
    node.until_reason(&both, "sleep of").await;
    node.change(|description| description.gpus[5].processes.clear());
    assert_eq!(node.local.finished(&both).await.state(), JobState::Succeeded);
    node.local.stop().await;
}

#[tokio::test]
async fn an_error_sets_one_of_four_gpus_aside_and_its_job_goes_on_elsewhere_without_a_retry_of_the_users() {
    let node = Node::start(a100s(4)).await;
    let run = [("FAKE_RUN", "4s"), ("FAKE_TERM_EXIT", "1")];
    let mut hit = on(1, "", &run);
    hit.retry = Some(v1::RetryPolicy { attempts: 1, ..v1::RetryPolicy::default() });
    let (hit, beside) = (node.submit(hit).await, node.submit(on(1, "", &run)).await);
    let (sick, well) = (node.gpus_of(&hit).await.remove(0), node.gpus_of(&beside).await.remove(0));
    node.change(|description| {
        description.events.push(Event { gpu: sick.clone(), xid: 79 });
        let lost = description.gpus.iter_mut().find(|gpu| gpu.uuid == sick).expect("it is there");
        lost.fault = Some(Fault::Lost);
    });
    assert_eq!(node.local.finished(&hit).await.state(), JobState::Succeeded);
    let attempts = node.attempts(&hit).await;
    assert_eq!(attempts.iter().map(outcome).collect::<Vec<_>>(), ["gpu_fault", "succeeded"]);
    let detail = &attempts[0].outcome.as_ref().expect("it ended").detail;
    assert!(detail.contains("Xid 79") && detail.contains("fallen off the bus"), "{detail}");
    assert!(!attempts[1].gpus[0].contains(&sick), "{attempts:#?}");
    assert_eq!(node.local.finished(&beside).await.state(), JobState::Succeeded);
    assert_eq!(node.attempts(&beside).await.len(), 1, "{well} was well all the time");

    let aside = |agent: &longshore_controller::jobs::AgentView| {
        let gpu = agent.gpus.iter().find(|gpu| gpu.uuid == sick).expect("it is shown");
        gpu.health.is_some() && agent.note.contains("Xid 79") && agent.free.gpus == 3
    };
    node.until("set aside alone", aside).await;
    assert_eq!(node.agent().state, AgentState::Online);
    // It answers again after a reset, for as long as is asked.
    node.change(|description| description.gpus.iter_mut().for_each(|gpu| gpu.fault = None));
    node.until("well again", |agent| {
        agent.free.gpus == 4 && agent.gpus.iter().all(|gpu| gpu.health.is_none())
    })
    .await;
    node.local.stop().await;
}

#[tokio::test]
async fn an_operator_says_that_a_gpu_is_well() {
    let node = Node::start(a100s(2)).await;
    node.change(|description| description.gpus[1].remap_pending = true);
    node.until("set aside", |agent| agent.free.gpus == 1).await;
    let reset = |gpu: &str| ResetGpuHealthRequest {
        agent: "agent-0".into(),
        gpu: gpu.into(),
        request_id: String::new(),
    };
    let unknown = node.agents().reset_gpu_health(reset("7")).await.expect_err("there is none");
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    node.agents().reset_gpu_health(reset("1")).await.expect("passed on");
    node.until("well", |agent| agent.free.gpus == 2).await;
    node.local.stop().await;
}

#[tokio::test]
async fn a_driver_that_hangs_keeps_gpu_jobs_waiting_and_nothing_else() {
    let node = Node::start(a100s(1)).await;
    node.change(|description| description.hang = true);
    node.until("said", |agent| agent.note.contains("does not answer")).await;
    let (waits, cpu) = (node.submit(on(1, "", &[])).await, node.submit(scripted(&[])).await);
    assert_eq!(node.local.finished(&cpu).await.state(), JobState::Succeeded);
    node.until_reason(&waits, "does not answer").await;
    assert_eq!(node.agent().state, AgentState::Online, "its heartbeats go on");
    node.change(|description| description.hang = false);
    assert_eq!(node.local.finished(&waits).await.state(), JobState::Succeeded);
    node.until("forgotten", |agent| agent.note.is_empty()).await;
    node.local.stop().await;
}

#[tokio::test]
async fn instances_of_a_divided_gpu_are_granted_as_they_are() {
    let part = |number: u32, profile: &str, memory_mib| Instance {
        uuid: format!("MIG-{number:08}-0000-5000-8000-000000000000"),
        profile: profile.into(),
        memory_mib,
        processes: Vec::new(),
    };
    let mut gpus = a100s(2);
    gpus[0].mig = true;
    gpus[0].instances = vec![part(1, "1g.10gb", 9_728), part(2, "3g.40gb", 40_192)];
    let node = Node::start(gpus).await;
    let mig = GpuRequest { count: 1, mig: "3g.40gb".into(), ..GpuRequest::default() };
    let spec = JobSpec {
        resources: Some(Resources { gpu: Some(mig), ..Resources::default() }),
        ..scripted(&[("FAKE_RUN", "300ms")])
    };
    let (divided, whole) = (node.submit(spec).await, node.submit(on(1, "", &[("FAKE_RUN", "300ms")])).await);
    for (job, uuid) in [(divided, part(2, "", 0).uuid), (whole, uuid(1))] {
        assert_eq!(node.local.finished(&job).await.state(), JobState::Succeeded);
        assert!(node.attempts(&job).await[0].gpus[0].ends_with(&uuid), "{:#?}", node.attempts(&job).await);
    }
    node.local.stop().await;
}

#[tokio::test]
async fn a_gpu_that_vanishes_takes_one_attempt_with_it() {
    let node = Node::start(a100s(2)).await;
    let job = node.submit(on(1, "", &[("FAKE_RUN", "5s"), ("FAKE_TERM_EXIT", "0")])).await;
    let gone = node.gpus_of(&job).await.remove(0);
    node.change(|description| description.gpus.retain(|gpu| gpu.uuid != gone));
    assert_eq!(node.local.finished(&job).await.state(), JobState::Succeeded);
    let attempts = node.attempts(&job).await;
    assert_eq!(attempts.iter().map(outcome).collect::<Vec<_>>(), ["gpu_fault", "succeeded"]);
    assert_eq!(node.agent().gpus.len(), 1);
    node.local.stop().await;
}

#[tokio::test]
async fn a_stranger_on_a_granted_gpu_is_told_to_the_job_whose_failure_is_not_its_own_then() {
    let node = Node::start(a100s(2)).await;
    let job = node.submit(on(1, "", &[("FAKE_RUN", "4s"), ("FAKE_EXIT", "3")])).await;
    let shared = node.gpus_of(&job).await.remove(0);
    let stranger = Stranger::new();
    node.change(|description| {
        let gpu = description.gpus.iter_mut().find(|gpu| gpu.uuid == shared).expect("it is there");
        gpu.processes = stranger.on_a_gpu(22 << 10);
    });
    let job = node.local.finished(&job).await;
    let attempts = node.attempts(&job.id).await;
    // On the other GPU it is alone, and fails by itself.
    assert_eq!(attempts.iter().map(outcome).collect::<Vec<_>>(), ["gpu_disturbed", "exit_code"]);
    assert!(attempts[0].notes.iter().any(|note| note.starts_with("gpu_stranger: sleep of")), "{attempts:#?}");
    let pid = stranger.0.id().to_string();
    let request =
        v1::StreamLogsRequest { job: job.id.clone(), attempt: 1, ..v1::StreamLogsRequest::default() };
    let mut log = node.local.jobs.clone().stream_logs(request).await.expect("a log").into_inner();
    let mut text = String::new();
    while let Some(message) = log.message().await.expect("it goes on") {
        text.extend(message.records.iter().map(|record| String::from_utf8_lossy(&record.data).into_owned()));
    }
    assert!(
        text.contains("gpu_stranger: sleep of") && text.contains(&pid) && text.contains("22 GiB"),
        "{text}"
    );
    node.local.stop().await;
}
