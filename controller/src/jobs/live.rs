//! Attempts that speak for an unfinished job, in memory: what every log line, upload and heartbeat asks for.
//! Changed only after a commit, filled from the database at start.

use super::{
    agents::Process,
    former::Former,
    types::{HeldJob, LiveAttempt},
};
use crate::{
    lifecycle::Refusal,
    placement::{Amounts, Hold, Load},
};
use longshore_common::{
    agent::{HeldAttempt, StopReason},
    clock::Timestamp,
    ids::{AgentId, AttemptRef, JobId, SessionId},
    job::JobState,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};
use tokio::time::Instant;

/// So many processes of one agent that ended in a row, each of them this soon after it had taken the job over, have
/// ended of the job.
const FALLS: u32 = 5;
const SOON: Duration = Duration::from_secs(120);

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) live: LiveAttempt,
    pub(super) gpus: Vec<String>,
    pub(super) load: Load,
    pub(super) claimed_at: Timestamp,
    pub(super) state: JobState,
    pub(super) started_at: Option<Timestamp>,
    pub(super) exited_at: Option<Timestamp>,
    /// Why it is to be stopped.
    pub(super) stop: Option<String>,
    /// Why its agent is to give it back.
    pub(super) hand_back: Option<String>,
    pub(super) lease: Duration,
    /// When it ends unless it is renewed, on our own clock.
    pub(super) until: Instant,
    /// Controllers that granted a whole lease since its agent was last heard of.
    pub(super) unheard: u32,
    /// Its agent was not heard of for the whole lease.
    pub(super) silent: bool,
    /// Of its agent, when the attempt was granted or last listed.
    pub(super) process: Option<Process>,
    /// When that process got it.
    pub(super) since: Instant,
    /// Processes before it, in a row, that had it for a short time only.
    pub(super) falls: u32,
    /// The last of them said that it leaves: it did not end of the job.
    pub(super) left: bool,
    /// When the grant went out last.
    pub(super) granted: Instant,
    /// Its agent has listed it.
    pub(super) listed: bool,
    /// The last heartbeat should have listed it and did not.
    pub(super) absent: bool,
    /// Its machine was started anew while it had it.
    pub(super) reboot: Option<Reboot>,
    /// Objects with an ordinal below this may exist.
    pub(super) opened: u64,
    /// That of its image is stored.
    pub(super) has_digest: bool,
}

/// How a machine was started anew while an agent had an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reboot {
    /// It may have died of it.
    UnderIt,
    /// Its agent had said that it leaves.
    InOrder,
}

impl Entry {
    fn shown(&self) -> HeldJob {
        HeldJob {
            job: self.live.short_id.clone(),
            project: self.live.project.clone(),
            attempt: self.live.attempt.number,
            gpus: self.gpus.clone(),
        }
    }

    fn hold(&self) -> Hold {
        Hold {
            job: self.live.short_id.clone(),
            project: self.live.project.clone(),
            load: self.load.clone(),
            gpus: self.gpus.clone(),
            until: self.load.until(self.claimed_at, self.started_at, self.exited_at),
            exited: self.exited_at.is_some(),
            listed: self.listed,
        }
    }

    /// Its agent is another process by now, or its machine was started anew.
    fn is_outlived(&self, now: &Process) -> bool {
        self.process.as_ref().is_some_and(|then| then != now)
    }

    fn reboot(&self, now: &Process) -> Option<Reboot> {
        let is = self.process.as_ref().is_some_and(|then| then.boot_id != now.boot_id);
        is.then_some(if self.left { Reboot::InOrder } else { Reboot::UnderIt })
    }

    fn note_reboot(&mut self, now: &Process) {
        self.reboot = self.reboot(now).or(self.reboot);
    }

    /// `process` lists it.
    fn is_with(&mut self, process: &Process) {
        self.note_reboot(process);
        if self.is_outlived(process) {
            let had = std::mem::replace(&mut self.since, Instant::now()).elapsed();
            let fell = had < SOON && self.reboot.is_none() && !self.left;
            self.falls = if fell { self.falls + 1 } else { 0 };
            self.left = false;
        }
        self.process = Some(process.clone());
    }

