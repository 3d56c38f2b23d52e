//! What is granted on this machine: CPU, memory, scratch and GPUs by UUID. A permit gives back when dropped.
//! Never measures (`capacity` does) and never chooses jobs (the controller does).

use longshore_common::{agent::Capacity, ids::ShortId, job::Resources};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Shared counts of what running attempts have. Clones count together.
#[derive(Clone, Debug)]
pub struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: u32,
    granted: Mutex<Granted>,
    freed: Notify,
    gpus_back: Notify,
}

/// What is given out now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    pub amounts: Capacity,
    /// UUID to the job that has it, or to those that share it: `k3m9q2xw, 7tn2c8aa`.
    pub gpus: BTreeMap<String, String>,
    /// Of those, the ones that more jobs may come to.
    pub shared: BTreeSet<String>,
    holders: BTreeMap<String, BTreeSet<String>>,
    /// Attempts held, those that only upload or report included.
    pub attempts: u32,
    /// Jobs that are over while their containers are not gone: what they were given stays theirs.
    pub staying: BTreeSet<String>,
}

impl Slots {
    /// `limit`: attempts held at most, whatever they ask for.
    pub fn new(limit: u32) -> Self {
        Self(Arc::new(Inner {
            limit,
            granted: Mutex::default(),
            freed: Notify::new(),
            gpus_back: Notify::new(),
        }))
    }

    /// Counts a grant. A grant is a fact: it is counted even where it does not fit any more.
    pub fn take(&self, job: &ShortId, resources: &Resources, gpus: &[String]) -> Permit {
        let compute = Compute {
            cpu_millis: resources.cpu_millis,
            memory_bytes: resources.memory_bytes,
            gpus: gpus.to_vec(),
        };
        let scratch_bytes = resources.scratch_bytes;
        let mut granted = self.lock();
        granted.attempts += 1;
        granted.amounts.cpu_millis += compute.cpu_millis;
        granted.amounts.memory_bytes += compute.memory_bytes;
        granted.amounts.scratch_bytes += scratch_bytes;
        for uuid in gpus {
            granted.holders.entry(uuid.clone()).or_default().insert(job.to_string());
            if resources.gpu.as_ref().is_some_and(|gpu| gpu.shared) {
                granted.shared.insert(uuid.clone());
            }
        }
        granted.name_holders();
        drop(granted);
        Permit { slots: self.clone(), job: job.to_string(), compute: Some(compute), scratch_bytes }
    }

    pub fn granted(&self) -> Granted {
        self.lock().clone()
    }

    /// How many more attempts may be held.
    pub fn left(&self) -> u32 {
        self.0.limit.saturating_sub(self.lock().attempts)
    }

    /// Returns when something was given back since the last call. Cancel-safe, for one waiter.
    pub async fn freed(&self) {
        self.0.freed.notified().await;
    }

    /// Returns when a GPU was given back since the last call. Cancel-safe, for one waiter.
    pub async fn gpus_back(&self) {
        self.0.gpus_back.notified().await;
    }

