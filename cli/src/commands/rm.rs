//! `longshore rm`: purges ended jobs.

use super::request_id;
use crate::client::Client;
use crate::output::{plural, say};
use clap::Args;
use longshore_proto::v1;

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

pub(crate) async fn run(client: &Client, args: RmArgs) -> anyhow::Result<i32> {
    let request = v1::RemoveJobsRequest { request_id: request_id(), jobs: args.jobs };
    let call = || {
        let (mut jobs, request) = (client.jobs(), request.clone());
        async move { jobs.remove(request).await }
    };
    let removed = client.ask_again(call).await?.removed;
    say(format!("removed {}", plural(removed.into(), "job", "jobs")));
    Ok(0)
}
