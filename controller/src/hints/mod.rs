//! What to do about a job that did not succeed: rules as data, tried on its outcome, its notes and its last lines. The
//! rules are pure; `about` reads for them. A rule never changes an outcome, and none is more than a guess with a reason.

mod about;
mod rules;
#[cfg(test)]
mod tests;

pub(crate) use about::about;

use longshore_common::job::{JobSpec, Outcome};

/// What is known about an end.
#[derive(Clone, Copy, Debug)]
struct Facts<'a> {
    outcome: &'a Outcome,
    detail: &'a str,
    spec: &'a JobSpec,
    /// Of the attempt, by its agent.
    notes: &'a [String],
    /// The last ones, oldest first.
    lines: &'a [String],
}

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) name: &'static str,
    pub(crate) text: String,
    /// The line that it is about.
    pub(crate) line: Option<String>,
}

/// The advice for an end, the surest first.
fn assess(facts: &Facts<'_>) -> Vec<Hint> {
    if matches!(facts.outcome, Outcome::Succeeded | Outcome::Cancelled) {
        return Vec::new();
    }
    let lines: Vec<_> = facts.lines.iter().map(|line| line.to_lowercase()).collect();
    let detail = facts.detail.to_lowercase();
    let mut hints: Vec<Hint> = Vec::new();
    for rule in rules::RULES {
        let by_outcome = rule.outcomes.contains(&facts.outcome.name());
        let line = lines.iter().rposition(|line| rule.matches(line));
        let told = line.is_some() || rule.matches(&detail);
        let fits = rule.when.is_none_or(|when| when(facts));
        let known = hints.iter().any(|hint| hint.name == rule.name);
        if (by_outcome || told) && fits && !known {
            let line = line.map(|at| facts.lines[at].clone());
            hints.push(Hint { name: rule.name, text: rule.text.to_owned(), line });
        }
    }
    hints
}
