//! `longshore completions`: for the shells.

use super::command_line;
use crate::output::print;
use clap::Args;
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: CompletionsArgs) -> anyhow::Result<i32> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command_line(), "longshore", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}
