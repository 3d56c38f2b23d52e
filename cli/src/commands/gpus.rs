//! `longshore agents gpu`: single GPUs of a machine, and how they are shown.

use super::request_id;
use crate::client::Client;
use crate::output::{FormatArgs, say, to_json};
use clap::{Args, Subcommand};
use longshore_proto::v1;

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
