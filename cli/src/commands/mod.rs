//! The command line: one file per command.

mod agent;
mod agents;
mod artifacts;
mod bulk;
mod cancel;
mod check;
mod completions;
mod controller;
mod dev;
mod explain;
mod logs;
mod ls;
mod outcomes;
mod retry;
mod rm;
mod run;
mod schema;
mod show;
mod status;
mod submit;
mod wait;

use crate::client::{Client, DEFAULT_URL};
use crate::failure::{Failure, code};
use crate::output::FormatArgs;
use clap::{Parser, Subcommand};

/// Container jobs on a fleet of GPU machines.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, disable_help_subcommand = true, propagate_version = true)]
pub(crate) struct Cli {
    /// The controller
    #[arg(long, global = true, env = "LONGSHORE_URL", default_value = DEFAULT_URL, hide_env_values = true)]
    url: String,
    /// Whose jobs
    #[arg(long, global = true, env = "LONGSHORE_PROJECT", default_value = "default", hide = true)]
    project: String,
    #[command(flatten)]
    format: FormatArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an image and follow it to its end
    Run(Box<run::RunArgs>),
    /// Submit the jobs of a file; prints their ids
    Submit(submit::SubmitArgs),
    /// Wait for jobs to end
    Wait(wait::WaitArgs),
    /// List jobs
    Ls(ls::LsArgs),
    /// Everything about one job
    Show(show::ShowArgs),
    /// What a job wrote
    Logs(logs::LogsArgs),
    /// Stop jobs
    Cancel(cancel::CancelArgs),
    /// Make a new job from one that ended
    Retry(Box<retry::RetryArgs>),
    /// Remove ended jobs with their logs and artifacts
    Rm(rm::RmArgs),
    /// Why a job waits
    Explain(explain::ExplainArgs),
    /// The files a job left in /out
    #[command(subcommand)]
    Artifacts(artifacts::Command),
    /// The controller's daemon
    Controller(Box<controller::ControllerArgs>),
    /// A machine's daemon
    Agent(Box<agent::AgentArgs>),
    /// Controller and agent in one process, for one machine
    Dev(dev::DevArgs),
    /// The machines
    #[command(subcommand)]
    Agents(agents::Command),
    /// How the controller is; exit 1 if ill
    Status,
    /// What is missing on this machine, and how to mend it
    Check(check::CheckArgs),
    /// The JSON Schema of a file
    Schema(schema::SchemaArgs),
    /// Completions for a shell
    Completions(completions::CompletionsArgs),
    /// The table of outcomes, as documentation
    #[command(hide = true)]
    Outcomes,
}

impl Cli {
    /// What the process's own log says if nothing else is asked for.
    pub(crate) const fn log_filter(&self) -> &'static str {
        match self.command {
            Command::Controller(_) | Command::Agent(_) | Command::Dev(_) => "info",
            _ => "warn",
        }
    }

    /// The code of an error that names none.
    pub(crate) const fn failure_code(&self) -> i32 {
        match self.command {
            Command::Run(_) | Command::Wait(_) => code::PLATFORM,
            _ => code::FAILED,
        }
    }

    pub(crate) async fn execute(self) -> anyhow::Result<i32> {
        let format = self.format;
        let client = || Client::new(&self.url, &self.project);
        match self.command {
            Command::Run(args) => Box::pin(run::run(&client()?, *args, format)).await,
            Command::Submit(args) => submit::run(&client()?, args, format).await,
            Command::Wait(args) => wait::run(&client()?, args, format).await,
            Command::Ls(args) => ls::run(&client()?, args, format).await,
            Command::Show(args) => show::run(&client()?, args, format).await,
            Command::Logs(args) => logs::run(&client()?, args, format).await,
            Command::Cancel(args) => cancel::run(&client()?, args, format).await,
            Command::Retry(args) => retry::run(&client()?, *args, format).await,
            Command::Rm(args) => rm::run(&client()?, args, format).await,
            Command::Explain(args) => explain::run(&client()?, args, format).await,
            Command::Artifacts(command) => artifacts::run(&client()?, command, format).await,
            Command::Agents(command) => agents::run(&client()?, command, format).await,
            Command::Status => status::run(&client()?, format).await,
            Command::Controller(args) => Box::pin(controller::run(*args)).await,
            Command::Agent(args) => Box::pin(agent::run(*args)).await,
            Command::Dev(args) => Box::pin(dev::run(args)).await,
            Command::Check(args) => check::run(&client()?, args, format).await,
            Command::Schema(args) => schema::run(args),
            Command::Completions(args) => completions::run(args),
            Command::Outcomes => outcomes::run(),
        }
    }
}

/// Job ids, prefixes or names, as most commands take them.
fn job_or_usage(job: Option<longshore_proto::v1::Job>) -> Result<longshore_proto::v1::Job, Failure> {
    job.ok_or_else(|| Failure::new("the controller answered without a job"))
}

/// A new id, so that a call repeated over a broken link is done once.
fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_go_anywhere() {
        let cli = Cli::try_parse_from(["longshore", "ls", "--url", "http://x:1", "-a"]).expect("parses");
        assert_eq!(cli.url, "http://x:1");
    }
}
