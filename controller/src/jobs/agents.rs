//! The machines as their agents describe them, in memory. Who they are is stored; what is free is not: an agent
//! says it again within seconds.

use super::{
    live::Live,
    types::{AgentReport, AgentView, HeldJob},
};
use crate::{placement::Machine, store::AgentRow};
use longshore_common::{
    agent::{AgentState, Capacity, Gpu, Holdings, Inventory},
    clock::Timestamp,
    fleet::Orders,
    ids::{AgentId, SessionId},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, RwLock, RwLockWriteGuard},
    time::Duration,
};

#[derive(Debug)]
struct Known {
    row: AgentRow,
    /// Of the open link.
    session: Option<SessionId>,
    report: AgentReport,
    /// `seen_at` is newer than what is stored.
    unsaved: bool,
    /// The latest that it and this controller speak.
    protocol: u32,
    /// It joined while this process ran.
    new: bool,
    /// As told on the open link, or the last one.
    holdings: Option<Arc<Holdings>>,
}

/// One run of an agent on one run of its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) session: SessionId,
    pub(super) boot_id: String,
}

#[derive(Debug, Default)]
pub(super) struct Agents {
    known: RwLock<HashMap<AgentId, Known>>,
}

impl Agents {
    pub(super) fn new(rows: Vec<AgentRow>) -> Self {
        let known = rows.into_iter().map(|row| {
            let report = first_report(&row);
            (
                row.identity.id,
                Known { row, session: None, report, unsaved: false, protocol: 1, new: false, holdings: None },
            )
        });
        Self { known: RwLock::new(known.collect()) }
    }

    pub(super) fn hello(&self, row: AgentRow) {
        let session = Some(row.identity.session);
        let report = first_report(&row);
        let mut known = self.write();
        let new = known.get(&row.identity.id).is_none_or(|known| known.new);
        known.insert(
            row.identity.id,
            Known { row, session, report, unsaved: false, protocol: 1, new, holdings: None },
        );
    }

    pub(super) fn speaks(&self, agent: AgentId, protocol: u32) {
        if let Some(known) = self.write().get_mut(&agent) {
            known.protocol = protocol;
        }
    }

    pub(super) fn protocol(&self, agent: AgentId) -> u32 {
        let known = self.known.read().expect("nobody panics under this lock");
        known.get(&agent).map_or(1, |known| known.protocol)
    }

    pub(super) fn is_new(&self, agent: AgentId) -> bool {
        let known = self.known.read().expect("nobody panics under this lock");
        known.get(&agent).is_some_and(|known| known.new)
    }

    /// Whether the agent has just said that it leaves.
    pub(super) fn report(&self, agent: AgentId, mut report: AgentReport) -> bool {
        let mut leaves = false;
        if let Some(known) = self.write().get_mut(&agent) {
            leaves = report.leaving.is_some() && known.report.leaving.is_none();
            if report.leaving.is_some() && !leaves {
                // As it was heard first.
                report.leaving = known.report.leaving.take();
            }
            if let Some(holdings) = report.holdings.take() {
                known.holdings = Some(Arc::new(holdings));
            }
            known.follow(&report.gpus);
            known.report = report;
            known.row.seen_at = Timestamp::now();
            known.unsaved = true;
        }
        leaves
    }

    /// Whether it was told to stop, and said so.
    pub(super) fn leaves(&self, agent: AgentId) -> bool {
        let known = self.known.read().expect("nobody panics under this lock");
        known.get(&agent).is_some_and(|known| known.session.is_some() && known.report.leaving.is_some())
    }

    pub(super) fn left(&self, agent: AgentId, session: SessionId) {
        if let Some(known) = self.write().get_mut(&agent)
            && known.session == Some(session)
        {
            known.session = None;
        }
    }

    pub(super) fn forget(&self, agent: AgentId) {
        self.write().remove(&agent);
    }

    /// One of them.
    pub(super) fn view(&self, agent: AgentId, live: &Live, tolerance: Duration) -> Option<AgentView> {
        let held = live.jobs_of(agent);
        let known = self.known.read().expect("nobody panics under this lock");
        known.get(&agent).map(|known| view(known, held, Timestamp::now(), tolerance))
    }

    pub(super) fn inventory(&self, agent: AgentId) -> Inventory {
        let known = self.known.read().expect("nobody panics under this lock");
        known.get(&agent).map(|known| known.row.inventory.clone()).unwrap_or_default()
    }

    /// Names of the labels of its own settings.
    pub(super) fn own_labels(&self, agent: AgentId) -> BTreeSet<String> {
        let known = self.known.read().expect("nobody panics under this lock");
        known.get(&agent).map(|known| known.row.identity.labels.keys().cloned().collect()).unwrap_or_default()
    }

    /// What jobs may have of all machines together.
    pub(super) fn total(&self) -> Capacity {
        let known = self.known.read().expect("nobody panics under this lock");
        known.values().map(|known| known.row.inventory.allocatable).fold(Capacity::default(), |sum, one| {
            Capacity {
                cpu_millis: sum.cpu_millis.saturating_add(one.cpu_millis),
                memory_bytes: sum.memory_bytes.saturating_add(one.memory_bytes),
                scratch_bytes: sum.scratch_bytes.saturating_add(one.scratch_bytes),
                gpus: sum.gpus.saturating_add(one.gpus),
            }
        })
    }

