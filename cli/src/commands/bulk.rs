//! One call for several jobs: what can be done is done, and each refusal is told by itself.

use crate::failure::Failure;
use crate::output::say;
use futures::{StreamExt as _, stream};
use std::collections::HashSet;

/// Calls under way at once.
const AT_ONCE: usize = 16;

/// What became of the jobs, in the order they were named.
#[derive(Debug)]
pub(super) struct Results<T>(Vec<(String, Result<T, Failure>)>);

/// Calls for each job that is named; one that is named twice is meant once.
pub(super) async fn each<T, F>(jobs: Vec<String>, call: impl Fn(String) -> F) -> Results<T>
where
    F: Future<Output = Result<T, Failure>>,
{
    some_at_once(jobs, AT_ONCE, call).await
}

/// The same for calls that only wait.
pub(super) async fn all_at_once<T, F>(jobs: Vec<String>, call: impl Fn(String) -> F) -> Results<T>
where
    F: Future<Output = Result<T, Failure>>,
{
    some_at_once(jobs, usize::MAX, call).await
}

async fn some_at_once<T, F>(jobs: Vec<String>, limit: usize, call: impl Fn(String) -> F) -> Results<T>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut seen = HashSet::new();
    let jobs: Vec<_> = jobs.into_iter().filter(|job| seen.insert(job.clone())).collect();
    let limit = limit.min(jobs.len().max(1));
    let call = &call;
    let calls = stream::iter(jobs).map(|job| async move { (job.clone(), call(job).await) });
    Results(calls.buffered(limit).collect().await)
}

impl<T> Results<T> {
    /// What was done, by the names that were given.
    pub(super) fn done(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().filter_map(|(name, result)| Some((name.as_str(), result.as_ref().ok()?)))
    }

    /// Says every refusal; the code of the first one, or `None` if there was none.
    pub(super) fn refusals(&self, otherwise: i32) -> Option<i32> {
        for line in self.lines() {
            say(format!("longshore: {line}"));
        }
        let first = self.0.iter().find_map(|(_, result)| result.as_ref().err());
        first.map(|failure| failure.code.unwrap_or(otherwise))
    }

    /// A line for each, but one alone for what is no single job's fault.
    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let several = self.0.len() > 1;
        let mut said = HashSet::new();
        for (name, result) in &self.0 {
            let Err(Failure { message, .. }) = result else { continue };
            if !said.insert(message) {
                continue;
            }
            let shared = self
                .0
                .iter()
                .filter(|(_, other)| other.as_ref().err().is_some_and(|f| f.message == *message));
            let plain = !several || message.contains(name.as_str()) || shared.count() > 1;
            lines.push(if plain { message.clone() } else { format!("{name}: {message}") });
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn one_refusal_hinders_no_other() {
        let results = each(names(&["a", "nosuch", "b", "a", "young"]), |job| async move {
            match job.as_str() {
                "nosuch" => Err(Failure::new("no job `nosuch`")),
                "young" => Err(Failure::usage("has not ended")),
                _ => Ok(job.len()),
            }
        })
        .await;
        assert_eq!(results.done().collect::<Vec<_>>(), [("a", &1), ("b", &1)]);
        assert_eq!(results.lines(), ["no job `nosuch`", "young: has not ended"]);
        assert_eq!(results.refusals(7), Some(7), "the first one's");
    }

    #[tokio::test]
    async fn a_controller_that_is_away_is_said_once() {
        let away = |_| async { Err::<(), _>(Failure::new("the controller does not answer")) };
        let results = all_at_once(names(&["a", "b"]), away).await;
        assert_eq!(results.lines(), ["the controller does not answer"]);
    }

    #[tokio::test]
    async fn nothing_refused_is_no_code() {
        let results = each(names(&["a"]), |_| async { Ok(()) }).await;
        assert_eq!(results.refusals(1), None);
    }
}
