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
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tonic::Status;

/// Of a note: a line in a table, not a report.
const NOTE: usize = 500;
/// Labels of one machine that are set at once; it has twice as many at most.
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
    context.jobs.cordon(&agent, gpu.as_ref(), cordon).await.map_err(status::jobs)?;
    Ok(v1::CordonResponse { agent: Some(again(context, caller, &agent)) })
}

pub(super) async fn uncordon(
    context: &Context,
    caller: &Caller,
    request: v1::UncordonRequest,
) -> Result<v1::UncordonResponse, Status> {
    let agent = find_one(context, &request.agent)?;
    let gpus = cordoned(&agent, &request.gpu)?;
    caller.touches(agent.identity.id);
    for gpu in gpus {
        context.jobs.uncordon(&agent, gpu.as_ref(), &author(caller)).await.map_err(status::jobs)?;
    }
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
    let all: BTreeSet<_> = agent.identity.labels.keys().chain(labels.keys()).collect();
    super::super::at_most("labels", labels.len().max(all.len() / 2), LABELS)?;
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

/// By index or UUID; `None`: the machine. Instances have the index of the GPU they are parts of: it means that one.
fn gpu(agent: &AgentView, text: &str) -> Result<Option<Gpu>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let exactly = agent.gpus.iter().find(|gpu| gpu.uuid == text);
    let part = || agent.gpus.iter().find(|gpu| gpu.parent.as_deref() == Some(text));
    let by_index = || agent.gpus.iter().find(|gpu| gpu.index.to_string() == text);
    let whole =
        |gpu: &Gpu| Gpu { uuid: gpu.parent.clone().unwrap_or_else(|| gpu.uuid.clone()), ..gpu.clone() };
    let found = exactly.cloned().or_else(|| part().or_else(by_index).map(whole));
    found.map(Some).ok_or_else(|| {
        let all: Vec<_> = agent.gpus.iter().map(|gpu| format!("{} {}", gpu.index, gpu.uuid)).collect();
        let all =
            if all.is_empty() { "it has none".to_owned() } else { format!("it has {}", all.join(", ")) };
        status::not_found(format!("no GPU `{text}` on agent {}: {all}", agent.identity.name))
    })
}

/// Those that are cordoned of what the text means: the GPU, and by its index its instances too.
fn cordoned(agent: &AgentView, text: &str) -> Result<Vec<Option<Gpu>>, Status> {
    // One that is not there any more may still be cordoned.
    if agent.orders.gpus.contains_key(text) {
        return Ok(vec![Some(Gpu { uuid: text.to_owned(), ..Gpu::default() })]);
    }
    let Some(whole) = gpu(agent, text)? else { return Ok(vec![None]) };
    let parts = agent
        .gpus
        .iter()
        .filter(|gpu| gpu.parent.as_ref() == Some(&whole.uuid) && agent.orders.gpus.contains_key(&gpu.uuid));
    Ok(std::iter::once(whole.clone()).chain(parts.cloned()).map(Some).collect())
}

fn again(context: &Context, caller: &Caller, agent: &AgentView) -> v1::Agent {
    let now = context.jobs.agent(&agent.identity.id.to_string());
    views::agent(now.as_ref().unwrap_or(agent), caller)
}

#[cfg(test)]
mod tests;
