//! A machine as placement sees it, and what its jobs hold.

use longshore_common::{
    agent::{Capacity, Gpu, Inventory, Keeper, Offer},
    clock::Timestamp,
    ids::ShortId,
    job::{JobSpec, PullPolicy, Version, canonical},
};
use std::{collections::BTreeMap, time::Duration};

/// What is left of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub pool: String,
    /// With the built-in `arch`.
    pub labels: BTreeMap<String, String>,
    pub driver: Option<Version>,
    pub cuda: Option<Version>,
    pub free: Capacity,
    /// The free ones.
    pub gpus: Vec<Gpu>,
    /// GPUs that shared jobs are on, and the memory that is left for others. None of them is in `gpus`.
    pub shared_free: Vec<(Gpu, u64)>,
    /// Grants it still wants.
    pub slots: u32,
    /// Jobs that run on it.
    pub jobs: usize,
    /// One of them has it to itself.
    pub closed: bool,
    /// What jobs may have when nothing runs; `None` when only the offer is known.
    pub whole: Option<Whole>,
    /// Why it takes nothing at all; empty: it does.
    pub note: String,
}

/// The machine when nothing runs on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    pub allocatable: Capacity,
    /// All of them; those in use say by whom.
    pub gpus: Vec<Gpu>,
}

/// What a job takes of a machine, and for how long at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub amounts: Capacity,
    pub exclusive: bool,
    /// VRAM of a shared GPU.
    pub shared: Option<u64>,
    /// By its canonical name; empty: it is never pulled.
    pub image: String,
    prepare: Duration,
    /// With the grace.
    run: Duration,
    upload: Duration,
}

/// What an attempt holds now, and when it gives that back at the latest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub job: ShortId,
    pub project: String,
    pub load: Load,
    /// UUIDs.
    pub gpus: Vec<String>,
    pub until: Timestamp,
    /// Its container has ended: only its files are left.
    pub exited: bool,
    /// Its agent has said that it has it. What it was granted before may not know of the grant, and offer it again.
    pub listed: bool,
}

/// The label every machine has without being told.
const ARCH: &str = "arch";

impl Load {
    pub fn of(spec: &JobSpec) -> Self {
        let asked = &spec.resources;
        Self {
            amounts: Capacity {
                cpu_millis: asked.cpu_millis,
                memory_bytes: asked.memory_bytes,
                scratch_bytes: asked.scratch_bytes,
                gpus: asked.whole_gpus(),
            },
            exclusive: asked.exclusive,
            shared: asked.gpu.as_ref().filter(|gpu| gpu.shared).map(|gpu| gpu.memory_bytes),
            image: Some(canonical(&spec.image))
                .filter(|_| spec.pull != PullPolicy::Never)
                .unwrap_or_default(),
            prepare: spec.deadlines.prepare,
            run: spec.deadlines.run.saturating_add(spec.deadlines.stop_grace),
            upload: spec.deadlines.upload,
        }
    }

    /// When an attempt gives back what it holds at the latest: its processors and GPUs, then its files.
    pub fn until(
        &self,
        claimed_at: Timestamp,
        started_at: Option<Timestamp>,
        exited_at: Option<Timestamp>,
    ) -> Timestamp {
        match (exited_at, started_at) {
            (Some(exited), _) => exited.plus(self.upload),
            (None, Some(started)) => started.plus(self.run),
            (None, None) => claimed_at.plus(self.prepare).plus(self.run),
        }
    }
}

impl Machine {
    /// What an agent offers with a claim.
    pub fn offered(offer: &Offer, inventory: &Inventory, holds: &[Hold]) -> Self {
        let machine = Self {
            pool: offer.pool.clone(),
            free: offer.free,
            gpus: offer.gpus.iter().filter(|gpu| is_free(gpu)).cloned().collect(),
            slots: offer.slots,
            ..Self::default()
        };
        machine.about(&offer.labels, inventory).with(holds)
    }

    /// A machine as its agent described it last.
    pub fn described(
        (pool, labels): (&str, &BTreeMap<String, String>),
        inventory: &Inventory,
        (free, gpus, slots): (Capacity, &[Gpu], Option<u32>),
        note: &str,
    ) -> Self {
        let is_split = |gpu: &Gpu| gpus.iter().any(|other| other.parent.as_ref() == Some(&gpu.uuid));
        let machine = Self {
            pool: pool.to_owned(),
            free,
            gpus: gpus.iter().filter(|gpu| is_free(gpu) && !is_split(gpu)).cloned().collect(),
            slots: slots.unwrap_or(u32::MAX),
            whole: Some(Whole {
                allocatable: inventory.allocatable,
                gpus: gpus.iter().filter(|gpu| !is_split(gpu)).cloned().collect(),
            }),
            note: note.to_owned(),
            ..Self::default()
        };
        machine.about(labels, inventory)
    }

    fn about(mut self, labels: &BTreeMap<String, String>, inventory: &Inventory) -> Self {
        self.labels.clone_from(labels);
        if !inventory.arch.is_empty() {
            self.labels.insert(ARCH.to_owned(), inventory.arch.clone());
        }
        self.driver = inventory.driver.parse().ok();
        self.cuda = inventory.cuda.parse().ok();
        self
    }

