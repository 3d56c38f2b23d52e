//! `longshore agents gpu`: single GPUs of a machine, and how they are shown.

use super::request_id;
use crate::client::Client;
use crate::output::{FormatArgs, say, to_json};
use clap::{Args, Subcommand};
use longshore_common::wire;
use longshore_proto::v1;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say that a GPU that was set aside is well: it gets jobs again, unless it is still seen to be sick
    ResetHealth(ResetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// The machine's name or id
    agent: String,
    /// Its index or UUID
    #[arg(long, value_name = "GPU")]
    gpu: String,
}

pub(super) async fn run(client: &Client, command: Command, format: FormatArgs) -> anyhow::Result<i32> {
    let Command::ResetHealth(args) = command;
    let request = v1::ResetGpuHealthRequest {
        agent: args.agent.clone(),
        gpu: args.gpu.clone(),
        request_id: request_id(),
    };
    let agent = client.ask(client.agents().reset_gpu_health(request)).await?.agent.unwrap_or_default();
    if !format.write(|| to_json("Agent", &agent))? {
        say(format!("{} looks at GPU {} anew: longshore agents show {}", agent.name, args.gpu, agent.name));
    }
    Ok(0)
}

/// A GPU that gets no jobs while its machine takes some.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trouble {
    pub(super) index: u32,
    uuid: String,
    pub(super) why: String,
    cordon: Option<v1::Cordon>,
    sick: bool,
}

/// Those that an operator or its own trouble set aside. What a job or somebody else uses is no trouble.
pub(super) fn troubles(agent: &v1::Agent) -> Vec<Trouble> {
    let gpus = agent.inventory.as_ref().map(|inventory| &inventory.gpus[..]).unwrap_or_default();
    let trouble = |gpu: &v1::Gpu| {
        let own = |one: &&v1::GpuCordon| one.gpu == gpu.uuid || one.gpu == gpu.parent;
        let cordon = agent.gpu_cordons.iter().find(own).and_then(|one| one.cordon.clone());
        let said = cordon.as_ref().map(super::agents::cordon_line);
        let sick = Some(&gpu.health).filter(|why| !why.is_empty()).map(|why| format!("sick: {why}"));
        let why = said.into_iter().chain(sick).collect::<Vec<_>>().join("; ");
        let sick = !gpu.health.is_empty();
        (!why.is_empty()).then(|| Trouble { index: gpu.index, uuid: gpu.uuid.clone(), why, cordon, sick })
    };
    gpus.iter().filter_map(trouble).collect()
}

impl Trouble {
    /// For scripts: who, until when and why on their own, as far as somebody said it.
    pub(super) fn json(&self, agent: &str) -> Value {
        let mut value = json!({ "agent": agent, "gpu": self.index, "uuid": self.uuid, "why": self.why });
        if let Some(cordon) = &self.cordon {
            (value["note"], value["author"]) = (json!(cordon.note), json!(cordon.author));
            let until = cordon.until.as_ref().map(|until| wire::timestamp_from(until).to_rfc3339());
            value["until"] = json!(until);
        }
        value
    }

    /// What to type when it is mended.
    pub(super) fn hint(&self, agent: &str) -> Option<String> {
        self.sick.then(|| format!("longshore agents gpu reset-health {agent} --gpu {}", self.index))
    }
}

/// `550.54.15, CUDA 12.4`
pub(super) fn driver(inventory: &v1::Inventory) -> String {
    match inventory.cuda.as_str() {
        "" => inventory.driver.clone(),
        cuda => format!("{}, CUDA {cuda}", inventory.driver),
    }
}

/// With what it is a part of, and how it is joined to others.
pub(super) fn model(gpu: &v1::Gpu) -> String {
    let mig = if gpu.mig.is_empty() { String::new() } else { format!(" MIG {}", gpu.mig) };
    let nvlink = gpu.nvlink.map(|group| format!(", NVLink {group}")).unwrap_or_default();
    let slow = if gpu.throttled.is_empty() {
        String::new()
    } else {
        format!(", slow ({})", gpu.throttled.join(", "))
    };
    format!("{}{mig}{nvlink}{slow}", gpu.model)
}