    pub(super) fn name(&self, agent: AgentId) -> String {
        let known = self.known.read().expect("nobody panics under this lock");
        known.get(&agent).map_or_else(|| agent.to_string(), |known| known.row.identity.name.clone())
    }

    /// The one that said hello last.
    pub(super) fn process(&self, agent: AgentId) -> Option<Process> {
        let known = self.known.read().expect("nobody panics under this lock");
        known.get(&agent).map(|known| Process {
            session: known.row.identity.session,
            boot_id: known.row.identity.boot_id.clone(),
        })
    }

    /// Times to be stored; asked for by the slow sweep.
    pub(super) fn take_unsaved(&self) -> Vec<(AgentId, Timestamp)> {
        let mut known = self.write();
        let unsaved = known
            .iter_mut()
            .filter_map(|(id, known)| std::mem::take(&mut known.unsaved).then_some((*id, known.row.seen_at)));
        unsaved.collect()
    }

    /// Whether any of them tells what lies there.
    pub(super) fn tell_holdings(&self) -> bool {
        let known = self.known.read().expect("nobody panics under this lock");
        known.values().any(|known| known.holdings.is_some())
    }

    /// All of them by name.
    pub(super) fn views(&self, live: &Live, tolerance: Duration) -> Vec<AgentView> {
        let mut held = live.by_agent();
        let now = Timestamp::now();
        let known = self.known.read().expect("nobody panics under this lock");
        let mut views: Vec<_> = known
            .iter()
            .map(|(id, known)| view(known, held.remove(id).unwrap_or_default(), now, tolerance))
            .collect();
        views.sort_by(|a, b| (&a.identity.name, a.identity.id).cmp(&(&b.identity.name, b.identity.id)));
        views
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<AgentId, Known>> {
        self.known.write().expect("nobody panics under this lock")
    }
}

impl Known {
    /// GPUs that came or went since the hello count for its size too.
    fn follow(&mut self, gpus: &[Gpu]) {
        let inventory = &mut self.row.inventory;
        let same = inventory.gpus.len() == gpus.len()
            && inventory.gpus.iter().zip(gpus).all(|(before, now)| before.uuid == now.uuid);
        if !same {
            inventory.gpus = gpus.to_vec();
            inventory.allocatable.gpus = u32::try_from(gpus.len()).unwrap_or(u32::MAX);
        }
    }
}

/// What it has until it says what is free of it.
fn first_report(row: &AgentRow) -> AgentReport {
    AgentReport {
        free: row.inventory.allocatable,
        gpus: row.inventory.gpus.clone(),
        ..AgentReport::default()
    }
}

fn view(known: &Known, jobs: Vec<HeldJob>, now: Timestamp, tolerance: Duration) -> AgentView {
    let state = if known.session.is_some() {
        AgentState::Online
    } else if now.since(known.row.seen_at) < tolerance {
        AgentState::Disconnected
    } else {
        AgentState::Lost
    };
    AgentView {
        identity: known.row.identity.clone(),
        inventory: known.row.inventory.clone(),
        state,
        seen_at: known.row.seen_at,
        free: known.report.free,
        gpus: known.report.gpus.clone(),
        jobs,
        note: known.report.note.clone(),
        closed: known.report.closed.clone(),
        slots: known.report.slots,
        orders: Orders::default(),
        disk_low: known.report.disk_low,
        holdings: known.holdings.clone(),
        caches_bytes: known.report.caches_bytes,
        leaving: known.report.leaving.clone().filter(|_| known.session.is_some()),
    }
}

/// What placement needs of a view.
pub(super) fn machine(agent: &AgentView) -> Machine {
    let identity = &agent.identity;
    let cordon = agent.orders.cordon.as_ref().map(|cordon| cordon.sentence(Timestamp::now()));
    let note = match (agent.state, &cordon) {
        (AgentState::Online, Some(cordon)) => cordon.as_str(),
        (AgentState::Online, None) => agent.closed.as_str(),
        (AgentState::Disconnected, _) => "is disconnected",
        (AgentState::Lost, _) => "is lost: not heard of for longer than its lease",
    };
    let now = (agent.free, &agent.gpus[..], agent.slots);
    Machine::described((&identity.pool, &identity.labels), &agent.inventory, now, note)
}

/// Jobs of other projects are not named to this one.
pub(super) fn hide_others(agent: &mut AgentView, project: &str) {
    let AgentView { gpus, jobs, .. } = agent;
    for gpu in gpus {
        let Some(named) = &gpu.job else { continue };
        // A shared one names several.
        let is_own =
            |name: &&str| !jobs.iter().any(|job| job.project != project && job.job.as_str() == *name);
        let own: Vec<_> = named.split(", ").filter(is_own).collect();
        if own.len() < named.split(", ").count() {
            let others = std::iter::once("of another project");
            gpu.job = Some(own.iter().copied().chain(others).collect::<Vec<_>>().join(", "));
        }
    }
}
