//! Weighted fair share between projects. A project's share is what its jobs hold now and what they held lately, in
//! parts of the fleet, by the resource of which it has most; of equally urgent jobs the one of the project with the
//! smallest share for its weight is first.

use longshore_common::{agent::Capacity, clock::Timestamp, job::JobSpec};
use std::{collections::HashMap, time::Duration};

/// How much what is held now counts beside what was used. It keeps projects apart that begin at the same time; more of
/// it would favour those whose jobs are large, for they hold least when they ask.
const NOW: f64 = 0.1;
/// Less than this of anything is nothing.
const TRACE: f64 = 1e-9;

/// Cores, bytes and GPUs, or parts of the fleet's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amounts {
    cpu: f64,
    memory: f64,
    gpus: f64,
}

/// What projects held, fading with time. Kept from claim to claim.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    at: Option<Timestamp>,
    held: HashMap<String, Amounts>,
    used: HashMap<String, Amounts>,
}

/// Every project's share while jobs are placed.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    total: Amounts,
    weights: HashMap<String, u32>,
    held: HashMap<String, Amounts>,
    used: HashMap<String, Amounts>,
}

impl Amounts {
    #[expect(clippy::cast_precision_loss, reason = "shares are compared, not counted")]
    pub fn of(amounts: Capacity) -> Self {
        Self {
            cpu: f64::from(amounts.cpu_millis),
            memory: amounts.memory_bytes as f64,
            gpus: f64::from(amounts.gpus),
        }
    }

    pub fn add(&mut self, other: Self) {
        *self = self.plus(other, 1.0);
    }

    fn plus(self, other: Self, times: f64) -> Self {
        Self {
            cpu: other.cpu.mul_add(times, self.cpu),
            memory: other.memory.mul_add(times, self.memory),
            gpus: other.gpus.mul_add(times, self.gpus),
        }
    }

    /// The largest part of `total`.
    fn part(self, total: Self) -> f64 {
        let part = |have: f64, of: f64| if of > 0.0 { have / of } else { 0.0 };
        part(self.cpu, total.cpu).max(part(self.memory, total.memory)).max(part(self.gpus, total.gpus))
    }
}

impl Usage {
    /// Time passes: what was held until `now` counts as use, and older use fades. From now on `held` is.
    pub fn advance(&mut self, now: Timestamp, held: HashMap<String, Amounts>, half_life: Duration) {
        let passed = self.at.replace(now).map_or(Duration::ZERO, |then| now.since(then));
        let half_lives = passed.as_secs_f64() / half_life.as_secs_f64().max(1.0);
        let kept = (-half_lives).exp2();
        let before = std::mem::replace(&mut self.held, held);
        for amounts in self.used.values_mut() {
            *amounts = Amounts::default().plus(*amounts, kept);
        }
        for (project, amounts) in before {
            let used = self.used.entry(project).or_default();
            *used = used.plus(amounts, 1.0 - kept);
        }
        self.used.retain(|_, used| used.cpu > TRACE || used.gpus > TRACE);
    }

    /// `total`: of all machines; `weights`: of the projects that have one other than 1.
    pub fn shares(&self, total: Capacity, weights: HashMap<String, u32>) -> Shares {
        Shares { total: Amounts::of(total), weights, held: self.held.clone(), used: self.used.clone() }
    }
}

impl Shares {
    /// Smaller is sooner. All projects are alike where there is only one.
    pub fn score(&self, project: &str) -> f64 {
        let of = |map: &HashMap<String, Amounts>| map.get(project).copied().unwrap_or_default();
        let share = of(&self.used).plus(of(&self.held), NOW).part(self.total);
        share / f64::from(self.weights.get(project).copied().unwrap_or(1).max(1))
    }

