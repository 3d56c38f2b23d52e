//! `longshore projects`: the tenants, their quotas and what they may run.

use super::pause;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{FormatArgs, Table, age, print, size, to_json};
use clap::{Args, Subcommand, ValueEnum};
use longshore_common::{
    units::{ByteSize, Cores, HumanDuration},
    wire,
};
use longshore_proto::v1;
use std::str::FromStr;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make one
    Create(PutArgs),
    /// Change the settings of one; what is not named stays
    Set(PutArgs),
    /// List them
    Ls,
    /// Everything about one
    Show(ShowArgs),
    /// Let none of its jobs begin: they are taken and wait, what runs goes on
    Pause(pause::PauseProjectArgs),
    /// End a pause
    Resume(pause::ResumeProjectArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    name: String,
    /// Jobs that may wait; `none` for no bound, as for all quotas
    #[arg(long, value_name = "N")]
    queued: Option<Bound<u64>>,
    /// Jobs that agents may have
    #[arg(long, value_name = "N")]
    running: Option<Bound<u64>>,
    /// Cores that these may hold
    #[arg(long, value_name = "CORES")]
    cpus: Option<Bound<Cores>>,
    /// Memory that these may hold
    #[arg(long, value_name = "SIZE")]
    memory: Option<Bound<ByteSize>>,
    /// GPUs that these may hold
    #[arg(long, value_name = "N")]
    gpus: Option<Bound<u64>>,
    /// Bytes of artifacts that may be kept
    #[arg(long, value_name = "SIZE")]
    storage: Option<Bound<ByteSize>>,
    /// How long ended jobs are kept; `none` for the controller's own
    #[arg(long, value_name = "DURATION")]
    retention: Option<Bound<HumanDuration>>,
    /// Its part of a contended fleet, beside projects of weight 1
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// Only these images, beside what the controller allows; empty: all
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    allow_images: Option<Vec<String>>,
    /// None of these images
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    deny_images: Option<Vec<String>>,
    /// Only images that are named by their digest
    #[arg(long, value_name = "YES")]
    require_digest: Option<bool>,
    /// Who may start processes in its running containers: nobody, operators, or who submitted the job too
    #[arg(long, value_enum, value_name = "WHO")]
    exec: Option<Exec>,
    #[command(flatten)]
    kleinkram: KleinkramArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Exec {
    Off,
    Operator,
    Own,
}

impl From<Exec> for v1::ExecPolicy {
    fn from(exec: Exec) -> Self {
        match exec {
            Exec::Off => Self::Off,
            Exec::Operator => Self::Operator,
            Exec::Own => Self::Own,
        }
    }
}

/// What its jobs under contract kleinkram get that do not say it themselves; an empty text takes one away.
#[derive(Debug, Args)]
struct KleinkramArgs {
    /// Kleinkram's project, for jobs under contract kleinkram that name none
    #[arg(long, value_name = "UUID")]
    kleinkram_project_uuid: Option<String>,
    /// Where Kleinkram's API is
    #[arg(long, value_name = "URL")]
    kleinkram_api_endpoint: Option<String>,
    /// Where Kleinkram's object store is
    #[arg(long, value_name = "URL")]
    kleinkram_s3_endpoint: Option<String>,
    /// What makes the run keys: a name of the controller's configuration
    #[arg(long, value_name = "NAME")]
    kleinkram_minter: Option<String>,
}

/// A value, or `none`.
#[derive(Clone, Copy, Debug)]
struct Bound<T>(Option<T>);

impl<T: FromStr> FromStr for Bound<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|value| Self(Some(value))) }
    }
}

pub(crate) async fn run(client: &Client, command: Command, format: FormatArgs) -> anyhow::Result<i32> {
    match command {
        Command::Create(args) => put(client, v1::Project::default(), args, true, format).await,
        Command::Set(args) => put(client, get(client, &args.name).await?, args, false, format).await,
        Command::Ls => ls(client, format).await,
        Command::Show(args) => show(&get(client, &args.name).await?, format),
        Command::Pause(args) => pause::project(client, args, format).await,
        Command::Resume(args) => pause::resume_project(client, args, format).await,
    }
}

