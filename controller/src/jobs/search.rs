//! Which queued jobs a claim looks at, and in which order: priority, then the project with the smallest share, then
//! age. Each project's part of a lane is read on its own, so that no project's jobs stand before another's. One claim
//! reads a bounded number; the agent's next one goes on where it stopped, so that no number of jobs that do not fit
//! can hide the ones behind them. Must never decide what fits.

use super::types::ClaimCommand;
use crate::{
    placement::{Machine, Shares},
    store::{self, CandidateQuery, Position, Tx, ViewRow},
};
use longshore_common::{ids::AgentId, queue::Lane};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, MutexGuard},
};

/// Candidates read at once, at least and at most; all projects of a lane together.
const PAGE: std::ops::RangeInclusive<u32> = 16..=256;
/// And of one project at least.
const LEAST: u32 = 4;
/// Candidates one claim looks at in one lane: past this the answer is what was found.
const LOOK: usize = 2048;
/// Of them the first of the lane, so that what is more urgent is seen by every claim.
const HEAD: usize = 256;
/// And of those passed over before, a stretch further on with each claim: what did not fit then may fit now.
const AGAIN: usize = 512;
/// Marks remembered. They only save reading: past this all are forgotten.
const MARKS: usize = 4096;

/// A project's part of a lane.
type Part = (Lane, String);

/// How far the claims of one agent have come in a part of a lane.
#[derive(Clone, Debug)]
struct Mark {
    /// Everything up to here was looked at, and nothing of it fitted.
    seen: Position,
    /// Where in it the next claim looks again; `None`: behind the head.
    again: Option<Position>,
    /// The machine that looked. With other labels it is another one.
    labels: BTreeMap<String, String>,
}

/// The marks of all agents. Only what is too long for one claim has any.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<HashMap<(AgentId, Part), Mark>>);

impl Marks {
    /// What did not fit may fit now.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(AgentId, Part), Mark>> {
        self.0.lock().expect("nobody panics under this lock")
    }

    fn take(&self, agent: AgentId, part: &Part, labels: &BTreeMap<String, String>) -> Option<Mark> {
        self.lock().remove(&(agent, part.clone())).filter(|mark| mark.labels == *labels)
    }

    fn put(&self, agent: AgentId, part: Part, mark: Mark) {
        let mut marks = self.lock();
        if marks.len() >= MARKS {
            marks.clear();
        }
        marks.insert((agent, part), mark);
    }
}

/// The lanes of one claim's offer, read page by page.
#[derive(Debug)]
pub(super) struct Search {
    readers: Vec<Reader>,
    /// Something was granted: the machine is smaller than what it offered.
    granted: bool,
}

/// A candidate, and which reader brought it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) view: ViewRow,
    reader: usize,
    fresh: bool,
}

impl Search {
    pub(super) async fn open(
        marks: &Marks,
        command: &ClaimCommand,
        machine: &Machine,
        tx: &mut Tx,
    ) -> Result<Self, store::Error> {
        let mut readers = Vec::new();
        for lane in &command.offer.lanes {
            let projects = tx.projects_in(lane).await?;
            let share = projects.len().max(1);
            for project in projects {
                let part = (lane.clone(), project);
                let mark = marks.take(command.agent, &part, &machine.labels);
                readers.push(Reader::new(part, mark, share, page(lane, machine)));
            }
        }
        Ok(Self { readers, granted: false })
    }

    /// The best of those not seen yet; `None` at the end.
    pub(super) async fn next(
        &mut self,
        tx: &mut Tx,
        machine: &Machine,
        shares: &Shares,
    ) -> Result<Option<Found>, store::Error> {
        for reader in &mut self.readers {
            while reader.rows.is_empty() && reader.part != Stage::Done {
                let limit = (reader.page / u32::try_from(reader.share).unwrap_or(u32::MAX)).max(LEAST);
                reader.page = (reader.page * 2).min(*PAGE.end());
                let (lane, project) = &reader.of;
                let query = CandidateQuery { lane, project, free: machine.free, limit, after: reader.at };
                let rows = tx.candidates(&query).await?;
                let last = rows.len() < limit as usize;
                reader.took(rows, last, self.granted);
            }
        }
        let heads = self.readers.iter().enumerate();
        let heads = heads.filter_map(|(index, reader)| Some((index, &reader.rows.front()?.0)));
        let best = heads.min_by(|(_, a), (_, b)| sooner(a, b, shares)).map(|(index, _)| index);
        Ok(best.and_then(|reader| {
            let (view, fresh) = self.readers[reader].rows.pop_front()?;
            Some(Found { view, reader, fresh })
        }))
    }

    /// What became of a candidate: a mark moves up to the first job that was taken.
    pub(super) fn placed(&mut self, found: &Found, taken: bool, full: bool) {
        self.granted |= taken;
        let reader = &mut self.readers[found.reader];
        if found.fresh && !reader.stays {
            reader.stays = taken || full;
            if !reader.stays {
                reader.seen = Some(order(&found.view));
            }
        }
    }

