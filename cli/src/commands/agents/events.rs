//! `longshore agents events`: what happened to machines, and what happens.

use crate::client::{Client, is_lost};
use crate::commands::ls::since;
use crate::output::{FormatArgs, print, say, to_json};
use clap::Args;
use longshore_common::{clock::Timestamp, retry::Backoff, wire};
use longshore_proto::v1;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with what happens
    #[arg(short, long)]
    follow: bool,
    /// Of this machine alone: its name or id
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Events since: 1h, or 2026-11-21T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
}

pub(super) async fn run(client: &Client, args: EventsArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let mut request = v1::WatchAgentEventsRequest {
        agent: args.node.unwrap_or_default(),
        since: args.since.map(wire::timestamp_to),
        follow: args.follow,
        from_revision: 0,
    };
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let status = match pass_on(client, &mut request, format, &mut backoff).await? {
            Ok(()) => return Ok(0),
            Err(status) => status,
        };
        // A controller that is restarted goes on from where we were.
        if !args.follow || !is_lost(&status) {
            return Err(client.failure(&status).into());
        }
        if client.link().is_newly_lost() {
            say("the link to the controller is lost; trying on");
        }
        backoff.wait().await;
    }
}

/// Prints until the stream ends.
async fn pass_on(
    client: &Client,
    request: &mut v1::WatchAgentEventsRequest,
    format: FormatArgs,
    backoff: &mut Backoff,
) -> anyhow::Result<Result<(), tonic::Status>> {
    let mut stream = match client.agents().watch_events(request.clone()).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Ok(Err(status)),
    };
    loop {
        let event = match stream.message().await {
            Ok(Some(message)) => message.event.unwrap_or_default(),
            Ok(None) => return Ok(Ok(())),
            Err(status) => return Ok(Err(status)),
        };
        backoff.reset();
        client.link().is_back();
        request.from_revision = event.revision;
        if format.is_for_scripts() {
            print(&format.item(&to_json("AgentEvent", &event))?)?;
        } else {
            print(&line(&event))?;
        }
    }
}

/// `2026-11-21T10:38:53Z  gpu-04  cordoned      by anna: booked`.
fn line(event: &v1::AgentEvent) -> String {
    let at = event.at.as_ref().map(|at| wire::timestamp_from(at).to_rfc3339()).unwrap_or_default();
    let kind = v1::AgentEventKind::try_from(event.kind).unwrap_or_default().as_str_name().to_lowercase();
    let kind = kind.trim_start_matches("agent_event_kind_").to_owned();
    let by = if event.author.is_empty() { String::new() } else { format!("by {}", event.author) };
    let said = [by, event.detail.clone()].into_iter().filter(|text| !text.is_empty());
    let said = said.collect::<Vec<_>>().join(": ");
    let line = format!("{at}  {:<12}  {kind:<13} {said}", event.agent);
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_where_what_and_by_whom() {
        let event = v1::AgentEvent {
            at: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            agent: "gpu-04".into(),
            kind: v1::AgentEventKind::Cordoned as i32,
            detail: "GPU 2: until 18:00 UTC".into(),
            author: "anna".into(),
            ..v1::AgentEvent::default()
        };
        assert_eq!(
            line(&event),
            "1970-01-01T00:00:00Z  gpu-04        cordoned      by anna: GPU 2: until 18:00 UTC\n"
        );
        let event = v1::AgentEvent { author: String::new(), detail: String::new(), ..event };
        assert_eq!(line(&event), "1970-01-01T00:00:00Z  gpu-04        cordoned\n");
    }
}
