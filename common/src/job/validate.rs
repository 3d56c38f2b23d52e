//! Every rule a job must keep before it is accepted, with all mistakes told at once. The one judge of the three ways
//! in: job files, flags and the API. Knows nothing of what machines there are.

mod caches;
pub(super) mod kleinkram;
mod labels;
mod process;
mod resources;
mod secrets;

pub use secrets::{check_secret_name, secret_file};

use super::resources::MIB;
use super::{
    Deadlines, Input, JobSpec, Outcome, Outputs, RetryPolicy, ShareInput, after::After, image,
    spec::MOST_FILES,
};
use crate::fields::{FieldError, FieldErrors};
use globset::Glob;
use std::{io, time::Duration};

const PRIORITIES: std::ops::RangeInclusive<i32> = -100..=100;
const MOST_ATTEMPTS: u32 = 100;
const LONGEST_DEADLINE: Duration = Duration::from_secs(366 * 24 * 3600);
/// A few heartbeats.
const LEAST_TOLERANCE: Duration = Duration::from_secs(10);
const LARGEST_SPEC: u64 = MIB;

/// What is wrong with the spec, if anything is.
pub fn validate(spec: &JobSpec) -> Result<(), FieldErrors> {
    let mut errors = FieldErrors::new();
    if let Some(problem) = image::problem(&spec.image) {
        errors.push("image", problem);
    }
    kleinkram::check(spec, &mut errors);
    if !PRIORITIES.contains(&spec.priority) {
        errors.push("priority", format!("{} is not between -100 and 100", spec.priority));
    }
    errors.take(check_name("pool", &spec.pool));
    process::check(spec, &mut errors);
    secrets::check(spec, &mut errors);
    caches::check(&spec.caches, &mut errors);
    labels::check(spec, &mut errors);
    resources::check(&spec.resources, &mut errors);
    deadlines(&spec.deadlines, &mut errors);
    retry(&spec.retry, &mut errors);
    if let Some(length) = spec.disconnect_tolerance {
        errors.take(tolerance(length));
    }
    for (name, source) in &spec.inputs {
        errors.take(check_name(&format!("inputs.{name}"), name));
        if !is_object(spec, source) {
            errors.take(input(name, source));
        }
    }
    outputs(&spec.outputs, &mut errors);
    after(&spec.after, &mut errors);
    if size(spec) > LARGEST_SPEC {
        errors.push("", "is larger than 1 MiB: put bulky values into an input");
    }
    errors.into_result(())
}

/// Only a trigger gives a job an object of an operator's source, and a job made of that one has it too.
fn is_object(spec: &JobSpec, input: &Input) -> bool {
    spec.trigger.is_some() && input.is_object()
}

/// More than anybody draws; each is looked up at submit.
const MOST_AFTER: usize = 100;

fn after(all: &[After], errors: &mut FieldErrors) {
    if all.len() > MOST_AFTER {
        errors.push("after", format!("has {} jobs; {MOST_AFTER} at most", all.len()));
    }
    for (index, _) in all.iter().enumerate().filter(|(_, after)| after.job.is_empty()) {
        errors.push(format!("after[{index}].job"), "is empty; name a job by its id or name");
    }
}

/// Names of inputs and pools: they become folders and queues.
pub fn check_name(path: &str, name: &str) -> Result<(), FieldError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let fits = (1..=63).contains(&name.len())
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|b| plain(b) || b"_.-".contains(&b));
    if fits {
        return Ok(());
    }
    let rule = "a name is 1 to 63 of a-z, 0-9, `_`, `.`, `-`, and starts with a letter or digit";
    Err(FieldError::new(path, format!("`{name}`: {rule}")))
}

fn deadlines(asked: &Deadlines, errors: &mut FieldErrors) {
    let Deadlines { queue, prepare, run, upload, stop_grace } = asked;
    let named =
        [("prepare", Some(*prepare)), ("run", Some(*run)), ("upload", Some(*upload)), ("queue", *queue)];
    for (name, length) in named {
        if length.is_some_and(|length| length.is_zero()) {
            errors.push(format!("deadlines.{name}"), "is zero: the job could only time out");
        }
    }
    for (name, length) in named.into_iter().chain([("stop_grace", Some(*stop_grace))]) {
        if length.is_some_and(|length| length > LONGEST_DEADLINE) {
            errors.push(format!("deadlines.{name}"), "is longer than a year");
        }
    }
}

fn tolerance(length: Duration) -> Result<(), FieldError> {
    if length < LEAST_TOLERANCE {
        let problem = "is less than 10s: a hiccup of the network would end the job";
        return Err(FieldError::new("disconnect_tolerance", problem));
    }
    if length > LONGEST_DEADLINE {
        return Err(FieldError::new("disconnect_tolerance", "is longer than a year"));
    }
    Ok(())
}

