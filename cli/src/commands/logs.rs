//! `longshore logs`: what a job wrote; its stdout to stdout, everything else to stderr.

use super::ls::since;
use super::run::exit_code;
use crate::client::Client;
use crate::follow::{self, LogRequest, Printer};
use crate::output::FormatArgs;
use clap::Args;
use longshore_common::{clock::Timestamp, wire};

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    job: String,
    /// Go on until the job has ended, and exit as its container did
    #[arg(short, long)]
    follow: bool,
    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,
    /// The last N lines
    #[arg(short = 'n', long, visible_alias = "tail", value_name = "N")]
    lines: Option<u32>,
    /// Lines since: 10m, or 2026-11-21T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Of this attempt instead of the last one
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    attempt: u32,
}

pub(crate) async fn run(client: &Client, args: LogsArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let request = LogRequest {
        job: args.job.clone(),
        attempt: args.attempt,
        follow: args.follow,
        tail: args.lines,
        since: args.since.map(wire::timestamp_to),
    };
    follow::logs(client, request, &mut Printer::new(args.timestamps, false, format)).await?;
    if !args.follow || args.attempt != 0 {
        return Ok(0);
    }
    Ok(exit_code(&follow::end(client, &args.job).await?))
}
