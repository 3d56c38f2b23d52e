//! What happens to machines without anybody's word: links that come and go, notes, disks. Compares what is with what
//! was told last, so that nothing is told twice, also not by the next controller.

use super::{
    change::{Change, Happening},
    commands::named,
};
use crate::jobs::{AgentView, Error, Jobs};
use longshore_common::{
    agent::{AgentState, Gpu, Keeper},
    clock::Timestamp,
    fleet::AgentEventKind as Kind,
    ids::{AgentId, SessionId},
};
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};
use tokio::time::Instant;

/// After its start a controller waits so long for agents to link again, before it says that one did not.
const COMING: Duration = Duration::from_secs(20);
/// A note that changes faster is told as it is then.
const NOTES: Duration = Duration::from_secs(30);

/// What was told of all machines.
#[derive(Clone, Debug)]
pub(crate) struct FleetWatch {
    told: HashMap<AgentId, Told>,
    loaded: bool,
    started: Instant,
}

#[derive(Clone, Debug)]
struct Told {
    link: Link,
    note: String,
    noted: Option<Instant>,
    disk_low: bool,
    leaving: bool,
    /// UUIDs of GPUs that were told to be sick.
    sick: BTreeSet<String>,
    /// Of those that a job has and somebody else uses.
    disturbed: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// From before there were events.
    Unknown,
    /// `None`: to another controller process.
    Up(Option<SessionId>),
    Down(Timestamp),
    Lost(Timestamp),
}

impl Default for FleetWatch {
    fn default() -> Self {
        Self { told: HashMap::new(), loaded: false, started: Instant::now() }
    }
}

impl FleetWatch {
    /// Stores what is new. What could not be stored is found again.
    pub(super) async fn look(&mut self, jobs: &Jobs, views: &[AgentView]) -> Result<(), Error> {
        if !self.loaded {
            self.load(jobs).await?;
        }
        let mut next = self.clone();
        let happened = next.compare(views, Instant::now());
        if !happened.is_empty() {
            jobs.fleet(Change::Happened(happened)).await?;
        }
        *self = next;
        Ok(())
    }

    async fn load(&mut self, jobs: &Jobs) -> Result<(), Error> {
        let shared = &jobs.inner.shared;
        let last = shared.store.last_links().await?;
        for row in shared.store.agents().await? {
            let link =
                last.iter().find(|event| event.agent == row.identity.id).map_or(Link::Unknown, |event| {
                    match event.kind {
                        Kind::Lost => Link::Lost(event.at),
                        Kind::Disconnected => Link::Down(event.at),
                        _ => Link::Up(None),
                    }
                });
            // One that joined after this process began is news, though its row is there already.
            if link != Link::Unknown || !shared.agents.is_new(row.identity.id) {
                self.told.insert(row.identity.id, Told::of(link));
            }
        }
        for event in shared.store.told_of_agents().await? {
            if let Some(told) = self.told.get_mut(&event.agent) {
                told.remember(event.kind, &event.detail);
            }
        }
        self.loaded = true;
        Ok(())
    }

    fn compare(&mut self, views: &[AgentView], now: Instant) -> Vec<Happening> {
        let mut happened = Vec::new();
        let patient = now.saturating_duration_since(self.started) >= COMING;
        for view in views {
            let mut tell = |kind, detail: String| {
                happened.push(Happening { agent: named(view), kind, detail, author: String::new() });
            };
            let known = self.told.contains_key(&view.identity.id);
            let told = self.told.entry(view.identity.id).or_insert_with(|| Told::of(Link::Unknown));
            if let Some((kind, detail)) = told.link(view, known, patient) {
                tell(kind, detail);
            }
            let leaves = std::mem::replace(&mut told.leaving, view.leaving.is_some());
            if let Some(leaving) = view.leaving.as_ref().filter(|_| !leaves) {
                let terms = leaving.terms(Timestamp::now());
                tell(Kind::Draining, terms.trim_start_matches([' ', ',', ':']).to_owned());
            }
            if view.state != AgentState::Online {
                continue;
            }
            if std::mem::replace(&mut told.disk_low, view.disk_low) != view.disk_low && view.disk_low {
                tell(Kind::DiskLow, view.note.clone());
            }
            for (kind, detail) in told.gpus(view) {
                tell(kind, detail);
            }
            if told.is_news(&view.note, now) {
                tell(Kind::Note, view.note.clone());
            }
        }
        self.told.retain(|id, _| views.iter().any(|view| view.identity.id == *id));
        happened
    }
}

