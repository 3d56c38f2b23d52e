//! The public API as an impatient client uses it: every call has a time limit and is repeated until it is answered.

use anyhow::{Context as _, bail};
use longshore_proto::v1::{
    Agent, AgentState, Artifact, CancelJobsRequest, GetArtifactUrlsRequest, GetJobRequest, GetJobResponse,
    Job, JobFilter, ListAgentsRequest, ListArtifactsRequest, ListJobsRequest, LogRecord, StatusRequest,
    StatusResponse, StreamLogsRequest, SubmitRequest, WatchJobsRequest, WatchJobsResponse,
    agents_client::AgentsClient, cluster_client::ClusterClient, jobs_client::JobsClient,
};
use longshore_tests::token::{self, Authorized};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tonic::{Code, Response, Status, Streaming, transport::Endpoint};

/// A controller that is killed, or stopped for 20 s, takes longer than one call may.
const CALL: Duration = Duration::from_secs(4);
/// Longer than everything the monkey does, so that silence is a finding.
const PATIENCE: Duration = Duration::from_secs(90);
const AGAIN: Duration = Duration::from_millis(200);

#[derive(Clone, Debug)]
pub(crate) struct Client {
    jobs: JobsClient<Authorized>,
    /// Without a time limit on calls, for streams.
    streams: JobsClient<Authorized>,
    agents: AgentsClient<Authorized>,
    cluster: ClusterClient<Authorized>,
    labels: JobFilter,
}

impl Client {
    pub(crate) fn new(url: &str, data: &Path, seed: u64) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned())?
            .connect_timeout(CALL)
            // A stopped controller keeps its connections.
            .http2_keep_alive_interval(CALL)
            .keep_alive_timeout(CALL)
            .keep_alive_while_idle(true);
        let calls = token::authorized(endpoint.clone().timeout(CALL).connect_lazy(), data);
        let streams = token::authorized(endpoint.connect_lazy(), data);
        let mut labels = JobFilter::default();
        labels.labels.insert(crate::jobs::LABEL.to_owned(), seed.to_string());
        Ok(Self {
            jobs: JobsClient::new(calls.clone()).max_decoding_message_size(64 << 20),
            streams: JobsClient::new(streams).max_decoding_message_size(64 << 20),
            agents: AgentsClient::new(calls.clone()),
            cluster: ClusterClient::new(calls),
            labels,
        })
    }

    /// Repeats until it is accepted. The answer, and how often it had to be repeated.
    pub(crate) async fn submit(&self, request: SubmitRequest) -> anyhow::Result<(Job, u32)> {
        let what = format!("submit {}", request.request_id);
        let (answer, repeats) =
            until_answered(&what, || async { self.jobs.clone().submit(request.clone()).await }).await?;
        Ok((answer.job.context("an answer holds the job")?, repeats))
    }

    pub(crate) async fn cancel(&self, job: &str) -> anyhow::Result<()> {
        let request = CancelJobsRequest { jobs: vec![job.to_owned()], ..CancelJobsRequest::default() };
        until_answered("cancel", || async { self.jobs.clone().cancel(request.clone()).await }).await?;
        Ok(())
    }

    pub(crate) async fn get(&self, job: &str) -> anyhow::Result<GetJobResponse> {
        let request = GetJobRequest { job: job.to_owned() };
        Ok(until_answered("get", || async { self.jobs.clone().get(request.clone()).await }).await?.0)
    }

    /// Every job of this run the controller knows.
    pub(crate) async fn list(&self) -> anyhow::Result<Vec<Job>> {
        let mut all = Vec::new();
        let mut request =
            ListJobsRequest { filter: Some(self.labels.clone()), page_size: 1000, page_token: String::new() };
        loop {
            let (page, _) =
                until_answered("list", || async { self.jobs.clone().list(request.clone()).await }).await?;
            all.extend(page.jobs);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    pub(crate) async fn watch(&self, from_revision: u64) -> Result<Streaming<WatchJobsResponse>, Status> {
        let request = WatchJobsRequest { filter: Some(self.labels.clone()), from_revision };
        Ok(self.streams.clone().watch(request).await?.into_inner())
    }

    /// All records of the last attempt.
    pub(crate) async fn log(&self, job: &str) -> anyhow::Result<Vec<LogRecord>> {
        let request = StreamLogsRequest { job: job.to_owned(), ..StreamLogsRequest::default() };
        let mut stream = self.streams.clone().stream_logs(request).await?.into_inner();
        let mut records = Vec::new();
        while let Some(page) = stream.message().await? {
            records.extend(page.records);
        }
        Ok(records)
    }

    /// The files of the last attempt, each with an address to get it from.
    pub(crate) async fn files(&self, job: &str) -> anyhow::Result<Vec<(Artifact, String)>> {
        let list = ListArtifactsRequest { job: job.to_owned(), ..ListArtifactsRequest::default() };
        let (listed, _) =
            until_answered("list files", || async { self.jobs.clone().list_artifacts(list.clone()).await })
                .await?;
        let paths = listed.artifacts.iter().map(|file| file.path.clone()).collect();
        let ask = GetArtifactUrlsRequest { job: job.to_owned(), attempt: listed.attempt, paths };
        let (urls, _) = until_answered("get addresses", || async {
            self.jobs.clone().get_artifact_urls(ask.clone()).await
        })
        .await?;
        anyhow::ensure!(urls.urls.len() == listed.artifacts.len(), "a file of {job} has no address");
        Ok(listed.artifacts.into_iter().zip(urls.urls).collect())
    }

    pub(crate) async fn agents(&self) -> anyhow::Result<Vec<Agent>> {
        let request = ListAgentsRequest::default();
        let (listed, _) =
            until_answered("list agents", || async { self.agents.clone().list(request.clone()).await })
                .await?;
        Ok(listed.agents)
    }

    pub(crate) async fn status(&self) -> anyhow::Result<StatusResponse> {
        Ok(until_answered("status", || async { self.cluster.clone().status(StatusRequest {}).await })
            .await?
            .0)
    }
}

/// Waits until that many agents are online.
pub(crate) async fn online(url: &str, data: &Path, agents: usize) -> anyhow::Result<()> {
    let client = Client::new(url, data, 0)?;
    longshore_tests::env::until("all agents are online", || async {
        let seen = client.agents().await.map_err(|error| format!("{error:#}"))?;
        let up = seen.iter().filter(|agent| agent.state() == AgentState::Online).count();
        if up == agents { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    Ok(())
}

/// Repeats a call that may be repeated. A refusal for good is an error at once.
async fn until_answered<T, F>(what: &str, mut call: impl FnMut() -> F) -> anyhow::Result<(T, u32)>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let (began, mut repeats) = (Instant::now(), 0);
    loop {
        match call().await {
            Ok(answer) => return Ok((answer.into_inner(), repeats)),
            Err(status) if !may_repeat(status.code()) => bail!("{what} was refused: {status}"),
            Err(status) if began.elapsed() > PATIENCE => {
                bail!("{what}: no answer for {PATIENCE:?}: {status}")
            }
            Err(_) => repeats += 1,
        }
        tokio::time::sleep(AGAIN).await;
    }
}

const fn may_repeat(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::ResourceExhausted
    )
}
