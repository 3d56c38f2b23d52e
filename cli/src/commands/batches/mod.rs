//! `longshore batches`: jobs that were submitted together by `--each`.

mod watch;

pub(super) use watch::{end, follow};

use super::{bulk, each, request_id};
use crate::client::Client;
use crate::failure::{Failure, code};
use crate::follow::persist;
use crate::output::{FormatArgs, Table, age, print, to_json};
use clap::{Args, Subcommand};
use futures::future::BoxFuture;
use longshore_proto::v1;
use tonic::{Response, Status};

const PAGE: u32 = 500;
/// Failed rows that `show` tells.
const SHOWN: usize = 20;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List batches that have jobs to come, newest first
    Ls(LsArgs),
    /// How one is, and which of its rows failed
    Show(BatchArgs),
    /// Wait for all jobs of batches to end
    Wait(BatchesArgs),
    /// Stop all jobs of batches
    Cancel(CancelArgs),
    /// Make a new batch of the jobs of one that failed
    Retry(RetryArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Ended batches too
    #[arg(short, long)]
    all: bool,
    /// Ids alone
    #[arg(short, long)]
    quiet: bool,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct BatchArgs {
    batch: String,
}

#[derive(Debug, Args)]
pub(crate) struct BatchesArgs {
    #[arg(required = true, value_name = "BATCH")]
    batches: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    #[arg(required = true, value_name = "BATCH")]
    batches: Vec<String>,
    /// Why, for whoever looks later
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    batch: String,
    /// Jobs that were cancelled too
    #[arg(long)]
    cancelled: bool,
    /// The same id makes one batch
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

pub(crate) async fn run(client: &Client, command: Command, format: FormatArgs) -> anyhow::Result<i32> {
    match command {
        Command::Ls(args) => ls(client, &args, format).await,
        Command::Show(args) => show(client, &args.batch, format).await,
        Command::Wait(args) => wait(client, args.batches, format).await,
        Command::Cancel(args) => {
            let reason = args.reason.as_str();
            let results =
                bulk::each(args.batches, |batch| async move { cancel_now(client, &batch, reason).await });
            told(&results.await, format)
        }
        Command::Retry(args) => {
            let request = v1::RetryBatchRequest {
                request_id: args.request_id.unwrap_or_else(request_id),
                batch: args.batch,
                cancelled: args.cancelled,
            };
            let call = || {
                let (mut api, request) = (client.batches(), request.clone());
                async move { api.retry(request).await }
            };
            let answer = Box::pin(client.ask_again(call)).await?;
            if let Some(error) = answer.errors.first() {
                let message = error.error.as_ref().map_or("", |error| error.message.as_str());
                return Err(
                    Failure::usage(format!("row {}: {message}; no job was submitted", error.row)).into()
                );
            }
            each::leave(&there(answer.batch)?, format)
        }
    }
}

/// The batch that is meant.
pub(super) async fn get(client: &Client, batch: &str) -> Result<v1::Batch, Failure> {
    let request = v1::GetBatchRequest { batch: batch.to_owned() };
    let call = || {
        let (mut api, request) = (client.batches(), request.clone());
        async move { api.get(request).await }
    };
    there(client.ask_again(call).await?.batch)
}

pub(super) fn there(batch: Option<v1::Batch>) -> Result<v1::Batch, Failure> {
    batch.ok_or_else(|| Failure::new("the controller answered without a batch"))
}

/// Until the controller has heard it.
pub(super) async fn cancel(client: &Client, batch: &str, reason: &str) -> Result<v1::Batch, Failure> {
    there(persist(client, asked(client, batch, reason)).await?.batch)
}

async fn cancel_now(client: &Client, batch: &str, reason: &str) -> Result<v1::Batch, Failure> {
    there(client.ask_again(asked(client, batch, reason)).await?.batch)
}

fn asked(
    client: &Client,
    batch: &str,
    reason: &str,
) -> impl FnMut() -> BoxFuture<'static, Result<Response<v1::CancelBatchResponse>, Status>> {
    let request = v1::CancelBatchRequest {
        request_id: request_id(),
        batch: batch.to_owned(),
        reason: reason.to_owned(),
    };
    let api = client.batches();
    move || {
        let (mut api, request) = (api.clone(), request.clone());
        Box::pin(async move { api.cancel(request).await })
    }
}

async fn ls(client: &Client, args: &LsArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let limit = args.limit.unwrap_or(usize::MAX);
    let mut request = v1::ListBatchesRequest {
        project: client.project().to_owned(),
        unfinished: !args.all,
        page_size: u32::try_from(limit).unwrap_or(PAGE).clamp(1, PAGE),
        page_token: String::new(),
    };
    let mut found = Vec::new();
    while found.len() < limit {
        let page = client.ask(client.batches().list(request.clone())).await?;
        found.extend(page.batches);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    found.truncate(limit);
    if args.quiet {
        if !format.write(|| found.iter().map(|batch| batch.id.as_str()).collect())? {
            print(&found.iter().fold(String::new(), |text, batch| format!("{text}{}\n", batch.id)))?;
        }
    } else if !format.write(|| found.iter().map(|batch| to_json("Batch", batch)).collect())? {
        print(&table(&found).render())?;
    }
    Ok(0)
}

fn table(batches: &[v1::Batch]) -> Table {
    let header =
        ["ID", "NAME", "JOBS", "WAITING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "AT ONCE", "AGE"];
    let mut table = Table::new(&header, &["NAME"]).spare(&["AT ONCE", "AGE", "CANCELLED", "WAITING"]);
    for batch in batches {
        let counts = batch.counts.unwrap_or_default();
        let at_once = if batch.max_parallel == 0 { "all".to_owned() } else { batch.max_parallel.to_string() };
        table.row(vec![
            batch.id.clone(),
            batch.name.clone(),
            batch.total.to_string(),
            (counts.waiting + counts.queued).to_string(),
            counts.running.to_string(),
            counts.succeeded.to_string(),
            (counts.failed + counts.timed_out).to_string(),
            counts.cancelled.to_string(),
            at_once,
            age(batch.created_at.as_ref()),
        ]);
    }
    table
}

async fn show(client: &Client, batch: &str, format: FormatArgs) -> anyhow::Result<i32> {
    let batch = get(client, batch).await?;
    if format.write(|| to_json("Batch", &batch))? {
        return Ok(0);
    }
    let mut text = describe(&batch);
    let ended = watch::unsuccessful(client, &batch).await?;
    for line in watch::rows(&ended, SHOWN, &batch.id) {
        text.push_str(&format!("{line}\n"));
    }
    if let Some(line) = watch::reason(client, &batch).await {
        text.push_str(&format!("{line}\n"));
    }
    print(&text)?;
    Ok(0)
}

fn describe(batch: &v1::Batch) -> String {
    let mut text = String::new();
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("{name:<11} {value}\n"));
        }
    };
    add("batch", &batch.id);
    add("name", &batch.name);
    add("project", &batch.project);
    add("by", &batch.submitted_by);
    add("retry of", &batch.retry_of);
    let at_once = if batch.max_parallel == 0 { "all".to_owned() } else { batch.max_parallel.to_string() };
    add("at once", &at_once);
    add("made", &format!("{} ago", age(batch.created_at.as_ref())));
    if batch.finished_at.is_some() {
        add("ended", &format!("{} ago", age(batch.finished_at.as_ref())));
    }
    add("jobs", &watch::counts(batch));
    text
}

