//! `longshore show`: everything about one job; what nobody set is marked `(default)`.

pub(crate) mod sizing;

use super::explain;
use super::run::{detail, end_line};
use crate::client::Client;
use crate::follow;
use crate::output::{FormatArgs, Table, age, amount, print, size, span, to_json};
use clap::Args;
use longshore_common::job::{Input, JobSpec, Kleinkram, Outcome, ShareInput, image::pinned};
use longshore_common::units::{ByteSize, Cores, HumanDuration};
use longshore_common::wire;
use longshore_proto::v1;
use std::fmt::Display;

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    job: String,
}

pub(crate) async fn run(client: &Client, args: ShowArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let call = || {
        let (mut jobs, request) = (client.jobs(), v1::GetJobRequest { job: args.job.clone() });
        async move { jobs.get(request).await }
    };
    let answer = client.ask_again(call).await?;
    if !format.write(|| to_json("GetJobResponse", &answer))? {
        print(&describe(&answer))?;
    }
    Ok(0)
}

fn describe(answer: &v1::GetJobResponse) -> String {
    let job = answer.job.clone().unwrap_or_default();
    let mut lines = Lines::default();
    lines.add("job", &job.id);
    lines.add("uuid", &job.uuid);
    let state = follow::state(&job).map_or_else(String::new, |state| state.to_string());
    lines.add(
        "state",
        if job.cancel_requested && !follow::is_ended(&job) { format!("{state}, cancelling") } else { state },
    );
    if job.outcome.is_some() {
        lines.add("end", end_line(&job).join("\n"));
    }
    for hint in &answer.hints {
        lines.add("hint", told(hint));
    }
    if let Some(result) = &answer.result {
        lines.add("result", format!("{}\n{}", result.folder, result.archive));
    }
    lines.add("submitted", format!("{} ago", age(job.created_at.as_ref())));
    lines.add("agent", &job.agent);
    lines.add("lane", &job.lane);
    lines.add("retry of", &job.retry_of);
    if !job.batch.is_empty() {
        lines.add("batch", format!("{}, row {}", job.batch, job.batch_row));
    }
    lines.add("submitted by", &job.submitted_by);
    if !job.action.is_empty() {
        lines.add("action", format!("{}@{}", job.action, job.action_version));
    }
    if !job.trigger.is_empty() {
        let depth =
            if job.trigger_depth > 1 { format!(", {} in a row", job.trigger_depth) } else { String::new() };
        lines.add("trigger", format!("{} ({}{depth})", job.trigger, job.trigger_kind));
    }
    if let Some(expires) = &job.expires_at {
        lines.add("kept until", expires.to_string());
    }
    match job.spec.clone().map(JobSpec::try_from) {
        Some(Ok(spec)) => describe_spec(&spec, &mut lines),
        Some(Err(error)) => lines.add("spec", error.to_string()),
        None => {}
    }
    let mut text = lines.0;
    if let Some(waiting) = &answer.waiting {
        text.push_str(&format!("\nwaits: {}", explain::text(waiting)));
    }
    if !answer.attempts.is_empty() {
        text.push_str(&format!("\n{}", attempts(&job, &answer.attempts)));
    }
    if let Some(sizing) = &answer.sizing {
        text.push_str(&format!("\n{}", sizing::text(sizing)));
    }
    text
}

/// The advice, and the line that it is about.
pub(crate) fn told(hint: &v1::Hint) -> String {
    if hint.line.is_empty() {
        return hint.text.clone();
    }
    let line: String =
        hint.line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(160).collect();
    format!("{}\n  {}", hint.text, line.trim())
}

#[derive(Default)]
pub(super) struct Lines(pub(super) String);

impl Lines {
    pub(super) fn add(&mut self, name: &str, value: impl Display) {
        let value = value.to_string();
        for (index, line) in value.lines().enumerate() {
            let name = if index == 0 { name } else { "" };
            self.0.push_str(&format!("{name:<11} {line}\n"));
        }
    }

    /// A value that somebody may have set.
    fn set(&mut self, name: &str, value: impl Display, is_default: bool) {
        self.add(name, format!("{value}{}", if is_default { " (default)" } else { "" }));
    }
}

