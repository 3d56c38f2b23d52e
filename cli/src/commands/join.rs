//! `longshore agents join-token` and its siblings, and `longshore ca`: letting machines in, and showing them out.

use super::request_id;
use crate::client::Client;
use crate::output::{FormatArgs, Table, age, print, say, to_json};
use clap::Args;
use longshore_common::{units::HumanDuration, wire};
use longshore_proto::v1;

#[derive(Debug, Args)]
pub(crate) struct JoinTokenArgs {
    /// How many machines it lets in
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    uses: u32,
    /// How long it is good
    #[arg(long, value_name = "TIME", default_value = "1h")]
    expires: HumanDuration,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// Its id, as `join-tokens` shows it
    id: String,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Its name or id
    agent: String,
    /// Also while it has jobs under way: they go back to the queue
    #[arg(long)]
    force: bool,
}

/// The command to paste, and nothing else on stdout.
pub(super) async fn create(client: &Client, args: JoinTokenArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let request = v1::CreateJoinTokenRequest {
        uses: args.uses,
        valid: Some(wire::duration_to(args.expires.0)),
        request_id: request_id(),
    };
    let answer = client.ask(client.agents().create_join_token(request)).await?;
    if !format.write(|| to_json("CreateJoinTokenResponse", &answer))? {
        print(&format!("longshore agent --controller {} --join {}\n", answer.controller, answer.token))?;
        let token = answer.join_token.unwrap_or_default();
        let times = if args.uses == 1 { "once".to_owned() } else { format!("{} times", args.uses) };
        say(format!(
            "good {times}, for {}; `longshore agents revoke-join-token {}` ends it before",
            args.expires, token.id
        ));
    }
    Ok(0)
}

pub(super) async fn list(client: &Client, format: FormatArgs) -> anyhow::Result<i32> {
    let call = || {
        let mut api = client.agents();
        async move { api.list_join_tokens(v1::ListJoinTokensRequest {}).await }
    };
    let tokens = client.ask_again(call).await?.tokens;
    if format.write(|| tokens.iter().map(|token| to_json("JoinToken", token)).collect())? {
        return Ok(0);
    }
    let mut table = Table::new(&["ID", "AGE", "USED", "STATE", "BY"], &["BY"]);
    for token in &tokens {
        table.row(vec![
            token.id.clone(),
            age(token.created_at.as_ref()),
            format!("{}/{}", token.used, token.uses),
            state(token).to_owned(),
            token.created_by.clone(),
        ]);
    }
    print(&table.render())?;
    Ok(0)
}

fn state(token: &v1::JoinToken) -> &'static str {
    let now = longshore_common::clock::Timestamp::now();
    let over = token.expires_at.as_ref().is_some_and(|at| wire::timestamp_from(at) <= now);
    match (token.revoked, over) {
        (true, _) => "revoked",
        (false, true) => "expired",
        (false, false) if token.used >= token.uses => "used up",
        (false, false) => "good",
    }
}

pub(super) async fn revoke(client: &Client, args: RevokeArgs) -> anyhow::Result<i32> {
    let request = v1::RevokeJoinTokenRequest { id: args.id.clone(), request_id: request_id() };
    client.ask(client.agents().revoke_join_token(request)).await?;
    say(format!("join token {} lets nobody in any more", args.id));
    Ok(0)
}

pub(super) async fn remove(client: &Client, args: RemoveArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let request =
        v1::RemoveAgentRequest { agent: args.agent.clone(), force: args.force, request_id: request_id() };
    let agent = client.ask(client.agents().remove(request)).await?.agent.unwrap_or_default();
    if !format.write(|| to_json("Agent", &agent))? {
        say(format!(
            "{} is removed; stop its agent, or join it again with `longshore agents join-token`",
            agent.name
        ));
    }
    Ok(0)
}

/// The bundle in PEM on stdout; what to compare it with on stderr.
pub(super) async fn authority(client: &Client) -> anyhow::Result<i32> {
    let call = || {
        let mut api = client.cluster();
        async move { api.ca(v1::CaRequest {}).await }
    };
    let answer = client.ask_again(call).await?;
    print(&answer.pem)?;
    say(format!("SHA-256 {}", hex::encode(&answer.fingerprint)));
    Ok(0)
}
