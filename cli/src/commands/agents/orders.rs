//! `longshore agents cordon`, `uncordon`, `drain` and `label`: what a machine is to do from now on.

use super::{cordon_line, get, state};
use crate::client::Client;
use crate::commands::{request_id, when};
use crate::failure::Failure;
use crate::output::{FormatArgs, say, to_json};
use clap::Args;
use longshore_common::{clock::Timestamp, units::HumanDuration, wire};
use longshore_proto::v1;
use std::time::Duration;

/// Between two looks at a machine that is drained.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct CordonArgs {
    /// Its name or id
    agent: String,
    /// One GPU alone, by index or UUID; the others go on
    #[arg(long, value_name = "N")]
    gpu: Option<String>,
    /// It ends by itself then: 18:00, 2h, or 2026-11-21T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = when::until)]
    until: Option<Timestamp>,
    /// Why, for everybody who waits
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

#[derive(Debug, Args)]
pub(crate) struct UncordonArgs {
    /// Its name or id
    agent: String,
    /// One GPU alone, by index or UUID
    #[arg(long, value_name = "N")]
    gpu: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// Its name or id
    agent: String,
    /// How long jobs may run on; then they go back to the queue, and no retry of theirs is spent
    #[arg(long, value_name = "TIME")]
    deadline: Option<HumanDuration>,
    /// Stay until the machine is empty, and say how many jobs are left
    #[arg(long)]
    watch: bool,
    /// Why, for everybody who waits
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

#[derive(Debug, Args)]
pub(crate) struct LabelArgs {
    /// Its name or id
    agent: String,
    /// NAME=VALUE sets a label, NAME- takes it away
    #[arg(required = true, value_name = "LABEL", value_parser = label_change)]
    labels: Vec<LabelChange>,
}

/// `site=bern` or `rack-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelChange {
    name: String,
    value: Option<String>,
}

pub(super) async fn cordon(client: &Client, args: CordonArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let request = v1::CordonRequest {
        agent: args.agent,
        gpu: args.gpu.clone().unwrap_or_default(),
        until: args.until.map(wire::timestamp_to),
        note: args.note,
        request_id: request_id(),
    };
    let agent = client.ask(client.agents().cordon(request)).await?.agent.unwrap_or_default();
    let what = args.gpu.map_or_else(|| agent.name.clone(), |gpu| format!("GPU {gpu} of {}", agent.name));
    let running = match agent.jobs.len() {
        0 => String::new(),
        jobs => format!("; {jobs} running jobs go on"),
    };
    tell(&agent, format, &format!("{what} gets no new jobs{running}"))
}

pub(super) async fn uncordon(client: &Client, args: UncordonArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let request = v1::UncordonRequest {
        agent: args.agent,
        gpu: args.gpu.clone().unwrap_or_default(),
        request_id: request_id(),
    };
    let agent = client.ask(client.agents().uncordon(request)).await?.agent.unwrap_or_default();
    let what = args.gpu.map_or_else(|| agent.name.clone(), |gpu| format!("GPU {gpu} of {}", agent.name));
    tell(&agent, format, &format!("{what} takes jobs again"))
}

pub(super) async fn label(client: &Client, args: LabelArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let (mut set, mut remove) = (std::collections::HashMap::new(), Vec::new());
    for LabelChange { name, value } in args.labels {
        match value {
            Some(value) => drop(set.insert(name, value)),
            None => remove.push(name),
        }
    }
    let request = v1::LabelRequest { agent: args.agent, set, remove, request_id: request_id() };
    let agent = client.ask(client.agents().label(request)).await?.agent.unwrap_or_default();
    let labels: Vec<_> =
        super::sorted(&agent.labels).map(|(name, value)| format!("{name}={value}")).collect();
    tell(&agent, format, &format!("{}: {}", agent.name, labels.join(" ")))
}

pub(super) async fn drain(client: &Client, args: DrainArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let request = v1::DrainRequest {
        agent: args.agent,
        deadline: args.deadline.map(|length| wire::duration_to(length.0)),
        note: args.note,
        request_id: request_id(),
    };
    let mut agent = client.ask(client.agents().drain(request)).await?.agent.unwrap_or_default();
    if !args.watch {
        return tell(&agent, format, &left(&agent));
    }
    let mut said = String::new();
    if !format.is_for_scripts()
        && let Some(line) = counted(client.project())
    {
        say(line);
    }
    loop {
        let line = left(&agent);
        if line != said && !format.is_for_scripts() {
            say(&line);
        }
        said = line;
        let Some(cordon) = agent.cordon.as_ref().filter(|cordon| cordon.drain) else {
            return Err(
                Failure::new(format!("the drain of {} was ended by somebody else", agent.name)).into()
            );
        };
        if cordon.drained_at.is_some() {
            format.write(|| to_json("Agent", &agent))?;
            return Ok(0);
        }
        tokio::time::sleep(LOOK).await;
        agent = get(client, &agent.id).await?;
    }
}

