//! The command line: one file per command.

mod actions;
mod agent;
mod agents;
mod artifacts;
mod audit;
mod batches;
mod bulk;
mod cancel;
mod check;
mod completions;
mod controller;
mod dev;
mod each;
mod exec;
mod explain;
mod gpus;
mod join;
mod login;
mod logs;
mod ls;
mod outcomes;
mod pause;
mod projects;
mod retry;
mod rm;
mod run;
mod schema;
mod secrets;
mod show;
mod status;
mod submit;
mod tokens;
mod triggers;
mod wait;
mod when;

use crate::client::Client;
use crate::contexts::{Contexts, TargetArgs};
use crate::failure::{Failure, code};
use crate::output::FormatArgs;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap::{error::ErrorKind, parser::ValueSource};
use longshore_agent::AgentConfig;
use longshore_common::config::Names;
use longshore_controller::ControllerConfig;

/// Container jobs on a fleet of GPU machines.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, disable_help_subcommand = true, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    target: TargetArgs,
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
    /// Start another process in a running job's container
    Exec(exec::ExecArgs),
    /// Why a job waits
    Explain(explain::ExplainArgs),
    /// The files a job left in /out
    #[command(subcommand)]
    Artifacts(artifacts::Command),
    /// Jobs that were submitted together by --each
    #[command(subcommand)]
    Batches(batches::Command),
    /// Named, versioned definitions of what to run
    #[command(subcommand)]
    Actions(actions::Command),
    /// The controller's daemon
    Controller(Box<controller::ControllerArgs>),
    /// A machine's daemon
    Agent(Box<agent::AgentArgs>),
    /// Controller and agent in one process, for one machine
    Dev(dev::DevArgs),
    /// The machines
    #[command(subcommand)]
    Agents(agents::Command),
    /// Print the certificates of the controller's own authority, for clients to trust
    Ca,
    /// How the controller is; exit 1 if ill
    Status,
    /// Let no job begin: they are taken and wait, what runs goes on
    Pause(pause::PauseArgs),
    /// End a pause
    Resume,
    /// Keep a controller's address and a token for it
    Login(login::LoginArgs),
    /// Forget a login
    Logout(login::LogoutArgs),
    /// The logins kept here
    Contexts(login::ContextsArgs),
    /// Who the token says this is
    Whoami,
    /// Who may call, as what
    #[command(subcommand)]
    Tokens(tokens::Command),
    /// The tenants, their quotas and what they may run
    #[command(subcommand)]
    Projects(projects::Command),
    /// What a project's jobs may know and nobody sees
    #[command(subcommand)]
    Secrets(secrets::Command),
    /// What a project's jobs show to image registries
    #[command(subcommand)]
    Registries(secrets::RegistryCommand),
    /// What starts jobs by itself: clocks, webhooks, new objects, ends of jobs
    #[command(subcommand)]
    Triggers(triggers::Command),
    /// Who changed what, and who was refused
    Audit(audit::AuditArgs),
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

/// Commands that call no controller and print no result.
const ALONE: [&str; 6] = ["controller", "agent", "dev", "schema", "completions", "outcomes"];
/// What they do without.
const FOR_CALLS: [&str; 7] = ["url", "token", "project", "context", "ca_file", "plain_text", "output"];

/// The command line as people see it: what the derived one says, the defaults of jobs, and no flag that does nothing.
pub(crate) fn command_line() -> clap::Command {
    let mut command = Cli::command();
    let hidden: Vec<_> = command
        .get_arguments()
        .filter(|flag| FOR_CALLS.contains(&flag.get_id().as_str()))
        .map(|flag| flag.clone().hide(true))
        .collect();
    for name in ALONE {
        command = command.mut_subcommand(name, |alone| alone.args(hidden.clone()));
    }
    command.mut_subcommand("run", |mut run| {
        for (flag, default) in run::defaults() {
            run = run.mut_arg(flag, |flag| {
                let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
                flag.help(format!("{help} [default: {default}]"))
            });
        }
        run
    })
}

impl Cli {
    /// Of this process. Ends it if the line is wrong.
    pub(crate) fn of_process() -> Self {
        let mut command = command_line();
        let parsed = command.try_get_matches_from_mut(std::env::args_os()).and_then(|matches| {
            takes_no_useless_flag(&mut command, &matches)?;
            Self::from_arg_matches(&matches)
        });
        parsed.unwrap_or_else(|error| error.exit())
    }

