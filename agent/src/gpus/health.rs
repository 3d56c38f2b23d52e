//! Which GPUs are sick, why, and until when. A sick one is set aside alone; it is well again after a new start of the
//! machine or of its driver, when it has answered again for a while, or when the operator says so. Kept in a file, so
//! that a new start of the agent cures nobody.

use super::{
    Config,
    xid::{self, Class},
};
use crate::host::{Age, GpuReading, MemoryErrors, Nvml, Reading, Xid};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// A fault that is no loss must last so long: drivers stumble.
const STUMBLE: Duration = Duration::from_secs(5);
/// Readings in a row in which a granted GPU is not there before it counts as gone.
const MISSING: u32 = 2;
/// And so long: readings may follow one another at once.
const GONE: Duration = Duration::from_secs(1);
/// An error without a name belongs to the GPU that is lost within this time of it.
const UNNAMED: Duration = Duration::from_secs(30);

/// What follows from a reading. `gpu` is a whole GPU or an instance, by UUID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Whoever has it cannot go on.
    Fault { gpu: String, xid: Option<u32>, detail: String },
    /// Whoever has it should know.
    Told { gpu: String, line: String },
}

#[derive(Debug)]
pub(crate) struct Health {
    config: Config,
    book: Book,
    unsaved: bool,
    /// Of GPUs that were seen, by UUID of the whole one.
    seen: BTreeMap<String, Seen>,
    /// Instance to whole GPU.
    parents: BTreeMap<String, String>,
    /// How often in a row, and since when.
    missing: BTreeMap<String, (u32, Instant)>,
    /// Fatal ones.
    unnamed: Vec<(Instant, u32)>,
}

