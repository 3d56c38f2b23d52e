//! `longshore status`: how the controller and its parts are. Exits with 1 if one of them is ill.

use super::{agents, gpus, projects::pause_line};
use crate::client::Client;
use crate::failure::code;
use crate::output::{FormatArgs, age, print, span, to_json};
use longshore_common::wire;
use longshore_proto::v1;
use serde_json::json;

pub(crate) async fn run(client: &Client, format: FormatArgs) -> anyhow::Result<i32> {
    let status = client.ask(client.cluster().status(v1::StatusRequest {})).await?;
    let machines = agents::all(client).await?;
    let (mark, troubles, lone) = (mark(&machines), troubles(&machines), lone_gpus(&machines));
    let value = || {
        let mut value = to_json("StatusResponse", &status);
        value["troubles"] =
            troubles.iter().map(|(agent, why)| json!({ "agent": agent, "why": why })).collect();
        value["gpu_troubles"] = lone.iter().map(|(agent, gpu)| gpu.json(agent)).collect();
        value
    };
    if !format.write(value)? {
        print(&text(&status, mark, &troubles, &lone))?;
    }
    let ill = status.parts.iter().any(|part| !part.healthy) || mark == ILL;
    Ok(if ill { code::FAILED } else { 0 })
}

const WELL: &str = "✓";
const LESS: &str = "!";
const ILL: &str = "✗";

/// Whether all machines take jobs, some, or none. Nobody misses the machines of a controller that never had one.
fn mark(machines: &[v1::Agent]) -> &'static str {
    let able = machines.iter().filter(|agent| trouble(agent).is_none()).count();
    match able {
        0 if machines.is_empty() => LESS,
        0 => ILL,
        able if able < machines.len() => LESS,
        _ => WELL,
    }
}

/// The machines that take no job, and why.
fn troubles(machines: &[v1::Agent]) -> Vec<(&str, String)> {
    machines.iter().filter_map(|agent| Some((agent.name.as_str(), trouble(agent)?))).collect()
}

fn trouble(agent: &v1::Agent) -> Option<String> {
    match agents::state(agent) {
        "online" if agent.closed_because.is_empty() => None,
        "online" => Some(agent.closed_because.clone()),
        "cordoned" | "draining" | "drained" => agent.cordon.as_ref().map(agents::cordon_line),
        state => Some(format!("{state}, seen {} ago", age(agent.seen_at.as_ref()))),
    }
}

/// GPUs that get no job on machines that take some. Of a machine that takes none they are no news.
fn lone_gpus(machines: &[v1::Agent]) -> Vec<(&str, gpus::Trouble)> {
    let able = machines.iter().filter(|agent| trouble(agent).is_none());
    able.flat_map(|agent| gpus::troubles(agent).into_iter().map(|gpu| (&*agent.name, gpu))).collect()
}

fn text(
    status: &v1::StatusResponse,
    mark: &str,
    troubles: &[(&str, String)],
    lone: &[(&str, gpus::Trouble)],
) -> String {
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
        let mark = if part.healthy { WELL } else { ILL };
        text.push_str(&format!("{:<11} {mark} {}\n", part.name, part.detail));
    }
    text.push_str(&paused(status));
    text.push_str(&format!(
        "jobs        {} running, {} queued (oldest {}), {} waiting; publish lag {}\n",
        status.running,
        status.queued,
        length(status.oldest_queued.as_ref()),
        status.waiting,
        length(status.publish_lag.as_ref()),
    ));
    text.push_str(&format!(
        "agents      {mark} {} online, {} disconnected, {} lost\n",
        status.agents_online, status.agents_disconnected, status.agents_lost
    ));
    for (agent, why) in troubles {
        text.push_str(&format!("            {agent} takes no jobs: {why}\n"));
    }
    for (agent, gpu) in lone {
        text.push_str(&format!("            {LESS} {agent} GPU {} gets no jobs: {}\n", gpu.index, gpu.why));
        if let Some(hint) = gpu.hint(agent) {
            text.push_str(&format!("            → {hint}\n"));
        }
    }
    match (mark, troubles) {
        (LESS, []) => text.push_str("            → start one: longshore agent --controller URL\n"),
        (_, []) => {}
        _ => text.push_str("            → on that machine: longshore agent status, longshore check\n"),
    }
    text
}

