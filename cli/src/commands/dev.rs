//! `longshore dev`: controller and agent in one process, for trying out and for one machine.

use crate::contexts::{Context, Contexts};
use crate::daemon::leave_on_signal;
use crate::failure::Failure;
use crate::output::{print, say};
use clap::Args;
use longshore_agent::{AgentConfig, OnShutdown, runtime::Firewall};
use longshore_common::{config, shutdown::Shutdown};
use longshore_controller::{Controller, ControllerConfig, config::DEFAULT_PORT, identity::ADMIN_TOKEN};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For the agent of this very process.
const JOIN_SOON: Duration = Duration::from_secs(600);

/// Its login, for the other commands.
const CONTEXT: &str = "dev";

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Everything it keeps; default: ~/.local/share/longshore
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// For gRPC and HTTP alike; loopback only
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)))]
    listen: SocketAddr,
    /// Print the settings of both parts as they would be used, and leave
    #[arg(long)]
    print_config: bool,
}

pub(crate) async fn run(args: DevArgs) -> anyhow::Result<i32> {
    if !args.listen.ip().is_loopback() {
        let message =
            format!("{} is not loopback; for other machines run `longshore controller`", args.listen);
        return Err(Failure::usage(message).into());
    }
    let data_dir = match args.data_dir {
        Some(dir) => std::path::absolute(dir)?,
        None => default_dir()?,
    };
    let controller = ControllerConfig {
        listen: args.listen,
        data_dir: data_dir.join("controller"),
        ..ControllerConfig::default()
    };
    if args.print_config {
        let agent = agent_of(&format!("http://{}", args.listen), &data_dir);
        print(&format!("# controller\n{}", config::print(&controller, &super::controller::example())))?;
        print(&format!("\n# agent\n{}", config::print(&agent, &super::agent::example())))?;
        return Ok(0);
    }
    let told = leave_on_signal()?;
    // The agent hands back what it runs while the controller still listens.
    let token = controller.data_dir.join(ADMIN_TOKEN);
    let controller = Controller::start(controller, Shutdown::new()).await?;
    keep_login(&controller.base_url, &token)?;
    let mut agent = agent_of(&controller.base_url, &data_dir);
    // Good for the first start alone; what it brought is in the agent's folder from then on.
    agent.join_token = controller.join_token(1, JOIN_SOON).await?;
    let started = Box::pin(longshore_agent::start(agent, told)).await;
    let ended = match started {
        Ok(agent) => {
            say(format!("longshore dev is up: {} · data in {}", controller.base_url, data_dir.display()));
            agent.ended().await;
            Ok(0)
        }
        Err(error) => Err(error.into()),
    };
    controller.shutdown.trigger();
    controller.join().await;
    ended
}

/// So that the other commands find this controller, as whoever started it.
fn keep_login(url: &str, token: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(token);
    let token = text.map_err(|error| Failure::new(format!("{}: {error}", token.display())))?;
    let mut contexts = Contexts::load()?;
    let token = token.trim().to_owned();
    let dev = Context { url: url.to_owned(), token, ..Context::default() };
    if contexts.contexts.get(CONTEXT) == Some(&dev) {
        return Ok(());
    }
    contexts.contexts.insert(CONTEXT.to_owned(), dev);
    // Whoever works with another controller goes on with it.
    contexts.current.get_or_insert_with(|| CONTEXT.to_owned());
    contexts.save().map(drop)
}

fn agent_of(controller: &str, data_dir: &Path) -> AgentConfig {
    let mut agent = AgentConfig {
        controller: controller.to_owned(),
        data_dir: data_dir.join("agent"),
        ..AgentConfig::default()
    };
    // The controller ends too: there is nobody to keep a container for.
    agent.on_shutdown = OnShutdown::Drain;
    // One's own machine, often without root: the log says what is missing.
    agent.runtime.network.firewall = Firewall::BestEffort;
    agent
}

fn default_dir() -> Result<PathBuf, Failure> {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let dir =
        data.or_else(home).ok_or_else(|| Failure::usage("HOME is not set: name a folder with --data-dir"))?;
    Ok(dir.join("longshore"))
}
