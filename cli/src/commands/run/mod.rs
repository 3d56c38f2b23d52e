//! `longshore run`: submit a job, follow it to its end, fetch what it left. Stdout carries the container's stdout
//! and nothing else.

mod contract;
mod end;
mod flags;
#[cfg(test)]
mod flags_tests;
mod states;
mod words;

pub(crate) use end::{detail, end_line, exit_code};
use flags::Plan;
pub(crate) use flags::{LimitArgs, RunArgs, defaults};
pub(crate) use words::pair;

use super::{each, explain, show, submit};
use crate::client::Client;
use crate::failure::{Failure, code};
use crate::follow::{self, LogRequest, Printer, Screen};
use crate::output::{FormatArgs, print, say, size, to_json};
use crate::transfer::download;
use longshore_common::job::file::{JobFile, each::Template};
use longshore_common::job::{self, Input, JobSpec};
use longshore_common::{retry::Backoff, units::plural};
use longshore_proto::v1;
use std::{path::Path, sync::Arc, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) async fn run(client: &Client, args: RunArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let plan = args.plan(&|name| std::env::var(name).ok())?;
    if let Some(table) = &args.each.each {
        return Box::pin(each_row(client, &args, table, plan, format)).await;
    }
    if args.dry_run {
        return rehearse(client, &plan, format).await;
    }
    if let Some(target) = &args.out {
        // Now, not after hours of running.
        std::fs::create_dir_all(target).map_err(|error| {
            Failure::usage(format!("--out {}: it cannot be made a folder: {error}", target.display()))
        })?;
    }
    let mut interrupts = signal(SignalKind::interrupt())?;
    let submitted = tokio::select! {
        submitted = submit::submit(
            client, plan.spec, plan.action.as_ref(), &plan.folders, plan.secrets, args.request_id
        ) => submitted?,
        _ = interrupts.recv() => {
            return Err(Failure::with_code(code::INTERRUPTED, "interrupted before the job was submitted").into());
        }
    };
    if args.detach {
        if !format.write(|| to_json("Job", &submitted))? {
            print(&format!("{}\n", submitted.id))?;
        }
        return Ok(0);
    }
    let image = submitted.spec.as_ref().map_or("", |spec| spec.image.as_str());
    let of = match submitted.action.as_str() {
        "" => String::new(),
        name => format!("{name}@{}  ", submitted.action_version),
    };
    let screen = Arc::new(Screen::default());
    screen.say(format!("job {}  {of}{image}     Ctrl-C cancels · again leaves it running", submitted.id));
    let following = Following { client, screen: &screen, format };
    let Some(ended) = Box::pin(following.to_end(&submitted, &mut interrupts)).await? else {
        screen.say(format!("job {0} is being cancelled; its end: longshore wait {0}", submitted.id));
        return Ok(code::INTERRUPTED);
    };
    let fetched = match &args.out {
        Some(target) => tokio::select! {
            fetched = collect(client, &ended, target, &screen) => fetched,
            _ = interrupts.recv() => {
                let again = format!("fetching was interrupted; longshore artifacts get {} goes on", ended.id);
                Err(Failure::with_code(code::INTERRUPTED, again).into())
            }
        },
        None => Ok(()),
    };
    for line in end_line(&ended) {
        screen.say(line);
    }
    for line in after(client, &ended.id, args.out.is_some()).await {
        screen.say(line);
    }
    if format.is_for_scripts() {
        print(&format.item(&serde_json::json!({ "job": to_json("Job", &ended) }))?)?;
    }
    match (fetched, exit_code(&ended)) {
        // How the job ended matters more than where its files are.
        (Err(error), code) if code != 0 => {
            screen.say(format!("longshore: {error:#}"));
            Ok(code)
        }
        (fetched, code) => fetched.map(|()| code),
    }
}

/// A job for each row of a table.
async fn each_row(
    client: &Client,
    args: &RunArgs,
    table: &Path,
    plan: Plan,
    format: FormatArgs,
) -> anyhow::Result<i32> {
    if args.out.is_some() {
        let message = "--out: is of one job; fetch those of a batch with `longshore artifacts get JOB`, whose ids are in \
                       `longshore ls -a --batch BATCH`";
        return Err(Failure::usage(message).into());
    }
    let Plan { spec, action, folders, secrets } = plan;
    let template = Template::of(&JobFile { spec, action, folders });
    if args.dry_run {
        let rows = each::read(&template, table)?;
        say(format!("{} would be submitted; the first of them:", plural(rows.len() as u64, "job", "jobs")));
        let Some(first) = rows.into_iter().next() else { return Ok(0) };
        let JobFile { spec, action, folders } = first.job;
        return rehearse(client, &Plan { spec, action, folders, secrets }, format).await;
    }
    let (max_parallel, request_id) = (args.each.max_parallel, args.request_id.clone());
    let order = each::Order { template, table, max_parallel, secrets, request_id };
    let batch = each::submit(client, order, |_| {}).await?;
    if args.detach {
        each::leave(&batch, format)
    } else {
        Box::pin(each::to_end(client, batch, format)).await
    }
}

