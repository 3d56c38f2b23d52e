//! The one way from an action to a job: what the version says, with the parameters, inputs and fields that a run gives.
//! Everything that is wrong is told at once. What comes out is a spec like any other: nobody after it knows of actions.

use super::{Action, ActionRef, fields};
use crate::{
    fields::FieldErrors,
    job::{self, JobSpec},
    nearest,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a run says of the action. What it says of the job lies beside it, in a spec of which only the fields named in
/// `said` count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    pub action: ActionRef,
    /// Values of parameters.
    pub set: BTreeMap<String, String>,
    /// Paths of the job's fields: `resources.memory`, `labels`. Inputs are not among them.
    pub said: BTreeSet<String>,
}

/// The job. `version` is only spoken of.
pub fn resolve(
    action: &Action,
    version: u32,
    invocation: &Invocation,
    job: &JobSpec,
) -> Result<JobSpec, FieldErrors> {
    let mut errors = FieldErrors::new();
    let mut spec = action.job.clone();
    spec.name = Some(action.name.clone());
    let name = format!("{}@{version}", action.name);
    set(action, &name, &invocation.set, &mut spec, &mut errors);
    inputs(action, &name, job, &mut spec, &mut errors);
    for path in &invocation.said {
        errors.take(fields::take(path, &action.adjustable, job, &mut spec));
    }
    if let Err(more) = job::validate(&spec) {
        errors.merge(more);
    }
    errors.into_result(spec)
}

fn set(
    action: &Action,
    name: &str,
    values: &BTreeMap<String, String>,
    spec: &mut JobSpec,
    errors: &mut FieldErrors,
) {
    for given in values.keys().filter(|given| !action.parameters.contains_key(*given)) {
        let fixed = spec.env.contains_key(given) || spec.secret_env.contains_key(given);
        let problem = if fixed {
            format!("is fixed by {name}")
        } else {
            unknown("parameter", name, given, action.parameters.keys())
        };
        errors.push(format!("set.{given}"), problem);
    }
    for (variable, parameter) in &action.parameters {
        let path = format!("set.{variable}");
        let value = match values.get(variable) {
            Some(_) if !parameter.adjustable => {
                errors.push(path, format!("is fixed by {name}: its author has not marked it as adjustable"));
                continue;
            }
            Some(text) => match parameter.value(text) {
                Ok(value) => value,
                Err(problem) => {
                    errors.push(path, problem);
                    continue;
                }
            },
            None if parameter.required => {
                errors.push(path, format!("is missing: {name} needs {}", parameter.takes()));
                continue;
            }
            None => match &parameter.default {
                Some(default) => default.clone(),
                None => continue,
            },
        };
        spec.env.insert(variable.clone(), value);
    }
}

fn inputs(action: &Action, name: &str, job: &JobSpec, spec: &mut JobSpec, errors: &mut FieldErrors) {
    for given in job.inputs.keys().filter(|given| !action.inputs.contains_key(*given)) {
        errors.push(format!("inputs.{given}"), unknown("input", name, given, action.inputs.keys()));
    }
    for (input, declared) in &action.inputs {
        let path = format!("inputs.{input}");
        match job.inputs.get(input) {
            Some(_) if !declared.adjustable => {
                errors.push(path, format!("is fixed by {name}: its author has not marked it as adjustable"));
            }
            Some(source) => drop(spec.inputs.insert(input.clone(), source.clone())),
            None if declared.required => {
                let what = declared.description.lines().next().unwrap_or_default();
                let what = if what.is_empty() { String::new() } else { format!(" ({what})") };
                errors.push(path, format!("is missing: {name} needs a source for it{what}"));
            }
            None => drop(declared.source.clone().map(|source| spec.inputs.insert(input.clone(), source))),
        }
    }
}

