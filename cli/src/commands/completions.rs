//! `longshore completions`: for the shells.

use super::Cli;
use crate::output::print;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: CompletionsArgs) -> anyhow::Result<i32> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "longshore", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}
