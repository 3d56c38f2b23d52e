//! Every rule an action must keep before it is accepted, with all mistakes told at once. What of it is a job is judged
//! by `job::validate`, as if it ran now.

use super::{Action, fields};
use crate::{
    fields::{FieldError, FieldErrors},
    job::{self, check_name},
};

/// A page of text; the rest belongs into the image's own documentation.
const LONGEST_DESCRIPTION: usize = 8 << 10;
const MOST_PARAMETERS: usize = 500;
const MOST_INPUTS: usize = 100;

/// What is wrong with it, if anything is. Paths are those of the document.
pub fn validate(action: &Action) -> Result<(), FieldErrors> {
    let mut errors = FieldErrors::new();
    if action.name.is_empty() {
        errors.push("name", "is missing: an action is run by its name");
    } else {
        errors.take(check_name("name", &action.name));
    }
    errors.take(description("description", &action.description));
    for (path, count, most) in
        [("env", action.parameters.len(), MOST_PARAMETERS), ("inputs", action.inputs.len(), MOST_INPUTS)]
    {
        if count > most {
            errors.push(path, format!("declares {count}; {most} at most"));
        }
    }
    for (name, parameter) in &action.parameters {
        let path = format!("env.{name}");
        if action.job.env.contains_key(name) || action.job.secret_env.contains_key(name) {
            errors.push(&path, "is given twice: as a value and as a parameter");
        }
        errors.take(description(&format!("{path}.description"), &parameter.description));
        parameter.check(&path, &mut errors);
    }
    for (name, input) in &action.inputs {
        let path = format!("inputs.{name}");
        errors.take(check_name(&path, name));
        errors.take(description(&format!("{path}.description"), &input.description));
        if input.required && input.source.is_some() {
            errors.push(format!("{path}.required"), "names a source too: a run that says nothing takes that");
        }
        if !input.adjustable && input.source.is_none() {
            let problem = "is false and no source is named: it would be empty ever";
            errors.push(format!("{path}.adjustable"), problem);
        }
    }
    for field in &action.adjustable {
        errors.take(fields::check(field));
    }
    if let Err(more) = job::validate(&as_it_is(action)) {
        errors.merge(more);
    }
    errors.into_result(())
}

/// The job it makes if nothing is said, whether that is enough or not.
fn as_it_is(action: &Action) -> job::JobSpec {
    let mut spec = action.job.clone();
    let defaults = action.parameters.iter().filter(|(name, _)| !spec.secret_env.contains_key(*name));
    let defaults: Vec<_> = defaults
        .map(|(name, parameter)| (name.clone(), parameter.default.clone().unwrap_or_default()))
        .collect();
    spec.env.extend(defaults);
    let sources =
        action.inputs.iter().filter_map(|(name, input)| Some((name.clone(), input.source.clone()?)));
    spec.inputs.extend(sources);
    spec
}

fn description(path: &str, text: &str) -> Result<(), FieldError> {
    if text.len() > LONGEST_DESCRIPTION {
        return Err(FieldError::new(path, "is longer than 8 KiB: a few sentences do"));
    }
    if text.chars().any(|letter| letter.is_control() && letter != '\n' && letter != '\t') {
        return Err(FieldError::new(path, "has control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{ActionInput, Kind, Parameter};
    use crate::job::Input;

    fn paths(change: impl FnOnce(&mut Action)) -> Vec<String> {
        let mut action = Action::new("convert", "alpine:3");
        change(&mut action);
        validate(&action).err().into_iter().flatten().map(|error| error.path).collect()
    }

    #[test]
    fn a_name_and_an_image_are_an_action() {
        assert_eq!(paths(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn all_mistakes_come_together() {
        let found = paths(|action| {
            action.name = "Convert It".into();
            action.description = "\u{1b}[31m".into();
            action.job.image = String::new();
            action.job.env.insert("A".into(), "x".into());
            action.parameters.insert("A".into(), Parameter::default());
            action.parameters.insert("B".into(), Parameter { kind: Kind::Choice, ..Parameter::default() });
            action.parameters.insert("C=D".into(), Parameter::default());
            let url = Some(Input::Url { url: "http://x".into() });
            action.inputs.insert(
                "scans".into(),
                ActionInput { required: true, source: url, ..ActionInput::default() },
            );
            action.inputs.insert("Big".into(), ActionInput { adjustable: false, ..ActionInput::default() });
            action.adjustable =
                ["resources.mem".to_owned(), "image".to_owned(), "deadlines".to_owned()].into();
        });
        assert_eq!(
            found,
            [
                "name",
                "description",
                "env.A",
                "env.B.choices",
                "inputs.Big",
                "inputs.Big.adjustable",
                "inputs.scans.required",
                "adjustable",
                "adjustable",
                "image",
                "env.C=D",
                "inputs.scans.url",
            ]
        );
    }
}
