//! What came of every job, from the public API and the engine alone.

mod files;
mod left;
mod log;
mod outcome;

use crate::{
    client::Client,
    faults::{Part, What},
    stack::Stack,
    stream::{Accepted, Orders, Watched},
    timeline::Timeline,
};
use longshore_proto::v1::{Attempt, GetJobResponse};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// Everything a run left to be looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) seed: u64,
    pub(crate) client: &'a Client,
    pub(crate) stack: &'a Stack,
    pub(crate) orders: &'a Orders,
    pub(crate) watched: &'a Watched,
    pub(crate) starts: &'a HashMap<String, u32>,
    /// When the controller was asked how its queue is, and whether it was well.
    pub(crate) queue_well: &'a [(Duration, bool)],
    pub(crate) timeline: &'a Timeline,
}

/// A promise. Each is a line of the summary, which has to be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    OneOutcome,
    RightOutcome,
    WholeLog,
    RightFiles,
    NothingLeft,
    NoProcessEnded,
}

#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) promise: Promise,
    /// Position among the accepted, if it is one job's.
    pub(crate) job: Option<usize>,
    pub(crate) expected: String,
    pub(crate) seen: String,
}

#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) violations: Vec<Violation>,
    /// Jobs that ended otherwise, as the rules allow.
    pub(crate) allowed: Vec<String>,
    pub(crate) gaps: u32,
    pub(crate) left: left::Left,
    /// What the controller knows of each accepted job.
    pub(crate) jobs: Vec<GetJobResponse>,
}

impl Findings {
    fn violation(&mut self, promise: Promise, job: Option<usize>, expected: &str, seen: String) {
        self.violations.push(Violation { promise, job, expected: expected.to_owned(), seen });
    }
}

impl Evidence<'_> {
    pub(crate) async fn examine(&self) -> anyhow::Result<Findings> {
        let mut findings = Findings::default();
        for accepted in &self.orders.accepted {
            findings.jobs.push(self.client.get(&accepted.uuid).await?);
        }
        self.only_the_accepted(&mut findings).await?;
        let http = reqwest::Client::new();
        for (place, accepted) in self.orders.accepted.iter().enumerate() {
            let known = findings.jobs[place].clone();
            let as_expected = outcome::check(accepted, &known, place, &mut findings);
            self.log(accepted, &known, place, as_expected, &mut findings).await;
            if as_expected
                && known.job.as_ref().is_some_and(|job| accepted.order.expected() == outcome::text(job))
            {
                let wrong = files::wrong(self.client, &http, accepted).await;
                if let Some(wrong) = wrong {
                    findings.violation(Promise::RightFiles, Some(place), "the files it wrote", wrong);
                }
            }
        }
        for (id, seen) in self.watched.broken() {
            let place = self.orders.accepted.iter().position(|accepted| accepted.id == id);
            findings.violation(Promise::OneOutcome, place, "an end is final", seen);
        }
        for ended in &self.stack.ended {
            findings.violation(Promise::NoProcessEnded, None, "it goes on without its peers", ended.clone());
        }
        findings.left = left::all(self).await?;
        for (what, names) in findings.left.clone() {
            if !names.is_empty() {
                let seen = format!("{} {what}:\n  {}", names.len(), names.join("\n  "));
                findings.violation(Promise::NothingLeft, None, "nothing", seen);
            }
        }
        Ok(findings)
    }

    /// A request that was repeated must not have become two jobs, and none may be gone.
    async fn only_the_accepted(&self, findings: &mut Findings) -> anyhow::Result<()> {
        let known: HashSet<_> = self.client.list().await?.into_iter().map(|job| job.id).collect();
        for (place, accepted) in self.orders.accepted.iter().enumerate() {
            if !known.contains(&accepted.id) {
                findings.violation(Promise::OneOutcome, Some(place), "listed", "not listed".to_owned());
            }
        }
        if known.len() != self.orders.accepted.len() {
            let seen = format!("{} jobs", known.len());
            let expected = format!("the {} accepted jobs", self.orders.accepted.len());
            findings.violation(Promise::OneOutcome, None, &expected, seen);
        }
        Ok(())
    }

    async fn log(
        &self,
        accepted: &Accepted,
        known: &GetJobResponse,
        place: usize,
        as_expected: bool,
        findings: &mut Findings,
    ) {
        let records = match self.client.log(&accepted.uuid).await {
            Ok(records) => records,
            Err(error) => {
                findings.violation(Promise::WholeLog, Some(place), "a log", format!("{error:#}"));
                return;
            }
        };
        let gaps = log::gaps(&records);
        findings.gaps += gaps;
        if gaps > 0 && !self.engine_was_killed_during(known.attempts.last()) {
            let seen = format!("{gaps} gaps although the engine was not killed");
            findings.violation(Promise::WholeLog, Some(place), "no gap", seen);
        }
        let whole = as_expected
            && known.job.as_ref().is_some_and(|job| outcome::text(job) == accepted.order.expected());
        if let Err(wrong) = log::check(&accepted.order, &records, gaps, whole) {
            findings.violation(Promise::WholeLog, Some(place), "lines 1..N of each stream", wrong);
        }
    }

    fn engine_was_killed_during(&self, attempt: Option<&Attempt>) -> bool {
        let Some(attempt) = attempt else { return false };
        let at = |time: Option<&prost_types::Timestamp>| time.map(|time| self.timeline.of(time));
        let from = at(attempt.claimed_at.as_ref()).unwrap_or_default();
        let to = at(attempt.finished_at.as_ref()).unwrap_or(Duration::MAX);
        let of_engine =
            |what: What| matches!(what, What::Kill { part: Part::Engine, .. } | What::Pause(Part::Engine));
        self.timeline.between(from, to).iter().any(|entry| of_engine(entry.what))
    }
}
