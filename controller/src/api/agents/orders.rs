//! What operators want of machines.

use super::{Context, find_one, status, views};
use crate::{
    identity::{Caller, Who},
    jobs::AgentView,
};
use longshore_common::{
    agent::Gpu,
    clock::Timestamp,
    fields::FieldErrors,
    fleet::{Cordon, Drain},
    wire,
};
use longshore_proto::v1;
use std::{collections::BTreeMap, time::Duration};
use tonic::Status;

/// Of a note: a line in a table, not a report.
const NOTE: usize = 500;
/// Labels of one machine that are set here.
const LABELS: usize = 100;
const LONGEST_DRAIN: Duration = Duration::from_secs(366 * 24 * 3600);

pub(super) async fn cordon(
    context: &Context,
    caller: &Caller,
    request: v1::CordonRequest,
) -> Result<v1::CordonResponse, Status> {
    let agent = find_one(context, &request.agent)?;
    let gpu = gpu(&agent, &request.gpu)?;
    let now = Timestamp::now();
    let until = request.until.as_ref().map(wire::timestamp_from);
    if until.is_some_and(|until| until <= now) {
        return Err(status::field("until", "lies in the past"));
    }
    if gpu.is_none() && agent.orders.cordon.as_ref().is_some_and(|cordon| cordon.drain.is_some()) {
        return Err(Status::failed_precondition(format!(
            "agent {} is {}, which a cordon would end; `longshore agents uncordon {}` first",
            agent.identity.name,
            agent.orders.cordon.as_ref().map_or("draining", Cordon::word),
            agent.identity.name
        )));
    }
    let cordon = Cordon { note: note(&request.note)?, author: author(caller), at: now, until, drain: None };
    caller.touches(agent.identity.id);
    context.jobs.cordon(&agent, gpu, cordon).await.map_err(status::jobs)?;
    Ok(v1::CordonResponse { agent: Some(again(context, caller, &agent)) })
}

pub(super) async fn uncordon(
    context: &Context,
    caller: &Caller,
    request: v1::UncordonRequest,
) -> Result<v1::UncordonResponse, Status> {
    let agent = find_one(context, &request.agent)?;
    let gone = Gpu { uuid: request.gpu.clone(), ..Gpu::default() };
    // One that is not there any more may still be cordoned.
    let gpu = match agent.orders.gpus.contains_key(&request.gpu) {
        true => Some(&gone),
        false => gpu(&agent, &request.gpu)?,
    };
    caller.touches(agent.identity.id);
    context.jobs.uncordon(&agent, gpu, &author(caller)).await.map_err(status::jobs)?;
    Ok(v1::UncordonResponse { agent: Some(again(context, caller, &agent)) })
}

pub(super) async fn drain(
    context: &Context,
    caller: &Caller,
    request: v1::DrainRequest,
) -> Result<v1::DrainResponse, Status> {
    let agent = find_one(context, &request.agent)?;
    let now = Timestamp::now();
    let length = request.deadline.as_ref().map(|length| wire::duration_from("deadline", length)).transpose();
    let length = length.map_err(status::invalid)?;
    if length.is_some_and(|length| length > LONGEST_DRAIN) {
        return Err(status::field("deadline", "is more than a year"));
    }
    let drain = Drain { deadline: length.map(|length| now.plus(length)), drained_at: None };
    let cordon = Cordon {
        note: note(&request.note)?,
        author: author(caller),
        at: now,
        until: None,
        drain: Some(drain),
    };
    caller.touches(agent.identity.id);
    context.jobs.cordon(&agent, None, cordon).await.map_err(status::jobs)?;
    Ok(v1::DrainResponse { agent: Some(again(context, caller, &agent)) })
}

pub(super) async fn label(
    context: &Context,
    caller: &Caller,
    request: v1::LabelRequest,
) -> Result<v1::LabelResponse, Status> {
    let agent = find_one(context, &request.agent)?;
    let mut labels: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut errors = FieldErrors::new();
    let sets = request.set.into_iter().map(|(name, value)| (name, Some(value)));
    for (name, value) in sets.chain(request.remove.into_iter().map(|name| (name, None))) {
        if name == "arch" || name.starts_with("share.") {
            errors.push(format!("labels.{name}"), "is what the machine is; choose another name");
        }
        if !is_label(&name) {
            errors.push(
                format!("labels.{name}"),
                "a label's name is 1 to 63 letters, digits, `_`, `.`, `-`, `/`, and starts with a letter or digit",
            );
        }
        if value.as_ref().is_some_and(|value| value.is_empty() || value.len() > 253) {
            errors.push(format!("labels.{name}"), "needs a value of 1 to 253 bytes");
        }
        labels.insert(name, value);
    }
    errors.into_result(()).map_err(status::invalid)?;
    super::super::at_most("labels", labels.len(), LABELS)?;
    caller.touches(agent.identity.id);
    context.jobs.label_agent(&agent, labels, &author(caller)).await.map_err(status::jobs)?;
    Ok(v1::LabelResponse { agent: Some(again(context, caller, &agent)) })
}

/// As people are named in notes: `anna`.
pub(in crate::api) fn author(caller: &Caller) -> String {
    match caller.who() {
        Who::Token(token) => token.name.clone(),
        who @ (Who::Agent(_) | Who::Nobody) => who.to_string(),
    }
}

pub(in crate::api) fn note(text: &str) -> Result<String, Status> {
    let text = text.trim();
    if text.len() > NOTE {
        return Err(status::field("note", format!("has {} bytes; at most {NOTE}", text.len())));
    }
    // It is shown in lines of tables.
    Ok(text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect())
}

fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte))
}

/// By index or UUID; `None`: the machine.
fn gpu<'a>(agent: &'a AgentView, text: &str) -> Result<Option<&'a Gpu>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let known = if agent.gpus.is_empty() { &agent.inventory.gpus } else { &agent.gpus };
    let found = known.iter().find(|gpu| gpu.uuid == text || gpu.index.to_string() == text);
    found.map(Some).ok_or_else(|| {
        let all: Vec<_> = known.iter().map(|gpu| format!("{} {}", gpu.index, gpu.uuid)).collect();
        let all =
            if all.is_empty() { "it has none".to_owned() } else { format!("it has {}", all.join(", ")) };
        status::not_found(format!("no GPU `{text}` on agent {}: {all}", agent.identity.name))
    })
}

fn again(context: &Context, caller: &Caller, agent: &AgentView) -> v1::Agent {
    let now = context.jobs.agent(&agent.identity.id.to_string());
    views::agent(now.as_ref().unwrap_or(agent), caller)
}
