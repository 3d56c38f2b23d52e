//! How a job ended, as people and services are told.

use crate::job::Outcome;
use longshore_proto::v1;

/// `job` is what the hint's commands name. An empty detail becomes the table's sentence.
pub fn outcome(outcome: &Outcome, detail: &str, job: &str) -> v1::Outcome {
    let row = outcome.row();
    let detail = if detail.is_empty() { row.sentence } else { detail };
    v1::Outcome {
        name: row.name.to_owned(),
        exit_code: outcome.cli_exit_code(),
        blame: v1::Blame::from(row.blame) as i32,
        detail: detail.to_owned(),
        hint: row.hint.replace("JOB", job),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_names_the_job() {
        let shown = outcome(&Outcome::OomKilled, "", "k3m9q2xw");
        assert_eq!((shown.name.as_str(), shown.exit_code), ("oom_killed", 137));
        assert_eq!(shown.hint, "longshore retry k3m9q2xw --memory SIZE");
        assert_eq!(shown.detail, "the container passed its memory limit");
        assert_eq!(outcome(&Outcome::ExitCode(3), "exit 3", "x").exit_code, 3);
    }
}
