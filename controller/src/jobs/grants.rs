//! What a claim's answer is made of: a job that is opened for its agent, or the grants that the same claim had before.

use super::{
    types::{ClaimCommand, Claimed},
    work::Work,
};
use crate::{
    lifecycle::Event,
    placement::Load,
    store::{self, AttemptRow, ClaimRow, GrantedGpu, Tx, ViewRow},
};
use longshore_common::{
    agent::{Gpu, Grant, LaneAnswer, Usage},
    job::JobState,
};

pub(super) fn open(
    view: &ViewRow,
    gpus: Vec<&Gpu>,
    command: &ClaimCommand,
    work: &mut Work,
) -> Option<Grant> {
    let id = view.row.job.id;
    work.jobs.entry(id).or_insert_with(|| view.row.clone());
    let event = Event::Claimed { agent: command.agent, epoch: work.epoch };
    if let Err(refusal) = work.apply(id, event) {
        // Read as queued in this very transaction: a refusal is a mistake of ours.
        tracing::error!(job.id = %id, %refusal, "a queued job refused its claim");
        return None;
    }
    let row = work.jobs.get_mut(&id)?;
    row.started_at = None;
    let attempt = row.job.latest?.attempt;
    let lease = view.spec.disconnect_tolerance.unwrap_or(work.lease);
    let nonce: [u8; 16] = rand::random();
    let attempt_row = AttemptRow {
        attempt,
        agent: command.agent,
        agent_name: None,
        nonce: hex::encode(nonce),
        gpus: gpus.iter().copied().map(GrantedGpu::from).collect(),
        claimed_at: work.now,
        state: JobState::Claimed,
        reported: false,
        ending: None,
        started_at: None,
        exited_at: None,
        finished_at: None,
        log_end: 0,
        artifact_count: 0,
        artifact_bytes: 0,
        usage: Usage::default(),
        notes: Vec::new(),
        unheard: 0,
        lease_until: None,
        opened: 0,
        digest: None,
    };
    work.open(attempt_row, lease, Load::of(&view.spec));
    Some(Grant {
        attempt,
        short_id: view.row.short_id.clone(),
        project: view.row.project.clone(),
        spec: (*view.spec).clone(),
        lease,
        gpus: gpus.iter().map(|gpu| gpu.uuid.clone()).collect(),
        lane: view.row.lane.clone(),
        cancel_requested: false,
        sealed: false,
    })
}

/// The same grants again, except those that were taken away since.
pub(super) async fn repeat(
    row: &ClaimRow,
    command: &ClaimCommand,
    work: &mut Work,
    tx: &mut Tx,
) -> Result<Claimed, store::Error> {
    let mut answer = Claimed::default();
    // The agent asks again with the next claim anyway.
    answer.lanes.extend(command.offer.lanes.iter().map(|lane| (lane.clone(), LaneAnswer::More)));
    if row.agent != command.agent {
        return Ok(answer);
    }
    let jobs: Vec<_> = row.grants.iter().map(|(job, _)| *job).collect();
    for view in tx.load_views(&jobs).await? {
        let number = row.grants.iter().find(|(job, _)| *job == view.row.job.id).map(|(_, number)| *number);
        let Some(latest) = view.row.job.latest.filter(|latest| Some(latest.attempt.number) == number) else {
            continue;
        };
        if !view.row.job.state.is_held() {
            continue;
        }
        work.repeat(view.row.job.id);
        answer.grants.push(again(&view, latest.attempt, work, tx).await?);
    }
    Ok(answer)
}

async fn again(
    view: &ViewRow,
    attempt: longshore_common::ids::AttemptRef,
    work: &Work,
    tx: &mut Tx,
) -> Result<Grant, store::Error> {
    let rows = tx.load_attempts(&[attempt]).await?;
    let gpus = rows.first().map(|row| row.gpus.iter().map(|gpu| gpu.uuid.clone()).collect());
    Ok(Grant {
        attempt,
        short_id: view.row.short_id.clone(),
        project: view.row.project.clone(),
        spec: (*view.spec).clone(),
        lease: view.spec.disconnect_tolerance.unwrap_or(work.lease),
        gpus: gpus.unwrap_or_default(),
        lane: view.row.lane.clone(),
        cancel_requested: view.row.job.desired.is_cancel(),
        sealed: false,
    })
}