fn describe_kleinkram(spec: &JobSpec, said: &Kleinkram, lines: &mut Lines) {
    lines.add("contract", &spec.contract);
    lines.add("project", said.project_uuid.as_deref().unwrap_or_default());
    lines.add("mission", said.mission_uuid.as_deref().unwrap_or_default());
    lines.add("api", said.api_endpoint.as_deref().unwrap_or_default());
    lines.add("s3", said.s3_endpoint.as_deref().unwrap_or_default());
    lines.set("access", spec.access, spec.access.is_default());
    let key = said.key.as_ref().map_or("minted for each attempt".to_owned(), |name| format!("secret {name}"));
    lines.set("run key", key, said.key.is_none());
    let files = if said.files_in_memory { "count as memory" } else { "do not count as memory" };
    lines.set("files", files, said.files_in_memory);
}

pub(super) fn describe_spec(spec: &JobSpec, lines: &mut Lines) {
    let mut default = JobSpec::for_image(&spec.image);
    default.contract.clone_from(&spec.contract);
    default.settle(false);
    lines.add("name", spec.name.as_deref().unwrap_or_default());
    lines
        .add("image", format!("{}{}", spec.image, if spec.pin { ", the same in every attempt" } else { "" }));
    lines.add("entrypoint", spec.entrypoint.as_ref().map(|words| format!("{words:?}")).unwrap_or_default());
    lines.add("command", spec.command.as_ref().map(|words| format!("{words:?}")).unwrap_or_default());
    let plain = spec.env.iter().map(|(name, value)| format!("{name}={value}"));
    let secret = spec.secret_env.iter().map(|(name, secret)| format!("{name}={{secret: {secret}}}"));
    let env: Vec<_> = plain.chain(secret).collect();
    lines.add("env", env.join("\n"));
    for (secret, path) in &spec.secret_files {
        lines.add("secret", format!("{secret} at {path}"));
    }
    if let Some(said) = &spec.kleinkram {
        describe_kleinkram(spec, said, lines);
    }
    let (asked, usual) = (&spec.resources, &default.resources);
    lines.set("cpu", Cores(asked.cpu_millis), asked.cpu_millis == usual.cpu_millis);
    lines.set("memory", ByteSize(asked.memory_bytes), asked.memory_bytes == usual.memory_bytes);
    lines.set("shm", ByteSize(asked.shm_bytes), asked.shm_bytes == usual.shm_bytes);
    lines.set("scratch", ByteSize(asked.scratch_bytes), asked.scratch_bytes == usual.scratch_bytes);
    lines.set("pids", asked.pids, asked.pids == usual.pids);
    if let Some(gpu) = &asked.gpu {
        lines.add("gpus", gpu.to_string());
    }
    if asked.exclusive {
        lines.add("machine", "to itself");
    }
    let (asked, usual) = (&spec.deadlines, &default.deadlines);
    let queue = asked.queue.map_or_else(|| "none".to_owned(), |queue| HumanDuration(queue).to_string());
    lines.set("queue", queue, asked.queue == usual.queue);
    lines.set("prepare", HumanDuration(asked.prepare), asked.prepare == usual.prepare);
    lines.set("run", HumanDuration(asked.run), asked.run == usual.run);
    lines.set("upload", HumanDuration(asked.upload), asked.upload == usual.upload);
    lines.set("stop grace", HumanDuration(asked.stop_grace), asked.stop_grace == usual.stop_grace);
    let tolerance = spec.disconnect_tolerance;
    let length =
        tolerance.map_or_else(|| "the cluster's".to_owned(), |length| HumanDuration(length).to_string());
    lines.set("tolerance", length, tolerance.is_none());
    let on = if spec.retry.on.is_empty() {
        "the platform's failures".to_owned()
    } else {
        spec.retry.on.join(", ")
    };
    lines.set(
        "attempts",
        format!("{} at most, after {on}", spec.retry.attempts),
        spec.retry == default.retry,
    );
    for (outcome, rule) in &spec.retry.outcomes {
        let attempts = rule.attempts.unwrap_or(spec.retry.attempts);
        let wait = HumanDuration(rule.backoff.unwrap_or(spec.retry.backoff));
        lines.add("", format!("after {outcome} {attempts} at most, {wait} apart at first"));
    }
    lines.set("priority", spec.priority, spec.priority == default.priority);
    let agents = spec.agents.iter().map(|(name, any)| format!("{name}={}", any.join("|")));
    let agents: Vec<_> = agents.chain(spec.agent_rules.iter().map(ToString::to_string)).collect();
    lines.add("agents", agents.join(" "));
    let labels: Vec<_> = spec.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    lines.add("labels", labels.join(" "));
    for (name, input) in &spec.inputs {
        lines.add("input", format!("{name}: {}", describe_input(input)));
    }
    for (name, path) in &spec.caches {
        lines.add("cache", format!("{name} at {path}"));
    }
    lines.set("pool", &spec.pool, spec.pool == default.pool);
}

