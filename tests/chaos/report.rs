//! Prints what came of a run and leaves it in `target/chaos`: the figures, every violation with the job's attempts
//! and what was done to the parts meanwhile, and what each process printed.

use crate::{
    check::{Evidence, Findings, Promise, Violation},
    faults::{PARTS, What},
    recovery,
};
use anyhow::Context as _;
use longshore_proto::v1::{Attempt, GetJobResponse};
use longshore_tests::summary::{Goal, Summary, folder};
use std::{collections::BTreeMap, fmt::Write as _, fs, time::Duration};

/// Violations shown in full on the terminal; all are in the report.
const SHOWN: usize = 8;

/// Whether every promise was held.
pub(crate) fn tell(evidence: &Evidence<'_>, findings: &Findings) -> anyhow::Result<bool> {
    println!();
    figures(evidence, findings).write("chaos")?;
    let details: Vec<_> = findings.violations.iter().map(|one| violation(evidence, findings, one)).collect();
    let folder = folder("chaos");
    keep_outputs(evidence)?;
    let allowed: String = findings.allowed.iter().map(|line| format!("allowed: {line}\n")).collect();
    let report =
        format!("seed {}\n\n{}\n{allowed}\n{}", evidence.seed, details.join("\n"), evidence.timeline.text());
    fs::write(folder.join("report.txt"), report).context("cannot write the report")?;
    print!("{allowed}");
    for detail in details.iter().take(SHOWN) {
        println!("\n{detail}");
    }
    let held = findings.violations.is_empty();
    if held {
        println!("\nchaos: seed {}: every promise was held", evidence.seed);
    } else {
        let more = details.len().saturating_sub(SHOWN);
        println!(
            "\nchaos: seed {}: {} violations ({more} more in the report); report.txt and the output of every process are in {}",
            evidence.seed,
            details.len(),
            folder.display()
        );
    }
    Ok(held)
}

fn figures(evidence: &Evidence<'_>, findings: &Findings) -> Summary {
    let mut summary = Summary::default();
    let none = |summary: &mut Summary, name: &str, count: usize| {
        summary.add(name, count as f64, "", None, Goal::AtMost(0.0));
    };
    let plain = |summary: &mut Summary, name: &str, value: f64, unit: &str| {
        summary.add(name, value, unit, None, Goal::None);
    };
    plain(&mut summary, "jobs accepted", evidence.orders.accepted.len() as f64, "");
    plain(&mut summary, "submits repeated", f64::from(evidence.orders.repeats), "");
    for part in PARTS {
        let kills =
            evidence.timeline.count(|what| matches!(what, What::Kill { part: killed, .. } if killed == part));
        plain(&mut summary, &format!("kills of {part}"), kills as f64, "");
    }
    let others = evidence.timeline.count(|what| !matches!(what, What::Kill { .. }));
    plain(&mut summary, "stops and broken links", others as f64, "");
    for (promise, name) in PROMISES {
        let count = findings.violations.iter().filter(|violation| violation.promise == promise).count();
        none(&mut summary, name, count);
    }
    plain(&mut summary, "jobs ended otherwise, as the rules allow", findings.allowed.len() as f64, "");
    plain(&mut summary, "marked gaps in logs", f64::from(findings.gaps), "");
    for (what, names) in &findings.left {
        none(&mut summary, &format!("{what} left"), names.len());
    }
    let attempts: Vec<_> = findings.jobs.iter().map(|known| known.attempts.len() as f64).collect();
    mean_and_max(&mut summary, "attempts per job", &attempts);
    // An engine that is killed forgets events it has not told yet; the attempts know of those starts.
    let starts = evidence.orders.accepted.iter().zip(&findings.jobs).map(|(accepted, known)| {
        let told = evidence.starts.get(&accepted.uuid).copied().unwrap_or_default() as usize;
        told.max(known.attempts.iter().filter(|attempt| attempt.started_at.is_some()).count()) as f64
    });
    let starts: Vec<_> = starts.collect();
    mean_and_max(&mut summary, "container starts per job", &starts);
    recovery::tell(evidence, findings, &mut summary);
    summary
}

/// What is left has lines of its own.
const PROMISES: [(Promise, &str); 5] = [
    (Promise::OneOutcome, "jobs without exactly one committed outcome"),
    (Promise::RightOutcome, "jobs that ended otherwise than their program"),
    (Promise::WholeLog, "logs with a line missing or repeated"),
    (Promise::RightFiles, "jobs with a file missing or wrong"),
    (Promise::NoProcessEnded, "processes that ended by themselves"),
];

fn mean_and_max(summary: &mut Summary, name: &str, values: &[f64]) {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    summary.add(&format!("{name}, mean"), mean, "", None, Goal::None);
    summary.add(&format!("{name}, max"), values.iter().copied().fold(0.0, f64::max), "", None, Goal::None);
}

fn violation(evidence: &Evidence<'_>, findings: &Findings, violation: &Violation) -> String {
    let Violation { promise, job, expected, seen } = violation;
    let Some(place) = *job else { return format!("{promise:?}: expected {expected}, seen {seen}") };
    let (accepted, known) = (&evidence.orders.accepted[place], &findings.jobs[place]);
    let (id, order) = (&accepted.id, &accepted.order);
    let mut text = format!(
        "{promise:?}: job {id} (number {}, {}, uuid {}): expected {expected}, seen {seen}\n",
        order.number, order.kind, accepted.uuid
    );
    for attempt in &known.attempts {
        writeln!(text, "  {}", attempt_line(evidence, attempt)).expect("a string takes any text");
    }
    let (from, to) = life(evidence, known);
    for entry in evidence.timeline.between(from, to) {
        writeln!(text, "  meanwhile {entry}").expect("a string takes any text");
    }
    text
}

fn attempt_line(evidence: &Evidence<'_>, attempt: &Attempt) -> String {
    let at = |time: Option<&prost_types::Timestamp>| {
        time.map_or("–".to_owned(), |time| format!("{:.1}", evidence.timeline.of(time).as_secs_f64()))
    };
    let outcome = attempt.outcome.as_ref().map_or("no outcome".to_owned(), |outcome| {
        format!("{} {}: {}", outcome.name, outcome.exit_code, outcome.detail)
    });
    format!(
        "attempt {} on {}: claimed {}, started {}, exited {}, finished {} s: {outcome} {:?}",
        attempt.number,
        attempt.agent,
        at(attempt.claimed_at.as_ref()),
        at(attempt.started_at.as_ref()),
        at(attempt.exited_at.as_ref()),
        at(attempt.finished_at.as_ref()),
        attempt.notes
    )
}

fn life(evidence: &Evidence<'_>, known: &GetJobResponse) -> (Duration, Duration) {
    let of = |time: &Option<prost_types::Timestamp>| time.as_ref().map(|time| evidence.timeline.of(time));
    let job = known.job.clone().unwrap_or_default();
    (of(&job.created_at).unwrap_or_default(), of(&job.finished_at).unwrap_or(Duration::MAX))
}

fn keep_outputs(evidence: &Evidence<'_>) -> anyhow::Result<()> {
    let kept = folder("chaos").join("processes");
    fs::create_dir_all(&kept)?;
    let outputs: BTreeMap<_, _> = evidence
        .stack
        .outputs()
        .into_iter()
        .filter_map(|path| Some((path.file_name()?.to_owned(), path)))
        .collect();
    for (name, path) in outputs {
        fs::copy(&path, kept.join(name)).with_context(|| format!("cannot keep {}", path.display()))?;
    }
    Ok(())
}
