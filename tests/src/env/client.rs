//! The gRPC API as tests use it: submit, wait, read logs and artifacts.

use super::{Cluster, PATIENCE};
use crate::token::{self, Authorized};
use anyhow::Context as _;
use longshore_proto::v1::{
    Agent, Artifact, GetAgentRequest, GetJobRequest, GetJobResponse, Job, JobFilter, JobSpec, JobState,
    ListArtifactsRequest, ListJobsRequest, LogRecord, Stream, StreamLogsRequest, StringList,
    SubmitBatchRequest, SubmitRequest, SubmitResult, WaitJobRequest, agents_client::AgentsClient,
    jobs_client::JobsClient,
};
use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;
use tonic::{Status, transport::Channel};

/// A connection of one test. It answers the controller's pings also while the test waits for a server, blocking.
#[derive(Clone, Debug)]
pub struct Client {
    pub jobs: JobsClient<Authorized>,
    pub agents: AgentsClient<Authorized>,
}

/// Runs the connections, beside the tests' own runtimes.
#[derive(Clone, Copy, Debug)]
struct Beside;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Beside {
    fn execute(&self, future: F) {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        let runtime = RUNTIME.get_or_init(|| Runtime::new().expect("build a runtime"));
        drop(runtime.spawn(future));
    }
}

/// A job that runs `script` in a shell of `image`, asking for little.
pub fn shell(image: &str, script: &str) -> JobSpec {
    let mut spec = JobSpec { image: image.to_owned(), ..JobSpec::default() };
    spec.entrypoint = Some(words(&["/bin/sh", "-c"]));
    spec.command = Some(words(&[script]));
    let resources = spec.resources.get_or_insert_default();
    resources.cpu_millis = Some(100);
    resources.memory_bytes = Some(64 << 20);
    resources.scratch_bytes = Some(256 << 20);
    spec
}

pub fn words(words: &[&str]) -> StringList {
    StringList { values: words.iter().map(|&word| word.to_owned()).collect() }
}

pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

impl Client {
    pub async fn connect(cluster: &Cluster) -> Self {
        Self::of_project(cluster, "").await
    }

    /// As somebody who may do everything, for jobs of this project.
    pub async fn of_project(cluster: &Cluster, project: &str) -> Self {
        let channel =
            Channel::from_shared(cluster.url()).expect("a valid address").executor(Beside).connect_lazy();
        let channel = token::of_project(channel, &cluster.data(), project);
        let agents = AgentsClient::new(channel.clone());
        Self { jobs: JobsClient::new(channel).max_decoding_message_size(64 << 20), agents }
    }

    /// All of them, in order.
    pub async fn submit_all(&self, specs: Vec<JobSpec>) -> Vec<String> {
        let requests = specs.into_iter().map(|spec| SubmitRequest { spec: Some(spec), ..Default::default() });
        let request = SubmitBatchRequest { requests: requests.collect() };
        let answer = self.jobs.clone().submit_batch(request).await.expect("submit").into_inner();
        let job = |result: SubmitResult| match result.submitted.and_then(|submitted| submitted.job) {
            Some(job) => job.id,
            None => panic!("refused: {:?}", result.error),
        };
        answer.results.into_iter().map(job).collect()
    }

    /// Returns when no job at all is unfinished.
    pub async fn nothing_left(&self) {
        loop {
            let filter = JobFilter { unfinished: true, ..JobFilter::default() };
            let request = ListJobsRequest { filter: Some(filter), page_size: 1, page_token: String::new() };
            match self.jobs.clone().list(request).await.expect("list jobs").into_inner().jobs.pop() {
                Some(job) => drop(self.ended(&job.id).await),
                None => return,
            }
        }
    }

    /// The machine as operators see it.
    pub async fn agent(&self, name: &str) -> Agent {
        let request = GetAgentRequest { agent: name.to_owned() };
        let answer = self.agents.clone().get(request).await.expect("get an agent").into_inner();
        answer.agent.expect("an answer holds the agent")
    }

    /// The new job's id.
    pub async fn submit(&self, spec: JobSpec) -> String {
        self.try_submit(spec).await.expect("submit").id
    }