fn retry(asked: &RetryPolicy, errors: &mut FieldErrors) {
    if !(1..=MOST_ATTEMPTS).contains(&asked.attempts) {
        errors.push("retry.attempts", format!("{} is not between 1 and {MOST_ATTEMPTS}", asked.attempts));
    }
    for (name, wait) in [("backoff", asked.backoff), ("max_backoff", asked.max_backoff)] {
        if wait > LONGEST_DEADLINE {
            errors.push(format!("retry.{name}"), "is longer than a year");
        }
    }
    for (index, name) in asked.on.iter().enumerate() {
        errors.take(retried_outcome(&format!("retry.on[{index}]"), name));
    }
    for (name, rule) in &asked.outcomes {
        let path = format!("retry.outcomes.{name}");
        errors.take(retried_outcome(&path, name));
        if rule.attempts.is_some_and(|attempts| !(1..=MOST_ATTEMPTS).contains(&attempts)) {
            errors.push(format!("{path}.attempts"), format!("is not between 1 and {MOST_ATTEMPTS}"));
        }
        if rule.backoff.is_some_and(|wait| wait > LONGEST_DEADLINE) {
            errors.push(format!("{path}.backoff"), "is longer than a year");
        }
    }
}

fn retried_outcome(path: &str, name: &str) -> Result<(), FieldError> {
    let problem = match Outcome::ALL.iter().find(|outcome| outcome.name() == name) {
        Some(outcome) if outcome.is_final() => format!("nothing is tried again after `{name}`"),
        Some(_) => return Ok(()),
        None => {
            let near = crate::nearest(name, Outcome::table().iter().map(|row| row.name));
            let hint = crate::did_you_mean(near);
            format!("`{name}` is not an outcome{hint}")
        }
    };
    Err(FieldError::new(path, problem))
}

fn input(name: &str, source: &Input) -> Result<(), FieldError> {
    let wrong =
        |field: &str, message: String| Err(FieldError::new(format!("inputs.{name}.{field}"), message));
    match source {
        Input::Uploaded { id } if id.is_empty() || id.len() > 128 => {
            wrong("uploaded", "is not an input's id".into())
        }
        Input::Job { job, .. } if job.is_empty() => wrong("job", "is empty".into()),
        Input::Job { path, .. } if !is_inside(path) => {
            wrong("path", format!("`{path}` does not stay inside the job's outputs"))
        }
        Input::Url { url } => match url::Url::parse(url) {
            Ok(parsed) if parsed.scheme() == "https" => Ok(()),
            Ok(parsed) => wrong("url", format!("`{url}` is {}://, only https:// is taken", parsed.scheme())),
            Err(error) => wrong("url", format!("`{url}`: {error}")),
        },
        Input::Share(ShareInput { share, .. }) if share.is_empty() => wrong("share", "is empty".into()),
        Input::Share(ShareInput { share, path, .. }) => {
            check_name(&format!("inputs.{name}.share"), share)?;
            if is_inside(path) {
                Ok(())
            } else {
                wrong("path", format!("`{path}` does not stay inside the share"))
            }
        }
        Input::Uploaded { .. } | Input::Job { .. } => Ok(()),
    }
}

/// Empty means all; one trailing slash names a folder.
fn is_inside(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    path.is_empty() || crate::artifact::is_contained(path.as_bytes())
}

fn outputs(asked: &Outputs, errors: &mut FieldErrors) {
    if asked.max_files > MOST_FILES {
        errors.push("outputs.max_files", format!("is more than {MOST_FILES}: pack them"));
    }
    for (field, globs) in [("include", &asked.include), ("exclude", &asked.exclude)] {
        for (index, text) in globs.iter().enumerate() {
            errors.take(glob(&format!("outputs.{field}[{index}]"), text));
        }
    }
}

fn glob(path: &str, text: &str) -> Result<(), FieldError> {
    if text.is_empty() {
        return Err(FieldError::new(path, "is empty; `*` matches everything"));
    }
    Glob::new(text).map(drop).map_err(|error| FieldError::new(path, format!("`{text}`: {}", error.kind())))
}

