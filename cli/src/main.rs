//! `longshore`: the one binary. Parses the command line, sets the process up, runs one command, and turns its result
//! into an exit code.

mod client;
mod commands;
mod contexts;
mod daemon;
#[cfg(test)]
mod docs_tests;
mod failure;
mod follow;
mod output;
mod transfer;
#[cfg(test)]
mod units_tests;

use commands::Cli;
use longshore_common::telemetry;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::of_process();
    let variables: Vec<_> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    for warning in cli.warnings(variables.iter().map(String::as_str)) {
        output::say(format!("longshore: {warning}"));
    }
    let otherwise = cli.failure_code();
    let result = start(cli);
    let code = result.unwrap_or_else(|error| {
        if failure::is_closed_pipe(&error) {
            return 0;
        }
        // The whole chain on one line: what happened, and below what.
        output::say(format!("longshore: {error:#}"));
        failure::exit_code(&error, otherwise)
    });
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}

fn start(cli: Cli) -> anyhow::Result<i32> {
    telemetry::start(cli.log_filter()).map_err(|error| failure::Failure::usage(error.to_string()))?;
    // One provider for every TLS user in the process; a second installation would be this one again.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(cli.execute());
    // A read of stdin that still blocks must not keep the process.
    runtime.shutdown_background();
    result
}
