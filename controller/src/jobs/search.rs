//! Which queued jobs a claim looks at. One claim reads a bounded number; the agent's next one goes on where it
//! stopped, so that no number of jobs that do not fit can hide the ones behind them. Must never decide what fits.

use super::types::ClaimCommand;
use crate::{
    placement::{Machine, Placement},
    store::{self, CandidateQuery, Position, Tx, ViewRow},
};
use longshore_common::{ids::AgentId, queue::Lane};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard},
};

/// Candidates read at once, at least and at most.
const PAGE: std::ops::RangeInclusive<u32> = 16..=256;
/// Candidates one claim looks at in one lane: past this the answer is what was found.
const LOOK: usize = 2048;
/// Of them the first of the lane, so that what is more urgent is seen by every claim.
const HEAD: usize = 256;
/// And of those passed over before, a stretch further on with each claim: what did not fit then may fit now.
const AGAIN: usize = 512;
/// Marks remembered. They only save reading: past this all are forgotten.
const MARKS: usize = 4096;

/// How far the claims of one agent have come in one lane.
#[derive(Clone, Debug)]
struct Mark {
    /// Everything up to here was looked at, and nothing of it fitted.
    seen: Position,
    /// Where in it the next claim looks again; `None`: behind the head.
    again: Option<Position>,
    /// The machine that looked. With other labels it is another one.
    labels: BTreeMap<String, String>,
}

/// The marks of all agents. Only lanes too long for one claim have any.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<HashMap<(AgentId, Lane), Mark>>);

impl Marks {
    fn lock(&self) -> MutexGuard<'_, HashMap<(AgentId, Lane), Mark>> {
        self.0.lock().expect("nobody panics under this lock")
    }

    fn take(&self, agent: AgentId, lane: &Lane, labels: &BTreeMap<String, String>) -> Option<Mark> {
        self.lock().remove(&(agent, lane.clone())).filter(|mark| mark.labels == *labels)
    }

    fn put(&self, agent: AgentId, lane: &Lane, mark: Mark) {
        let mut marks = self.lock();
        if marks.len() >= MARKS {
            marks.clear();
        }
        marks.insert((agent, lane.clone()), mark);
    }
}

/// The lanes of one claim's offer, read page by page.
#[derive(Debug)]
pub(super) struct Search<'a> {
    lanes: Vec<Reader<'a>>,
    page: u32,
    /// Something was granted: the machine is smaller than what it offered.
    granted: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(marks: &Marks, command: &'a ClaimCommand, machine: &Machine) -> Self {
        let lanes = command.offer.lanes.iter();
        let lanes =
            lanes.map(|lane| Reader::new(lane, marks.take(command.agent, lane, &machine.labels))).collect();
        Self { lanes, page: machine.slots.clamp(*PAGE.start(), *PAGE.end()), granted: false }
    }

    /// The next candidates of all lanes in their common order; `None` at the end.
    pub(super) async fn page(
        &mut self,
        tx: &mut Tx,
        machine: &Machine,
    ) -> Result<Option<Vec<ViewRow>>, store::Error> {
        if self.lanes.iter().all(|lane| lane.part == Part::Done) {
            return Ok(None);
        }
        let mut found = Vec::new();
        for lane in self.lanes.iter_mut().filter(|lane| lane.part != Part::Done) {
            let query =
                CandidateQuery { lane: lane.lane, free: machine.free, limit: self.page, after: lane.at };
            let rows = tx.candidates(&query).await?;
            let last = rows.len() < self.page as usize;
            found.extend(lane.took(rows, last, self.granted));
        }
        self.page = (self.page * 2).min(*PAGE.end());
        found.sort_by_key(order);
        Ok(Some(found))
    }

    /// What became of the page: a lane's mark moves up to the first job that was taken.
    pub(super) fn placed(&mut self, page: &[ViewRow], placed: &Placement, machine: &Machine) {
        self.granted |= !placed.grants.is_empty();
        for lane in &mut self.lanes {
            let Some(reached) = lane.reached.take().filter(|_| !lane.stays) else { continue };
            let of_lane = |index: &usize| page[*index].row.lane == *lane.lane;
            let taken = placed.grants.iter().map(|(index, _)| *index).filter(of_lane).min();
            lane.stays = taken.is_some() || machine.slots == 0;
            if let Some(taken) = taken {
                let before = (0..taken).rev().find(of_lane);
                lane.seen = before.map(|index| order(&page[index])).or(lane.seen);
            } else if !lane.stays {
                lane.seen = Some(reached);
            }
        }
    }

    /// Keeps where it stopped, and answers it.
    pub(super) fn finish(self, marks: &Marks, agent: AgentId, machine: &Machine) -> HashMap<Lane, Stop> {
        let mut stops = HashMap::new();
        for lane in self.lanes {
            // A lane that one claim can read needs no mark.
            if let Some(seen) = lane.seen.filter(|_| lane.marked || !lane.ended) {
                marks.put(agent, lane.lane, Mark { seen, again: lane.again, labels: machine.labels.clone() });
            }
            stops.insert(lane.lane.clone(), Stop { ended: lane.ended, seen: lane.seen });
        }
        stops
    }
}

