//! `longshore submit`: the jobs of a file, their folders uploaded first.

use super::each::{self, EachArgs};
use super::{job_or_usage, request_id, when};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{FormatArgs, print, to_json};
use crate::transfer::upload;
use clap::Args;
use longshore_common::action::Invocation;
use longshore_common::clock::Timestamp;
use longshore_common::job::file::{JobFile, each::Template};
use longshore_common::job::{self, After, Input, JobSpec};
use longshore_common::wire::{self, status::Refusal};
use longshore_proto::v1;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Jobs of one call.
const BATCH: usize = 500;

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// A job file, YAML or JSON; - is stdin
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Begin only when this job has ended: `JOB` (well), `JOB:failed` or `JOB:finished`; again for several
    #[arg(long, value_name = "JOB")]
    after: Vec<After>,
    /// Begin at this time at the earliest: +2h, 18:00 or 2026-11-21T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = when::start)]
    not_before: Option<Timestamp>,
    #[command(flatten)]
    each: EachArgs,
    /// The same id with the same file submits once; several jobs get -1, -2, …
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

impl SubmitArgs {
    /// What the flags say of each job.
    fn adjust(&self, job: &mut JobFile) {
        job.spec.after.extend(self.after.iter().cloned());
        job.spec.not_before = self.not_before.or(job.spec.not_before);
        if let Some(run) = &mut job.action {
            run.said.extend((!self.after.is_empty()).then(|| "after".to_owned()));
            run.said.extend(self.not_before.map(|_| "not_before".to_owned()));
        }
    }
}

pub(crate) async fn run(client: &Client, args: SubmitArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let (text, folder) = read(&args.file)?;
    let source =
        if args.file == Path::new("-") { "stdin".to_owned() } else { args.file.display().to_string() };
    if let Some(table) = &args.each.each {
        if table == Path::new("-") && args.file == Path::new("-") {
            return Err(Failure::usage("-f - and --each -: one of them alone is stdin").into());
        }
        let template = Template::parse(&text, &source, &folder);
        let template = template.map_err(|error| Failure::usage(error.to_string()))?;
        let (max_parallel, request_id) = (args.each.max_parallel, args.request_id.clone());
        let order = each::Order { template, table, max_parallel, secrets: BTreeMap::new(), request_id };
        let batch = each::submit(client, order, |job| args.adjust(job)).await?;
        return each::leave(&batch, format);
    }
    let mut files = job::file::parse(&text, &source).map_err(|error| Failure::usage(error.to_string()))?;
    files.iter_mut().for_each(|file| args.adjust(file));
    let several = files.len() > 1;
    let mut requests = Vec::new();
    for (index, file) in files.into_iter().enumerate() {
        let JobFile { mut spec, action, folders } = file;
        let folders = folders.into_iter().map(|(name, path)| (name, folder.join(path))).collect();
        upload_folders(client, &mut spec, &folders).await?;
        let id = match &args.request_id {
            Some(id) if several => format!("{id}-{}", index + 1),
            Some(id) => id.clone(),
            None => request_id(),
        };
        requests.push(request(client, &spec, action.as_ref(), id));
    }
    let mut jobs = Vec::new();
    let mut refused = Vec::new();
    // A job may wait for one above in the file by its name: that must be there first.
    let waits =
        |request: &v1::SubmitRequest| request.spec.as_ref().is_some_and(|spec| !spec.after.is_empty());
    let step = if requests.iter().any(waits) { 1 } else { BATCH };
    for (batch, requests) in requests.chunks(step).enumerate() {
        for (index, result) in batch_of(client, requests).await?.into_iter().enumerate() {
            match result {
                Ok(job) => jobs.push(job),
                Err(error) => {
                    refused.push(format!("{source}: document {}: {error}", batch * step + index + 1))
                }
            }
        }
    }
    if !format.write(|| jobs.iter().map(|job| to_json("Job", job)).collect())? {
        print(&jobs.iter().fold(String::new(), |text, job| format!("{text}{}\n", job.id)))?;
    }
    if refused.is_empty() { Ok(0) } else { Err(Failure::usage(refused.join("\n")).into()) }
}

/// Uploads the folders and submits one job, once, however often the link breaks.
pub(crate) async fn submit(
    client: &Client,
    mut spec: JobSpec,
    action: Option<&Invocation>,
    folders: &BTreeMap<String, PathBuf>,
    secrets: BTreeMap<String, String>,
    id: Option<String>,
) -> anyhow::Result<v1::Job> {
    upload_folders(client, &mut spec, folders).await?;
    let mut request = request(client, &spec, action, id.unwrap_or_else(request_id));
    request.secrets = secrets.into_iter().map(|(name, value)| (name, value.into_bytes().into())).collect();
    let call = || {
        let (mut jobs, request) = (client.jobs(), request.clone());
        async move { jobs.submit(request).await }
    };
    Ok(job_or_usage(Box::pin(client.ask_again(call)).await?.job)?)
}

async fn upload_folders(
    client: &Client,
    spec: &mut JobSpec,
    folders: &BTreeMap<String, PathBuf>,
) -> anyhow::Result<()> {
    for (name, folder) in folders {
        let id = upload::folder(client, name, folder).await?;
        spec.inputs.insert(name.clone(), Input::Uploaded { id });
    }
    Ok(())
}

/// Of a run of an action only what was said goes out: the rest is the action's to say.
fn request(
    client: &Client,
    spec: &JobSpec,
    action: Option<&Invocation>,
    request_id: String,
) -> v1::SubmitRequest {
    let said = action.map(|action| wire::said_of(spec, &action.said));
    v1::SubmitRequest {
        request_id,
        project: client.project().to_owned(),
        spec: Some(said.unwrap_or_else(|| spec.into())),
        action: action.map(v1::ActionRun::from),
        ..v1::SubmitRequest::default()
    }
}

async fn batch_of(
    client: &Client,
    requests: &[v1::SubmitRequest],
) -> anyhow::Result<Vec<Result<v1::Job, Refusal>>> {
    let request = v1::SubmitBatchRequest { requests: requests.to_vec() };
    let call = || {
        let (mut jobs, request) = (client.jobs(), request.clone());
        async move { jobs.submit_batch(request).await }
    };
    let results = client.ask_again(call).await?.results;
    let nothing = || Refusal::new(tonic::Code::Internal, "the controller answered nothing");
    Ok(results
        .into_iter()
        .map(|result| match (result.error, result.submitted.and_then(|submitted| submitted.job)) {
            (Some(error), _) => Err(error.into()),
            (None, Some(job)) => Ok(job),
            (None, None) => Err(nothing()),
        })
        .collect())
}

/// The file's text, and the folder that relative paths in it begin at.
pub(super) fn read(file: &Path) -> Result<(String, PathBuf), Failure> {
    let unreadable = |error: std::io::Error| Failure::usage(format!("{}: {error}", file.display()));
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(unreadable)?;
        return Ok((text, PathBuf::new()));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    Ok((text, file.parent().map(Path::to_owned).unwrap_or_default()))
}