async fn put(
    client: &Client,
    known: v1::Project,
    args: PutArgs,
    create: bool,
    format: FormatArgs,
) -> anyhow::Result<i32> {
    let project = Some(changed(known, args));
    let request = v1::PutProjectRequest { project, create };
    let answer = client.ask(client.projects().put(request)).await?;
    show(&answer.project.unwrap_or_default(), format)
}

fn changed(mut project: v1::Project, args: PutArgs) -> v1::Project {
    project.name = args.name;
    let quotas = project.quotas.get_or_insert_default();
    let set = |field: &mut Option<u64>, bound: Option<Option<u64>>| {
        if let Some(bound) = bound {
            *field = bound;
        }
    };
    set(&mut quotas.queued, args.queued.map(|bound| bound.0));
    set(&mut quotas.running, args.running.map(|bound| bound.0));
    set(&mut quotas.cpu_millis, args.cpus.map(|bound| bound.0.map(|cores| u64::from(cores.0))));
    set(&mut quotas.memory_bytes, args.memory.map(|bound| bound.0.map(|size| size.0)));
    set(&mut quotas.gpus, args.gpus.map(|bound| bound.0));
    set(&mut quotas.storage_bytes, args.storage.map(|bound| bound.0.map(|size| size.0)));
    if let Some(Bound(retention)) = args.retention {
        project.retention = retention.map(|length| wire::duration_to(length.0));
    }
    project.weight = args.weight.unwrap_or(project.weight);
    let images = project.images.get_or_insert_default();
    let patterns = |given: Option<Vec<String>>, kept: &mut Vec<String>| {
        if let Some(mut given) = given {
            given.retain(|pattern| !pattern.is_empty());
            *kept = given;
        }
    };
    patterns(args.allow_images, &mut images.allow);
    patterns(args.deny_images, &mut images.deny);
    if let Some(exec) = args.exec {
        project.exec = v1::ExecPolicy::from(exec) as i32;
    }
    images.require_digest = args.require_digest.unwrap_or(images.require_digest);
    let kleinkram = project.kleinkram.get_or_insert_default();
    let set = |field: &mut String, given: Option<String>| *field = given.unwrap_or(std::mem::take(field));
    set(&mut kleinkram.project_uuid, args.kleinkram.kleinkram_project_uuid);
    set(&mut kleinkram.api_endpoint, args.kleinkram.kleinkram_api_endpoint);
    set(&mut kleinkram.s3_endpoint, args.kleinkram.kleinkram_s3_endpoint);
    set(&mut kleinkram.minter, args.kleinkram.kleinkram_minter);
    project
}

async fn get(client: &Client, name: &str) -> Result<v1::Project, Failure> {
    let call = || {
        let (mut api, request) = (client.projects(), v1::GetProjectRequest { project: name.to_owned() });
        async move { api.get(request).await }
    };
    Ok(client.ask_again(call).await?.project.unwrap_or_default())
}

async fn ls(client: &Client, format: FormatArgs) -> anyhow::Result<i32> {
    let call = || {
        let mut api = client.projects();
        async move { api.list(v1::ListProjectsRequest {}).await }
    };
    let projects = client.ask_again(call).await?.projects;
    if format.write(|| projects.iter().map(|project| to_json("Project", project)).collect())? {
        return Ok(0);
    }
    let mut table =
        Table::new(&["NAME", "AGE", "PAUSED", "QUOTAS"], &["QUOTAS", "PAUSED"]).spare(&["PAUSED"]);
    for project in &projects {
        let quotas = quotas(&project.quotas.unwrap_or_default());
        let paused = project.paused.as_ref().map(pause_line).unwrap_or_default();
        table.row(vec![project.name.clone(), age(project.created_at.as_ref()), paused, quotas.join(", ")]);
    }
    print(&table.render())?;
    Ok(0)
}

