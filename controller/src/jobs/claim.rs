//! Claim: the best queued jobs that fit the offer, over all its lanes, several at once.

use super::{
    Jobs, Shared,
    command::{Call, Command},
    error::Error,
    pin,
    search::Search,
    types::{ClaimCommand, Claimed},
    work::Work,
};
use crate::{
    lifecycle::Event,
    placement::{self, Machine, Tenants},
    store::{self, AttemptRow, CandidateQuery, ClaimRow, GrantedGpu, Position, Tx, ViewRow},
};
use longshore_common::{
    agent::{Gpu, Grant, LaneAnswer, Usage},
    ids::ClaimId,
    job::{JobSpec, JobState},
    queue::Lane,
};
use std::collections::HashMap;

/// Bytes of specs in one answer; agents take twice as much. An answer that nobody can read would be a grant to nobody.
const ANSWER: usize = 16 << 20;

/// Jobs looked at to tell what is left in a lane.
const GLANCE: u32 = 16;

impl Jobs {
    /// A repeat of the claim's id is answered with the same grants.
    pub async fn claim(&self, claim: ClaimCommand) -> Result<Claimed, Error> {
        self.call(Command::Claim, claim).await
    }
}

/// Claims come last in a batch, when all else is written: they read what others have just queued.
pub(super) async fn apply_all(
    shared: &Shared,
    batch: &mut [Command],
    work: &mut Work,
    tx: &mut Tx,
) -> Result<(), store::Error> {
    let mut calls: Vec<&mut Call<_, _>> = batch
        .iter_mut()
        .filter_map(|command| if let Command::Claim(call) = command { Some(call) } else { None })
        .collect();
    if calls.is_empty() {
        return Ok(());
    }
    work.save(tx).await?;
    let ids: Vec<_> = calls.iter().map(|call: &&mut Call<ClaimCommand, Claimed>| call.input.claim).collect();
    let mut known: HashMap<ClaimId, ClaimRow> =
        tx.find_claims(&ids).await?.into_iter().map(|row| (row.id, row)).collect();
    let mut new = Vec::new();
    for call in &mut calls {
        let command = &call.input;
        let mut answer = match known.get(&command.claim) {
            Some(row) => repeat(row, command, work, tx).await?,
            None => {
                let answer = grant(shared, command, work, tx).await?;
                if !answer.grants.is_empty() {
                    let grants = answer.grants.iter().map(|g| (g.attempt.job, g.attempt.number)).collect();
                    let row = ClaimRow { id: command.claim, agent: command.agent, grants };
                    known.insert(row.id, row.clone());
                    new.push(row);
                }
                answer
            }
        };
        pin::apply(&mut answer.grants, tx).await?;
        call.answer = Some(answer);
    }
    tx.insert_claims(&new, work.now).await
}

async fn grant(
    shared: &Shared,
    command: &ClaimCommand,
    work: &mut Work,
    tx: &mut Tx,
) -> Result<Claimed, store::Error> {
    for (lane, count) in &command.hints {
        *work.lanes.spent.entry(lane.clone()).or_default() += count;
    }
    let mut machine = Machine::offered(&command.offer, &shared.agents.arch(command.agent));
    let mut tenants = shared.projects.tenants(tx).await?;
    let mut search = Search::new(&shared.marks, command, &machine);
    let (mut grants, mut room) = (Vec::new(), ANSWER);
    while machine.slots > 0
        && let Some(page) = search.page(tx, &machine).await?
    {
        let placed = placement::place(page.iter().map(tenant), &mut machine, &mut tenants);
        search.placed(&page, &placed, &machine);
        for (index, gpus) in placed.grants {
            room = room.saturating_sub(page[index].spec_bytes);
            if room == 0 && !grants.is_empty() {
                // What was placed and is not granted stays in its lane, for the next claim.
                machine.slots = 0;
                break;
            }
            grants.extend(open(&page[index], &gpus, command, work));
        }
    }
    let stops = search.finish(&shared.marks, command.agent, &machine);
    work.save(tx).await?;
    let full = std::mem::replace(&mut machine.slots, 1) == 0;
    let mut answer = Claimed { grants, ..Claimed::default() };
    for lane in &command.offer.lanes {
        let stop = stops.get(lane).copied().unwrap_or_default();
        let rest = if room == 0 {
            LaneAnswer::More
        } else if stop.ended || full {
            rest(lane, stop.seen, (&machine, &tenants), tx).await?
        } else {
            // It had room and did not come to the end: the next claim goes on from there.
            LaneAnswer::More
        };
        answer.lanes.insert(lane.clone(), rest);
    }
    Ok(answer)
}

/// What is left in a lane, seen from this machine: at its head, and past what was seen.
async fn rest(
    lane: &Lane,
    seen: Option<Position>,
    (machine, tenants): (&Machine, &Tenants),
    tx: &mut Tx,
) -> Result<LaneAnswer, store::Error> {
    let mut rows = tx.first_fitting(lane, machine.free, GLANCE).await?;
    if seen.is_some() {
        let query = CandidateQuery { lane, free: machine.free, limit: GLANCE, after: seen };
        rows.extend(tx.candidates(&query).await?);
    }
    let fits = |view: &ViewRow| {
        let (project, spec) = tenant(view);
        tenants.refuse(project, spec).is_none() && placement::explain(spec, machine).is_none()
    };
    if rows.iter().any(fits) {
        return Ok(LaneAnswer::More);
    }
    let any = !rows.is_empty() || !tx.queued_ids(lane, 1).await?.is_empty();
    Ok(if any { LaneAnswer::MoreButNotForYou } else { LaneAnswer::Empty })
}

fn tenant(view: &ViewRow) -> (&str, &JobSpec) {
    (&view.row.project, &view.spec)
}

fn open(view: &ViewRow, gpus: &[String], command: &ClaimCommand, work: &mut Work) -> Option<Grant> {
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
    let granted =
        command.offer.gpus.iter().filter(|gpu: &&Gpu| gpus.contains(&gpu.uuid)).map(GrantedGpu::from);
    let attempt_row = AttemptRow {
        attempt,
        agent: command.agent,
        agent_name: None,
        nonce: hex::encode(nonce),
        gpus: granted.collect(),
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
    work.open(attempt_row, lease);
    Some(Grant {
        attempt,
        short_id: view.row.short_id.clone(),
        project: view.row.project.clone(),
        spec: (*view.spec).clone(),
        lease,
        gpus: gpus.to_vec(),
        lane: view.row.lane.clone(),
        cancel_requested: false,
        sealed: false,
    })
}

/// The same grants again, except those that were taken away since.
async fn repeat(
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
