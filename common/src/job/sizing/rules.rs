//! The rules, one per kind of amount. Every number stands here once, with its reason.

use super::{Resource, Row, Run};
use crate::job::{
    Resources,
    resources::{GIB, MIB},
};
use std::time::Duration;

/// So many whole runs are a habit: a fifth on top is enough. Fewer: half.
const HABIT: usize = 5;
/// Less than a quarter saved is not worth a change that may be wrong.
const WORTH: u64 = 75;
/// Fuller than this the next run may not fit.
const TIGHT: u64 = 90;
/// The kernel fills memory with files it can drop again: a peak at the limit says nothing.
const FILLED: u64 = 97;
/// Programs load for seconds before they work.
const SETTLED: Duration = Duration::from_secs(30);
/// Utilisation of a GPU over less is chance.
const LONG: Duration = Duration::from_secs(600);
const IDLE_PERCENT: u32 = 15;
/// Never less: a script's interpreter and its libraries.
const LEAST_CPU: u64 = 100;
const LEAST_MEMORY: u64 = 128 * MIB;
const LEAST_SCRATCH: u64 = GIB;
const LEAST_GPU: u64 = GIB;

/// In percent.
pub(super) const fn headroom(whole_runs: usize) -> u32 {
    if whole_runs >= HABIT { 20 } else { 50 }
}

/// Which amount of a run is meant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Amounts {
    Memory,
    Scratch,
    Gpu,
}

impl Amounts {
    pub(super) fn asked(self, asked: &Resources) -> u64 {
        match self {
            Self::Memory => asked.memory_bytes,
            Self::Scratch => asked.scratch_bytes,
            Self::Gpu => asked.gpu.as_ref().map_or(0, |gpu| gpu.memory_bytes),
        }
    }

    pub(super) fn used(self, run: &Run) -> u64 {
        match self {
            Self::Memory => run.used.memory_peak_bytes,
            Self::Scratch => run.used.disk_peak_bytes,
            // Measured over all of them.
            Self::Gpu => run.used.gpu.memory_peak_bytes.div_ceil(u64::from(run.asked.gpu_count().max(1))),
        }
    }
}

/// One run's part of one resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) asked: u64,
    pub(super) used: u64,
    /// It came to its end: it needs no more.
    pub(super) whole: bool,
    /// It ended for want of this.
    pub(super) short: bool,
}

impl Seen {
    fn is_filled(self) -> bool {
        is_over(self.used, self.asked, FILLED)
    }
}

/// Memory, disk, VRAM: amounts that have a peak.
pub(super) fn size(resource: Resource, asked: u64, seen: &[Seen], headroom: u32) -> Row {
    let used = seen.iter().map(|run| run.used).max().unwrap_or(0);
    let row = |next: Option<u64>, why: String| Row { resource, asked, used, next, why };
    let more = |used: u64| step(resource, used.saturating_add(used / 100 * u64::from(headroom)));
    let whole: Vec<_> = seen.iter().filter(|run| run.whole && run.used > 0).collect();
    let enough = whole.iter().map(|run| run.used).max();
    if let Some(short) = seen.iter().filter(|run| run.short).map(|run| run.asked).max() {
        // What a run with more room used is known; else only that it was not enough.
        let fits = whole.iter().filter(|run| run.asked > short && !run.is_filled()).map(|run| run.used).max();
        let least = step(resource, short.saturating_add(short / 4));
        let next = fits.map_or_else(|| step(resource, short.saturating_mul(2)), |used| more(used).max(least));
        let why = format!("{} was not enough", resource.amount(short));
        return row(Some(next).filter(|next| next > &asked), why);
    }
    let Some(enough) = enough else {
        let why = if used == 0 { "not measured" } else { "no attempt came to its end" };
        return row(None, why.to_owned());
    };
    if resource == Resource::Memory && whole.iter().any(|run| run.is_filled()) {
        let why = "filled with files the kernel may drop: what it needs is not known";
        return row(None, why.to_owned());
    }
    // What a failed one used it may need too.
    let next = more(enough.max(used));
    let raise = is_over(used, asked, TIGHT) && next > asked;
    let lower = !is_over(next, asked, WORTH);
    row(Some(next).filter(|_| asked > 0 && (raise || lower)), String::new())
}

/// A whole GPU's memory says which GPU will do. Programs take what they find there: more used is no need for more.
pub(super) fn of_whole_gpus(row: &mut Row) {
    if row.next.is_some_and(|next| next > row.asked) {
        row.next = None;
        "programs take what a whole GPU has".clone_into(&mut row.why);
    }
}

/// Only the mean is known: what bursts need is not, so there is twice as much.
pub(super) fn cpu(asked: &Resources, runs: &[&Run]) -> Row {
    let asked = u64::from(asked.cpu_millis);
    let row = |used: u64, next: Option<u64>, why: &str| {
        let why = why.to_owned();
        Row { resource: Resource::Cpu, asked, used, next, why }
    };
    let mean = |run: &&&Run| {
        let ran = u64::try_from(run.ran.as_millis()).unwrap_or(u64::MAX).max(1);
        (run.used.cpu_micros / ran, u64::from(run.asked.cpu_millis))
    };
    let settled: Vec<_> = runs.iter().filter(|run| run.ran >= SETTLED).collect();
    let Some((used, had)) = settled.iter().map(mean).max() else {
        let used = runs.iter().map(|run| mean(&run).0).max().unwrap_or(0);
        return row(used, None, "no attempt ran for 30 s");
    };
    if is_over(used, had, TIGHT) {
        let next = step(Resource::Cpu, had.saturating_add(had / 2));
        return row(used, Some(next).filter(|next| *next > asked), "it worked on all it had");
    }
    let next = step(Resource::Cpu, used.saturating_mul(2));
    row(used, Some(next).filter(|next| !is_over(*next, asked, WORTH)), "")
}

pub(super) fn idle_gpus(count: u32, runs: &[&Run]) -> Option<String> {
    let told = runs.iter().filter(|run| run.ran >= LONG && run.used.gpu.percent_peak > 0);
    let busiest = told.map(|run| run.used.gpu.percent_mean).max()?;
    let instead = if count > 1 { "fewer GPUs" } else { "a shared GPU" };
    (busiest < IDLE_PERCENT).then(|| format!("its GPUs worked {busiest} % of the time: {instead} may do"))
}

const fn is_over(amount: u64, of: u64, percent: u64) -> bool {
    amount as u128 * 100 > of as u128 * percent as u128
}

/// Up to a number that people would write.
fn step(resource: Resource, amount: u64) -> u64 {
    let (least, step) = match resource {
        Resource::Cpu => (LEAST_CPU, if amount <= 1000 { 100 } else { 500 }),
        Resource::Memory if amount <= GIB => (LEAST_MEMORY, 64 * MIB),
        Resource::Memory if amount <= 8 * GIB => (LEAST_MEMORY, 256 * MIB),
        Resource::Memory => (LEAST_MEMORY, GIB),
        Resource::Scratch => (LEAST_SCRATCH, GIB),
        Resource::GpuMemory => (LEAST_GPU, GIB),
    };
    amount.max(least).checked_next_multiple_of(step).unwrap_or(amount)
}