/// The job file on stdout, and on stderr when and where it would run.
async fn rehearse(client: &Client, plan: &Plan, format: FormatArgs) -> anyhow::Result<i32> {
    let mut asked = plan.spec.clone();
    if plan.action.is_some() {
        // So that the action sees that there will be one.
        asked.inputs.extend(plan.folders.keys().map(|name| (name.clone(), not_uploaded())));
    }
    let answer = explain::ask(client, &asked, plan.action.as_ref()).await;
    let whole =
        match (&answer, &plan.action) {
            (Ok((_, Some(spec))), _) => Some(JobSpec::try_from(spec.clone()).map_err(|error| {
                Failure::new(format!("the controller's answer is not understood: {error}"))
            })?),
            // Without an answer nobody knows what the action would make of it.
            (_, Some(_)) => None,
            (_, None) => Some(plan.spec.clone()),
        };
    if let Some(spec) = whole {
        let mut document = job::file::write(&spec);
        for (name, folder) in &plan.folders {
            document["inputs"][name.as_str()] = serde_json::json!({ "dir": folder });
        }
        if !format.write(|| document.clone())? {
            print(&serde_saphyr::to_string(&document)?)?;
        }
    }
    match answer {
        Ok((told, _)) => {
            say(explain::text(&told).trim_end());
            Ok(if explain::is_hopeless(&told) { code::PLATFORM } else { 0 })
        }
        Err(status) if status.code() == tonic::Code::InvalidArgument || plan.action.is_some() => {
            Err(client.failure(&status).into())
        }
        Err(status) => {
            say(format!("whether it would run is not known: {}", status.message()));
            Ok(0)
        }
    }
}

fn not_uploaded() -> Input {
    Input::Uploaded { id: "not uploaded yet".to_owned() }
}

/// What it takes to follow a job in front of a person.
struct Following<'a> {
    client: &'a Client,
    screen: &'a Arc<Screen>,
    format: FormatArgs,
}

impl Following<'_> {
    /// The job at its end, or `None` if the person left it running.
    async fn to_end(&self, job: &v1::Job, interrupts: &mut Signal) -> anyhow::Result<Option<v1::Job>> {
        let Self { client, screen, format } = self;
        let running = Arc::new(states::running(job, screen));
        let printer = Printer::new(false, true, *format);
        let mut printer = printer.before_output(Arc::clone(&running), Arc::clone(screen));
        let request = LogRequest { job: job.id.clone(), follow: true, ..LogRequest::default() };
        let work = async {
            let logs = follow::logs(client, request, &mut printer);
            let states = states::narrate(client, job.clone(), &running, screen);
            let ((), ended) = tokio::try_join!(logs, states)?;
            anyhow::Ok(ended)
        };
        tokio::pin!(work);
        tokio::select! {
            ended = &mut work => return ended.map(Some),
            _ = interrupts.recv() => screen.say("  cancel   asked for; Ctrl-C again stops waiting for it"),
        }
        let cancelled = async {
            let (cancelled, ended) = tokio::join!(cancel(client, &job.id), &mut work);
            cancelled?;
            ended
        };
        tokio::select! {
            ended = cancelled => ended.map(Some),
            _ = interrupts.recv() => Ok(None),
        }
    }
}

async fn cancel(client: &Client, job: &str) -> Result<(), Failure> {
    let request = v1::CancelJobsRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        jobs: vec![job.to_owned()],
        reason: "Ctrl-C".to_owned(),
    };
    let call = || {
        let (mut jobs, request) = (client.jobs(), request.clone());
        async move { jobs.cancel(request).await }
    };
    follow::persist(client, call).await.map(drop)
}

/// Fetches what the last attempt left, whatever its outcome.
async fn collect(client: &Client, job: &v1::Job, target: &Path, screen: &Screen) -> anyhow::Result<()> {
    if job.attempts == 0 {
        return Ok(());
    }
    let (artifacts, attempt) = download::list(client, &job.id, 0, "").await?;
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
    let mut tries = 0;
    let fetched = loop {
        match download::all(client, &job.id, attempt, artifacts.clone(), target).await {
            Err(_) if tries < 2 => {
                // Files that came stay; the next try fetches the others.
                tries += 1;
                backoff.wait().await;
            }
            other => break other?,
        }
    };
    let shown = target.display();
    if fetched.files == 0 {
        screen.say("  collect  /out is empty");
    } else {
        let files = plural(fetched.files, "file", "files");
        screen.say(format!("  collect  /out {files} {} → {shown}  sha256 ok", size(fetched.bytes)));
    }
    Ok(())
}

/// Advice, and where the files are: worth a moment, never the run's exit code.
async fn after(client: &Client, job: &str, fetched: bool) -> Vec<String> {
    let request = v1::GetJobRequest { job: job.to_owned() };
    let Ok(answer) = client.ask(client.jobs().get(request)).await else { return Vec::new() };
    let hints = answer.hints.iter().map(|hint| format!("  hint: {}", show::told(hint)));
    let result = answer.result.filter(|_| !fetched).map(|result| format!("  result: {}", result.folder));
    hints.chain(result).collect()
}
