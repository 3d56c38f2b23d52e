//! `longshore cancel`: stops jobs, wherever they are.

use super::request_id;
use crate::client::Client;
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
    let request = v1::CancelJobsRequest { request_id: request_id(), jobs: args.jobs, reason: args.reason };
    let call = || {
        let (mut jobs, request) = (client.jobs(), request.clone());
        async move { jobs.cancel(request).await }
    };
    let jobs = client.ask_again(call).await?.jobs;
    if !format.write(|| jobs.iter().map(|job| to_json("Job", job)).collect())? {
        for job in &jobs {
            let state = follow::state(job).map_or_else(String::new, |state| state.to_string());
            let word = if follow::is_ended(job) { state.as_str() } else { "cancelling" };
            print(&format!("{} {word}\n", job.id))?;
        }
    }
    Ok(0)
}