    /// What is set in the environment as ours and is nothing to anybody. The daemons' settings say it themselves.
    pub(crate) fn warnings<'a>(&self, variables: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        match self.command {
            Command::Controller(_) | Command::Agent(_) | Command::Check(_) => Vec::new(),
            // It takes flags alone.
            Command::Dev(_) => Names::default().warnings(variables),
            _ => Names::of::<ControllerConfig>().and(Names::of::<AgentConfig>()).warnings(variables),
        }
    }

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
            Command::Run(_)
            | Command::Wait(_)
            | Command::Exec(_)
            | Command::Batches(batches::Command::Wait(_))
            | Command::Actions(actions::Command::Run(_)) => code::PLATFORM,
            _ => code::FAILED,
        }
    }

    pub(crate) async fn execute(self) -> anyhow::Result<i32> {
        let format = self.format;
        let target = self.target;
        let client = || Client::new(&Contexts::load()?.target(&target)?);
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
            Command::Exec(args) => Box::pin(exec::run(&client()?, args)).await,
            Command::Explain(args) => explain::run(&client()?, args, format).await,
            Command::Artifacts(command) => artifacts::run(&client()?, command, format).await,
            Command::Batches(command) => Box::pin(batches::run(&client()?, command, format)).await,
            Command::Actions(command) => Box::pin(actions::run(&client()?, command, format)).await,
            Command::Agents(command) => agents::run(&client()?, command, format).await,
            Command::Ca => join::authority(&client()?).await,
            Command::Status => status::run(&client()?, format).await,
            Command::Pause(args) => pause::all(&client()?, args, format).await,
            Command::Resume => pause::resume_all(&client()?).await,
            Command::Login(args) => login::login(args, &target).await,
            Command::Logout(args) => login::logout(args),
            Command::Contexts(args) => login::contexts(args, format),
            Command::Whoami => login::whoami(&client()?, format).await,
            Command::Tokens(command) => tokens::run(&client()?, command, format).await,
            Command::Projects(command) => projects::run(&client()?, command, format).await,
            Command::Secrets(command) => secrets::run(&client()?, command, format).await,
            Command::Registries(command) => secrets::registries(&client()?, command, format).await,
            Command::Triggers(command) => Box::pin(triggers::run(&client()?, command, format)).await,
            Command::Audit(args) => audit::run(&client()?, args, format).await,
            Command::Controller(args) => Box::pin(controller::run(*args)).await,
            Command::Agent(args) => Box::pin(agent::run(*args, || Ok(client()?), format)).await,
            Command::Dev(args) => Box::pin(dev::run(args)).await,
            Command::Check(args) => check::run(&client()?, args, format).await,
            Command::Schema(args) => schema::run(args),
            Command::Completions(args) => completions::run(args),
            Command::Outcomes => outcomes::run(),
        }
    }
}

/// A flag that would be ignored is a mistake of whoever typed it.
fn takes_no_useless_flag(command: &mut clap::Command, matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some((name, given)) = matches.subcommand().filter(|(name, _)| ALONE.contains(name)) else {
        return Ok(());
    };
    // What is asked of an agent has a result, and a check calls the controller.
    if name == "agent" && given.subcommand_name().is_some() {
        return Ok(());
    }
    let useless = FOR_CALLS.iter().find(|flag| given.value_source(flag) == Some(ValueSource::CommandLine));
    match useless {
        Some(flag) => {
            Err(command
                .error(ErrorKind::UnknownArgument, format!("`longshore {name}` has no use for --{flag}")))
        }
        None => Ok(()),
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

    fn help(command: &str) -> String {
        let mut line = command_line();
        line.build();
        let found = line.find_subcommand_mut(command).expect("a command");
        found.render_long_help().to_string()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command_line().debug_assert();
    }

    #[test]
    fn no_command_takes_a_global_flag_for_its_own() {
        fn check(command: &clap::Command, global: &[String]) {
            for own in command.get_arguments().filter(|own| !own.is_global_set()) {
                let id = own.get_id().to_string();
                assert!(!global.contains(&id), "`{}` has an argument `{id}` of its own", command.get_name());
            }
            command.get_subcommands().for_each(|sub| check(sub, global));
        }
        let line = Cli::command();
        let global = line.get_arguments().filter(|flag| flag.is_global_set());
        let global: Vec<_> = global.map(|flag| flag.get_id().to_string()).collect();
        assert!(global.contains(&"token".to_owned()), "{global:?}");
        line.get_subcommands().for_each(|sub| check(sub, &global));
    }

    #[test]
    fn global_flags_go_anywhere() {
        let cli = Cli::try_parse_from(["longshore", "ls", "--url", "http://x:1", "-a"]).expect("parses");
        assert_eq!(cli.target.url.as_deref(), Some("http://x:1"));
    }

    #[test]
    fn a_command_that_calls_nobody_offers_no_flags_for_it() {
        for name in ALONE {
            assert!(!help(name).contains("--url") && !help(name).contains("--output"), "{name}");
        }
        assert!(help("ls").contains("--url") && help("check").contains("--output"));
        for line in [["--url", "http://x:1", "dev"], ["schema", "-ojson", "job"]] {
            let mut command = command_line();
            let matches =
                command.try_get_matches_from_mut(std::iter::once("longshore").chain(line)).expect("parses");
            let error = takes_no_useless_flag(&mut command, &matches).expect_err("useless");
            assert!(error.to_string().contains("has no use for --"), "{error}");
        }
    }

    #[test]
    fn run_says_what_holds_if_nothing_is_said() {
        let help = help("run");
        for default in
            ["[default: 2GiB]", "[default: 24h]", "[default: bridge]", "[default: auto]", "[default: 4]"]
        {
            assert!(help.contains(default), "{default}: {help}");
        }
        assert!(
            !super::command_line()
                .find_subcommand_mut("retry")
                .expect("there")
                .render_long_help()
                .to_string()
                .contains("[default: 2GiB]")
        );
    }

    #[test]
    fn unknown_variables_are_told_by_every_command() {
        let warnings = |line: &[&str]| {
            let cli = Cli::try_parse_from(line).expect("parses");
            cli.warnings(["LONGSHORE_URI", "LONGSHORE_LISTEN", "LONGSHORE_URL"])
        };
        assert_eq!(warnings(&["longshore", "ls"]).len(), 1);
        assert_eq!(warnings(&["longshore", "dev"]).len(), 2, "dev reads no settings");
        assert!(warnings(&["longshore", "agent"]).is_empty(), "its settings warn themselves");
    }
}
