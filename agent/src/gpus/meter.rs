//! What one attempt uses of its GPUs, sample by sample, and whether it lets one lie idle.

use super::{Idle, IdleAction};
use longshore_common::agent::GpuUsage;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// One of the attempt's GPUs at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample<'a> {
    pub(crate) uuid: &'a str,
    pub(crate) index: u32,
    /// Held by the attempt's own processes.
    pub(crate) memory_bytes: u64,
    /// `None`: not told, as of MIG instances.
    pub(crate) percent: Option<u32>,
}

/// A GPU that lies idle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) ends: bool,
    pub(crate) detail: String,
}

#[derive(Debug, Default)]
pub(crate) struct Meter {
    samples: u64,
    memory_sum: u128,
    memory_peak: u64,
    percent_samples: u64,
    percent_sum: u64,
    percent_peak: u32,
    idle_since: BTreeMap<String, Instant>,
    /// Said once.
    found: bool,
}

impl Meter {
    pub(crate) fn add(&mut self, now: Instant, samples: &[Sample<'_>], idle: &Idle) -> Option<Finding> {
        if samples.is_empty() {
            return None;
        }
        let memory: u64 = samples.iter().map(|sample| sample.memory_bytes).sum();
        self.samples += 1;
        self.memory_sum += u128::from(memory);
        self.memory_peak = self.memory_peak.max(memory);
        let told: Vec<u32> = samples.iter().filter_map(|sample| sample.percent).collect();
        if let Some(mean) =
            told.iter().sum::<u32>().checked_div(u32::try_from(told.len()).unwrap_or(u32::MAX))
        {
            self.percent_samples += 1;
            self.percent_sum += u64::from(mean);
            self.percent_peak = self.percent_peak.max(mean);
        }
        self.idle(now, samples, idle)
    }

    fn idle(&mut self, now: Instant, samples: &[Sample<'_>], idle: &Idle) -> Option<Finding> {
        let length = Duration::from_secs(idle.minutes * 60);
        let mut found = None;
        for sample in samples {
            // What is not told is not known to be idle.
            if sample.percent.is_none_or(|percent| percent >= idle.percent) {
                self.idle_since.remove(sample.uuid);
                continue;
            }
            let since = *self.idle_since.entry(sample.uuid.to_owned()).or_insert(now);
            if now.saturating_duration_since(since) >= length {
                found = found.or(Some(sample.index));
            }
        }
        let index = found.filter(|_| idle.action != IdleAction::Off && !self.found)?;
        self.found = true;
        let Idle { percent, minutes, .. } = idle;
        let detail = format!("GPU {index} was used less than {percent} % for {minutes} minutes");
        Some(Finding { ends: idle.action == IdleAction::End, detail })
    }

    pub(crate) fn usage(&self) -> GpuUsage {
        let mean = |sum: u128, samples: u64| sum / u128::from(samples.max(1));
        GpuUsage {
            memory_peak_bytes: self.memory_peak,
            memory_mean_bytes: u64::try_from(mean(self.memory_sum, self.samples)).unwrap_or(u64::MAX),
            percent_peak: self.percent_peak,
            percent_mean: u32::try_from(mean(self.percent_sum.into(), self.percent_samples))
                .unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(uuid: &str, memory_bytes: u64, percent: Option<u32>) -> Sample<'_> {
        Sample { uuid, index: 0, memory_bytes, percent }
    }

    #[test]
    fn peak_and_mean_are_over_all_gpus_and_the_whole_time() {
        let (mut meter, now) = (Meter::default(), Instant::now());
        let idle = Idle { action: IdleAction::Off, ..Idle::default() };
        assert_eq!(meter.usage(), GpuUsage::default());
        meter.add(now, &[sample("a", 10, Some(100)), sample("b", 20, Some(0))], &idle);
        meter.add(now, &[sample("a", 40, Some(10)), sample("b", 0, None)], &idle);
        let usage = meter.usage();
        assert_eq!((usage.memory_peak_bytes, usage.memory_mean_bytes), (40, 35));
        assert_eq!((usage.percent_peak, usage.percent_mean), (50, 30));
    }

    #[test]
    fn a_gpu_that_lies_idle_long_enough_is_found_once_and_one_that_does_not_tell_is_not() {
        let start = Instant::now();
        let minutes = |count: u64| start + Duration::from_secs(count * 60);
        let policy = Idle { action: IdleAction::End, percent: 5, minutes: 10 };
        let mut meter = Meter::default();
        let mut at = |minute: u64, one: Option<u32>| {
            meter.add(minutes(minute), &[sample("a", 1, one), sample("b", 1, Some(90))], &policy)
        };
        assert_eq!(at(0, Some(4)), None);
        assert_eq!(at(9, Some(4)), None);
        assert_eq!(at(9, Some(60)), None, "it worked for a moment: counted anew");
        assert_eq!(at(10, Some(0)), None);
        assert_eq!(at(19, Some(0)), None);
        let found = at(20, Some(0)).expect("ten minutes");
        assert!(found.ends && found.detail.contains("less than 5 % for 10 minutes"), "{found:?}");
        assert_eq!(at(40, Some(0)), None, "said once");
        let mut silent = Meter::default();
        for minute in 0..60 {
            assert_eq!(silent.add(minutes(minute), &[sample("a", 1, None)], &policy), None);
        }
    }
}
