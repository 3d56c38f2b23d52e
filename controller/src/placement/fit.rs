//! One job against one machine.

use longshore_common::{
    agent::{Capacity, Gpu, Inventory, Offer},
    job::{
        GpuRequest, JobSpec,
        resources::{GIB, MIB},
    },
};
use std::collections::BTreeMap;

/// A machine as placement sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub pool: String,
    /// With the built-in `arch`.
    pub labels: BTreeMap<String, String>,
    pub free: Capacity,
    /// The free ones.
    pub gpus: Vec<Gpu>,
    /// Grants it still wants.
    pub slots: u32,
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

/// Why a job does not fit a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub text: String,
    /// No freeing of capacity mends it.
    pub permanent: bool,
}

/// The label every machine has without being told.
const ARCH: &str = "arch";

impl Machine {
    /// What an agent offers with a claim. `arch` is of its inventory.
    pub fn offered(offer: &Offer, arch: &str) -> Self {
        Self {
            pool: offer.pool.clone(),
            labels: with_arch(&offer.labels, arch),
            free: offer.free,
            gpus: offer.gpus.clone(),
            slots: offer.slots,
            whole: None,
            note: String::new(),
        }
    }

    /// A machine as its agent described it last.
    pub fn described(
        (pool, labels): (&str, &BTreeMap<String, String>),
        inventory: &Inventory,
        free: Capacity,
        gpus: &[Gpu],
        note: &str,
    ) -> Self {
        let known = if gpus.is_empty() { &inventory.gpus[..] } else { gpus };
        Self {
            pool: pool.to_owned(),
            labels: with_arch(labels, &inventory.arch),
            free,
            gpus: known.iter().filter(|gpu| gpu.job.is_none() && gpu.busy.is_none()).cloned().collect(),
            slots: u32::MAX,
            whole: Some(Whole { allocatable: inventory.allocatable, gpus: known.to_vec() }),
            note: note.to_owned(),
        }
    }

    pub(super) fn take(&mut self, spec: &JobSpec, gpus: &[String]) {
        let asked = &spec.resources;
        self.free.cpu_millis = self.free.cpu_millis.saturating_sub(asked.cpu_millis);
        self.free.memory_bytes = self.free.memory_bytes.saturating_sub(asked.memory_bytes);
        self.free.scratch_bytes = self.free.scratch_bytes.saturating_sub(asked.scratch_bytes);
        self.free.gpus = self.free.gpus.saturating_sub(asked.gpu_count());
        self.gpus.retain(|gpu| !gpus.contains(&gpu.uuid));
        self.slots = self.slots.saturating_sub(1);
    }
}

fn with_arch(labels: &BTreeMap<String, String>, arch: &str) -> BTreeMap<String, String> {
    let mut labels = labels.clone();
    if !arch.is_empty() {
        labels.insert(ARCH.to_owned(), arch.to_owned());
    }
    labels
}

/// Why this machine does not take the job now, or `None` if it would.
pub fn explain(spec: &JobSpec, machine: &Machine) -> Option<Reason> {
    fit(spec, machine).err()
}

/// The GPUs the job gets, or the first reason why not. What can never fit is said before what is only taken.
pub fn fit(spec: &JobSpec, machine: &Machine) -> Result<Vec<String>, Reason> {
    fits_labels(spec, machine)?;
    if let Some(whole) = &machine.whole {
        fits_amounts(spec, &whole.allocatable, "has", true)?;
        fits_whole_gpus(spec, whole)?;
    }
    if !machine.note.is_empty() {
        return Err(passing(machine.note.clone()));
    }
    fits_amounts(spec, &machine.free, "free", false)?;
    let gpus = free_gpus(spec, machine)?;
    if machine.slots == 0 {
        return Err(passing("takes no more jobs at once".to_owned()));
    }
    Ok(gpus)
}

fn fits_labels(spec: &JobSpec, machine: &Machine) -> Result<(), Reason> {
    if spec.pool != machine.pool {
        return Err(lasting(format!("is in pool `{}`, not `{}`", machine.pool, spec.pool)));
    }
    for (label, values) in &spec.agents {
        let have = machine.labels.get(label);
        if !have.is_some_and(|have| values.contains(have)) {
            let have = have.map_or_else(|| format!("no label {label}"), |have| format!("{label}={have}"));
            return Err(lasting(format!("wants {label}={}, has {have}", values.join("|"))));
        }
    }
    Ok(())
}