    fn give_back(&self, job: &str, compute: Compute, granted: &mut Granted) {
        let Compute { cpu_millis, memory_bytes, gpus } = compute;
        granted.amounts.cpu_millis = granted.amounts.cpu_millis.saturating_sub(cpu_millis);
        granted.amounts.memory_bytes = granted.amounts.memory_bytes.saturating_sub(memory_bytes);
        for uuid in &gpus {
            if let Some(holders) = granted.holders.get_mut(uuid) {
                holders.remove(job);
            }
        }
        granted.name_holders();
        if !gpus.is_empty() {
            self.0.gpus_back.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Granted> {
        self.0.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attempt's share of the machine.
#[derive(Debug)]
pub struct Permit {
    slots: Slots,
    job: String,
    compute: Option<Compute>,
    scratch_bytes: u64,
}

#[derive(Debug)]
struct Compute {
    cpu_millis: u32,
    memory_bytes: u64,
    gpus: Vec<String>,
}

impl Permit {
    /// The container has ended: processor, memory and GPUs are free, its files are still there.
    pub fn release_compute(&mut self) {
        if let Some(compute) = self.compute.take() {
            self.slots.give_back(&self.job, compute, &mut self.slots.lock());
            self.slots.0.freed.notify_one();
        }
    }

    /// The attempt is over and its container is not: flags what it keeps, until it is given back.
    pub fn stays(&self) {
        if self.compute.is_some() {
            self.slots.lock().staying.insert(self.job.clone());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut granted = self.slots.lock();
        if let Some(compute) = self.compute.take() {
            self.slots.give_back(&self.job, compute, &mut granted);
        }
        granted.amounts.scratch_bytes = granted.amounts.scratch_bytes.saturating_sub(self.scratch_bytes);
        granted.attempts = granted.attempts.saturating_sub(1);
        granted.staying.remove(&self.job);
        drop(granted);
        self.slots.0.freed.notify_one();
    }
}

impl Granted {
    fn name_holders(&mut self) {
        self.holders.retain(|_, jobs| !jobs.is_empty());
        self.shared.retain(|uuid| self.holders.contains_key(uuid));
        let named = |(uuid, jobs): (&String, &BTreeSet<String>)| {
            let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
            (uuid.clone(), jobs.join(", "))
        };
        self.gpus = self.holders.iter().map(named).collect();
        self.amounts.gpus = u32::try_from(self.gpus.len()).unwrap_or(u32::MAX);
    }

    /// Those of a GPU's jobs that are over while their containers are not gone.
    pub fn staying_on(&self, uuid: &str) -> Option<String> {
        let stays = self.holders.get(uuid)?.intersection(&self.staying);
        let stays = stays.map(String::as_str).collect::<Vec<_>>().join(", ");
        (!stays.is_empty()).then_some(stays)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permit(slots: &Slots, gpus: &[&str]) -> Permit {
        let gpus: Vec<_> = gpus.iter().map(|&uuid| uuid.to_owned()).collect();
        slots.take(&ShortId::random(), &Resources::default(), &gpus)
    }

    #[test]
    fn what_was_taken_comes_back() {
        let slots = Slots::new(2);
        let first = permit(&slots, &["GPU-a"]);
        let second = permit(&slots, &["GPU-b", "GPU-c"]);
        assert_eq!(slots.left(), 0);
        assert_eq!(slots.granted().amounts.gpus, 3);
        assert_eq!(slots.granted().amounts.cpu_millis, 2000);
        drop(first);
        assert_eq!(slots.granted().gpus.keys().collect::<Vec<_>>(), ["GPU-b", "GPU-c"]);
        drop(second);
        assert_eq!(slots.granted(), Granted::default());
    }

    #[test]
    fn a_shared_gpu_is_given_back_by_the_last_of_its_jobs() {
        let slots = Slots::new(4);
        let (one, other) = (permit(&slots, &["GPU-a"]), permit(&slots, &["GPU-a"]));
        assert_eq!((slots.granted().amounts.gpus, slots.granted().gpus["GPU-a"].len()), (1, 18));
        let left = other.job.clone();
        drop(one);
        assert_eq!(slots.granted().gpus["GPU-a"], left);
        drop(other);
        assert_eq!(slots.granted(), Granted::default());
    }

    #[test]
    fn what_a_container_that_does_not_go_has_is_flagged_until_it_is_given_back() {
        let slots = Slots::new(2);
        let mut held = permit(&slots, &["GPU-a"]);
        held.stays();
        let granted = slots.granted();
        assert_eq!((granted.staying.len(), granted.gpus.len()), (1, 1));
        drop(held);
        assert_eq!(slots.granted(), Granted::default());
        held = permit(&slots, &[]);
        held.release_compute();
        held.stays();
        assert_eq!(slots.granted().staying.len(), 0, "it has nothing any more");
    }

    #[tokio::test]
    async fn an_ended_container_frees_its_processor_but_not_its_disk() {
        let slots = Slots::new(8);
        let mut held = permit(&slots, &["GPU-a"]);
        held.release_compute();
        slots.freed().await;
        let granted = slots.granted();
        assert_eq!((granted.amounts.cpu_millis, granted.amounts.gpus, granted.attempts), (0, 0, 1));
        assert_eq!(granted.amounts.scratch_bytes, Resources::default().scratch_bytes);
        drop(held);
        assert_eq!(slots.granted(), Granted::default());
    }
}