/// Where a search stopped in a lane.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stop {
    /// Nothing past it would fit what is left of the machine.
    pub(super) ended: bool,
    /// Nothing up to here fits.
    pub(super) seen: Option<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    /// Passed over by an earlier claim.
    Again,
    /// Past the mark.
    Fresh,
    Done,
}

#[derive(Debug)]
struct Reader<'a> {
    lane: &'a Lane,
    part: Part,
    /// The last candidate read.
    at: Option<Position>,
    looked: usize,
    /// As in `Mark`.
    seen: Option<Position>,
    again: Option<Position>,
    /// An earlier claim left a mark, and it still means something.
    marked: bool,
    /// Where the page came to that is being placed, if it was past the mark.
    reached: Option<Position>,
    /// Something past the mark may fit the next offer: the mark stays before it.
    stays: bool,
    /// There are no candidates past what was read.
    ended: bool,
}

impl<'a> Reader<'a> {
    fn new(lane: &'a Lane, mark: Option<Mark>) -> Self {
        Self {
            lane,
            part: if mark.is_some() { Part::Head } else { Part::Fresh },
            at: None,
            looked: 0,
            marked: mark.is_some(),
            seen: mark.as_ref().map(|mark| mark.seen),
            again: mark.and_then(|mark| mark.again),
            reached: None,
            stays: false,
            ended: false,
        }
    }

    /// Rows past `at`; `last`: there are no more that ask for no more than is free. Answers those to be placed.
    fn took(&mut self, mut rows: Vec<ViewRow>, last: bool, granted: bool) -> Vec<ViewRow> {
        self.looked += rows.len();
        self.at = rows.last().map(order).or(self.at);
        match self.part {
            // The machine is full: that says nothing of the lane.
            Part::Head if last && granted => (self.part, self.ended) = (Part::Done, true),
            Part::Head if last => self.forget(),
            Part::Head if self.looked >= HEAD => self.leave_head(),
            Part::Head | Part::Done => {}
            Part::Again => {
                let known = rows.partition_point(|view| Some(order(view)) <= self.seen);
                let over = known < rows.len() || (last && !granted);
                rows.truncate(known);
                if over || last || self.looked >= HEAD + AGAIN {
                    self.again = self.at.filter(|_| !over);
                    (self.part, self.at) = (Part::Fresh, self.seen);
                }
            }
            Part::Fresh => {
                self.reached = self.at;
                self.ended = last;
                if last || self.looked >= LOOK {
                    self.part = Part::Done;
                }
            }
        }
        rows
    }

    fn leave_head(&mut self) {
        if self.at >= self.seen {
            // The lane has become shorter: the mark lies within what every claim reads.
            self.forget();
            self.part = Part::Fresh;
            self.ended = false;
        } else {
            self.part = Part::Again;
            self.at = self.again.filter(|again| Some(*again) < self.seen).max(self.at);
        }
    }

    /// The whole lane was read from its head.
    fn forget(&mut self) {
        (self.part, self.ended, self.marked) = (Part::Done, true, false);
        (self.seen, self.again) = (None, None);
    }
}

/// Priority, then age.
fn order(view: &ViewRow) -> Position {
    (-i64::from(view.spec.priority), view.row.queued_at, view.row.job.id)
}