    /// With the jobs that it runs, whose amounts are taken off already.
    #[must_use]
    pub fn with(mut self, holds: &[Hold]) -> Self {
        let running = || holds.iter().filter(|hold| !hold.exited);
        self.jobs = running().count();
        self.closed = running().any(|hold| hold.load.exclusive);
        let before = self.gpus.len();
        self.gpus.retain(|gpu| !running().any(|hold| !hold.listed && hold.gpus.contains(&gpu.uuid)));
        let granted = u32::try_from(before - self.gpus.len()).unwrap_or(u32::MAX);
        self.free.gpus = self.free.gpus.saturating_sub(granted);
        match self.whole.take() {
            Some(whole) => Self { whole: Some(whole.clone()), ..self.sharing(&whole.gpus, holds) },
            None => self,
        }
    }

    /// With what is left of GPUs that only shared jobs are on. `known`: the machine's, as its agent told them last.
    #[must_use]
    pub fn sharing(mut self, known: &[Gpu], holds: &[Hold]) -> Self {
        let well = known.iter().filter(|gpu| gpu.health.is_none() && gpu.busy.is_none());
        self.shared_free = well
            .filter_map(|gpu| {
                let on = holds.iter().filter(|hold| !hold.exited && hold.gpus.contains(&gpu.uuid));
                let parts = on.map(|hold| hold.load.shared).collect::<Option<Vec<_>>>()?;
                let left = gpu.memory_bytes.saturating_sub(parts.iter().sum());
                (!parts.is_empty()).then(|| (gpu.clone(), left))
            })
            .collect();
        self
    }

    /// These GPUs, of the offer or shared by jobs.
    pub fn known<'a>(&'a self, offered: &'a [Gpu], uuids: &[String]) -> Vec<&'a Gpu> {
        let all = || offered.iter().chain(self.shared_free.iter().map(|(gpu, _)| gpu));
        uuids.iter().filter_map(|uuid| all().find(|gpu| gpu.uuid == *uuid)).collect()
    }

    pub(super) fn take(&mut self, spec: &JobSpec, gpus: &[String]) {
        let load = Load::of(spec);
        self.free.cpu_millis = self.free.cpu_millis.saturating_sub(load.amounts.cpu_millis);
        self.free.memory_bytes = self.free.memory_bytes.saturating_sub(load.amounts.memory_bytes);
        self.free.scratch_bytes = self.free.scratch_bytes.saturating_sub(load.amounts.scratch_bytes);
        self.jobs += 1;
        self.closed |= load.exclusive;
        self.slots = self.slots.saturating_sub(1);
        let (taken, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.gpus).into_iter().partition(|gpu| gpus.contains(&gpu.uuid));
        self.gpus = left;
        self.free.gpus = self.free.gpus.saturating_sub(u32::try_from(taken.len()).unwrap_or(u32::MAX));
        let Some(part) = load.shared else { return };
        self.shared_free.extend(taken.into_iter().map(|gpu| {
            let memory = gpu.memory_bytes;
            (gpu, memory)
        }));
        for (gpu, left) in &mut self.shared_free {
            if gpus.contains(&gpu.uuid) {
                *left = left.saturating_sub(part);
            }
        }
    }

    /// An attempt gives back what it holds. `known`: all GPUs of the machine.
    pub(super) fn give(&mut self, hold: &Hold, known: &[Gpu]) {
        let Hold { load, gpus, exited, .. } = hold;
        self.free.scratch_bytes = self.free.scratch_bytes.saturating_add(load.amounts.scratch_bytes);
        if *exited {
            return;
        }
        self.free.cpu_millis = self.free.cpu_millis.saturating_add(load.amounts.cpu_millis);
        self.free.memory_bytes = self.free.memory_bytes.saturating_add(load.amounts.memory_bytes);
        self.jobs = self.jobs.saturating_sub(1);
        self.closed &= !load.exclusive;
        for gpu in known.iter().filter(|gpu| gpus.contains(&gpu.uuid)) {
            let others = self.shared_free.iter_mut().find(|(shared, _)| shared.uuid == gpu.uuid);
            match (others, load.shared) {
                (Some((_, left)), Some(part)) if *left + part < gpu.memory_bytes => *left += part,
                _ => {
                    self.shared_free.retain(|(shared, _)| shared.uuid != gpu.uuid);
                    self.gain(gpu);
                }
            }
        }
    }

    /// What no attempt holds any more and its agent still keeps for one: free with the next reading.
    pub(super) fn free_leaving(&mut self, holds: &[Hold], known: &[Gpu]) {
        let is_held = |gpu: &&Gpu| holds.iter().any(|hold| !hold.exited && hold.gpus.contains(&gpu.uuid));
        let is_shared: Vec<_> = self.shared_free.iter().map(|(gpu, _)| gpu.uuid.clone()).collect();
        for gpu in known.iter().filter(|gpu| !is_held(gpu) && !is_shared.contains(&gpu.uuid)) {
            self.gain(gpu);
        }
    }

    fn gain(&mut self, gpu: &Gpu) {
        if will_be_free(gpu) && !self.gpus.iter().any(|free| free.uuid == gpu.uuid) {
            self.gpus.push(Gpu { job: None, busy: None, keeper: None, ..gpu.clone() });
            self.free.gpus += 1;
        }
    }
}

const fn is_free(gpu: &Gpu) -> bool {
    gpu.job.is_none() && gpu.busy.is_none() && gpu.health.is_none()
}

/// Once its job is over. What is cordoned or somebody else's is not.
const fn will_be_free(gpu: &Gpu) -> bool {
    gpu.health.is_none() && (gpu.busy.is_none() || matches!(gpu.keeper, Some(Keeper::Leaving)))
}
