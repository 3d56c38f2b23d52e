//! `longshore ls`: jobs, newest first.

use super::batches;
use super::run::{detail, exit_code};
use crate::client::Client;
use crate::failure::Failure;
use crate::follow;
use crate::output::{FormatArgs, Table, age, amount, print, span, to_json};
use clap::Args;
use longshore_common::{action::ActionRef, clock::Timestamp, job::JobState, units::HumanDuration, wire};
use longshore_proto::v1;

const PAGE: u32 = 500;

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Ended jobs too
    #[arg(short, long)]
    all: bool,
    /// Ids alone
    #[arg(short, long)]
    quiet: bool,
    /// Only jobs in this state; may be given several times
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Vec<JobState>,
    /// Only jobs with this label
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    /// Only jobs of this name
    #[arg(long)]
    name: Option<String>,
    /// Only runs of this action, or of one version of it
    #[arg(long, value_name = "NAME[@V]")]
    action: Option<ActionRef>,
    /// Only jobs of this batch
    #[arg(long)]
    batch: Option<String>,
    /// Only jobs submitted since: 2h, or 2026-11-21T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
}

pub(crate) async fn run(client: &Client, args: LsArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let jobs = list(client, &args).await?;
    if args.quiet {
        if format.write(|| jobs.iter().map(|job| job.id.as_str()).collect())? {
            return Ok(0);
        }
        print(&jobs.iter().fold(String::new(), |text, job| format!("{text}{}\n", job.id)))?;
    } else if !format.write(|| jobs.iter().map(|job| to_json("Job", job)).collect())? {
        print(&table(&jobs, format.is_wide()).render())?;
    }
    Ok(0)
}

async fn list(client: &Client, args: &LsArgs) -> Result<Vec<v1::Job>, Failure> {
    let batch = match &args.batch {
        Some(batch) => batches::get(client, batch).await?.id,
        None => String::new(),
    };
    let filter = v1::JobFilter {
        states: args.state.iter().map(|state| v1::JobState::from(*state) as i32).collect(),
        labels: args.label.iter().cloned().collect(),
        name: args.name.clone().unwrap_or_default(),
        since: args.since.map(wire::timestamp_to),
        project: client.project().to_owned(),
        unfinished: !args.all && args.state.is_empty(),
        action: args.action.as_ref().map(|action| action.name.clone()).unwrap_or_default(),
        action_version: args.action.as_ref().and_then(|action| action.version).unwrap_or_default(),
        batch,
    };
    jobs(client, filter, args.limit.unwrap_or(usize::MAX)).await
}

/// The newest that fit, as many as `limit`.
pub(crate) async fn jobs(
    client: &Client,
    filter: v1::JobFilter,
    limit: usize,
) -> Result<Vec<v1::Job>, Failure> {
    let page_size = u32::try_from(limit).unwrap_or(PAGE).clamp(1, PAGE);
    let mut request = v1::ListJobsRequest { filter: Some(filter), page_size, page_token: String::new() };
    let mut jobs = Vec::new();
    loop {
        let call = || {
            let (mut api, request) = (client.jobs(), request.clone());
            async move { api.list(request).await }
        };
        let page = client.ask_again(call).await?;
        jobs.extend(page.jobs);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || jobs.len() >= limit {
            jobs.truncate(limit);
            return Ok(jobs);
        }
    }
}

fn table(jobs: &[v1::Job], wide: bool) -> Table {
    let mut header = vec!["ID", "NAME", "STATE", "OUTCOME", "NODE", "GPUS", "AGE", "RAN", "WHY"];
    if wide {
        header.splice(8..8, ["ATTEMPTS", "LANE", "TRIGGER", "IMAGE"]);
    }
    let mut table = Table::new(&header, &["WHY", "IMAGE", "NAME"]).spare(&[
        "LANE", "ATTEMPTS", "TRIGGER", "GPUS", "RAN", "NODE", "AGE", "OUTCOME", "IMAGE", "WHY", "NAME",
    ]);
    for job in jobs {
        let ran = amount(job.started_at.as_ref(), job.finished_at.as_ref());
        let mut row = vec![
            job.id.clone(),
            name(job),
            follow::state(job).map_or_else(String::new, |state| state.to_string()),
            outcome(job),
            job.agent.clone(),
            if job.gpus == 0 { String::new() } else { job.gpus.to_string() },
            age(job.created_at.as_ref()),
            ran.map_or_else(String::new, span),
        ];
        if wide {
            let image = job.spec.as_ref().map_or_else(String::new, |spec| spec.image.clone());
            row.extend([job.attempts.to_string(), job.lane.clone(), job.trigger.clone(), image]);
        }
        row.push(why(job));
        table.row(row);
    }
    table
}