    pub async fn try_submit(&self, spec: JobSpec) -> Result<Job, Status> {
        let request = SubmitRequest { spec: Some(spec), ..SubmitRequest::default() };
        Ok(self.jobs.clone().submit(request).await?.into_inner().job.expect("an answer holds the job"))
    }

    pub async fn get(&self, job: &str) -> GetJobResponse {
        let request = GetJobRequest { job: job.to_owned() };
        self.jobs.clone().get(request).await.expect("get a job").into_inner()
    }

    /// The job once it has ended. Panics with what is known after `PATIENCE`, twice: it may be tried again.
    pub async fn ended(&self, job: &str) -> Job {
        self.ended_within(2 * PATIENCE, job).await
    }

    pub async fn ended_within(&self, limit: Duration, job: &str) -> Job {
        let deadline = Instant::now() + limit;
        loop {
            let request = WaitJobRequest { job: job.to_owned(), timeout: seconds(5), after_revision: 0 };
            match self.jobs.clone().wait(request).await {
                Ok(answer) if answer.get_ref().finished => {
                    return answer.into_inner().job.expect("an answer holds the job");
                }
                answer if Instant::now() > deadline => {
                    panic!(
                        "{job} has not ended after {limit:?}: {answer:?}\n{:?}",
                        self.get(job).await.waiting
                    )
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Submits and waits for the end.
    pub async fn run(&self, spec: JobSpec) -> Job {
        let id = self.submit(spec).await;
        self.ended(&id).await
    }

    /// Waits until the job is in this state, or past it.
    pub async fn reaches(&self, job: &str, state: JobState) {
        super::until(&format!("{job} reaches {state:?}"), || async {
            let now = self.get(job).await.job.expect("an answer holds the job");
            if now.state >= state as i32 { Ok(()) } else { Err(now) }
        })
        .await;
    }

    /// All records of the last attempt, following to the end.
    pub async fn records(&self, job: &str) -> anyhow::Result<Vec<LogRecord>> {
        let request = StreamLogsRequest { job: job.to_owned(), follow: true, ..StreamLogsRequest::default() };
        let mut stream = self.jobs.clone().stream_logs(request).await?.into_inner();
        let mut records = Vec::new();
        while let Some(page) = stream.message().await.context("read the log")? {
            records.extend(page.records);
        }
        Ok(records)
    }

    /// Waits until the job's log holds `text`.
    pub async fn prints(&self, job: &str, text: &str) {
        let request = StreamLogsRequest { job: job.to_owned(), follow: true, ..StreamLogsRequest::default() };
        let reading = async {
            let mut stream = self.jobs.clone().stream_logs(request).await.expect("follow a log").into_inner();
            let mut seen = String::new();
            while let Some(page) = stream.message().await.expect("read the log") {
                for record in page.records {
                    seen.push_str(&String::from_utf8_lossy(&record.data));
                }
                if seen.contains(text) {
                    return;
                }
            }
            panic!("{job} ended without `{text}`:\n{seen}");
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .unwrap_or_else(|_| panic!("{job}: no `{text}` in {PATIENCE:?}"));
    }

    /// The bytes one stream of the job has printed.
    pub async fn printed(&self, job: &str, stream: Stream) -> Vec<u8> {
        let records = self.records(job).await.expect("read a log");
        records
            .into_iter()
            .filter(|record| record.stream() == stream)
            .flat_map(|record| record.data)
            .collect()
    }

    /// Every artifact of the last attempt.
    pub async fn artifacts(&self, job: &str) -> Vec<Artifact> {
        let mut request = ListArtifactsRequest { job: job.to_owned(), ..ListArtifactsRequest::default() };
        let mut all = Vec::new();
        loop {
            let page =
                self.jobs.clone().list_artifacts(request.clone()).await.expect("list artifacts").into_inner();
            all.extend(page.artifacts);
            if page.next_page_token.is_empty() {
                return all;
            }
            request.page_token = page.next_page_token;
        }
    }
}

/// The outcome's name, or how far the job is.
pub fn outcome(job: &Job) -> String {
    job.outcome.as_ref().map_or_else(|| job.state().as_str_name().to_owned(), |outcome| outcome.name.clone())
}