async fn wait(client: &Client, batches: Vec<String>, format: FormatArgs) -> anyhow::Result<i32> {
    let wait = |batch: String| async move {
        let batch = get(client, &batch).await?;
        let ended = watch::until_end(client, &batch.id, |_| {}).await?;
        let code = watch::unsuccessful(client, &ended).await?.first().map_or(0, super::run::exit_code);
        Ok((ended, code))
    };
    let results = bulk::all_at_once(batches, wait).await;
    if !format.write(|| results.done().map(|(_, (batch, _))| to_json("Batch", batch)).collect())? {
        for (_, (batch, code)) in results.done() {
            print(&format!("{} {} {code}\n", batch.id, watch::counts(batch)))?;
        }
    }
    let refused = results.refusals(code::PLATFORM);
    let ended = results.done().map(|(_, (_, code))| *code).find(|code| *code != 0);
    Ok(refused.or(ended).unwrap_or(0))
}

fn told(results: &bulk::Results<v1::Batch>, format: FormatArgs) -> anyhow::Result<i32> {
    if !format.write(|| results.done().map(|(_, batch)| to_json("Batch", batch)).collect())? {
        for (_, batch) in results.done() {
            print(&format!("{} {}\n", batch.id, watch::counts(batch)))?;
        }
    }
    Ok(results.refusals(code::FAILED).unwrap_or(0))
}
