//! Controller and agent as the optimised binary runs them, one process each, and a client.

use anyhow::{Context as _, ensure};
use longshore_proto::v1::{
    CancelJobsRequest, GetJobRequest, JobFilter, JobSpec, JobState, ListJobsRequest, Resources, Stream,
    StreamLogsRequest, StringList, SubmitBatchRequest, SubmitRequest, WaitJobRequest,
    jobs_client::JobsClient,
};
use longshore_tests::env::{Broker, Cluster, Plan};
use longshore_tests::token::{self, Authorized};
use tonic::transport::Channel;

/// Every job asks for this much, so that the agent's processor sets the parallelism.
const CPU_MILLIS: u32 = 100;
const MEMORY: u64 = 32 << 20;

/// What the agent runs, and over which queue.
#[derive(Debug)]
pub(crate) struct Options {
    runtime: &'static str,
    parallel: usize,
    plan: Plan,
}

impl Options {
    pub(crate) fn docker(parallel: usize) -> Self {
        Self { runtime: "docker", parallel, plan: Plan::default() }
    }

    pub(crate) fn null() -> Self {
        Self { runtime: "null", parallel: 512, plan: Plan::default() }
    }

    pub(crate) fn over(self, broker: &Broker) -> Self {
        Self { plan: self.plan.amqp(&broker.url()), ..self }
    }
}

#[derive(Debug)]
pub(crate) struct Stack {
    jobs: JobsClient<Authorized>,
    cluster: Cluster,
}

impl Stack {
    /// The label with the job's id on every container.
    pub(crate) const JOB_LABEL: &'static str = "longshore.job";

    pub(crate) async fn start(options: Options) -> anyhow::Result<Self> {
        let agent = format!(
            "[capacity]\ncpu_millis = {}\nmemory_bytes = {}\nothers = {{ count = false }}\n[runtime]\nkind = \"{}\"\n",
            options.parallel * CPU_MILLIS as usize,
            options.parallel as u64 * MEMORY,
            options.runtime,
        );
        let cluster = options.plan.agent_alone(&agent).start();
        let channel = Channel::from_shared(cluster.url())?.connect().await?;
        let jobs = JobsClient::new(token::authorized(channel, &cluster.data()));
        Ok(Self { jobs, cluster })
    }

    pub(crate) fn controller_pid(&mut self) -> u32 {
        self.cluster.controller().pid()
    }

    pub(crate) fn agent_pid(&self) -> u32 {
        self.cluster.agent_pid(0)
    }

    pub(crate) async fn submit(&self, image: &str, command: &[&str]) -> anyhow::Result<String> {
        let mut ids = self.submit_many(image, command, 1).await?;
        ids.pop().context("one job was submitted")
    }

    pub(crate) async fn submit_many(
        &self,
        image: &str,
        command: &[&str],
        count: usize,
    ) -> anyhow::Result<Vec<String>> {
        self.submit_specs(spec(image, command, MEMORY), count).await
    }

    /// Jobs that no machine can run.
    pub(crate) async fn submit_unfittable(&self, image: &str, count: usize) -> anyhow::Result<Vec<String>> {
        self.submit_specs(spec(image, &[], 1 << 44), count).await
    }

    /// Returns when none of our jobs is unfinished, and all succeeded or were cancelled.
    pub(crate) async fn wait(&self, jobs: &[String]) -> anyhow::Result<()> {
        let last = jobs.last().context("there is a job to wait for")?;
        self.finished(last).await?;
        let mut client = self.jobs.clone();
        loop {
            let filter = JobFilter { unfinished: true, ..Default::default() };
            let request = ListJobsRequest { filter: Some(filter), page_size: 1, page_token: String::new() };
            match client.list(request).await?.into_inner().jobs.pop() {
                Some(job) => self.finished(&job.id).await?,
                None => return Ok(()),
            }
        }
    }

    pub(crate) async fn running(&self, job: &str) -> anyhow::Result<()> {
        let mut client = self.jobs.clone();
        let mut now =
            client.get(GetJobRequest { job: job.to_owned() }).await?.into_inner().job.context("a job")?;
        while now.state() != JobState::Running {
            ensure!(now.finished_at.is_none(), "job {job} ended before it ran: {:?}", now.outcome);
            let request = WaitJobRequest { job: job.to_owned(), timeout: None, after_revision: now.revision };
            now = client.wait(request).await?.into_inner().job.context("a job")?;
        }
        Ok(())
    }

    pub(crate) async fn cancel(&self, job: &str) -> anyhow::Result<()> {
        let request = CancelJobsRequest { jobs: vec![job.to_owned()], ..Default::default() };
        self.jobs.clone().cancel(request).await?;
        Ok(())
    }

    /// Reads the log of stdout to its end.
    pub(crate) async fn log_bytes(&self, job: &str, follow: bool) -> anyhow::Result<usize> {
        let request = StreamLogsRequest {
            job: job.to_owned(),
            follow,
            streams: vec![Stream::Stdout.into()],
            ..Default::default()
        };
        let mut client = self.jobs.clone().max_decoding_message_size(32 << 20);
        let mut messages = client.stream_logs(request).await?.into_inner();
        let mut bytes = 0;
        while let Some(message) = messages.message().await? {
            bytes += message.records.iter().map(|record| record.data.len()).sum::<usize>();
        }
        Ok(bytes)
    }

    async fn finished(&self, job: &str) -> anyhow::Result<()> {
        let mut client = self.jobs.clone();
        loop {
            let request = WaitJobRequest { job: job.to_owned(), ..Default::default() };
            let reply = client.wait(request).await?.into_inner();
            let now = reply.job.context("a job")?;
            let fine = matches!(now.state(), JobState::Succeeded | JobState::Cancelled);
            ensure!(fine || !reply.finished, "job {job} ended badly: {:?}", now.outcome);
            if reply.finished {
                return Ok(());
            }
        }
    }

    async fn submit_specs(&self, spec: JobSpec, count: usize) -> anyhow::Result<Vec<String>> {
        let mut client = self.jobs.clone();
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            let requests = vec![
                SubmitRequest { spec: Some(spec.clone()), ..Default::default() };
                (count - ids.len()).min(500)
            ];
            let reply = client.submit_batch(SubmitBatchRequest { requests }).await?.into_inner();
            for result in reply.results {
                ids.push(
                    result
                        .submitted
                        .and_then(|s| s.job)
                        .context(format!("refused: {:?}", result.error))?
                        .uuid,
                );
            }
        }
        Ok(ids)
    }
}

fn spec(image: &str, command: &[&str], memory: u64) -> JobSpec {
    let command = StringList { values: command.iter().map(ToString::to_string).collect() };
    let resources = Resources {
        cpu_millis: Some(CPU_MILLIS),
        memory_bytes: Some(memory),
        scratch_bytes: Some(1 << 20),
        shm_bytes: Some(1 << 20),
        ..Default::default()
    };
    JobSpec {
        image: image.to_owned(),
        command: Some(command).filter(|list| !list.values.is_empty()),
        resources: Some(resources),
        ..Default::default()
    }
}
