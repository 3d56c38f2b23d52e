//! `longshore wait`: until jobs have ended. Exits as `run` would have; of several, as the first that did not succeed.

use super::run::exit_code;
use crate::client::Client;
use crate::follow;
use crate::output::print;
use clap::Args;
use futures::future::try_join_all;

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

pub(crate) async fn run(client: &Client, args: WaitArgs) -> anyhow::Result<i32> {
    let ended = try_join_all(args.jobs.iter().map(|job| follow::end(client, job))).await?;
    for job in &ended {
        let outcome = job.outcome.as_ref().map_or("", |outcome| outcome.name.as_str());
        print(&format!("{} {outcome} {}\n", job.id, exit_code(job)))?;
    }
    Ok(ended.iter().map(exit_code).find(|code| *code != 0).unwrap_or(0))
}