/// How long the spec is as JSON, without making it.
fn size(spec: &JobSpec) -> u64 {
    struct Count(u64);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, spec).expect("a spec has only text keys");
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::RetryRule;

    fn paths(change: impl FnOnce(&mut JobSpec)) -> Vec<String> {
        let mut spec = JobSpec::for_image("alpine:3");
        change(&mut spec);
        validate(&spec).err().into_iter().flatten().map(|error| error.path).collect()
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(validate(&JobSpec::for_image("alpine")), Ok(()));
    }

    #[test]
    fn all_mistakes_come_together() {
        let found = paths(|spec| {
            spec.image = String::new();
            spec.contract = "slurm".into();
            spec.priority = 101;
            spec.pool = "Big Pool".into();
            spec.workdir = Some("here".into());
            spec.env.insert("A=B".into(), "x".into());
            spec.labels.insert("é".into(), "x".into());
            spec.agents.insert("site".into(), vec![]);
            spec.resources.cpu_millis = 9;
            spec.resources.memory_bytes = 1;
            spec.deadlines.run = Duration::ZERO;
            spec.retry.attempts = 0;
            spec.outputs.include = vec!["[".into()];
            spec.outputs.max_files = MOST_FILES + 1;
        });
        assert_eq!(
            found,
            [
                "image",
                "contract",
                "priority",
                "pool",
                "workdir",
                "env.A=B",
                "labels.é",
                "agents.site",
                "resources.cpu",
                "resources.memory",
                "deadlines.run",
                "retry.attempts",
                "outputs.max_files",
                "outputs.include[0]"
            ]
        );
    }

    #[test]
    fn deadlines_are_positive_and_at_most_a_year_but_a_grace_may_be_zero() {
        assert_eq!(paths(|s| s.deadlines.stop_grace = Duration::ZERO), Vec::<String>::new());
        assert_eq!(paths(|s| s.deadlines.queue = Some(Duration::ZERO)), ["deadlines.queue"]);
        assert_eq!(paths(|s| s.deadlines.run = LONGEST_DEADLINE * 2), ["deadlines.run"]);
    }

    #[test]
    fn a_tolerance_outlasts_a_few_heartbeats() {
        let with = |seconds| paths(|s| s.disconnect_tolerance = Some(Duration::from_secs(seconds)));
        assert_eq!(with(10), Vec::<String>::new());
        assert_eq!(
            (with(9), with(400 * 24 * 3600)),
            (vec!["disconnect_tolerance".into()], vec!["disconnect_tolerance".into()])
        );
    }

    #[test]
    fn inputs_stay_inside_and_come_over_https() {
        let with = |name: &str, input: Input| paths(|s| drop(s.inputs.insert(name.into(), input)));
        let job = |path: &str| Input::Job { job: "abcdefgh".into(), path: path.into() };
        let url = |url: &str| Input::Url { url: url.into() };
        assert_eq!(with("a", job("ckpt/")), Vec::<String>::new());
        assert_eq!(with("a", job("")), Vec::<String>::new());
        assert_eq!(with("a", job("../x")), ["inputs.a.path"]);
        assert_eq!(with("a", job("/x")), ["inputs.a.path"]);
        assert_eq!(with("a", url("https://example.org/x")), Vec::<String>::new());
        for bad in ["http://example.org/x", "file:///etc/passwd", "x"] {
            assert_eq!(with("a", url(bad)), ["inputs.a.url"], "{bad}");
        }
        let share = |share: &str, path: &str| {
            Input::Share(ShareInput { share: share.into(), path: path.into(), writable: false })
        };
        assert_eq!(with("a", share("datasets", "study-12/")), Vec::<String>::new());
        assert_eq!(with("a", share("", "")), ["inputs.a.share"]);
        assert_eq!(with("a", share("/srv", "")), ["inputs.a.share"]);
        assert_eq!(with("a", share("datasets", "../etc")), ["inputs.a.path"]);
        assert_eq!(with("..", job("")), ["inputs..."]);
        assert_eq!(with("A", job("")), ["inputs.A"]);
    }

    #[test]
    fn an_unknown_outcome_gets_a_suggestion() {
        let mut spec = JobSpec::for_image("alpine");
        spec.retry.on = vec!["oom_kiled".into()];
        let errors = validate(&spec).expect_err("no such outcome").to_string();
        assert!(errors.contains("did you mean `oom_killed`?"), "{errors}");
        let rule = RetryRule { attempts: Some(0), backoff: None };
        assert_eq!(
            paths(|s| s.retry.outcomes = [("succeeded".to_owned(), rule.clone())].into()),
            ["retry.outcomes.succeeded", "retry.outcomes.succeeded.attempts"]
        );
    }

    #[test]
    fn a_spec_of_more_than_a_mebibyte_is_refused() {
        let fill = |spec: &mut JobSpec| {
            spec.env = (0..10).map(|n| (format!("A{n}"), "x".repeat(110_000))).collect();
        };
        assert_eq!(paths(fill), [""]);
    }
}