    /// Keeps where it stopped, and answers it for each lane.
    pub(super) fn finish(self, marks: &Marks, agent: AgentId, machine: &Machine) -> HashMap<Lane, Stop> {
        let mut stops: HashMap<Lane, Stop> = HashMap::new();
        for reader in self.readers {
            let stop =
                stops.entry(reader.of.0.clone()).or_insert_with(|| Stop { ended: true, seen: Vec::new() });
            stop.ended &= reader.ended;
            stop.seen.push((reader.of.1.clone(), reader.seen));
            // What one claim can read needs no mark.
            if let Some(seen) = reader.seen.filter(|_| reader.marked || !reader.ended) {
                let mark = Mark { seen, again: reader.again, labels: machine.labels.clone() };
                marks.put(agent, reader.of, mark);
            }
        }
        stops
    }
}

/// Where a search stopped in a lane.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    /// Nothing past it would fit what is left of the machine.
    pub(super) ended: bool,
    /// Per project: nothing up to here fits.
    pub(super) seen: Vec<(String, Option<Position>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    /// Passed over by an earlier claim.
    Again,
    /// Past the mark.
    Fresh,
    Done,
}

#[derive(Debug)]
struct Reader {
    of: Part,
    /// Projects in this lane: a claim looks at so many fewer of each.
    share: usize,
    /// Rows of the next page.
    page: u32,
    part: Stage,
    /// Read and not looked at, and whether that was past the mark.
    rows: VecDeque<(ViewRow, bool)>,
    /// The last candidate read.
    at: Option<Position>,
    looked: usize,
    /// As in `Mark`.
    seen: Option<Position>,
    again: Option<Position>,
    /// An earlier claim left a mark, and it still means something.
    marked: bool,
    /// Something past the mark may fit the next offer: the mark stays before it.
    stays: bool,
    /// There are no candidates past what was read.
    ended: bool,
}

impl Reader {
    fn new(of: Part, mark: Option<Mark>, share: usize, page: u32) -> Self {
        Self {
            of,
            share,
            page,
            part: if mark.is_some() { Stage::Head } else { Stage::Fresh },
            rows: VecDeque::new(),
            at: None,
            looked: 0,
            marked: mark.is_some(),
            seen: mark.as_ref().map(|mark| mark.seen),
            again: mark.and_then(|mark| mark.again),
            stays: false,
            ended: false,
        }
    }

    fn least(&self, of: usize) -> usize {
        (of / self.share).max(LEAST as usize)
    }

    /// Rows past `at`; `last`: there are no more that ask for no more than is free.
    fn took(&mut self, mut rows: Vec<ViewRow>, last: bool, granted: bool) {
        self.looked += rows.len();
        self.at = rows.last().map(order).or(self.at);
        let fresh = self.part == Stage::Fresh;
        match self.part {
            // The machine is full: that says nothing of the lane.
            Stage::Head if last && granted => (self.part, self.ended) = (Stage::Done, true),
            Stage::Head if last => self.forget(),
            Stage::Head if self.looked >= self.least(HEAD) => self.leave_head(),
            Stage::Head | Stage::Done => {}
            Stage::Again => {
                let known = rows.partition_point(|view| Some(order(view)) <= self.seen);
                let over = known < rows.len() || (last && !granted);
                rows.truncate(known);
                if over || last || self.looked >= self.least(HEAD) + self.least(AGAIN) {
                    self.again = self.at.filter(|_| !over);
                    (self.part, self.at) = (Stage::Fresh, self.seen);
                }
            }
            Stage::Fresh => {
                self.ended = last;
                if last || self.looked >= self.least(LOOK) {
                    self.part = Stage::Done;
                }
            }
        }
        self.rows.extend(rows.into_iter().map(|view| (view, fresh)));
    }

    fn leave_head(&mut self) {
        if self.at >= self.seen {
            // The lane has become shorter: the mark lies within what every claim reads.
            self.forget();
            self.part = Stage::Fresh;
            self.ended = false;
        } else {
            self.part = Stage::Again;
            self.at = self.again.filter(|again| Some(*again) < self.seen).max(self.at);
        }
    }

    /// The whole lane was read from its head.
    fn forget(&mut self) {
        (self.part, self.ended, self.marked) = (Stage::Done, true, false);
        (self.seen, self.again) = (None, None);
    }
}

/// As much as may be granted of a lane, which where each job takes a whole GPU is little: reading a job costs far more
/// than looking at it.
fn page(lane: &Lane, machine: &Machine) -> u32 {
    let whole = lane.is_gpu() && !lane.is_shared();
    let most = if whole { machine.slots.min(machine.free.gpus) } else { machine.slots };
    most.clamp(*PAGE.start(), *PAGE.end())
}

/// Priority, then share, then age.
fn sooner(a: &ViewRow, b: &ViewRow, shares: &Shares) -> Ordering {
    let score = |view: &ViewRow| shares.score(&view.row.project);
    let (first, second) = (order(a), order(b));
    let by_share =
        || if a.row.project == b.row.project { Ordering::Equal } else { score(a).total_cmp(&score(b)) };
    first.0.cmp(&second.0).then_with(by_share).then_with(|| first.cmp(&second))
}

/// Priority, then age.
pub(super) fn order(view: &ViewRow) -> Position {
    (-i64::from(view.spec.priority), view.row.queued_at, view.row.job.id)
}