impl Told {
    fn of(link: Link) -> Self {
        Self {
            link,
            note: String::new(),
            noted: None,
            disk_low: false,
            leaving: false,
            sick: BTreeSet::new(),
            disturbed: BTreeSet::new(),
        }
    }

    /// It was told before this process began.
    fn remember(&mut self, kind: Kind, detail: &str) {
        match (kind, uuid(detail)) {
            (Kind::GpuSick, Some(uuid)) => drop(self.sick.insert(uuid.to_owned())),
            (Kind::GpuWell, Some(uuid)) => drop(self.sick.remove(uuid)),
            (Kind::Note, _) => self.note = words(detail),
            _ => {}
        }
    }

    fn link(&mut self, view: &AgentView, known: bool, patient: bool) -> Option<(Kind, String)> {
        let (session, now) = (view.identity.session, Timestamp::now());
        let away = |since: Timestamp| {
            let away = longshore_common::units::HumanDuration(now.since(since)).rounded();
            format!("after {away}, version {}", view.identity.version)
        };
        let version = || format!("version {}", view.identity.version);
        let told = match (view.state, self.link) {
            (AgentState::Online, Link::Up(Some(before))) if before == session => return None,
            (AgentState::Online, Link::Unknown) if !known => (Kind::Joined, version()),
            (AgentState::Online, Link::Lost(since)) => (Kind::Back, away(since)),
            (AgentState::Online, Link::Down(since)) => (Kind::Connected, away(since)),
            // The controller was restarted: whoever was linked is again.
            (AgentState::Online, Link::Up(None)) => {
                self.link = Link::Up(Some(session));
                return None;
            }
            (AgentState::Online, _) => (Kind::Connected, version()),
            (AgentState::Disconnected, Link::Up(_)) if patient => (Kind::Disconnected, String::new()),
            (AgentState::Lost, Link::Up(_) | Link::Down(_)) if patient => {
                (Kind::Lost, "not heard of for longer than its lease".to_owned())
            }
            (AgentState::Disconnected | AgentState::Lost, _) => return None,
        };
        self.link = match view.state {
            AgentState::Online => Link::Up(Some(session)),
            AgentState::Disconnected => Link::Down(view.seen_at),
            AgentState::Lost => Link::Lost(view.seen_at),
        };
        Some(told)
    }

    /// Those that are newly set aside, or well again.
    fn gpus(&mut self, view: &AgentView) -> Vec<(Kind, String)> {
        let mut news = Vec::new();
        for gpu in &view.gpus {
            let was = self.sick.contains(&gpu.uuid);
            match &gpu.health {
                Some(why) if !was => {
                    self.sick.insert(gpu.uuid.clone());
                    news.push((Kind::GpuSick, format!("{}: {why}", gpu_name(gpu))));
                }
                None if was => {
                    self.sick.remove(&gpu.uuid);
                    news.push((Kind::GpuWell, gpu_name(gpu)));
                }
                _ => {}
            }
            // What an operator keeps back is no stranger's.
            let kept = view.orders.of_gpu(gpu).is_some();
            let foreign = gpu.keeper == Some(Keeper::Stranger) && gpu.job.is_some() && !kept;
            let stranger = gpu.busy.as_ref().filter(|_| foreign && gpu.health.is_none());
            let told = self.disturbed.contains(&gpu.uuid);
            match stranger {
                Some(who) if !told => {
                    self.disturbed.insert(gpu.uuid.clone());
                    news.push((Kind::GpuStranger, format!("{}: {who}", gpu_name(gpu))));
                }
                None if told => drop(self.disturbed.remove(&gpu.uuid)),
                _ => {}
            }
        }
        news
    }

    /// Numbers in it move all the time; words do not.
    fn is_news(&mut self, note: &str, now: Instant) -> bool {
        let words = words(note);
        let soon = self.noted.is_some_and(|at| now.saturating_duration_since(at) < NOTES);
        if words == self.note || soon {
            return false;
        }
        (self.note, self.noted) = (words, Some(now));
        true
    }
}

/// `GPU 2 GPU-5f0c…`, as it begins what is told.
fn gpu_name(gpu: &Gpu) -> String {
    format!("GPU {} {}", gpu.index, gpu.uuid)
}

/// Out of what was told.
fn uuid(detail: &str) -> Option<&str> {
    detail.strip_prefix("GPU ")?.split(' ').nth(1).map(|uuid| uuid.trim_end_matches(':'))
}

fn words(note: &str) -> String {
    note.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests;