pub(super) fn describe_input(input: &Input) -> String {
    match input {
        Input::Uploaded { id } => format!("uploaded, {}", id.get(..12).unwrap_or(id)),
        Input::Job { job, path } if path.is_empty() => format!("outputs of {job}"),
        Input::Job { job, path } => format!("{path} of {job}"),
        Input::Url { url } => url.clone(),
        Input::Share(ShareInput { share, path, writable }) => {
            let may = if *writable { ", writable" } else { "" };
            format!("share {}{may}", format!("{share}/{path}").trim_end_matches('/'))
        }
    }
}

fn attempts(job: &v1::Job, attempts: &[v1::Attempt]) -> String {
    let mut table = Table::new(
        &["ATTEMPT", "STATE", "OUTCOME", "NODE", "RAN", "CPU", "MEMORY", "FILES", "LOG", "WHY"],
        &["WHY", "OUTCOME", "NODE"],
    )
    .spare(&["LOG", "FILES", "CPU", "MEMORY", "RAN", "NODE", "STATE", "WHY"]);
    let mut notes = String::new();
    for attempt in attempts {
        let outcome = attempt.outcome.clone().unwrap_or_default();
        let usage = attempt.usage.unwrap_or_default();
        let ran =
            amount(attempt.started_at.as_ref(), attempt.exited_at.as_ref().or(attempt.finished_at.as_ref()));
        let why =
            if outcome.name == Outcome::Succeeded.name() { String::new() } else { detail(job, &outcome) };
        table.row(vec![
            attempt.number.to_string(),
            wire::job_state("", attempt.state).map_or_else(|_| String::new(), |state| state.to_string()),
            outcome.name,
            attempt.agent.clone(),
            ran.map_or_else(String::new, span),
            span(std::time::Duration::from_micros(usage.cpu_micros)),
            size(usage.memory_peak_bytes),
            format!("{}, {}", attempt.artifact_count, size(attempt.artifact_bytes)),
            size(attempt.log_end),
            why,
        ]);
        if !attempt.digest.is_empty() {
            let image = job.spec.as_ref().map_or("", |spec| spec.image.as_str());
            notes.push_str(&format!(
                "attempt {}: image {}\n",
                attempt.number,
                pinned(image, &attempt.digest)
            ));
        }
        for gpu in &attempt.gpus {
            notes.push_str(&format!("attempt {}: GPU {gpu}\n", attempt.number));
        }
        if let Some(used) = &usage.gpu {
            notes.push_str(&format!("attempt {}: {}\n", attempt.number, gpu_usage(used)));
        }
        for note in &attempt.notes {
            notes.push_str(&format!("attempt {}: {note}\n", attempt.number));
        }
    }
    format!("{}{notes}", table.render())
}

fn gpu_usage(used: &v1::GpuUsage) -> String {
    format!(
        "used of its GPUs {} at most and {} on average, {} % at most and {} % on average",
        size(used.memory_peak_bytes),
        size(used.memory_mean_bytes),
        used.percent_peak,
        used.percent_mean
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_set_is_marked() {
        let mut spec = JobSpec::for_image("alpine");
        spec.resources.cpu_millis = 8000;
        let job = v1::Job { id: "k3m9q2xw".into(), spec: Some((&spec).into()), ..v1::Job::default() };
        let text = describe(&v1::GetJobResponse { job: Some(job), ..v1::GetJobResponse::default() });
        assert!(text.contains("cpu         8\n"), "{text}");
        assert!(text.contains("memory      2GiB (default)\n"), "{text}");
        assert!(text.contains("run         24h (default)\n"), "{text}");
    }
}
