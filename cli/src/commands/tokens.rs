//! `longshore tokens`: who may call, as what.

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{FormatArgs, Table, age, print, say, to_json};
use clap::{Args, Subcommand};
use longshore_common::{access::Role, units::HumanDuration, wire};
use longshore_proto::v1;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make one; its text is printed once and kept nowhere
    Create(CreateArgs),
    /// List those that live
    Ls,
    /// End one at once
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Whose it is, or for what
    name: String,
    /// viewer, submitter, operator or admin; each may what those before it may
    #[arg(long)]
    role: Role,
    /// It ends by itself after this
    #[arg(long, value_name = "DURATION")]
    expires: Option<HumanDuration>,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// Its name or id
    #[arg(value_name = "TOKEN")]
    revoked: String,
}

pub(crate) async fn run(client: &Client, command: Command, format: FormatArgs) -> anyhow::Result<i32> {
    match command {
        Command::Create(args) => create(client, args, format).await,
        Command::Ls => ls(client, format).await,
        Command::Revoke(args) => revoke(client, args, format).await,
    }
}

async fn create(client: &Client, args: CreateArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let request = v1::CreateTokenRequest {
        name: args.name,
        role: v1::Role::from(args.role) as i32,
        project: client.project().to_owned(),
        lifetime: args.expires.map(|length| wire::duration_to(length.0)),
    };
    let answer = client.ask(client.access().create_token(request)).await?;
    if format.write(|| to_json("CreateTokenResponse", &answer))? {
        return Ok(0);
    }
    let token = answer.token.unwrap_or_default();
    let project = if token.project.is_empty() { "all projects" } else { &token.project };
    say(format!("token {} ({}, {project}); this is the only time it is shown:", token.name, args.role));
    print(&format!("{}\n", answer.text))?;
    Ok(0)
}

async fn ls(client: &Client, format: FormatArgs) -> anyhow::Result<i32> {
    let call = || {
        let mut api = client.access();
        async move { api.list_tokens(v1::ListTokensRequest {}).await }
    };
    let tokens = client.ask_again(call).await?.tokens;
    if format.write(|| tokens.iter().map(|token| to_json("Token", token)).collect())? {
        return Ok(0);
    }
    let header = ["NAME", "ID", "ROLE", "PROJECT", "AGE", "USED", "EXPIRES", "BY"];
    let mut table = Table::new(&header, &["NAME", "BY"]).spare(&["BY", "ID", "AGE"]);
    for token in &tokens {
        let expires = token.expires_at.as_ref().map(|end| wire::timestamp_from(end).to_rfc3339());
        let used = token.used_at.as_ref().map(|at| format!("{} ago", age(Some(at))));
        table.row(vec![
            token.name.clone(),
            token.id.clone(),
            role_name(token.role),
            if token.project.is_empty() { "all".to_owned() } else { token.project.clone() },
            age(token.created_at.as_ref()),
            used.unwrap_or_else(|| "never".to_owned()),
            expires.unwrap_or_else(|| "never".to_owned()),
            token.created_by.clone(),
        ]);
    }
    print(&table.render())?;
    Ok(0)
}

async fn revoke(client: &Client, args: RevokeArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let answer =
        client.ask(client.access().revoke_token(v1::RevokeTokenRequest { token: args.revoked })).await?;
    let token = answer.token.ok_or_else(|| Failure::new("the controller answered without a token"))?;
    if !format.write(|| to_json("Token", &token))? {
        say(format!("token {} ({}) is revoked", token.name, token.id));
    }
    Ok(0)
}

pub(super) fn role_name(number: i32) -> String {
    wire::role("role", number).map_or_else(|_| "?".to_owned(), |role| role.to_string())
}