    /// One more job of this project.
    pub fn take(&mut self, project: &str, spec: &JobSpec) {
        let asked = super::Load::of(spec).amounts;
        self.held.entry(project.to_owned()).or_default().add(Amounts::of(asked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::job::GpuRequest;
    use proptest::prelude::*;

    const FLEET: Capacity =
        Capacity { cpu_millis: 384_000, memory_bytes: 3 << 40, scratch_bytes: 0, gpus: 24 };

    fn job(gpus: u32) -> JobSpec {
        let mut spec = JobSpec::for_image("x");
        spec.resources.gpu = Some(GpuRequest::of(gpus));
        spec
    }

    /// GPU time of `a` and `b` on a fleet that is always full, after a warm-up: sizes and lengths by `dice`.
    fn saturated(
        weights: (u32, u32),
        sizes: (&[u32], &[u32]),
        dice: &mut impl FnMut(u64) -> u64,
    ) -> (f64, f64) {
        let weights = HashMap::from([("a".to_owned(), weights.0), ("b".to_owned(), weights.1)]);
        let (mut usage, mut running) = (Usage::default(), Vec::<(u64, &str, u32)>::new());
        let (mut now, mut had) = (0_u64, [0.0, 0.0]);
        let pick = |of: &[u32], at: u64| of[usize::try_from(at).expect("small") % of.len()];
        let mut next = [pick(sizes.0, dice(97)), pick(sizes.1, dice(97))];
        while now < 40 * 3600 {
            let mut held: HashMap<String, Amounts> = HashMap::new();
            for (_, project, gpus) in &running {
                let amounts = super::super::Load::of(&job(*gpus)).amounts;
                held.entry((*project).to_owned()).or_default().add(Amounts::of(amounts));
            }
            usage.advance(
                Timestamp::from_micros(i64::try_from(now).expect("small") * 1_000_000),
                held,
                Duration::from_secs(3600),
            );
            let mut shares = usage.shares(FLEET, weights.clone());
            let mut free = 24 - running.iter().map(|(_, _, gpus)| gpus).sum::<u32>();
            loop {
                // Who is first waits for room: nobody overtakes in this model.
                let first = usize::from(shares.score("b") < shares.score("a"));
                if next[first] > free {
                    break;
                }
                let (project, gpus) = (["a", "b"][first], next[first]);
                running.push((now + 300 + dice(3000), project, gpus));
                shares.take(project, &job(gpus));
                free -= gpus;
                next[first] = pick([sizes.0, sizes.1][first], dice(97));
            }
            let then = running.iter().map(|(end, _, _)| *end).min().expect("never idle");
            for (_, project, gpus) in &running {
                if now > 4 * 3600 {
                    had[usize::from(*project == "b")] +=
                        f64::from(*gpus) * Duration::from_secs(then - now).as_secs_f64();
                }
            }
            now = then;
            running.retain(|(end, _, _)| *end > now);
        }
        (had[0], had[1])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn two_projects_that_want_everything_get_what_they_weigh(seed in any::<u64>(), weight in 1..4_u32) {
            let mut state = seed | 1;
            let mut dice = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let (a, b) = saturated((weight, 1), (&[1, 2, 4], &[1, 8]), &mut dice);
            let (got, fair) = (a / (a + b), f64::from(weight) / f64::from(weight + 1));
            prop_assert!((got - fair).abs() <= 0.05, "{got} instead of {fair}");
        }
    }

    #[test]
    fn use_fades_by_half_in_a_half_life() {
        let second = |n: i64| Timestamp::from_micros(n * 1_000_000);
        let held = HashMap::from([("a".to_owned(), Amounts::of(FLEET))]);
        let (mut usage, hour) = (Usage::default(), Duration::from_secs(3600));
        usage.advance(second(0), held, hour);
        usage.advance(second(3600), HashMap::new(), hour);
        let score = |usage: &Usage| usage.shares(FLEET, HashMap::new()).score("a");
        assert!((score(&usage) - 0.5).abs() < 1e-6, "{}", score(&usage));
        usage.advance(second(2 * 3600), HashMap::new(), hour);
        assert!((score(&usage) - 0.25).abs() < 1e-6, "{}", score(&usage));
    }

    #[test]
    fn the_scarcest_resource_counts() {
        let mut shares = Usage::default().shares(FLEET, HashMap::from([("b".to_owned(), 2)]));
        shares.take("a", &job(6));
        shares.take("b", &job(6));
        assert!(
            (shares.score("a") - 0.25 * NOW).abs() < 1e-6 && (shares.score("b") - 0.125 * NOW).abs() < 1e-6
        );
        assert_eq!(shares.score("nobody"), 0.0);
    }
}
