//! `longshore agents`: the machines, what they have and what is free.

mod events;
mod orders;

use super::{gpus, join};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{FormatArgs, Table, age, print, size, to_json};
use clap::{Args, Subcommand};
use longshore_common::{agent::AgentState, clock::Timestamp, fleet::Cordon, units::Cores, wire};
use longshore_proto::v1;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List them
    Ls,
    /// Everything about one
    Show(ShowArgs),
    /// Give one, or one of its GPUs, no new jobs; what runs goes on
    Cordon(orders::CordonArgs),
    /// End a cordon or a drain
    Uncordon(orders::UncordonArgs),
    /// Empty one: no new jobs, and past the deadline what runs goes back to the queue
    Drain(orders::DrainArgs),
    /// Change the labels that jobs choose it by
    Label(orders::LabelArgs),
    /// What happened to them
    Events(events::EventsArgs),
    /// Remove one: its credentials are good for nothing from then on
    Rm(join::RemoveArgs),
    /// Print the command that makes a machine an agent
    JoinToken(join::JoinTokenArgs),
    /// List the tokens of those commands
    JoinTokens,
    /// Single GPUs of a machine
    #[command(subcommand)]
    Gpu(gpus::Command),
    /// End a token before its time
    RevokeJoinToken(join::RevokeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Its name or id
    agent: String,
}

pub(crate) async fn run(client: &Client, command: Command, format: FormatArgs) -> anyhow::Result<i32> {
    match command {
        Command::Ls => ls(client, format).await,
        Command::Show(args) => show(client, args, format).await,
        Command::Cordon(args) => orders::cordon(client, args, format).await,
        Command::Uncordon(args) => orders::uncordon(client, args, format).await,
        Command::Drain(args) => orders::drain(client, args, format).await,
        Command::Label(args) => orders::label(client, args, format).await,
        Command::Events(args) => events::run(client, args, format).await,
        Command::Rm(args) => join::remove(client, args, format).await,
        Command::JoinToken(args) => join::create(client, args, format).await,
        Command::Gpu(command) => gpus::run(client, command, format).await,
        Command::JoinTokens => join::list(client, format).await,
        Command::RevokeJoinToken(args) => join::revoke(client, args).await,
    }
}

async fn ls(client: &Client, format: FormatArgs) -> anyhow::Result<i32> {
    let agents = all(client).await?;
    if format.write(|| agents.iter().map(|agent| to_json("Agent", agent)).collect())? {
        return Ok(0);
    }
    let mut table = Table::new(
        &["NAME", "STATE", "GPUS", "FREE", "JOBS", "VERSION", "SEEN", "NOTE"],
        &["NOTE", "FREE", "NAME"],
    )
    .spare(&["VERSION", "SEEN", "JOBS", "GPUS", "FREE", "NOTE"]);
    for agent in &agents {
        let inventory = agent.inventory.clone().unwrap_or_default();
        let free = agent.free.unwrap_or_default();
        table.row(vec![
            agent.name.clone(),
            state(agent).to_owned(),
            format!("{}/{}", free.gpus, inventory.gpus.len()),
            capacity(&free),
            agent.jobs.len().to_string(),
            agent.version.clone(),
            age(agent.seen_at.as_ref()),
            note(agent),
        ]);
    }
    print(&table.render())?;
    Ok(0)
}

pub(super) async fn all(client: &Client) -> Result<Vec<v1::Agent>, Failure> {
    let mut request = v1::ListAgentsRequest { page_size: 500, page_token: String::new() };
    let mut agents = Vec::new();
    loop {
        let call = || {
            let (mut api, request) = (client.agents(), request.clone());
            async move { api.list(request).await }
        };
        let page = client.ask_again(call).await?;
        agents.extend(page.agents);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(agents);
        }
    }
}

async fn show(client: &Client, args: ShowArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let agent = get(client, &args.agent).await?;
    if !format.write(|| to_json("Agent", &agent))? {
        print(&describe(&agent))?;
    }
    Ok(0)
}

async fn get(client: &Client, name: &str) -> Result<v1::Agent, Failure> {
    let call = || {
        let (mut api, request) = (client.agents(), v1::GetAgentRequest { agent: name.to_owned() });
        async move { api.get(request).await }
    };
    Ok(client.ask_again(call).await?.agent.unwrap_or_default())
}

