//! `longshore agent`: the daemon of a machine, and what to ask it on that machine.

mod status;

use super::check::{self, CheckArgs};
use crate::client::Client;
use crate::daemon::{ConfigArgs, flag, leave_on_signal};
use crate::output::FormatArgs;
use clap::{Args, Subcommand};
use longshore_agent::AgentConfig;

pub(super) const FILE: &str = "/etc/longshore/agent.toml";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AgentArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: ConfigArgs,
    /// The controller's URL
    #[arg(long, value_name = "URL")]
    controller: Option<String>,
    /// Makes this machine an agent, once: from `longshore agents join-token`
    #[arg(long, value_name = "TOKEN")]
    join: Option<String>,
    /// Instead of the machine's own name
    #[arg(long)]
    name: Option<String>,
    /// Jobs choose agents by labels
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// The set of agents it belongs to
    #[arg(long)]
    pool: Option<String>,
    /// Journal, logs on their way, scratch
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What the agent of this machine does; needs no controller and no token
    Status(status::StatusArgs),
    /// The same as `longshore check`
    Check(CheckArgs),
}

pub(crate) async fn run(
    mut args: AgentArgs,
    client: impl FnOnce() -> anyhow::Result<Client>,
    format: FormatArgs,
) -> anyhow::Result<i32> {
    match args.command.take() {
        None => daemon(args).await,
        Some(Command::Status(args)) => status::run(&args, format),
        Some(Command::Check(args)) => check::run(&client()?, args, format).await,
    }
}

async fn daemon(args: AgentArgs) -> anyhow::Result<i32> {
    let labels = (!args.labels.is_empty()).then(|| args.labels.join(","));
    let flags = [
        flag("--controller", "controller", args.controller.as_ref()),
        flag("--join", "join_token", args.join.as_ref()),
        flag("--name", "name", args.name.as_ref()),
        flag("--label", "labels", labels.as_ref()),
        flag("--pool", "pool", args.pool.as_ref()),
        flag("--data-dir", "data_dir", args.data_dir.as_ref()),
    ];
    let flags = flags.into_iter().flatten().collect();
    let Some(config) = args.config.load(FILE, flags, &example())? else { return Ok(0) };
    let shutdown = leave_on_signal()?;
    let running = Box::pin(longshore_agent::start(config, shutdown)).await?;
    running.ended().await;
    Ok(0)
}

/// A value for every setting that has none by itself.
pub(super) fn example() -> AgentConfig {
    let mut example = AgentConfig {
        name: Some("gpu-04".to_owned()),
        max_attempts: Some(256),
        heartbeat_seconds: Some(5),
        status_group: Some("gpu-users".to_owned()),
        ..AgentConfig::default()
    };
    example.capacity.cpu_millis = Some(64_000);
    example.capacity.memory_bytes = Some(256 << 30);
    example.capacity.scratch_bytes = Some(2 << 40);
    example.caches.max_bytes = Some(500 << 30);
    example.caches.each_bytes = Some(100 << 30);
    example.host.nvml_library = Some("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1".into());
    example.runtime.host = Some("unix:///var/run/docker.sock".to_owned());
    example.runtime.docker_config = Some("/root/.docker/config.json".into());
    example.runtime.oci_runtime = Some("runsc".to_owned());
    example.runtime.network.subnet = Some("172.30.0.0/16".to_owned());
    example
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::config;

    #[test]
    fn every_setting_is_shown() {
        let text = config::print(&AgentConfig::default(), &example());
        for line in [
            "# name = \"gpu-04\"",
            "# max_attempts = 256",
            "# heartbeat_seconds = ",
            "# host = ",
            "# subnet = ",
        ] {
            assert!(text.contains(&format!("\n{line}")), "{line}: {text}");
        }
        assert!(!text.contains(" = \n"), "a setting without an example: {text}");
    }
}