fn fits_amounts(spec: &JobSpec, have: &Capacity, word: &str, permanent: bool) -> Result<(), Reason> {
    let asked = &spec.resources;
    let short = |what: &str, need: String, have: String| {
        let text = if permanent {
            format!("needs {need} {what}, has {have}")
        } else {
            format!("needs {need} {what}, {have} {word}")
        };
        Err(Reason { text, permanent })
    };
    if asked.cpu_millis > have.cpu_millis {
        return short("cpu", cores(asked.cpu_millis), cores(have.cpu_millis));
    }
    if asked.memory_bytes > have.memory_bytes {
        return short("memory", size(asked.memory_bytes), size(have.memory_bytes));
    }
    if asked.scratch_bytes > have.scratch_bytes {
        return short("scratch", size(asked.scratch_bytes), size(have.scratch_bytes));
    }
    Ok(())
}

fn fits_whole_gpus(spec: &JobSpec, whole: &Whole) -> Result<(), Reason> {
    let Some(asked) = &spec.resources.gpu else { return Ok(()) };
    let suited = whole.gpus.iter().filter(|gpu| suits(asked, gpu)).count();
    if suited >= asked.count as usize {
        return Ok(());
    }
    let have = if suited == whole.gpus.len() {
        suited.to_string()
    } else {
        format!("{suited} such of {}", whole.gpus.len())
    };
    Err(lasting(format!("needs {}, has {have}", asked)))
}

/// Smallest sufficient VRAM first, then the lowest index, so that large ones stay for those who need them.
fn free_gpus(spec: &JobSpec, machine: &Machine) -> Result<Vec<String>, Reason> {
    let Some(asked) = &spec.resources.gpu else { return Ok(Vec::new()) };
    let mut suited: Vec<&Gpu> = machine.gpus.iter().filter(|gpu| suits(asked, gpu)).collect();
    if suited.len() < asked.count as usize {
        return Err(passing(format!("needs {}, {} free{}", asked, suited.len(), in_use(asked, machine))));
    }
    suited.sort_by_key(|gpu| (gpu.memory_bytes, gpu.index));
    Ok(suited.into_iter().take(asked.count as usize).map(|gpu| gpu.uuid.clone()).collect())
}

/// Who has the suitable ones: `; GPU 1: python of anna (pid 4711) holds 22 GiB`.
fn in_use(asked: &GpuRequest, machine: &Machine) -> String {
    let Some(whole) = &machine.whole else { return String::new() };
    let mut text = String::new();
    for gpu in whole.gpus.iter().filter(|gpu| suits(asked, gpu)) {
        match (&gpu.busy, &gpu.job) {
            (Some(busy), _) => text.push_str(&format!("; GPU {}: {busy}", gpu.index)),
            (None, Some(job)) => text.push_str(&format!("; GPU {}: job {job}", gpu.index)),
            (None, None) => {}
        }
    }
    text
}

fn suits(asked: &GpuRequest, gpu: &Gpu) -> bool {
    gpu.memory_bytes >= asked.memory_bytes && named(asked, &gpu.model) && asked.mig == gpu.mig
}

/// Any of the globs, and none of those that exclude.
fn named(asked: &GpuRequest, model: &str) -> bool {
    let (not, any): (Vec<_>, Vec<_>) = asked.model.iter().partition(|glob| glob.starts_with('!'));
    (any.is_empty() || any.iter().any(|glob| model_matches(glob, model)))
        && !not.iter().any(|glob| model_matches(glob.trim_start_matches('!'), model))
}

/// `A100*` means `NVIDIA A100-SXM4-80GB`: the glob may begin at any word of the product name. A pattern that is no
/// glob matches nothing; `job::validate` refuses it at submit.
fn model_matches(glob: &str, model: &str) -> bool {
    let Ok(glob) = globset::GlobBuilder::new(glob).case_insensitive(true).build() else { return false };
    let glob = glob.compile_matcher();
    let words = model.match_indices(' ').map(|(at, _)| at + 1);
    std::iter::once(0).chain(words).any(|at| glob.is_match(&model[at..]))
}

fn cores(millis: u32) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

#[expect(clippy::cast_precision_loss, reason = "one decimal for people")]
fn size(bytes: u64) -> String {
    let (unit, name) = if bytes >= GIB { (GIB, "GiB") } else { (MIB, "MiB") };
    if bytes.is_multiple_of(unit) {
        format!("{} {name}", bytes / unit)
    } else {
        format!("{:.1} {name}", bytes as f64 / unit as f64)
    }
}

const fn lasting(text: String) -> Reason {
    Reason { text, permanent: true }
}

const fn passing(text: String) -> Reason {
    Reason { text, permanent: false }
}
