//! Where what a job needs is already: a machine that has its image or its caches is asked first, for a moment; and not
//! every machine brings the same image at once. Both are a matter of when, never of whether.

use super::{
    Candidate, Machine,
    fit::{Reason, fit, passing},
};
use longshore_common::{
    agent::Holdings,
    clock::Timestamp,
    ids::AgentId,
    job::{JobSpec, PullPolicy, canonical},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// A fresh job is left so long to a free machine that has what it needs. Whoever is refused for that asks again within
/// 150 ms: together well below the second in which a free GPU must have matching work.
const HOLD: Duration = Duration::from_millis(400);
/// A job does not wait longer for others' pulls: they may be stuck.
const PATIENCE: Duration = Duration::from_secs(600);
/// Machines named in a reason.
const NAMED: usize = 3;

/// All machines, as far as it matters where a job is brought. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Those that are there.
    pub machines: Arc<[Neighbour]>,
    /// Image to the machines that bring it now, by name.
    pub pulls: Arc<BTreeMap<String, Vec<(AgentId, String)>>>,
    /// So many may at once.
    pub most_pulls: usize,
}

#[derive(Clone, Debug)]
pub struct Neighbour {
    pub id: AgentId,
    pub name: String,
    pub machine: Machine,
    pub holdings: Arc<Holdings>,
}

/// What one machine sees.
#[derive(Clone, Debug, Default)]
pub struct Locality {
    pub id: Option<AgentId>,
    /// `None`: it does not tell, so nothing is expected of it.
    pub here: Option<Arc<Holdings>>,
    pub sight: Sight,
}

impl Locality {
    /// Why the job goes elsewhere first, or waits for its image to come elsewhere.
    pub(super) fn refuse(&self, candidate: &Candidate<'_>, now: Timestamp) -> Option<Reason> {
        let here = self.here.as_deref()?;
        let image = canonical(&candidate.spec.image);
        let waited = now.since(candidate.queued_at);
        let storm = self.storm(here, candidate.spec, &image, waited);
        storm.or_else(|| self.nearer(here, candidate, &image, waited)).map(passing)
    }

    /// Whether it is refused for a moment only: it is worth asking again at once.
    pub fn holds_back(&self, candidate: &Candidate<'_>, now: Timestamp) -> bool {
        let Some(here) = self.here.as_deref() else { return false };
        let image = canonical(&candidate.spec.image);
        self.nearer(here, candidate, &image, now.since(candidate.queued_at)).is_some()
    }

    fn storm(&self, here: &Holdings, spec: &JobSpec, image: &str, waited: Duration) -> Option<String> {
        if here.images.contains(image) || spec.pull == PullPolicy::Never || waited >= PATIENCE {
            return None;
        }
        let pulling = self.sight.pulls.get(image)?;
        let is_own = pulling.iter().any(|(id, _)| Some(*id) == self.id);
        if is_own || pulling.len() < self.sight.most_pulls {
            return None;
        }
        let names: Vec<_> = pulling.iter().map(|(_, name)| name.as_str()).take(NAMED).collect();
        let more = if pulling.len() > NAMED { ", …" } else { "" };
        Some(format!(
            "its image is being pulled by {}{more}: not by more than {} machines at once",
            names.join(", "),
            self.sight.most_pulls
        ))
    }

    /// `gpu-04 has the image`.
    fn nearer(
        &self,
        here: &Holdings,
        candidate: &Candidate<'_>,
        image: &str,
        waited: Duration,
    ) -> Option<String> {
        if waited >= HOLD || self.sight.machines.is_empty() {
            return None;
        }
        let here = Near::of(here, candidate, image);
        let better = self.sight.machines.iter().filter(|other| Some(other.id) != self.id).find(|other| {
            Near::of(&other.holdings, candidate, image) > here && fit(candidate.spec, &other.machine).is_ok()
        })?;
        let there = Near::of(&better.holdings, candidate, image);
        let what = if there.image && !here.image { "the image" } else { "its caches" };
        Some(format!("{} has {what}", better.name))
    }
}

/// What is there of what a job needs. More is nearer; an image weighs more than caches, which may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Near {
    image: bool,
    caches: bool,
}

impl Near {
    fn of(holdings: &Holdings, candidate: &Candidate<'_>, image: &str) -> Self {
        let caches = &candidate.spec.caches;
        let has = |name: &String| holdings.caches.contains(&format!("{}/{name}", candidate.project));
        Self { image: holdings.images.contains(image), caches: !caches.is_empty() && caches.keys().all(has) }
    }
}
