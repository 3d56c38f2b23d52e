//! `longshore secrets` and `longshore registries`: values go in from stdin, a file or the keyboard, never by the command
//! line, and do not come out.

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{FormatArgs, Table, age, print, say, to_json};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use longshore_proto::v1;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// More than the controller takes.
const MOST: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set one; its value is asked for, or read from stdin
    Set(SetArgs),
    /// List their names
    Ls,
    /// Remove one
    Rm(RemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// Letters, digits, `_`, `.`, `-`
    name: String,
    /// Read the value from here, as it is
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    name: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Set those for one registry; the password is asked for, or read from stdin
    Set(SetRegistryArgs),
    /// List registries and users
    Ls,
    /// Remove those for one registry
    Rm(RemoveRegistryArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SetRegistryArgs {
    /// registry.example:5000; docker.io is Docker Hub
    host: String,
    #[arg(long, value_name = "NAME")]
    username: String,
    /// Read the password from here
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveRegistryArgs {
    host: String,
}

pub(crate) async fn run(client: &Client, command: Command, format: FormatArgs) -> anyhow::Result<i32> {
    let project = client.project().to_owned();
    match command {
        Command::Set(args) => {
            let value = match &args.from_file {
                Some(file) => read(file)?,
                None => line(ask(&format!("value of {}", args.name))?),
            };
            let request = v1::SetSecretRequest { project, name: args.name, value: value.into() };
            let answer = client.ask(client.projects().set_secret(request)).await?;
            let secret = answer.secret.unwrap_or_default();
            if !format.write(|| to_json("Secret", &secret))? {
                say(format!("secret {} is set", secret.name));
            }
            Ok(0)
        }
        Command::Ls => ls(client, project, format).await,
        Command::Rm(args) => {
            let request = v1::RemoveSecretRequest { project, name: args.name.clone() };
            client.ask(client.projects().remove_secret(request)).await?;
            say(format!("secret {} is removed", args.name));
            Ok(0)
        }
    }
}

async fn ls(client: &Client, project: String, format: FormatArgs) -> anyhow::Result<i32> {
    let call = || {
        let (mut api, request) = (client.projects(), v1::ListSecretsRequest { project: project.clone() });
        async move { api.list_secrets(request).await }
    };
    let secrets = client.ask_again(call).await?.secrets;
    if format.write(|| secrets.iter().map(|secret| to_json("Secret", secret)).collect())? {
        return Ok(0);
    }
    let mut table = Table::new(&["NAME", "AGE", "SET", "BY"], &["NAME", "BY"]);
    for secret in &secrets {
        let set = format!("{} ago", age(secret.updated_at.as_ref()));
        table.row(vec![secret.name.clone(), age(secret.created_at.as_ref()), set, secret.created_by.clone()]);
    }
    print(&table.render())?;
    Ok(0)
}

pub(crate) async fn registries(
    client: &Client,
    command: RegistryCommand,
    format: FormatArgs,
) -> anyhow::Result<i32> {
    let project = client.project().to_owned();
    match command {
        RegistryCommand::Set(SetRegistryArgs { host, username, password_file }) => {
            let password = match &password_file {
                Some(file) => read(file)?,
                None => ask(&format!("password of {username} at {host}"))?,
            };
            let password = line(password).into();
            let request = v1::SetRegistryRequest { project, host, username, password };
            let answer = client.ask(client.projects().set_registry(request)).await?;
            let registry = answer.registry.unwrap_or_default();
            if !format.write(|| to_json("Registry", &registry))? {
                say(format!("credentials for {} are set", registry.host));
            }
            Ok(0)
        }
        RegistryCommand::Ls => list_registries(client, project, format).await,
        RegistryCommand::Rm(args) => {
            let request = v1::RemoveRegistryRequest { project, host: args.host.clone() };
            client.ask(client.projects().remove_registry(request)).await?;
            say(format!("credentials for {} are removed", args.host));
            Ok(0)
        }
    }
}

async fn list_registries(client: &Client, project: String, format: FormatArgs) -> anyhow::Result<i32> {
    let call = || {
        let (mut api, request) = (client.projects(), v1::ListRegistriesRequest { project: project.clone() });
        async move { api.list_registries(request).await }
    };
    let registries = client.ask_again(call).await?.registries;
    if format.write(|| registries.iter().map(|registry| to_json("Registry", registry)).collect())? {
        return Ok(0);
    }
    let mut table = Table::new(&["HOST", "USERNAME", "SET", "BY"], &["HOST", "USERNAME", "BY"]);
    for registry in &registries {
        let set = format!("{} ago", age(registry.updated_at.as_ref()));
        table.row(vec![registry.host.clone(), registry.username.clone(), set, registry.created_by.clone()]);
    }
    print(&table.render())?;
    Ok(0)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
}

/// Without an echo on a terminal; else all of stdin.
fn ask(what: &str) -> anyhow::Result<Vec<u8>> {
    let terminal = console::Term::stderr();
    if terminal.is_term()
        && console::Term::stdout().is_term()
        && std::io::IsTerminal::is_terminal(&std::io::stdin())
    {
        terminal.write_str(&format!("{what}: "))?;
        return Ok(terminal.read_secure_line().context("it cannot be read")?.into_bytes());
    }
    let mut bytes = Vec::new();
    std::io::stdin().take(MOST).read_to_end(&mut bytes).context("stdin cannot be read")?;
    Ok(bytes)
}

/// `echo` and editors end a text with a newline that is no part of it.
fn line(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.iter().filter(|byte| **byte == b'\n').count() == 1 && bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newline_of_one_line_is_no_part_of_a_value_and_those_of_several_are() {
        for (given, value) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\nb\n", "a\nb\n"), ("", "")] {
            assert_eq!(line(given.as_bytes().to_vec()), value.as_bytes(), "{given:?}");
        }
    }
}