    pub(super) fn stop(&self) -> Option<(AttemptRef, StopReason)> {
        let cancel = self.stop.clone().map(StopReason::Cancel);
        let reason = cancel.or_else(|| self.hand_back.clone().map(StopReason::HandBack));
        Some((self.live.attempt, reason.filter(|_| self.state.is_held())?))
    }
}

/// Where a listed attempt stands.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// The agent's own. `news`: its phase or times are to be stored.
    Held {
        news: bool,
        stop: Option<(AttemptRef, StopReason)>,
    },
    /// One process of its agent after the other ends with it.
    Fatal,
    /// Its lease had run out; a finish is still taken.
    Expired,
    Unknown,
}

/// An attempt that its agent should hold and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) attempt: AttemptRef,
    /// The agent never listed it: the grant did not come.
    pub(super) never_taken: bool,
    /// The process or machine that had it is gone.
    pub(super) died: bool,
    pub(super) reboot: Option<Reboot>,
}

#[derive(Debug, Default)]
pub(super) struct Live {
    entries: RwLock<HashMap<JobId, Entry>>,
    pub(super) former: Former,
    /// Handed back without their agents' doing, and listed by them when they were heard of last.
    taken_back: Mutex<HashMap<AgentId, HashSet<AttemptRef>>>,
}

impl Live {
    pub(super) fn check(&self, attempt: AttemptRef) -> Result<LiveAttempt, Refusal> {
        match self.read().get(&attempt.job) {
            Some(entry) if entry.live.attempt == attempt => Ok(entry.live.clone()),
            Some(_) | None => Err(Refusal::Fenced),
        }
    }

    pub(super) fn of_job(&self, job: JobId) -> Option<(LiveAttempt, JobState)> {
        self.read().get(&job).map(|entry| (entry.live.clone(), entry.state))
    }

    pub(super) fn has(&self, attempt: AttemptRef) -> bool {
        let entries = self.read();
        entries.get(&attempt.job).is_some_and(|entry| entry.live.attempt == attempt && entry.state.is_held())
    }

    /// An agent says hello. What its machine was started anew under is known from then on, whatever comes first: its
    /// report or its heartbeat.
    pub(super) fn greeted(&self, agent: AgentId, process: &Process) {
        for entry in self.write().values_mut().filter(|entry| entry.live.agent == agent) {
            entry.note_reboot(process);
        }
    }

    /// An agent lists an attempt: its lease begins anew.
    pub(super) fn renew(&self, agent: AgentId, process: Option<&Process>, held: &HeldAttempt) -> Standing {
        let mut entries = self.write();
        let entry = entries
            .get_mut(&held.attempt.job)
            .filter(|entry| entry.live.attempt == held.attempt && entry.live.agent == agent);
        let Some(entry) = entry else { return Standing::Unknown };
        if let Some(process) = process {
            entry.is_with(process);
        }
        if entry.falls >= FALLS {
            return if entry.state.is_held() { Standing::Fatal } else { Standing::Unknown };
        }
        if !entry.state.is_held() {
            return Standing::Expired;
        }
        entry.until = Instant::now() + entry.lease;
        (entry.listed, entry.absent, entry.silent) = (true, false, false);
        let news = entry.unheard > 0
            || held.phase > entry.state
            || (held.started_at.is_some() && entry.started_at.is_none())
            || (held.exited_at.is_some() && entry.exited_at.is_none())
            || (held.digest.is_some() && !entry.has_digest);
        Standing::Held { news, stop: entry.stop() }
    }

    /// These times are in the database: they are no news any more.
    pub(super) fn stored(&self, held: &HeldAttempt) {
        let mut entries = self.write();
        let entry = entries.get_mut(&held.attempt.job).filter(|entry| entry.live.attempt == held.attempt);
        if let Some(entry) = entry {
            entry.started_at = held.started_at.or(entry.started_at);
            entry.exited_at = held.exited_at.or(entry.exited_at);
            entry.unheard = 0;
            entry.has_digest |= held.digest.is_some();
        }
    }