/// The job's name, or the last part of its image's.
fn name(job: &v1::Job) -> String {
    let Some(spec) = &job.spec else { return String::new() };
    if !spec.name.is_empty() {
        return spec.name.clone();
    }
    let last = spec.image.rsplit('/').next().unwrap_or_default();
    last.split(['@', ':']).next().unwrap_or_default().to_owned()
}

fn outcome(job: &v1::Job) -> String {
    match &job.outcome {
        Some(outcome) if outcome.name == "exit_code" => format!("exit_code({})", exit_code(job)),
        Some(outcome) => outcome.name.clone(),
        None if job.cancel_requested => "(cancelling)".to_owned(),
        None => String::new(),
    }
}

fn why(job: &v1::Job) -> String {
    match &job.outcome {
        Some(outcome) if outcome.name != "succeeded" => detail(job, outcome),
        Some(_) => String::new(),
        None => job.waits.clone(),
    }
}

fn state(text: &str) -> Result<JobState, String> {
    text.parse().map_err(|_| {
        let all: Vec<_> = JobState::ALL.iter().map(|state| state.as_str()).collect();
        format!("`{text}` is not a state: {}", all.join(", "))
    })
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("write NAME=VALUE, not `{text}`"))
}

/// A moment: a length of time ago, or RFC 3339.
pub(crate) fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(HumanDuration(length)) = text.parse() {
        return Ok(Timestamp::now().minus(length));
    }
    text.parse::<prost_types::Timestamp>()
        .map(|time| wire::timestamp_from(&time))
        .map_err(|_| format!("`{text}` is neither a time ago like 2h nor a moment like 2026-11-21T08:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::job::{JobSpec, Outcome};

    #[test]
    fn moments_are_ago_or_absolute() {
        let hour = since("1h").expect("a time");
        assert!(Timestamp::now().since(hour) >= std::time::Duration::from_secs(3599));
        assert_eq!(since("1970-01-01T00:00:01Z").map(Timestamp::as_micros), Ok(1_000_000));
        assert!(since("yesterday").is_err());
    }

    #[test]
    fn a_row_tells_name_outcome_and_why() {
        let mut job = v1::Job {
            id: "k3m9q2xw".into(),
            spec: Some(v1::JobSpec::from(&JobSpec::for_image("host:5000/rsl/trainer:1.4"))),
            state: v1::JobState::Failed as i32,
            outcome: Some(wire::outcome(&Outcome::ExitCode(3), "exit 3", "k3m9q2xw")),
            ..v1::Job::default()
        };
        assert_eq!(
            (name(&job), outcome(&job), why(&job)),
            ("trainer".into(), "exit_code(3)".into(), "exit 3".into())
        );
        job.outcome = None;
        job.cancel_requested = true;
        assert_eq!(outcome(&job), "(cancelling)");
        let text = table(&[job], true).render();
        assert!(text.contains("host:5000/rsl/trainer:1.4") && text.starts_with("ID "), "{text}");
    }

    #[test]
    fn a_queued_job_says_why_it_waits() {
        let job = v1::Job { waits: "gpu-04: needs 2 GPUs, 1 free".into(), ..v1::Job::default() };
        assert_eq!(why(&job), "gpu-04: needs 2 GPUs, 1 free");
    }

    #[test]
    fn unknown_states_are_refused_with_the_known_ones() {
        assert!(state("done").expect_err("no state").contains("succeeded"));
    }
}
