//! Claim: the best queued jobs that fit the offer, over all its lanes, several at once.

use super::{
    Jobs, Shared,
    command::{Call, Command},
    error::Error,
    types::{ClaimCommand, Claimed},
    work::Work,
};
use crate::{
    lifecycle::Event,
    placement::{self, Machine},
    store::{self, AttemptRow, CandidateQuery, ClaimRow, GrantedGpu, Position, Tx, ViewRow},
};
use longshore_common::{
    agent::{Gpu, Grant, LaneAnswer, Usage},
    ids::ClaimId,
    job::JobState,
    queue::Lane,
};
use std::collections::HashMap;

/// Candidates read at once, at least and at most.
const PAGE: std::ops::RangeInclusive<u32> = 16..=256;
/// Candidates looked at for one claim: past this the answer is what was found.
const LOOK: usize = 2048;

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
        let answer = match known.get(&command.claim) {
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
    let mut search = Search::new(&command.offer.lanes, machine.slots);
    let mut grants = Vec::new();
    while machine.slots > 0 && search.looked < LOOK {
        let page = search.page(tx, &machine).await?;
        if page.is_empty() {
            break;
        }
        let placed = placement::place(page.iter().map(|view| &*view.spec), &mut machine);
        for (index, gpus) in placed.grants {
            grants.extend(open(&page[index], &gpus, command, work));
        }
    }
    work.save(tx).await?;
    machine.slots = 1;
    let mut answer = Claimed { grants, ..Claimed::default() };
    for lane in &command.offer.lanes {
        answer.lanes.insert(lane.clone(), rest(lane, &machine, tx).await?);
    }
    Ok(answer)
}

/// The lanes of an offer, read page by page.
struct Search<'a> {
    lanes: Vec<(&'a Lane, Option<Position>)>,
    page: u32,
    looked: usize,
}

impl<'a> Search<'a> {
    fn new(lanes: &'a [Lane], slots: u32) -> Self {
        let page = slots.clamp(*PAGE.start(), *PAGE.end());
        Self { lanes: lanes.iter().map(|lane| (lane, None)).collect(), page, looked: 0 }
    }

    /// The next candidates of all lanes in their common order. A lane that has no more is left out.
    async fn page(&mut self, tx: &mut Tx, machine: &Machine) -> Result<Vec<ViewRow>, store::Error> {
        let mut found = Vec::new();
        let mut open = Vec::new();
        for (lane, after) in std::mem::take(&mut self.lanes) {
            let query = CandidateQuery { lane, free: machine.free, limit: self.page, after };
            let rows = tx.candidates(&query).await?;
            if let Some(last) = rows.last().filter(|_| rows.len() >= self.page as usize) {
                open.push((lane, Some(order(last))));
            }
            found.extend(rows);
        }
        self.lanes = open;
        self.looked += found.len();
        found.sort_by_key(order);
        Ok(found)
    }
}

/// Priority, then age.
fn order(view: &ViewRow) -> Position {
    (-i64::from(view.spec.priority), view.row.queued_at, view.row.job.id)
}

/// What is left in a lane, seen from this machine.
async fn rest(lane: &Lane, machine: &Machine, tx: &mut Tx) -> Result<LaneAnswer, store::Error> {
    let rows = tx.first_fitting(lane, machine.free, *PAGE.start()).await?;
    if rows.iter().any(|view| placement::explain(&view.spec, machine).is_none()) {
        return Ok(LaneAnswer::More);
    }
    let any = !rows.is_empty() || !tx.queued_ids(lane, 1).await?.is_empty();
    Ok(if any { LaneAnswer::MoreButNotForYou } else { LaneAnswer::Empty })
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
    let nonce: [u8; 16] = rand::random();
    let granted =
        command.offer.gpus.iter().filter(|gpu: &&Gpu| gpus.contains(&gpu.uuid)).map(GrantedGpu::from);
    work.open(AttemptRow {
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
    });
    Some(Grant {
        attempt,
        short_id: view.row.short_id.clone(),
        project: view.row.project.clone(),
        spec: (*view.spec).clone(),
        lease: work.lease,
        gpus: gpus.to_vec(),
        lane: view.row.lane.clone(),
        cancel_requested: false,
    })
}

/// The same grants again, except those that were taken away since.
async fn repeat(
    row: &ClaimRow,
    command: &ClaimCommand,
    work: &Work,
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
        lease: work.lease,
        gpus: gpus.unwrap_or_default(),
        lane: view.row.lane.clone(),
        cancel_requested: view.row.job.desired.is_cancel(),
    })
}