/// Whose jobs are not among those that are left, for somebody who does not see all.
fn counted(project: &str) -> Option<String> {
    let line = "jobs of other projects are not counted; it is over when nobody's jobs run there";
    (!project.is_empty()).then(|| format!("seen from project {project}: {line}"))
}

/// `gpu-04 is draining: 3 jobs left (k3m9q2xw …), until 14:31 UTC`.
fn left(agent: &v1::Agent) -> String {
    let name = &agent.name;
    let Some(cordon) = &agent.cordon else { return format!("{name} is not drained") };
    if cordon.drained_at.is_some() {
        return format!("{name} is drained: nothing runs there");
    }
    let until = cordon.deadline.as_ref().map(|deadline| {
        let text = wire::timestamp_from(deadline).to_rfc3339();
        format!(", handed back at {} UTC", text.get(11..16).unwrap_or_default())
    });
    let (jobs, until) = (agent.jobs.len(), until.unwrap_or_default());
    let mut ids: Vec<_> = agent.jobs.iter().take(4).map(|job| job.job.as_str()).collect();
    if jobs > ids.len() {
        ids.push("…");
    }
    let away = if state(agent) == "draining" { String::new() } else { format!(" ({})", state(agent)) };
    match jobs {
        0 => format!("{name} is draining{away}: no jobs of yours left"),
        1 => format!("{name} is draining{away}: 1 job left ({}){until}", ids.join(" ")),
        jobs => format!("{name} is draining{away}: {jobs} jobs left ({}){until}", ids.join(" ")),
    }
}

fn tell(agent: &v1::Agent, format: FormatArgs, line: &str) -> anyhow::Result<i32> {
    if !format.write(|| to_json("Agent", agent))? {
        let cordon = agent.cordon.as_ref().map(|cordon| format!(" · {}", cordon_line(cordon)));
        say(format!("{line}{}", cordon.unwrap_or_default()));
    }
    Ok(0)
}

fn label_change(text: &str) -> Result<LabelChange, String> {
    let (name, value) = match (text.split_once('='), text.strip_suffix('-')) {
        (Some((name, value)), _) => (name, Some(value.to_owned())),
        (None, Some(name)) => (name, None),
        (None, None) => {
            return Err(format!("write NAME=VALUE to set it or NAME- to take it away, not `{text}`"));
        }
    };
    if name.is_empty() {
        return Err(format!("`{text}` names no label"));
    }
    Ok(LabelChange { name: name.to_owned(), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_or_taken_away() {
        let change = |name: &str, value: Option<&str>| {
            Ok(LabelChange { name: name.into(), value: value.map(str::to_owned) })
        };
        assert_eq!(label_change("site=bern"), change("site", Some("bern")));
        assert_eq!(label_change("rack-"), change("rack", None));
        assert_eq!(label_change("a-b=c-"), change("a-b", Some("c-")));
        for text in ["site", "=x", "-"] {
            assert!(label_change(text).is_err(), "{text}");
        }
    }

    #[test]
    fn whoever_sees_one_project_alone_is_told_that_others_are_not_counted() {
        assert_eq!(counted(""), None);
        assert!(counted("vision").is_some_and(|line| line.contains("project vision")));
    }

    #[test]
    fn a_drain_says_how_many_jobs_are_left_and_until_when() {
        let job = |id: &str| v1::HeldJob { job: id.into(), ..v1::HeldJob::default() };
        let deadline = Some(prost_types::Timestamp { seconds: 14 * 3600 + 31 * 60, nanos: 0 });
        let mut agent = v1::Agent {
            name: "gpu-04".into(),
            state: v1::AgentState::Online as i32,
            jobs: vec![job("k3m9q2xw"), job("b"), job("c"), job("d"), job("e")],
            cordon: Some(v1::Cordon { drain: true, deadline, ..v1::Cordon::default() }),
            ..v1::Agent::default()
        };
        assert_eq!(
            left(&agent),
            "gpu-04 is draining: 5 jobs left (k3m9q2xw b c d …), handed back at 14:31 UTC"
        );
        agent.jobs.truncate(1);
        agent.cordon.as_mut().expect("set").deadline = None;
        assert_eq!(left(&agent), "gpu-04 is draining: 1 job left (k3m9q2xw)");
        agent.cordon.as_mut().expect("set").drained_at = Some(prost_types::Timestamp::default());
        assert_eq!(left(&agent), "gpu-04 is drained: nothing runs there");
    }
}