    /// What a heartbeat of `agent` that lists `held` should have listed too, and the one before it as well. One
    /// heartbeat is enough from a machine that was started anew. A grant that went out to this very process within
    /// `patience` may be on its way.
    pub(super) fn missing(
        &self,
        agent: AgentId,
        process: &Process,
        held: &[HeldAttempt],
        patience: Duration,
    ) -> Vec<Missing> {
        let now = Instant::now();
        let listed: HashSet<_> = held.iter().map(|held| held.attempt).collect();
        let mut missing = Vec::new();
        for entry in self.write().values_mut() {
            if entry.live.agent != agent || listed.contains(&entry.live.attempt) {
                continue;
            }
            let (outlived, reboot) = (entry.is_outlived(process), entry.reboot(process));
            if !outlived && now.saturating_duration_since(entry.granted) < patience {
                continue;
            }
            // What has expired is only told dead, until that is stored.
            let told = if entry.state.is_held() {
                std::mem::replace(&mut entry.absent, true) || reboot.is_some()
            } else {
                outlived && entry.silent
            };
            if told {
                missing.push(Missing {
                    attempt: entry.live.attempt,
                    never_taken: !entry.listed && entry.state.is_held(),
                    died: outlived && !entry.left,
                    reboot,
                });
            }
        }
        missing
    }

    /// What these attempts' agent is by now is in the database: their deaths count once, and not before.
    pub(super) fn told(&self, attempts: &[AttemptRef], process: &Process) {
        for attempt in attempts {
            self.update(attempt.job, |entry| {
                if entry.live.attempt == *attempt && !entry.state.is_held() {
                    entry.process = Some(process.clone());
                }
            });
        }
    }

    /// How its machine was started anew meanwhile.
    pub(super) fn reboot(&self, attempt: AttemptRef) -> Option<Reboot> {
        let entries = self.read();
        entries.get(&attempt.job).filter(|entry| entry.live.attempt == attempt).and_then(|entry| entry.reboot)
    }

    /// Objects of it with an ordinal below this may exist.
    pub(super) fn opened(&self, attempt: AttemptRef) -> u64 {
        let entries = self.read();
        entries
            .get(&attempt.job)
            .filter(|entry| entry.live.attempt == attempt)
            .map_or(0, |entry| entry.opened)
    }

    pub(super) fn set_opened(&self, attempt: AttemptRef, opened: u64) {
        self.update(attempt.job, |entry| {
            if entry.live.attempt == attempt {
                entry.opened = entry.opened.max(opened);
            }
        });
    }

    /// The answer to its claim goes out for another time.
    pub(super) fn granted_again(&self, job: JobId) {
        self.update(job, |entry| entry.granted = Instant::now());
    }

    /// Held attempts whose lease ended longer than `grace` ago.
    pub(super) fn silent(&self, grace: Duration) -> Vec<(AttemptRef, AgentId, Duration)> {
        let now = Instant::now();
        let mut entries = self.write();
        let silent = entries.values_mut().filter(|entry| entry.state.is_held() && now > entry.until + grace);
        let told = |entry: &mut Entry| {
            entry.silent = true;
            (entry.live.attempt, entry.live.agent, entry.lease)
        };
        silent.map(told).collect()
    }

    /// Its process ends in order: what it leaves behind did not kill it.
    pub(super) fn left(&self, agent: AgentId, session: SessionId) {
        for entry in self.write().values_mut().filter(|entry| entry.live.agent == agent) {
            entry.left |= entry.process.as_ref().is_some_and(|process| process.session == session);
        }
    }

    /// Its agent is to give back what it holds. Answers those that were not to be before.
    pub(super) fn hand_back(&self, agent: AgentId, detail: &str) -> Vec<AttemptRef> {
        let mut entries = self.write();
        let own = |entry: &&mut Entry| entry.live.agent == agent && entry.state.is_held();
        let new = entries.values_mut().filter(own).filter_map(|entry| {
            let new = entry.hand_back.is_none() && entry.stop.is_none();
            entry.hand_back.get_or_insert_with(|| detail.to_owned());
            new.then_some(entry.live.attempt)
        });
        new.collect()
    }

