//! `longshore rm`: purges ended jobs.

use super::{bulk, request_id};
use crate::client::Client;
use crate::failure::{Failure, code};
use crate::output::{FormatArgs, print};
use clap::Args;
use longshore_proto::v1;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

pub(crate) async fn run(client: &Client, args: RmArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let results = bulk::each(args.jobs, |job| remove(client, job)).await;
    if !format.write(|| results.done().map(|(job, ())| json!({ "job": job, "removed": true })).collect())? {
        for (job, ()) in results.done() {
            print(&format!("{job} removed\n"))?;
        }
    }
    Ok(results.refusals(code::FAILED).unwrap_or(0))
}

async fn remove(client: &Client, job: String) -> Result<(), Failure> {
    let request = v1::RemoveJobsRequest { request_id: request_id(), jobs: vec![job] };
    let call = || {
        let (mut jobs, request) = (client.jobs(), request.clone());
        async move { jobs.remove(request).await }
    };
    client.ask_again(call).await.map(drop)
}
