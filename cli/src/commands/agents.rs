//! `longshore agents`: the machines, what they have and what is free.

use super::join;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{FormatArgs, Table, age, print, size, to_json};
use clap::{Args, Subcommand};
use longshore_common::{agent::AgentState, units::Cores, wire};
use longshore_proto::v1;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List them
    Ls,
    /// Everything about one
    Show(ShowArgs),
    /// Remove one: its credentials are good for nothing from then on
    Rm(join::RemoveArgs),
    /// Print the command that makes a machine an agent
    JoinToken(join::JoinTokenArgs),
    /// List the tokens of those commands
    JoinTokens,
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
        Command::Rm(args) => join::remove(client, args, format).await,
        Command::JoinToken(args) => join::create(client, args, format).await,
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
            agent.note.clone(),
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
    let call = || {
        let (mut api, request) = (client.agents(), v1::GetAgentRequest { agent: args.agent.clone() });
        async move { api.get(request).await }
    };
    let agent = client.ask_again(call).await?.agent.unwrap_or_default();
    if !format.write(|| to_json("Agent", &agent))? {
        print(&describe(&agent))?;
    }
    Ok(0)
}

fn describe(agent: &v1::Agent) -> String {
    let inventory = agent.inventory.clone().unwrap_or_default();
    let labels: Vec<_> = sorted(&agent.labels).map(|(name, value)| format!("{name}={value}")).collect();
    let total = inventory.total.unwrap_or_default();
    let lines = [
        ("name", agent.name.clone()),
        ("id", agent.id.clone()),
        ("state", format!("{}, seen {} ago", state(agent), age(agent.seen_at.as_ref()))),
        ("note", agent.note.clone()),
        ("version", agent.version.clone()),
        ("pool", agent.pool.clone()),
        ("labels", labels.join(" ")),
        ("system", format!("{}, {}, Linux {}", inventory.os, inventory.arch, inventory.kernel)),
        ("engine", inventory.engine.clone()),
        ("driver", inventory.driver.clone()),
        ("disk limit", inventory.disk_limit.clone()),
        ("machine", capacity(&total)),
        ("for jobs", capacity(&inventory.allocatable.unwrap_or_default())),
        ("free", capacity(&agent.free.unwrap_or_default())),
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
                gpu.model.clone(),
                size(gpu.memory_bytes),
                size(gpu.memory_free_bytes),
                user.unwrap_or_default(),
                gpu.uuid.clone(),
            ]);
        }
        text.push_str(&format!("\n{}", table.render()));
    }
    if !agent.jobs.is_empty() {
        let mut table = Table::new(&["JOB", "ATTEMPT", "GPUS"], &[]);
        for job in &agent.jobs {
            table.row(vec![job.job.clone(), job.attempt.to_string(), job.gpus.len().to_string()]);
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

pub(super) fn state(agent: &v1::Agent) -> &'static str {
    match wire::agent_state("state", agent.state) {
        Ok(AgentState::Online) => "online",
        Ok(AgentState::Disconnected) => "disconnected",
        Ok(AgentState::Lost) => "lost",
        Err(_) => "?",
    }
}

fn capacity(of: &v1::Capacity) -> String {
    format!("cpu {}, memory {}, disk {}", Cores(of.cpu_millis), size(of.memory_bytes), size(of.scratch_bytes))
}
