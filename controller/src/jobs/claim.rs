//! Claim: the best queued jobs that fit the offer, over all its lanes, several at once.

use super::{
    Jobs, Shared, agents,
    command::{Call, Command},
    error::Error,
    grants::{open, repeat},
    pin,
    search::{Search, Stop, order},
    sight::Near,
    types::{AgentView, ClaimCommand, Claimed},
    work::Work,
};
use crate::{
    placement::{self, Candidate, Machine, Round, Shares},
    store::{self, CandidateQuery, ClaimRow, Position, Tx, ViewRow},
};
use longshore_common::{agent::LaneAnswer, ids::ClaimId, job::JobState, queue::Lane};
use std::collections::HashMap;

/// Bytes of specs in one answer; agents take twice as much. An answer that nobody can read would be a grant to nobody.
const ANSWER: usize = 16 << 20;

/// Jobs looked at to tell what is left of a project in a lane, out of the first so many of all.
const GLANCE: u32 = 16;
const GLANCED: u32 = 2000;

/// Jobs that waited long and are remembered, in case that others are granted before them.
const PASSED: usize = 4;

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
    // Of machines that ask at once the fullest is first: what fits there leaves room for larger jobs elsewhere.
    calls.sort_by_key(|call| (call.input.offer.gpus.len(), call.input.offer.free.cpu_millis));
    let parts = (&shared.live, &shared.agents, &shared.projects);
    let mut shares = shared.ledger.open(parts, work.now, shared.config.share_half_life);
    let mut near = Near::look(shared, work);
    for call in &mut calls {
        let command = &call.input;
        let mut answer = match known.get(&command.claim) {
            Some(row) => repeat(row, command, work, tx).await?,
            None => {
                let answer = grant(shared, (&mut shares, &near), command, work, tx).await?;
                near.took(command.agent, &answer.grants);
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
    (shares, near): (&mut Shares, &Near),
    command: &ClaimCommand,
    work: &mut Work,
    tx: &mut Tx,
) -> Result<Claimed, store::Error> {
    for (lane, count) in &command.hints {
        *work.lanes.spent.entry(lane.clone()).or_default() += count;
    }
    if work.fleet.is_closed(command.agent, work.now) || shared.agents.leaves(command.agent) {
        return closed(shared, command, tx).await;
    }
    let mut round = begin(shared, near, command, work, tx).await?;
    let mut search = Search::open(&shared.marks, command, &round.machine, tx).await?;
    let (mut grants, mut room, mut passed, mut last) = (Vec::new(), ANSWER, Vec::new(), None);
    let mut held_back = false;
    while round.machine.slots > 0
        && let Some(found) = search.next(tx, &round.machine, shares).await?
    {
        let candidate = candidate(&found.view);
        let Ok(gpus) = round.judge(&candidate) else {
            held_back |= round.holds_back(&candidate);
            search.placed(&found, false, false);
            if passed.len() < PASSED && is_overdue(shared, &found.view, &round) {
                passed.push(found.view);
            }
            continue;
        };
        room = room.saturating_sub(found.view.spec_bytes);
        if room == 0 && !grants.is_empty() {
            // What would be placed and is not granted stays in its lane, for the next claim.
            search.placed(&found, false, true);
            round.machine.slots = 0;
            break;
        }
        round.take(&candidate, &gpus);
        shares.take(candidate.project, candidate.spec);
        search.placed(&found, true, round.machine.slots == 0);
        last = last.max(Some(order(&found.view)));
        let gpus = round.machine.known(&command.offer.gpus, &gpus);
        grants.extend(open(&found.view, gpus, command, work));
    }
    let stops = search.finish(&shared.marks, command.agent, &round.machine);
    passed_over(shared, (passed, last), &stops, (&round, work), tx).await?;
    work.save(tx).await?;
    let full = std::mem::replace(&mut round.machine.slots, 1) == 0;
    let mut answer = Claimed { grants, ..Claimed::default() };
    for lane in &command.offer.lanes {
        let stop = stops.get(lane).cloned().unwrap_or(Stop { ended: true, seen: Vec::new() });
        let rest = if room == 0 || held_back {
            // What another machine is asked first for is this one's in a moment.
            LaneAnswer::More
        } else if stop.ended || full {
            rest(lane, &stop, &round, tx).await?
        } else {
            // It had room and did not come to the end: the next claim goes on from there.
            LaneAnswer::More
        };
        answer.lanes.insert(lane.clone(), rest);
    }
    Ok(answer)
}

/// Nothing is granted, whatever there is, and nothing is kept.
async fn closed(shared: &Shared, command: &ClaimCommand, tx: &mut Tx) -> Result<Claimed, store::Error> {
    shared.reserved.close(|agent| agent == command.agent);
    let mut answer = Claimed::default();
    for lane in &command.offer.lanes {
        let any = !tx.queued_ids(lane, 1).await?.is_empty();
        let rest = if any { LaneAnswer::MoreButNotForYou } else { LaneAnswer::Empty };
        answer.lanes.insert(lane.clone(), rest);
    }
    Ok(answer)
}

/// The machine of the offer, and what it is kept for.
async fn begin(
    shared: &Shared,
    near: &Near,
    command: &ClaimCommand,
    work: &Work,
    tx: &mut Tx,
) -> Result<Round, store::Error> {
    let (inventory, holds) = (shared.agents.inventory(command.agent), shared.live.holds(command.agent));
    let (fleet, now) = (&work.fleet, work.now);
    let offer = fleet.narrowed(command.agent, &command.offer, now);
    let mut machine = Machine::offered(&offer, &inventory, &holds);
    let seated = shared.reserved.of(command.agent);
    let shares = holds.iter().any(|hold| hold.load.shared.is_some());
    let mut described = None;
    if shares || seated.is_some() {
        let view = shared.agents.view(command.agent, &shared.live, shared.config.disconnect_tolerance);
        described = view.map(|mut view| {
            fleet.overlay(&mut view, now);
            agents::machine(&view).with(&holds)
        });
    }
    if let Some(described) = described.as_ref().filter(|_| shares) {
        // What is free is in the offer; what shared jobs leave of theirs is not.
        machine.shared_free.clone_from(&described.shared_free);
    }
    let tenants = shared.projects.tenants(tx).await?.paused(fleet.all_paused(now));
    let mut kept = None;
    if let Some(seated) = seated {
        let rows = tx.load_jobs(&[seated.job]).await?;
        if rows.first().is_some_and(|row| row.job.state == JobState::Queued) {
            let whole = described.as_ref().unwrap_or(&machine);
            kept = seated.hold((&machine, whole), &holds, &tenants, now);
            kept.take_if(|kept| !shared.reserved.stays(kept.job, kept.at().is_some(), now));
        }
        if kept.is_none() {
            shared.reserved.leave(seated.job);
        }
    }
    Ok(Round { machine, tenants, kept, locality: near.of(command.agent), now })
}

/// Whether it waited long for room on a machine. Its own project's bounds are no reason to keep one for it.
fn is_overdue(shared: &Shared, view: &ViewRow, round: &Round) -> bool {
    round.now.since(view.row.queued_at) >= shared.config.reserve_after
        && round.tenants.refuse(&view.row.project, &view.spec).is_none()
        && placement::explain(&view.spec, &round.machine).is_some_and(|reason| !reason.permanent)
        && shared.reserved.is_due(view.row.job.id, round.now)
}

/// Jobs that waited long and stand before the last one granted were passed over: each has a machine kept for it, if
/// there is one.
async fn passed_over(
    shared: &Shared,
    (mut passed, last): (Vec<ViewRow>, Option<Position>),
    stops: &HashMap<Lane, Stop>,
    (round, work): (&Round, &Work),
    tx: &mut Tx,
) -> Result<(), store::Error> {
    let Some(last) = last else { return Ok(()) };
    let (then, free) = (round.now.minus(shared.config.reserve_after), round.machine.free);
    for (lane, stop) in stops {
        for (project, _) in &stop.seen {
            // The search does not see what asks for more than is free.
            let more = tx.overdue((lane, project), free, then, PASSED).await?;
            passed.extend(more.into_iter().filter(|view| is_overdue(shared, view, round)));
        }
    }
    passed.retain(|view| order(view) < last);
    if passed.is_empty() {
        return Ok(());
    }
    passed.sort_by_key(order);
    let views = shared.agents.views(&shared.live, shared.config.disconnect_tolerance).into_iter();
    let with = |mut view: AgentView| {
        work.fleet.overlay(&mut view, round.now);
        let holds = shared.live.holds(view.identity.id);
        (view, holds)
    };
    let agents: Vec<_> = views.map(with).collect();
    for view in passed.iter().take(PASSED) {
        shared.reserved.seek(view, &agents, round.now);
    }
    Ok(())
}

/// What is left in a lane, seen from this machine: at its head, and past what was seen.
async fn rest(lane: &Lane, stop: &Stop, round: &Round, tx: &mut Tx) -> Result<LaneAnswer, store::Error> {
    let projects = tx.projects_in(lane).await?;
    let look = GLANCED / u32::try_from(projects.len().max(1)).unwrap_or(u32::MAX);
    let free = round.machine.free;
    for project in &projects {
        let mut rows = tx.first_fitting((lane, project), free, (look.max(GLANCE), GLANCE)).await?;
        let seen = stop.seen.iter().find(|(of, _)| of == project).and_then(|(_, seen)| *seen);
        if seen.is_some() {
            let query = CandidateQuery { lane, project, free, limit: GLANCE, after: seen };
            rows.extend(tx.candidates(&query).await?);
        }
        if rows.iter().map(candidate).any(|job| round.judge(&job).is_ok() || round.holds_back(&job)) {
            return Ok(LaneAnswer::More);
        }
    }
    Ok(if projects.is_empty() { LaneAnswer::Empty } else { LaneAnswer::MoreButNotForYou })
}

pub(super) fn candidate(view: &ViewRow) -> Candidate<'_> {
    let (id, project, queued_at) = (view.row.job.id, &view.row.project, view.row.queued_at);
    Candidate { id, project, spec: &view.spec, queued_at }
}
