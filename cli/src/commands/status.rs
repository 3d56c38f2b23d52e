//! `longshore status`: how the controller and its parts are. Exits with 1 if one of them is ill.

use crate::client::Client;
use crate::failure::code;
use crate::output::{FormatArgs, print, span, to_json};
use longshore_common::wire;
use longshore_proto::v1;

pub(crate) async fn run(client: &Client, format: FormatArgs) -> anyhow::Result<i32> {
    let status = client.ask(client.cluster().status(v1::StatusRequest {})).await?;
    if !format.write(|| to_json("StatusResponse", &status))? {
        print(&text(&status))?;
    }
    let ill = status.parts.iter().any(|part| !part.healthy);
    Ok(if ill { code::FAILED } else { 0 })
}

fn text(status: &v1::StatusResponse) -> String {
    let length = |length: Option<&prost_types::Duration>| {
        length.and_then(|length| wire::duration_from("", length).ok()).map_or_else(|| "-".to_owned(), span)
    };
    let mut text = format!(
        "controller  {}, up {}, cluster {}, epoch {}\n",
        status.version,
        length(status.uptime.as_ref()),
        status.cluster_id,
        status.epoch
    );
    for part in &status.parts {
        let mark = if part.healthy { "✓" } else { "✗" };
        text.push_str(&format!("{:<11} {mark} {}\n", part.name, part.detail));
    }
    text.push_str(&format!(
        "jobs        {} running, {} queued (oldest {}), {} waiting; publish lag {}\n",
        status.running,
        status.queued,
        length(status.oldest_queued.as_ref()),
        status.waiting,
        length(status.publish_lag.as_ref()),
    ));
    text.push_str(&format!(
        "agents      {} online, {} disconnected, {} lost\n",
        status.agents_online, status.agents_disconnected, status.agents_lost
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_a_line_with_its_mark() {
        let part = |name: &str, healthy| v1::Part { name: name.into(), healthy, detail: "d".into() };
        let status = v1::StatusResponse {
            parts: vec![part("database", true), part("queue", false)],
            ..Default::default()
        };
        let text = text(&status);
        assert!(text.contains("database    ✓ d\n") && text.contains("queue       ✗ d\n"), "{text}");
    }
}
