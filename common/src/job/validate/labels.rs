//! Words of the author's own, and what is asked of agents' words.

use super::{FieldErrors, JobSpec};
use crate::job::LabelTest;

/// Labels asked for, and values of one: all are compared with every machine's, with every claim.
const MOST_ASKED: usize = 64;
const MOST_VALUES: usize = 64;
const LONGEST_VALUE: usize = 256;

pub(super) fn check(spec: &JobSpec, errors: &mut FieldErrors) {
    let name_fits = |name: &str| {
        (1..=63).contains(&name.len())
            && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-/".contains(&b))
    };
    let name_rule = "a label's name is 1 to 63 letters, digits, `_`, `.`, `-`, `/`";
    for (name, value) in &spec.labels {
        if !name_fits(name) {
            errors.push(format!("labels.{name}"), name_rule);
        } else if value.len() > 256 || value.chars().any(char::is_control) {
            errors.push(format!("labels.{name}"), "a value is at most 256 characters on one line");
        }
    }
    let asked = spec.agents.len() + spec.agent_rules.len();
    if asked > MOST_ASKED {
        return errors.push("agents", format!("asks for {asked} labels; at most {MOST_ASKED}"));
    }
    for (name, values) in &spec.agents {
        if !name_fits(name) {
            errors.push(format!("agents.{name}"), name_rule);
        } else if values.is_empty() {
            errors.push(format!("agents.{name}"), "names no value, so no agent could match");
        } else {
            few(format!("agents.{name}"), values, errors);
        }
    }
    for rule in &spec.agent_rules {
        let path = format!("agents.{}", rule.label);
        if !name_fits(&rule.label) {
            errors.push(path, name_rule);
        } else if let LabelTest::In(values) | LabelTest::NotIn(values) = &rule.test {
            if values.is_empty() {
                errors.push(path, "names no value to compare with");
            } else {
                few(path, values, errors);
            }
        }
    }
}

fn few(path: String, values: &[String], errors: &mut FieldErrors) {
    if values.len() > MOST_VALUES {
        errors.push(path, format!("names {} values; at most {MOST_VALUES}", values.len()));
    } else if values.iter().any(|value| value.len() > LONGEST_VALUE) {
        errors.push(path, format!("has a value of more than {LONGEST_VALUE} bytes"));
    }
}

#[cfg(test)]
mod tests {
    use crate::job::{AgentRule, JobSpec, LabelTest, validate};

    #[test]
    fn labels_that_would_hold_up_every_claim_are_not_taken() {
        let wrong = |change: fn(&mut JobSpec)| {
            let mut spec = JobSpec::for_image("alpine");
            change(&mut spec);
            validate(&spec).err().into_iter().flatten().map(|error| error.path).collect::<Vec<_>>()
        };
        let many = |spec: &mut JobSpec| {
            spec.agents = (0..65).map(|n| (format!("l{n}"), vec!["a".to_owned()])).collect();
        };
        assert_eq!(wrong(many), ["agents"]);
        let values = |spec: &mut JobSpec| {
            spec.agent_rules = vec![AgentRule::new("rack", LabelTest::NotIn(vec!["a".into(); 65]))];
        };
        assert_eq!(wrong(values), ["agents.rack"]);
        assert_eq!(
            wrong(|spec| drop(spec.agents.insert("site".into(), vec!["x".repeat(257)]))),
            ["agents.site"]
        );
    }

    #[test]
    fn rules_name_a_label_and_something_to_compare_with() {
        let mut spec = JobSpec::for_image("alpine");
        spec.agent_rules = vec![
            AgentRule::new("rack", LabelTest::Gt(3)),
            AgentRule::new("no good", LabelTest::Exists),
            AgentRule::new("site", LabelTest::NotIn(vec![])),
        ];
        let errors = validate(&spec).expect_err("two are wrong");
        let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["agents.no good", "agents.site"]);
    }
}
