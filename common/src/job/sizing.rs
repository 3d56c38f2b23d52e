//! What to ask for next time, from what finished attempts asked for and used. Pure: judges a few numbers and never a
//! machine. One attempt or a thousand of the same action: the same rules, with less headroom the more were seen.

mod rules;

use super::{Outcome, Resources};
use crate::{
    agent::Usage,
    units::{ByteSize, Cores},
};
use rules::{Amounts, Seen};
use std::{fmt, time::Duration};

/// One attempt whose container is over.
#[derive(Clone, Debug)]
pub struct Run {
    pub asked: Resources,
    pub used: Usage,
    /// From the start of its container to its exit.
    pub ran: Duration,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Cpu,
    Memory,
    Scratch,
    /// Of each GPU.
    GpuMemory,
}

impl Resource {
    /// As in a job file, below `resources`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Scratch => "scratch",
            Self::GpuMemory => "gpu.memory",
        }
    }

    /// An amount for people.
    pub fn amount(self, amount: u64) -> String {
        match self {
            Self::Cpu => Cores(u32::try_from(amount).unwrap_or(u32::MAX)).to_string(),
            Self::Memory | Self::Scratch | Self::GpuMemory => ByteSize(amount).rounded(),
        }
    }
}

/// One resource: asked, used, and what to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub resource: Resource,
    /// Thousandths of a core; bytes.
    pub asked: u64,
    /// The most that any attempt used: of memory and disk its peak, of the processor its mean. Zero: not measured.
    pub used: u64,
    /// What to ask for; `None`: as it is.
    pub next: Option<u64>,
    /// Why, or why nothing can be said; empty: the numbers say it.
    pub why: String,
}

/// What to ask for next time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// Attempts that were looked at.
    pub runs: u32,
    /// How much is added to what was seen, in percent.
    pub headroom: u32,
    pub rows: Vec<Row>,
    /// What is worth knowing and changes no number.
    pub notes: Vec<String>,
}

/// Judges attempts against what is asked for now, which may differ from what they had. Attempts that never ran, or of
/// which nothing was measured, are no evidence; without any there are no rows.
pub fn advise(asked: &Resources, runs: &[Run]) -> Advice {
    let seen: Vec<&Run> = runs.iter().filter(|run| run.used != Usage::default()).collect();
    if seen.is_empty() {
        return Advice::default();
    }
    let whole = seen.iter().filter(|run| run.outcome == Outcome::Succeeded).count();
    let headroom = rules::headroom(whole);
    let mut rows = vec![rules::cpu(asked, &seen)];
    let of = |resource: Resource, amounts: Amounts, short: &Outcome, asked: u64| {
        let of_run = |run: &&Run| Seen {
            asked: amounts.asked(&run.asked),
            used: amounts.used(run),
            whole: run.outcome == Outcome::Succeeded,
            short: run.outcome == *short,
        };
        rules::size(resource, asked, &seen.iter().map(of_run).collect::<Vec<_>>(), headroom)
    };
    rows.push(of(Resource::Memory, Amounts::Memory, &Outcome::OomKilled, asked.memory_bytes));
    rows.push(of(Resource::Scratch, Amounts::Scratch, &Outcome::DiskLimit, asked.scratch_bytes));
    if let Some(gpu) = &asked.gpu {
        let mut row = of(Resource::GpuMemory, Amounts::Gpu, &Outcome::VramLimit, gpu.memory_bytes);
        if !gpu.shared {
            rules::of_whole_gpus(&mut row);
        }
        rows.push(row);
    }
    let notes = asked.gpu.as_ref().and_then(|gpu| rules::idle_gpus(gpu.count, &seen)).into_iter().collect();
    Advice { runs: u32::try_from(seen.len()).unwrap_or(u32::MAX), headroom, rows, notes }
}

impl Advice {
    /// Whether anything is to be asked for otherwise.
    pub fn is_change(&self) -> bool {
        self.rows.iter().any(|row| row.next.is_some())
    }

    /// What was asked for, with the advice taken.
    #[must_use]
    pub fn applied(&self, asked: &Resources) -> Resources {
        let mut next = asked.clone();
        for (resource, amount) in self.rows.iter().filter_map(|row| Some((row.resource, row.next?))) {
            match (resource, &mut next.gpu) {
                (Resource::Cpu, _) => next.cpu_millis = u32::try_from(amount).unwrap_or(u32::MAX),
                (Resource::Memory, _) => next.memory_bytes = amount,
                (Resource::Scratch, _) => next.scratch_bytes = amount,
                (Resource::GpuMemory, Some(gpu)) => gpu.memory_bytes = amount,
                (Resource::GpuMemory, None) => {}
            }
        }
        next.shm_bytes = next.shm_bytes.min(next.memory_bytes);
        next
    }
}

/// As in a job file: `cpu: 2, memory: 24GiB`. Empty: as it is.
impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = self.rows.iter().filter_map(|row| {
            let next = row.next?;
            let amount = match row.resource {
                Resource::Cpu => row.resource.amount(next),
                Resource::Memory | Resource::Scratch | Resource::GpuMemory => ByteSize(next).to_string(),
            };
            Some(format!("{}: {amount}", row.resource.name()))
        });
        f.write_str(&said.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests;
