//! What was granted, judged: who had which GPUs from when to when, against what is promised. Times are in any unit,
//! from any beginning. The controller's own tests judge with this file too: it must know nothing but numbers.

use std::{
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
};

/// One job that ran.
#[derive(Clone, Debug)]
pub struct Ran {
    pub project: String,
    /// Each with its machine before it: `gpu-0 GPU-3`.
    pub gpus: Vec<String>,
    /// Since when it could have begun.
    pub queued: u64,
    /// From its grant.
    pub from: u64,
    /// To the end of its container.
    pub to: u64,
    /// For how long its container was to run.
    pub runs: u64,
}

impl Ran {
    fn machine(&self) -> &str {
        self.gpus.first().and_then(|gpu| gpu.split(' ').next()).unwrap_or_default()
    }

    fn count(&self) -> u64 {
        u64::try_from(self.gpus.len()).expect("few")
    }

    fn had(&self, until: u64) -> u64 {
        self.count() * (self.to.min(until) - self.from.min(until))
    }
}

/// No GPU has two jobs at any instant, and each of so many has one at some time.
pub fn no_gpu_is_granted_twice(ran: &[Ran], gpus: usize) {
    let mut held: BTreeMap<&str, Vec<Range<u64>>> = BTreeMap::new();
    for job in ran {
        for gpu in &job.gpus {
            held.entry(gpu).or_default().push(job.from..job.to);
        }
    }
    assert_eq!(held.len(), gpus, "every GPU was used");
    for (gpu, mut times) in held {
        times.sort_unstable_by_key(|time| (time.start, time.end));
        let twice = times.windows(2).find(|pair| pair[0].end > pair[1].start);
        assert!(twice.is_none(), "{gpu} was granted twice: {twice:?}");
    }
}

/// For how long, at most, some machine of so many GPUs had as many free ones as some queued job of one of these sizes
/// asked for.
pub fn longest_idle_beside_work(ran: &[Ran], each: usize, sizes: &RangeInclusive<usize>) -> u64 {
    let mut at: BTreeMap<u64, Vec<(usize, u8)>> = BTreeMap::new();
    for (number, job) in ran.iter().enumerate() {
        for (time, what) in [(job.queued, 0), (job.from, 1), (job.to, 2)] {
            at.entry(time).or_default().push((number, what));
        }
    }
    let mut free: BTreeMap<&str, usize> = ran.iter().map(|job| (job.machine(), each)).collect();
    let mut since: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut waiting, mut longest) = (BTreeMap::<usize, usize>::new(), 0);
    for (time, events) in at {
        for (number, what) in events {
            let (job, count) = (&ran[number], ran[number].gpus.len());
            let left = free.get_mut(job.machine()).expect("known");
            match what {
                0 => *waiting.entry(count).or_default() += 1,
                // What comes and goes at once is in no order: sums are looked at below.
                1 => {
                    *waiting.entry(count).or_default() -= 1;
                    *left = left.wrapping_sub(count);
                }
                _ => *left = left.wrapping_add(count),
            }
        }
        let least = waiting.range(sizes.clone()).find(|(_, jobs)| **jobs > 0).map(|(gpus, _)| *gpus);
        for (name, left) in &free {
            if least.is_some_and(|least| least <= *left) {
                since.entry(name).or_insert(time);
            } else if let Some(since) = since.remove(name) {
                longest = longest.max(time - since);
            }
        }
    }
    longest
}

/// From the first grant to the last end, in parts of what nobody can do faster: all work spread evenly over so many
/// GPUs, or the longest job alone.
pub fn stretch(ran: &[Ran], gpus: u64) -> f64 {
    let first = ran.iter().map(|job| job.from).min().unwrap_or_default();
    let last = ran.iter().map(|job| job.to).max().unwrap_or_default();
    let work: u64 = ran.iter().map(|job| job.count() * job.runs).sum();
    let longest = ran.iter().map(|job| job.runs).max().unwrap_or_default();
    ratio(last - first, (work / gpus).max(longest))
}

/// The first project's part of what both had, while both had jobs that wait and fit anywhere: large ones may wait long
/// for room.
pub fn share(ran: &[Ran], first: &str, second: &str) -> f64 {
    let small = |job: &&Ran, project: &str| job.project == project && job.gpus.len() == 1;
    let last = |project: &str| ran.iter().filter(|job| small(job, project)).map(|job| job.from).max();
    let both = last(first).min(last(second)).expect("both had some");
    let had =
        |project: &str| ran.iter().filter(|job| job.project == project).map(|job| job.had(both)).sum::<u64>();
    ratio(had(first), had(first) + had(second))
}

#[expect(clippy::cast_precision_loss, reason = "ratios")]
pub fn ratio(part: u64, of: u64) -> f64 {
    part as f64 / of as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(gpus: &[&str], queued: u64, from: u64, to: u64) -> Ran {
        let gpus = gpus.iter().map(|gpu| (*gpu).to_owned()).collect();
        Ran { project: "anna".into(), gpus, queued, from, to, runs: to - from }
    }

    #[test]
    #[should_panic(expected = "a 0 was granted twice")]
    fn a_gpu_with_two_jobs_at_once_is_seen() {
        no_gpu_is_granted_twice(&[job(&["a 0"], 0, 0, 5), job(&["a 0", "a 1"], 0, 4, 6)], 2);
    }

    #[test]
    fn one_after_the_other_is_not_twice() {
        no_gpu_is_granted_twice(&[job(&["a 0"], 0, 0, 5), job(&["a 0", "a 1"], 0, 5, 6)], 2);
    }

    #[test]
    fn a_gpu_counts_as_idle_only_beside_a_job_that_fits_in() {
        // One of two GPUs is free from 5 to 8; the job that waits since 2 takes both.
        let ran = [job(&["a 0"], 0, 0, 5), job(&["a 1"], 0, 0, 8), job(&["a 0", "a 1"], 2, 11, 12)];
        assert_eq!(longest_idle_beside_work(&ran, 2, &(1..=8)), 3);
        assert_eq!(longest_idle_beside_work(&ran, 2, &(4..=8)), 0);
    }

    #[test]
    fn work_without_gaps_is_the_bound() {
        let ran = [job(&["a 0"], 0, 10, 15), job(&["a 1"], 0, 10, 12), job(&["a 1"], 0, 12, 15)];
        assert!((stretch(&ran, 2) - 1.0).abs() < f64::EPSILON);
        assert!((stretch(&ran[..1], 2) - 1.0).abs() < f64::EPSILON, "one job cannot be spread");
    }
}
