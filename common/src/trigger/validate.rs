//! Every rule that a trigger must keep before it is accepted, with all mistakes told at once. Knows nothing of what
//! sources, actions and secrets there are.

use super::{Completion, Cron, Objects, Run, Schedule, Setting, TriggerSpec, Webhook, When};
use crate::{
    fields::{FieldError, FieldErrors},
    job::{self, JobSpec, JobState, KLEINKRAM, Outcome, check_name},
};
use globset::Glob;
use std::time::Duration;

const LONGEST_DESCRIPTION: usize = 1_000;
const LONGEST_JITTER: Duration = Duration::from_secs(24 * 3600);
const LONGEST_RETRY: Duration = Duration::from_secs(30 * 24 * 3600);
const DEEPEST: u32 = 64;
const MOST_PER_MINUTE: u32 = 6_000;
const MOST_PER_HOUR: u32 = 1_000_000;
const MOST_SETTINGS: usize = 100;
const LONGEST_PREFIX: usize = 1_024;
const MOST_GLOBS: usize = 50;

/// What is wrong with the trigger, if anything is.
pub fn validate(spec: &TriggerSpec) -> Result<(), FieldErrors> {
    let mut errors = FieldErrors::new();
    errors.take(check_name("name", &spec.name));
    if spec.description.len() > LONGEST_DESCRIPTION {
        errors.push("description", format!("is longer than {LONGEST_DESCRIPTION} bytes"));
    }
    match &spec.when {
        When::Cron(cron) => self::cron(cron, &mut errors),
        When::Webhook(hook) => webhook(hook, &mut errors),
        When::Objects(asked) => objects(asked, &mut errors),
        When::Completion(asked) => completion(asked, &mut errors),
    }
    run(spec, &mut errors);
    settings(spec, &mut errors);
    if spec.retry_for > LONGEST_RETRY {
        errors.push("retry_for", "is longer than 30 days");
    }
    if !(1..=DEEPEST).contains(&spec.max_depth) {
        errors.push("max_depth", format!("{} is not between 1 and {DEEPEST}", spec.max_depth));
    }
    errors.into_result(())
}

fn cron(cron: &Cron, errors: &mut FieldErrors) {
    let parsed = Schedule::parse(&cron.schedule, &cron.time_zone);
    errors.take(parsed.map_err(|error| FieldError::from(error).under("cron")));
    if cron.jitter > LONGEST_JITTER {
        errors.push("cron.jitter", "is longer than a day");
    }
}

fn webhook(hook: &Webhook, errors: &mut FieldErrors) {
    if !(1..=MOST_PER_MINUTE).contains(&hook.per_minute) {
        errors.push(
            "webhook.per_minute",
            format!("{} is not between 1 and {MOST_PER_MINUTE}", hook.per_minute),
        );
    }
}

fn objects(asked: &Objects, errors: &mut FieldErrors) {
    errors.take(check_name("objects.source", &asked.source));
    if asked.prefix.len() > LONGEST_PREFIX || asked.prefix.chars().any(char::is_control) {
        errors.push("objects.prefix", "is no beginning of an object's name");
    }
    if asked.matching.len() > MOST_GLOBS {
        errors.push("objects.match", format!("has more than {MOST_GLOBS} globs"));
    }
    for (index, text) in asked.matching.iter().enumerate() {
        glob(&format!("objects.match[{index}]"), text, errors);
    }
    input("objects.input", asked.input.as_deref(), errors);
    if !(1..=MOST_PER_HOUR).contains(&asked.per_hour) {
        let problem = format!("{} is not between 1 and {MOST_PER_HOUR}", asked.per_hour);
        errors.push("objects.per_hour", problem);
    }
}

fn completion(asked: &Completion, errors: &mut FieldErrors) {
    if asked.action.is_none() && asked.job.is_none() && asked.labels.is_empty() {
        errors.push("completion", "names no job: action, job or labels");
    }
    if let Some(text) = &asked.job {
        glob("completion.job", text, errors);
    }
    for (index, word) in asked.status.iter().enumerate() {
        if !is_end(word) {
            let known =
                Outcome::table().iter().map(|row| row.name).chain(["failed", "timed_out", "cancelled"]);
            let near = crate::nearest(word, known);
            let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            let path = format!("completion.status[{index}]");
            errors.push(path, format!("`{word}` is no state in which a job ends and no outcome{hint}"));
        }
    }
    if asked.status.is_empty() {
        errors.push("completion.status", "is empty: nothing would fire");
    }
    input("completion.input", asked.input.as_deref(), errors);
}

fn is_end(word: &str) -> bool {
    word.parse::<JobState>().is_ok_and(JobState::is_terminal)
        || Outcome::table().iter().any(|row| row.name == word)
}

fn input(path: &str, name: Option<&str>, errors: &mut FieldErrors) {
    if let Some(name) = name {
        errors.take(check_name(path, name));
    }
}

fn glob(path: &str, text: &str, errors: &mut FieldErrors) {
    if text.is_empty() {
        errors.push(path, "is empty; `*` matches everything");
    } else if let Err(error) = Glob::new(text) {
        errors.push(path, format!("`{text}`: {}", error.kind()));
    }
}