    /// These are not the agent's any more, though it may not know the word for it.
    pub(super) fn take_back(&self, agent: AgentId, attempts: &[AttemptRef]) {
        self.taken_back().entry(agent).or_default().extend(attempts);
    }

    /// Those of a heartbeat that were taken back. What it does not list is over.
    pub(super) fn still_there(&self, agent: AgentId, held: &[HeldAttempt]) -> HashSet<AttemptRef> {
        let mut taken = self.taken_back();
        let Some(of_agent) = taken.get_mut(&agent) else { return HashSet::new() };
        of_agent.retain(|attempt| held.iter().any(|held| held.attempt == *attempt));
        let left = of_agent.clone();
        taken.retain(|_, attempts| !attempts.is_empty());
        left
    }

    fn taken_back(&self) -> MutexGuard<'_, HashMap<AgentId, HashSet<AttemptRef>>> {
        self.taken_back.lock().expect("nobody panics under this lock")
    }

    /// Attempts that the agent holds.
    pub(super) fn held_by(&self, agent: AgentId) -> Vec<AttemptRef> {
        let own = |entry: &&Entry| entry.live.agent == agent && entry.state.is_held();
        self.read().values().filter(own).map(|entry| entry.live.attempt).collect()
    }

    /// What the agent's attempts hold, and until when at the latest.
    pub(super) fn holds(&self, agent: AgentId) -> Vec<Hold> {
        let entries = self.read();
        let own = entries.values().filter(|entry| entry.live.agent == agent && entry.state.is_held());
        own.map(Entry::hold).collect()
    }

    /// What projects' jobs hold on all machines.
    pub(super) fn by_project(&self) -> HashMap<String, Amounts> {
        let mut held: HashMap<String, Amounts> = HashMap::new();
        let running = |entry: &&Entry| entry.state.is_held() && entry.exited_at.is_none();
        for entry in self.read().values().filter(running) {
            let amounts = Amounts::of(entry.load.amounts);
            match held.get_mut(&entry.live.project) {
                Some(sum) => sum.add(amounts),
                None => drop(held.insert(entry.live.project.clone(), amounts)),
            }
        }
        held
    }

    /// Images that attempts may be bringing to their machines.
    pub(super) fn bringing(&self) -> BTreeSet<(String, AgentId)> {
        let early = |entry: &&Entry| matches!(entry.state, JobState::Claimed | JobState::Preparing);
        let entries = self.read();
        let bringing = entries
            .values()
            .filter(|entry| early(entry) && !entry.has_digest && !entry.load.image.is_empty());
        bringing.map(|entry| (entry.load.image.clone(), entry.live.agent)).collect()
    }

    pub(super) fn put(&self, entry: Entry) {
        let before = self.write().insert(entry.live.attempt.job, entry);
        let before = before.filter(|entry| entry.silent && !entry.state.is_held());
        if let Some(Entry { live, process: Some(process), .. }) = before {
            self.former.note(live.agent, live.attempt, process);
        }
    }

    pub(super) fn update(&self, job: JobId, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.write().get_mut(&job) {
            change(entry);
        }
    }

    pub(super) fn remove(&self, job: JobId) {
        self.write().remove(&job);
    }

    /// Held attempts by agent.
    pub(super) fn by_agent(&self) -> HashMap<AgentId, Vec<HeldJob>> {
        let mut held: HashMap<_, Vec<_>> = HashMap::new();
        for entry in self.read().values().filter(|entry| entry.state.is_held()) {
            held.entry(entry.live.agent).or_default().push(entry.shown());
        }
        held
    }

    /// Those of one.
    pub(super) fn jobs_of(&self, agent: AgentId) -> Vec<HeldJob> {
        let entries = self.read();
        let own = entries.values().filter(|entry| entry.live.agent == agent && entry.state.is_held());
        own.map(Entry::shown).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<JobId, Entry>> {
        self.entries.read().expect("nobody panics under this lock")
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<JobId, Entry>> {
        self.entries.write().expect("nobody panics under this lock")
    }
}