/// What is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Book {
    /// Of the machine and the driver that the rest was seen under.
    boot_id: String,
    driver_load: Option<u64>,
    sick: BTreeMap<String, Sick>,
    /// Errors of memory that the operator has looked at.
    excused: BTreeMap<String, Excused>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sick {
    why: String,
    cause: Cause,
    xid: Option<u32>,
    /// It has not answered since: when it does again, it was reset.
    silent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Cause {
    /// Its memory should be mended: no new job, the one that runs may go on.
    Memory,
    /// Its memory has lost something.
    Uncorrected,
    Lost,
    Xid,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Excused {
    uncorrected: u64,
    needs_reset: bool,
    worn_out: bool,
}

#[derive(Debug, Default)]
struct Seen {
    index: u32,
    memory_errors: MemoryErrors,
    ill_since: Option<Instant>,
    well_since: Option<Instant>,
}

impl Health {
    /// `kept`: what `take_unsaved` gave last. What cannot be read is as if there were nothing.
    pub(crate) fn new(config: Config, kept: Option<&[u8]>) -> Self {
        let book = kept.and_then(|kept| match serde_json::from_slice(kept) {
            Ok(book) => Some(book),
            Err(error) => {
                tracing::warn!(%error, "what was known of sick GPUs cannot be read; they are looked at anew");
                None
            }
        });
        Self {
            config,
            book: book.unwrap_or_default(),
            unsaved: false,
            seen: BTreeMap::new(),
            parents: BTreeMap::new(),
            missing: BTreeMap::new(),
            unnamed: Vec::new(),
        }
    }

    /// `granted`: UUIDs that jobs have.
    pub(crate) fn observe(
        &mut self,
        now: Instant,
        boot_id: &str,
        reading: &Reading,
        granted: &BTreeSet<String>,
    ) -> Vec<Signal> {
        self.started_anew(boot_id, reading.driver_load);
        let mut signals = Vec::new();
        self.unnamed.retain(|(at, _)| now.saturating_duration_since(*at) < UNNAMED);
        for xid in &reading.xids {
            signals.extend(self.xid(now, xid));
        }
        // Otherwise nothing new is known.
        if reading.nvml == Nvml::Answers && reading.age != Age::Old {
            for gpu in &reading.gpus {
                self.follow(now, gpu);
            }
            self.gone(now, reading, granted);
        }
        self.name(now);
        let ends = self.book.sick.iter().filter(|(_, sick)| sick.cause > Cause::Memory);
        signals.extend(ends.map(|(gpu, sick)| {
            let detail = format!("GPU {}: {}", self.index(gpu), sick.why);
            Signal::Fault { gpu: gpu.clone(), xid: sick.xid, detail }
        }));
        let is_gone = |(times, since): &(u32, Instant)| {
            *times >= MISSING && now.saturating_duration_since(*since) >= GONE
        };
        let gone = self.missing.iter().filter(|(_, missing)| is_gone(missing));
        signals.extend(gone.map(|(gpu, _)| {
            let detail = format!("{gpu} is not on this machine any more");
            Signal::Fault { gpu: gpu.clone(), xid: None, detail }
        }));
        signals
    }

    /// Why it is set aside.
    pub(crate) fn why(&self, uuid: &str) -> Option<&str> {
        self.book.sick.get(self.whole(uuid)).map(|sick| sick.why.as_str())
    }

    /// The GPU that an instance is a part of, or itself.
    pub(crate) fn whole<'a>(&'a self, uuid: &'a str) -> &'a str {
        self.parents.get(uuid).map_or(uuid, String::as_str)
    }

    /// What the operator should know of sick ones, by index.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<(u32, String)> = (self.book.sick.iter())
            .filter(|(gpu, _)| self.seen.contains_key(*gpu))
            .map(|(gpu, sick)| (self.index(gpu), sick.why.clone()))
            .collect();
        notes.sort();
        notes.into_iter().map(|(index, why)| format!("GPU {index} is set aside: {why}")).collect()
    }

    /// The operator says that it is well: an index or a UUID. Errors of its memory that are known now are excused.
    /// Answers its UUID; `None`: there is no such GPU.
    pub(crate) fn reset(&mut self, gpu: &str) -> Option<String> {
        let by_index = |seen: &Seen| gpu.parse() == Ok(seen.index);
        let named = self.whole(gpu).to_owned();
        let (uuid, seen) = self.seen.iter().find(|(uuid, seen)| **uuid == named || by_index(seen))?;
        let MemoryErrors { uncorrected, needs_reset, worn_out } = seen.memory_errors;
        let uuid = uuid.clone();
        let excused = Excused {
            uncorrected: uncorrected.unwrap_or_default(),
            needs_reset: needs_reset.unwrap_or_default(),
            worn_out: worn_out.unwrap_or_default(),
        };
        self.book.excused.insert(uuid.clone(), excused);
        self.book.sick.remove(&uuid);
        self.missing.remove(&uuid);
        self.unsaved = true;
        tracing::info!(gpu = uuid, "the operator says that the GPU is well");
        Some(uuid)
    }

    /// What is to be written, if that is anything new.
    pub(crate) fn take_unsaved(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.unsaved)
            .then(|| serde_json::to_vec_pretty(&self.book).expect("plain data with text keys"))
    }

    /// Whatever was wrong, GPUs have been reset since. What still is will show.
    fn started_anew(&mut self, boot_id: &str, driver_load: Option<u64>) {
        // A driver that cannot be used now has not been loaded anew.
        let loaded = driver_load.is_some() && self.book.driver_load != driver_load;
        if self.book.boot_id == boot_id && !loaded {
            return;
        }
        let first = self.book.boot_id == boot_id && self.book.driver_load.is_none();
        if !first && !self.book.sick.is_empty() {
            tracing::info!("the machine or its driver was started anew: sick GPUs are looked at anew");
        }
        if !first {
            self.book.sick.clear();
            self.book.excused.clear();
        }
        boot_id.clone_into(&mut self.book.boot_id);
        self.book.driver_load = driver_load.or(self.book.driver_load);
        self.unsaved = true;
    }

    fn xid(&mut self, now: Instant, xid: &Xid) -> Option<Signal> {
        let code = xid.code;
        let class = xid::class(code, &self.config);
        let only = || self.seen.keys().next().filter(|_| self.seen.len() == 1).cloned();
        let Some(gpu) = xid.gpu.clone().or_else(only) else {
            if class == Class::Fatal {
                self.unnamed.push((now, code));
            }
            return None;
        };
        // It may have been told before, when it had no name yet.
        if let Some(place) = self.unnamed.iter().position(|(_, unnamed)| *unnamed == code) {
            self.unnamed.remove(place);
        }
        let gpu = &gpu;
        let line = xid::told(code);
        match class {
            Class::Fatal => {
                self.sicken(gpu, Cause::Xid, Some(code), line);
                None
            }
            Class::Application => {
                let line = format!("GPU {}: {line}", self.index(gpu));
                Some(Signal::Told { gpu: gpu.clone(), line })
            }
            Class::Informational => None,
        }
    }

    fn sicken(&mut self, gpu: &str, cause: Cause, xid: Option<u32>, why: String) {
        let before = self.book.sick.get(gpu);
        if before.is_some_and(|before| before.cause >= cause) {
            return;
        }
        tracing::warn!(gpu, why, "GPU set aside");
        let silent = before.is_some_and(|before| before.silent);
        self.book.sick.insert(gpu.to_owned(), Sick { why, cause, xid, silent });
        self.unsaved = true;
    }

    fn follow(&mut self, now: Instant, reading: &GpuReading) {
        let gpu = reading.gpu.parent.as_ref().unwrap_or(&reading.gpu.uuid).clone();
        if gpu.is_empty() {
            return;
        }
        if reading.gpu.parent.is_some() {
            self.parents.insert(reading.gpu.uuid.clone(), gpu.clone());
        }
        let seen = self.seen.entry(gpu.clone()).or_default();
        seen.index = reading.gpu.index;
        match &reading.fault {
            // One that is only not usable as it is answers all the same.
            Some(why) if reading.silent => {
                seen.well_since = None;
                let since = *seen.ill_since.get_or_insert(now);
                if reading.lost || now.saturating_duration_since(since) >= STUMBLE {
                    self.silenced(&gpu, why);
                }
            }
            _ => {
                seen.ill_since = None;
                seen.well_since.get_or_insert(now);
                seen.memory_errors = reading.memory_errors.or(seen.memory_errors);
                let errors = seen.memory_errors;
                self.answered(now, &gpu, errors);
            }
        }
    }

    /// It does not answer.
    fn silenced(&mut self, gpu: &str, why: &str) {
        self.sicken(gpu, Cause::Lost, None, why.to_owned());
        if let Some(sick) = self.book.sick.get_mut(gpu) {
            self.unsaved |= !std::mem::replace(&mut sick.silent, true);
        }
    }

    /// Errors without a name belong to those that fell silent last and said nothing before.
    fn name(&mut self, now: Instant) {
        while let Some(&(_, code)) = self.unnamed.last() {
            let fell = |(gpu, seen): (&String, &Seen)| {
                let since = seen.ill_since?;
                let sick = self.book.sick.get(gpu)?;
                let lately = now.saturating_duration_since(since) < UNNAMED;
                (sick.silent && sick.cause < Cause::Xid && lately).then(|| (since, gpu.clone()))
            };
            let Some((_, gpu)) = self.seen.iter().filter_map(fell).max() else { return };
            self.unnamed.pop();
            self.sicken(&gpu, Cause::Xid, Some(code), xid::told(code));
        }
    }

    fn answered(&mut self, now: Instant, gpu: &str, errors: MemoryErrors) {
        let trouble = self.memory_trouble(gpu, errors);
        let since = self.seen.get(gpu).and_then(|seen| seen.well_since);
        let long = since.is_some_and(|since| {
            now.saturating_duration_since(since) >= Duration::from_secs(self.config.recovery_seconds)
        });
        let is_well = self.book.sick.get(gpu).is_some_and(|sick| match sick.cause {
            Cause::Memory => trouble.is_none() && errors.needs_reset.is_some() && errors.worn_out.is_some(),
            Cause::Uncorrected => trouble.is_none() && errors.uncorrected.is_some(),
            // What it said before it went silent was before its reset.
            Cause::Lost | Cause::Xid => sick.silent && long,
        });
        if is_well {
            tracing::info!(gpu, "the GPU is well again");
            self.book.sick.remove(gpu);
            self.unsaved = true;
        }
        if let Some((cause, why)) = trouble {
            self.sicken(gpu, cause, None, why);
        }
    }

    /// What is wrong with its memory beyond what the operator knows.
    fn memory_trouble(&self, gpu: &str, errors: MemoryErrors) -> Option<(Cause, String)> {
        let uncorrected = errors.uncorrected.unwrap_or_default();
        let needs_reset = errors.needs_reset.unwrap_or_default();
        let worn_out = errors.worn_out.unwrap_or_default();
        let excused = self.book.excused.get(gpu);
        if uncorrected > excused.map_or(0, |excused| excused.uncorrected) {
            let why = format!("{uncorrected} ECC errors could not be corrected since its driver was loaded");
            return Some((Cause::Uncorrected, why));
        }
        if worn_out && !excused.is_some_and(|excused| excused.worn_out) {
            return Some((Cause::Memory, "its memory is worn out: a row could not be replaced".to_owned()));
        }
        (needs_reset && !excused.is_some_and(|excused| excused.needs_reset))
            .then(|| (Cause::Memory, "a row of its memory is replaced at its next reset".to_owned()))
    }

    /// Granted ones that are not there. A part of one that does not answer may be: what becomes of that says.
    fn gone(&mut self, now: Instant, reading: &Reading, granted: &BTreeSet<String>) {
        let there = |uuid: &String| {
            let whole = self.whole(uuid);
            reading.gpus.iter().any(|gpu| gpu.gpu.uuid == *uuid || (gpu.gpu.uuid == whole && gpu.silent))
        };
        let again = |uuid: &String| {
            let (times, since) = self.missing.get(uuid).copied().unwrap_or((0, now));
            (uuid.clone(), (times.saturating_add(1), since))
        };
        self.missing = granted.iter().filter(|uuid| !there(uuid)).map(again).collect();
    }

    fn index(&self, gpu: &str) -> u32 {
        self.seen.get(gpu).map_or(0, |seen| seen.index)
    }
}

#[cfg(test)]
mod tests;