fn run(spec: &TriggerSpec, errors: &mut FieldErrors) {
    let own = match &spec.when {
        When::Objects(Objects { input, .. }) | When::Completion(Completion { input, .. }) => input.as_deref(),
        When::Cron(_) | When::Webhook(_) => None,
    };
    match &spec.run {
        Run::Job(asked) => {
            let fields = [("labels", spec.labels.is_empty()), ("kleinkram", spec.kleinkram.is_none())];
            for (field, _) in fields.into_iter().filter(|(_, is_unsaid)| !is_unsaid) {
                errors.push(field, format!("is said in the job: write it as job.{field}"));
            }
            if let Err(wrong) = job::validate(asked) {
                errors.merge(wrong.into_iter().map(|error| error.under("job")).collect());
            }
            if let Some(name) = own.filter(|name| asked.inputs.contains_key(*name)) {
                let kind = spec.when.kind().as_str();
                errors.push(format!("{kind}.input"), format!("the job has an input `{name}` of its own"));
            }
        }
        Run::Action(action) => {
            said(spec, errors);
            errors.take(check_name("action", &action.name));
            if action.version == Some(0) {
                errors.push("action", "versions count from 1");
            }
        }
    }
}

/// What its runs say of themselves keeps the rules of jobs.
fn said(spec: &TriggerSpec, errors: &mut FieldErrors) {
    let mut run = JobSpec::for_image("image");
    run.labels.clone_from(&spec.labels);
    run.kleinkram.clone_from(&spec.kleinkram);
    if run.kleinkram.is_some() {
        KLEINKRAM.clone_into(&mut run.contract);
    }
    let wrong = job::validate(&run).err().into_iter().flatten();
    let mine = |error: &FieldError| error.path.starts_with("labels") || error.path.starts_with("kleinkram.");
    wrong.filter(mine).for_each(|error| errors.add(error));
}

fn settings(spec: &TriggerSpec, errors: &mut FieldErrors) {
    if spec.set.len() > MOST_SETTINGS {
        errors.push("set", format!("has more than {MOST_SETTINGS} entries"));
    }
    for (name, setting) in &spec.set {
        let path = format!("set.{name}");
        if let Setting::Payload(pointer) = setting
            && !pointer.starts_with('/')
        {
            errors.push(path.clone(), format!("`{pointer}` is no JSON pointer, which is like `/object/key`"));
        }
        // Nothing is set that the author has not written down in the job too.
        if let Run::Job(asked) = &spec.run
            && !asked.env.contains_key(name)
        {
            errors
                .push(path, format!("the job has no variable {name}: write it in job.env with its default"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        action::ActionRef,
        job::Kleinkram,
        trigger::{Missed, Signature},
    };

    fn on(when: When, change: impl FnOnce(&mut TriggerSpec)) -> Vec<String> {
        let mut spec = TriggerSpec::new("t", when, Run::Job(Box::new(JobSpec::for_image("alpine:3"))));
        change(&mut spec);
        validate(&spec).err().into_iter().flatten().map(|error| error.path).collect()
    }

    fn hook() -> When {
        When::Webhook(Webhook { signature: Signature::Github, per_minute: 60 })
    }

    fn ends(status: &[&str]) -> When {
        When::Completion(Completion {
            action: None,
            job: Some("train-*".into()),
            labels: [].into(),
            status: status.iter().map(|word| (*word).to_owned()).collect(),
            itself: false,
            input: Some("result".into()),
        })
    }

    #[test]
    fn good_ones_are_taken() {
        assert_eq!(on(hook(), |_| {}), Vec::<String>::new());
        assert_eq!(on(ends(&["succeeded", "timed_out", "oom_killed"]), |_| {}), Vec::<String>::new());
    }

    #[test]
    fn all_mistakes_come_together() {
        let cron = Cron {
            schedule: "61 * * * *".into(),
            time_zone: "Mars/Base".into(),
            missed: Missed::Once,
            jitter: Duration::from_secs(90_000),
        };
        let wrong = on(When::Cron(cron), |spec| {
            spec.name = "Nightly Run".into();
            spec.max_depth = 0;
            spec.set.insert("X".into(), Setting::Payload("object.key".into()));
            let Run::Job(job) = &mut spec.run else { unreachable!("made so above") };
            job.image = String::new();
        });
        assert_eq!(
            wrong,
            ["name", "cron.schedule", "cron.jitter", "job.image", "set.X", "set.X", "max_depth"]
        );
        assert_eq!(
            on(ends(&["succeded", "running"]), |_| {}),
            ["completion.status[0]", "completion.status[1]"]
        );
    }

    #[test]
    fn only_variables_that_the_job_has_are_set() {
        let with = |name: &str| {
            on(hook(), |spec| {
                let Run::Job(job) = &mut spec.run else { unreachable!("made so above") };
                job.env.insert("FILE".into(), "none".into());
                spec.set.insert(name.into(), Setting::Payload("/object/key".into()));
            })
        };
        assert_eq!(with("FILE"), Vec::<String>::new());
        assert_eq!(with("LD_PRELOAD"), ["set.LD_PRELOAD"]);
    }

    #[test]
    fn what_runs_of_an_action_say_keeps_the_rules_of_jobs() {
        let say = |run: Run, mission: &str| {
            on(hook(), |spec| {
                spec.run = run;
                spec.labels.insert("é".into(), "x".into());
                spec.kleinkram =
                    Some(Kleinkram { mission_uuid: Some(mission.to_owned()), ..Kleinkram::default() });
            })
        };
        let action = || Run::Action(ActionRef { name: "convert".into(), version: None });
        assert_eq!(say(action(), "1b671a64-40d5-491e-99b0-da01ff1f3341"), ["labels.é"]);
        assert_eq!(say(action(), "the first"), ["kleinkram.mission_uuid", "labels.é"]);
        let job = Run::Job(Box::new(JobSpec::for_image("alpine:3")));
        assert_eq!(say(job, "the first"), ["labels", "kleinkram"]);
    }
}