/// First of all that is about jobs: whoever waits looks here.
fn paused(status: &v1::StatusResponse) -> String {
    let mut text = String::new();
    if let Some(pause) = &status.paused {
        let line = pause_line(pause);
        text.push_str(&format!("PAUSED      {LESS} all projects {line}\n            → longshore resume\n"));
    }
    for one in &status.paused_projects {
        let line = one.pause.as_ref().map(pause_line).unwrap_or_default();
        text.push_str(&format!("PAUSED      {LESS} project {} {line}\n", one.project));
        text.push_str(&format!("            → longshore projects resume {}\n", one.project));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_can_run_nothing_is_not_well() {
        let agent = |name: &str, why: &str| v1::Agent {
            name: name.into(),
            note: "GPU 1 is slowed down by heat".into(),
            closed_because: why.into(),
            state: v1::AgentState::Online as i32,
            ..Default::default()
        };
        let (good, bad) = (agent("gpu-04", ""), agent("gpu-07", "docker does not answer"));
        let lost = v1::Agent { state: v1::AgentState::Lost as i32, ..agent("gpu-08", "") };
        assert_eq!(mark(std::slice::from_ref(&good)), WELL);
        assert_eq!(mark(&[good, bad.clone()]), LESS);
        assert_eq!(mark(&[]), LESS);
        let all = [bad, lost];
        assert_eq!(mark(&all), ILL);
        let text = text(&v1::StatusResponse::default(), ILL, &troubles(&all), &[]);
        assert!(text.contains("gpu-07 takes no jobs: docker does not answer\n"), "{text}");
        assert!(text.contains("gpu-08 takes no jobs: lost") && text.contains("longshore check"), "{text}");
    }

    /// One that is booked, one that is sick, one that is well, and a sick one of a machine that takes nothing anyway.
    #[test]
    fn a_gpu_that_is_set_aside_alone_is_a_line_and_its_machine_is_well() {
        let gpu = |index: u32, health: &str| v1::Gpu {
            index,
            uuid: format!("GPU-{index}"),
            busy: if health.is_empty() { String::new() } else { format!("set aside: {health}") },
            health: health.into(),
            ..Default::default()
        };
        let booked = v1::Cordon { note: "by hand".into(), author: "anna".into(), ..Default::default() };
        let agent = |name: &str, closed: &str| v1::Agent {
            name: name.into(),
            state: v1::AgentState::Online as i32,
            closed_because: closed.into(),
            inventory: Some(v1::Inventory {
                gpus: vec![gpu(0, ""), gpu(1, "Xid 79: fallen off the bus"), gpu(2, "")],
                ..Default::default()
            }),
            gpu_cordons: vec![v1::GpuCordon { gpu: "GPU-2".into(), cordon: Some(booked.clone()) }],
            ..Default::default()
        };
        let machines = [agent("gpu-04", ""), agent("gpu-07", "docker does not answer")];
        let lone = lone_gpus(&machines[..1]);
        assert_eq!((mark(&machines[..1]), lone.len()), (WELL, 2));
        assert_eq!(lone_gpus(&machines).len(), 2);
        let text = text(&v1::StatusResponse::default(), WELL, &[], &lone);
        assert!(text.contains("! gpu-04 GPU 2 gets no jobs: cordoned by anna: by hand\n"), "{text}");
        assert!(text.contains("! gpu-04 GPU 1 gets no jobs: sick: Xid 79: fallen off the bus\n"), "{text}");
        assert!(text.contains("→ longshore agents gpu reset-health gpu-04 --gpu 1\n"), "{text}");
        let told = lone[1].1.json(lone[1].0);
        assert_eq!((&told["gpu"], &told["author"]), (&json!(2), &json!("anna")), "{told}");
        assert_eq!(told["uuid"], json!("GPU-2"));
    }

    #[test]
    fn each_part_is_a_line_with_its_mark() {
        let part = |name: &str, healthy| v1::Part { name: name.into(), healthy, detail: "d".into() };
        let status = v1::StatusResponse {
            parts: vec![part("database", true), part("queue", false)],
            ..Default::default()
        };
        let text = text(&status, WELL, &[], &[]);
        assert!(text.contains("database    ✓ d\n") && text.contains("queue       ✗ d\n"), "{text}");
    }
}
