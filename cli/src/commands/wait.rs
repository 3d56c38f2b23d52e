//! `longshore wait`: until jobs have ended. Exits as `run` would have; of several, as the first that did not succeed.

use super::bulk;
use super::run::exit_code;
use crate::client::Client;
use crate::failure::code;
use crate::follow;
use crate::output::{FormatArgs, print, to_json};
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

pub(crate) async fn run(client: &Client, args: WaitArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let results = bulk::all_at_once(args.jobs, |job| async move { follow::end(client, &job).await }).await;
    if !format.write(|| results.done().map(|(_, job)| to_json("Job", job)).collect())? {
        for (_, job) in results.done() {
            let outcome = job.outcome.as_ref().map_or("", |outcome| outcome.name.as_str());
            print(&format!("{} {outcome} {}\n", job.id, exit_code(job)))?;
        }
    }
    let refused = results.refusals(code::PLATFORM);
    let ended = results.done().map(|(_, job)| exit_code(job)).find(|code| *code != 0);
    Ok(refused.or(ended).unwrap_or(0))
}