fn describe(agent: &v1::Agent) -> String {
    let inventory = agent.inventory.clone().unwrap_or_default();
    let labels: Vec<_> = sorted(&agent.labels).map(|(name, value)| format!("{name}={value}")).collect();
    let total = inventory.total.unwrap_or_default();
    let lines = [
        ("name", agent.name.clone()),
        ("id", agent.id.clone()),
        ("state", format!("{}, seen {} ago", state(agent), age(agent.seen_at.as_ref()))),
        ("cordon", cordons(agent).join("; ")),
        ("note", agent.note.clone()),
        ("version", agent.version.clone()),
        ("pool", agent.pool.clone()),
        ("labels", labels.join(" ")),
        ("system", format!("{}, {}, Linux {}", inventory.os, inventory.arch, inventory.kernel)),
        ("engine", inventory.engine.clone()),
        ("driver", gpus::driver(&inventory)),
        ("disk limit", inventory.disk_limit.clone()),
        ("machine", capacity(&total)),
        ("for jobs", capacity(&inventory.allocatable.unwrap_or_default())),
        ("free", capacity(&agent.free.unwrap_or_default())),
        ("caches", if agent.caches_bytes == 0 { String::new() } else { size(agent.caches_bytes) }),
    ];
    let mut text = String::new();
    for (name, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name:<11} {value}\n"));
    }
    if !inventory.gpus.is_empty() {
        let mut table =
            Table::new(&["GPU", "MODEL", "MEMORY", "FREE", "USED BY", "UUID"], &["USED BY", "MODEL"]);
        for gpu in &inventory.gpus {
            let user = [&gpu.job, &gpu.busy].into_iter().find(|word| !word.is_empty()).cloned();
            table.row(vec![
                gpu.index.to_string(),
                gpus::model(gpu),
                size(gpu.memory_bytes),
                size(gpu.memory_free_bytes),
                user.unwrap_or_default(),
                gpu.uuid.clone(),
            ]);
        }
        text.push_str(&format!("\n{}", table.render()));
    }
    if !agent.jobs.is_empty() {
        let mut table = Table::new(&["JOB", "PROJECT", "ATTEMPT", "GPUS"], &[]);
        for job in &agent.jobs {
            let gpus = job.gpus.len().to_string();
            table.row(vec![job.job.clone(), job.project.clone(), job.attempt.to_string(), gpus]);
        }
        text.push_str(&format!("\n{}", table.render()));
    }
    text
}

fn sorted(labels: &std::collections::HashMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    let mut all: Vec<_> = labels.iter().collect();
    all.sort();
    all.into_iter()
}

/// Of an online one what it is to do.
pub(super) fn state(agent: &v1::Agent) -> &'static str {
    match wire::agent_state("state", agent.state) {
        Ok(AgentState::Online) => {
            agent.cordon.as_ref().map_or("online", |cordon| Cordon::from(cordon.clone()).word())
        }
        Ok(AgentState::Disconnected) => "disconnected",
        Ok(AgentState::Lost) => "lost",
        Err(_) => "?",
    }
}

/// `cordoned by anna until 18:00 UTC: booked`.
pub(super) fn cordon_line(cordon: &v1::Cordon) -> String {
    Cordon::from(cordon.clone()).sentence(Timestamp::now())
}

/// Of the machine, then of its GPUs.
pub(super) fn cordons(agent: &v1::Agent) -> Vec<String> {
    let gpus = agent.inventory.as_ref().map(|inventory| &inventory.gpus[..]).unwrap_or_default();
    let gpu = |one: &v1::GpuCordon| {
        let known = gpus.iter().find(|gpu| gpu.uuid == one.gpu || gpu.parent == one.gpu);
        let name = known.map_or_else(|| one.gpu.clone(), |gpu| format!("GPU {}", gpu.index));
        Some(format!("{name} {}", cordon_line(one.cordon.as_ref()?)))
    };
    agent.cordon.iter().map(cordon_line).chain(agent.gpu_cordons.iter().filter_map(gpu)).collect()
}

/// What operators said, then what it says of itself.
fn note(agent: &v1::Agent) -> String {
    let own = Some(agent.note.clone()).filter(|note| !note.is_empty());
    cordons(agent).into_iter().chain(own).collect::<Vec<_>>().join("; ")
}

fn capacity(of: &v1::Capacity) -> String {
    format!("cpu {}, memory {}, disk {}", Cores(of.cpu_millis), size(of.memory_bytes), size(of.scratch_bytes))
}