pub(super) fn show(project: &v1::Project, format: FormatArgs) -> anyhow::Result<i32> {
    if format.write(|| to_json("Project", project))? {
        return Ok(0);
    }
    let images = project.images.clone().unwrap_or_default();
    let retention = project.retention.as_ref();
    let retention = retention.and_then(|length| wire::duration_from("retention", length).ok());
    let digest = if images.require_digest { "yes" } else { "" };
    let lines = [
        ("name", project.name.clone()),
        ("paused", project.paused.as_ref().map(pause_line).unwrap_or_default()),
        ("quotas", quotas(&project.quotas.unwrap_or_default()).join(", ")),
        ("used", project.used.as_ref().map(|used| quotas(used).join(", ")).unwrap_or_default()),
        ("weight", project.weight.to_string()),
        ("allow images", images.allow.join(" ")),
        ("deny images", images.deny.join(" ")),
        ("need digest", digest.to_owned()),
        ("exec", exec_word(project.exec()).to_owned()),
        ("kleinkram", kleinkram(&project.kleinkram.clone().unwrap_or_default())),
        ("retention", retention.map(|length| HumanDuration(length).to_string()).unwrap_or_default()),
        ("age", age(project.created_at.as_ref())),
    ];
    let mut text = String::new();
    for (name, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name:<13} {value}\n"));
    }
    print(&text)?;
    Ok(0)
}

fn exec_word(policy: v1::ExecPolicy) -> &'static str {
    match policy {
        v1::ExecPolicy::Off => "off",
        v1::ExecPolicy::Operator | v1::ExecPolicy::Unspecified => "operator (operators of the project)",
        v1::ExecPolicy::Own => "own (who submitted the job, and operators)",
    }
}

/// What is set.
fn kleinkram(set: &v1::ProjectKleinkram) -> String {
    let named = [
        ("project", &set.project_uuid),
        ("api", &set.api_endpoint),
        ("s3", &set.s3_endpoint),
        ("minter", &set.minter),
    ];
    let set = named.into_iter().filter(|(_, value)| !value.is_empty());
    set.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

/// `by anna, 2h ago: store is full`.
pub(super) fn pause_line(pause: &v1::Pause) -> String {
    let note = if pause.note.is_empty() { String::new() } else { format!(": {}", pause.note) };
    format!("by {}, {} ago{note}", pause.author, age(pause.at.as_ref()))
}

/// Those that are set.
fn quotas(quotas: &v1::Quotas) -> Vec<String> {
    let count = |name: &str, value: Option<u64>| value.map(|value| format!("{name} {value}"));
    let bytes = |name: &str, value: Option<u64>| value.map(|value| format!("{name} {}", size(value)));
    let cores = quotas.cpu_millis.map(|millis| u32::try_from(millis).unwrap_or(u32::MAX));
    [
        count("queued", quotas.queued),
        count("running", quotas.running),
        cores.map(|millis| format!("cpus {}", Cores(millis))),
        bytes("memory", quotas.memory_bytes),
        count("gpus", quotas.gpus),
        bytes("storage", quotas.storage_bytes),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        put: PutArgs,
    }

    #[test]
    fn what_is_not_named_stays_and_none_takes_a_bound_away() {
        let put = |line: &str| Line::try_parse_from(line.split(' ')).expect("a line").put;
        let first =
            changed(v1::Project::default(), put("x lab --gpus 4 --memory 64GiB --deny-images a/*,b/*"));
        let quotas = first.quotas.expect("set");
        assert_eq!((quotas.gpus, quotas.memory_bytes, quotas.running), (Some(4), Some(64 << 30), None));
        let then = changed(first, put("x lab --gpus none --running 2"));
        let quotas = then.quotas.expect("set");
        assert_eq!((quotas.gpus, quotas.memory_bytes, quotas.running), (None, Some(64 << 30), Some(2)));
        assert_eq!(then.images.expect("set").deny, ["a/*", "b/*"]);
    }
}
