//! `longshore audit`: who changed what, and who was refused.

use crate::client::Client;
use crate::output::{FormatArgs, Table, print, to_json};
use clap::Args;
use longshore_common::{clock::Timestamp, units::HumanDuration, wire};
use longshore_proto::v1;

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Only of this caller, as in `token ci`
    #[arg(long, value_name = "WHO")]
    actor: Option<String>,
    /// Only the last while, as in 2h
    #[arg(long, value_name = "DURATION")]
    since: Option<HumanDuration>,
    /// Only what was refused
    #[arg(long)]
    refused: bool,
    /// At most this many lines
    #[arg(short = 'n', long, default_value_t = 50)]
    lines: usize,
}

pub(crate) async fn run(client: &Client, args: AuditArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let since = args.since.map(|length| wire::timestamp_to(Timestamp::now().minus(length.0)));
    let mut request = v1::ListAuditRequest {
        actor: args.actor.unwrap_or_default(),
        refused: args.refused,
        since,
        ..v1::ListAuditRequest::default()
    };
    let mut entries = Vec::new();
    while entries.len() < args.lines {
        request.page_size = u32::try_from(args.lines - entries.len()).unwrap_or(u32::MAX);
        let call = || {
            let (mut api, request) = (client.access(), request.clone());
            async move { api.list_audit(request).await }
        };
        let page = client.ask_again(call).await?;
        entries.extend(page.entries);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if format.write(|| entries.iter().map(|entry| to_json("AuditEntry", entry)).collect())? {
        return Ok(0);
    }
    let header = ["TIME", "WHO", "FROM", "ACTION", "PROJECT", "RESULT", "WHAT"];
    let mut table = Table::new(&header, &["WHAT", "ACTION"]).spare(&["FROM", "PROJECT"]);
    for entry in &entries {
        table.row(vec![
            entry.at.as_ref().map(|at| wire::timestamp_from(at).to_rfc3339()).unwrap_or_default(),
            entry.actor.clone(),
            entry.address.clone(),
            entry.action.trim_start_matches("longshore.v1.").to_owned(),
            entry.project.clone(),
            entry.result.to_lowercase(),
            what(entry),
        ]);
    }
    print(&table.render())?;
    Ok(0)
}

fn what(entry: &v1::AuditEntry) -> String {
    if !entry.message.is_empty() {
        return entry.message.clone();
    }
    let more = usize::try_from(entry.target_count).unwrap_or(usize::MAX).saturating_sub(entry.targets.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    entry.targets.join(", ") + &more
}
