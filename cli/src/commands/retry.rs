//! `longshore retry`: a new job from the spec of one that ended; the old one stays as it is.

use super::run::LimitArgs;
use super::{bulk, job_or_usage, request_id};
use crate::client::Client;
use crate::failure::{Failure, code};
use crate::output::{FormatArgs, print, to_json};
use clap::Args;
use longshore_common::{units::HumanDuration, wire};
use longshore_proto::v1;

#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
    /// Run exactly the image that the last attempt ran, whatever its name means by now
    #[arg(long)]
    pin: bool,
    #[command(flatten)]
    limits: LimitArgs,
}

pub(crate) async fn run(client: &Client, args: RetryArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let results = bulk::each(args.jobs, |job| retry(client, request(job, &args.limits, args.pin))).await;
    if !format.write(|| results.done().map(|(_, job)| to_json("Job", job)).collect())? {
        for (_, job) in results.done() {
            print(&format!("{}\n", job.id))?;
        }
    }
    Ok(results.refusals(code::FAILED).unwrap_or(0))
}

async fn retry(client: &Client, request: v1::RetryJobRequest) -> Result<v1::Job, Failure> {
    let call = || {
        let (mut jobs, request) = (client.jobs(), request.clone());
        async move { jobs.retry(request).await }
    };
    job_or_usage(client.ask_again(call).await?.job)
}

/// Only what was said differs; everything else stays as it was.
fn request(job: String, limits: &LimitArgs, pin: bool) -> v1::RetryJobRequest {
    let length = |length: Option<HumanDuration>| length.map(|length| wire::duration_to(length.0));
    let resources = v1::Resources {
        cpu_millis: limits.cpus.map(|cores| cores.0),
        memory_bytes: limits.memory.map(|size| size.0),
        shm_bytes: limits.shm_size.map(|size| size.0),
        scratch_bytes: limits.scratch.map(|size| size.0),
        pids: limits.pids_limit,
        gpu: limits.gpus.as_ref().map(v1::GpuRequest::from),
        exclusive: limits.exclusive.then_some(true),
    };
    let deadlines = v1::Deadlines {
        queue: length(limits.queue_deadline),
        prepare: length(limits.prepare_deadline),
        run: length(limits.run_deadline),
        upload: length(limits.upload_deadline),
        stop_grace: length(limits.stop_timeout),
    };
    v1::RetryJobRequest {
        request_id: request_id(),
        job,
        resources: Some(resources),
        deadlines: Some(deadlines),
        pin,
    }
}