fn unknown<'a>(
    what: &str,
    name: &str,
    given: &str,
    known: impl Iterator<Item = &'a String> + Clone,
) -> String {
    let known: Vec<&str> = known.map(String::as_str).collect();
    // People write parameters in the case they like.
    let near = nearest(given, known.iter().copied())
        .or_else(|| known.iter().copied().find(|known| known.eq_ignore_ascii_case(given)));
    match near {
        Some(near) => format!("is no {what} of {name}; did you mean `{near}`?"),
        None if known.is_empty() => format!("is no {what} of {name}, which has none"),
        None => format!("is no {what} of {name}; there are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{ActionInput, Kind, Parameter};
    use crate::job::Input;

    fn convert() -> Action {
        let mut action = Action::new("convert", "alpine:3");
        action.job.env.insert("FIXED".into(), "yes".into());
        action.job.labels.insert("team".into(), "rsl".into());
        let text = |text: &str| Some(text.to_owned());
        let epochs = Parameter {
            kind: Kind::Int,
            default: text("20"),
            min: text("1"),
            max: text("500"),
            ..Parameter::default()
        };
        let format = Parameter {
            kind: Kind::Choice,
            required: true,
            choices: vec!["mp4".into(), "mkv".into()],
            ..Parameter::default()
        };
        let seed =
            Parameter { kind: Kind::Int, default: text("7"), adjustable: false, ..Parameter::default() };
        action.parameters =
            [("EPOCHS", epochs), ("FORMAT", format), ("SEED", seed), ("NOTE", Parameter::default())]
                .map(|(name, parameter)| (name.to_owned(), parameter))
                .into();
        let bags = ActionInput { required: true, description: "the bags".into(), ..ActionInput::default() };
        let weights = ActionInput {
            source: Some(Input::Url { url: "https://x.example/w".into() }),
            ..ActionInput::default()
        };
        action.inputs = [("bags".to_owned(), bags), ("weights".to_owned(), weights)].into();
        action.adjustable = ["resources.memory".to_owned()].into();
        action
    }

    fn say(set: &[(&str, &str)], said: &[&str]) -> Invocation {
        Invocation {
            action: "convert".parse().expect("a name"),
            set: set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            said: said.iter().map(|path| (*path).to_owned()).collect(),
        }
    }

    fn with_bags() -> JobSpec {
        let mut job = JobSpec::for_image("");
        job.inputs.insert("bags".into(), Input::Job { job: "abcdefgh".into(), path: String::new() });
        job
    }

    #[test]
    fn what_a_run_says_and_what_it_leaves_out_make_the_job() {
        let mut job = with_bags();
        job.resources.memory_bytes = 8 << 30;
        job.labels.insert("run".into(), "1".into());
        job.priority = 50;
        let invocation = say(&[("FORMAT", "mp4"), ("EPOCHS", "030")], &["resources.memory", "labels"]);
        let spec = resolve(&convert(), 3, &invocation, &job).expect("a job");
        let env: Vec<_> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(env, ["EPOCHS=30", "FIXED=yes", "FORMAT=mp4", "SEED=7"]);
        assert_eq!(spec.inputs.keys().collect::<Vec<_>>(), ["bags", "weights"]);
        assert_eq!((spec.resources.memory_bytes, spec.labels.len()), (8 << 30, 2));
        assert_eq!(spec.name.as_deref(), Some("convert"), "its jobs are found by its name");
        assert_eq!(spec.priority, 0, "what is not named as said does not count");
    }

    #[test]
    fn all_that_is_wrong_with_a_run_is_told_at_once() {
        let mut job = JobSpec::for_image("evil");
        job.inputs.insert("bag".into(), Input::Url { url: "https://x.example/y".into() });
        let set = [("EPOCHS", "many"), ("FROMAT", "mp4"), ("SEED", "8"), ("FIXED", "no"), ("note", "x")];
        let errors = resolve(&convert(), 3, &say(&set, &["image", "env", "deadlines.run"]), &job);
        let errors: Vec<_> = errors.expect_err("wrong").iter().map(ToString::to_string).collect();
        let expected = [
            "set.FIXED: is fixed by convert@3",
            "set.FROMAT: is no parameter of convert@3; did you mean `FORMAT`?",
            "set.note: is no parameter of convert@3; did you mean `NOTE`?",
            "set.EPOCHS: `many` is not a whole number",
            "set.FORMAT: is missing: convert@3 needs one of mp4, mkv",
            "set.SEED: is fixed by convert@3: its author has not marked it as adjustable",
            "inputs.bag: is no input of convert@3; did you mean `bags`?",
            "inputs.bags: is missing: convert@3 needs a source for it (the bags)",
            "deadlines.run: is fixed by the action: its author has not marked it as adjustable",
            "env: belongs to the action; its parameters are set with `set`",
            "image: belongs to the action, and no run can say it otherwise",
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn what_comes_out_is_judged_as_any_job_is() {
        let mut job = with_bags();
        job.resources.memory_bytes = 1;
        let errors = resolve(&convert(), 1, &say(&[("FORMAT", "mp4")], &["resources.memory"]), &job);
        assert_eq!(
            errors.expect_err("too little").iter().next().map(|e| e.path.as_str()),
            Some("resources.memory")
        );
    }
}
