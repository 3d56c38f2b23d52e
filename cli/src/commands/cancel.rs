//! `longshore cancel`: stops jobs, wherever they are.

use super::{bulk, job_or_usage, request_id};
use crate::client::Client;
use crate::failure::{Failure, code};
use crate::follow;
use crate::output::{FormatArgs, print, to_json};
use clap::Args;
use longshore_proto::v1;

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
    /// Why, for whoever looks later
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

pub(crate) async fn run(client: &Client, args: CancelArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let results = bulk::each(args.jobs, |job| cancel(client, job, &args.reason)).await;
    if !format.write(|| results.done().map(|(_, job)| to_json("Job", job)).collect())? {
        for (_, job) in results.done() {
            let state = follow::state(job).map_or_else(String::new, |state| state.to_string());
            let word = if follow::is_ended(job) { state.as_str() } else { "cancelling" };
            print(&format!("{} {word}\n", job.id))?;
        }
    }
    Ok(results.refusals(code::FAILED).unwrap_or(0))
}

async fn cancel(client: &Client, job: String, reason: &str) -> Result<v1::Job, Failure> {
    let request =
        v1::CancelJobsRequest { request_id: request_id(), jobs: vec![job], reason: reason.to_owned() };
    let call = || {
        let (mut jobs, request) = (client.jobs(), request.clone());
        async move { jobs.cancel(request).await }
    };
    job_or_usage(client.ask_again(call).await?.jobs.pop())
}
