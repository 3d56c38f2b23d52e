//! Whose log, and how that is written down: in names of files and in the list of what is to be deleted. Must be the
//! only place that reads it back.

use longshore_common::ids::{AttemptRef, Epoch};
use std::{fmt, str::FromStr};

/// An attempt with its epoch: after a restore the same number is given again, to another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogKey(pub AttemptRef);

impl From<AttemptRef> for LogKey {
    fn from(attempt: AttemptRef) -> Self {
        Self(attempt)
    }
}

/// `<job>.<attempt>.<epoch>`
impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AttemptRef { job, number, epoch } = self.0;
        write!(f, "{job}.{number}.{}", epoch.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no log (a job, its attempt and the epoch, with dots between them)")]
pub struct ParseLogKeyError(String);

impl FromStr for LogKey {
    type Err = ParseLogKeyError;

    fn from_str(text: &str) -> Result<Self, ParseLogKeyError> {
        let read = || {
            let mut parts = text.split('.');
            let job = parts.next()?.parse().ok()?;
            let number = parts.next()?.parse().ok()?;
            let epoch = Epoch(parts.next()?.parse().ok()?);
            parts.next().is_none().then_some(Self(AttemptRef { job, number, epoch }))
        };
        read().ok_or_else(|| ParseLogKeyError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::ids::JobId;

    #[test]
    fn a_log_is_found_by_what_was_written_down() {
        let key = LogKey(AttemptRef { job: JobId::new(), number: 3, epoch: Epoch(2) });
        let text = key.to_string();
        // As a removal writes it: the database knows the id's bytes only.
        for text in [text.replace('-', ""), text] {
            assert_eq!(text.parse(), Ok(key), "{text}");
        }
        for text in ["nonsense", "", "x.1.1", &format!("{}.1", key.0.job), &format!("{key}.9")] {
            assert!(text.parse::<LogKey>().is_err(), "{text}");
        }
    }
}
