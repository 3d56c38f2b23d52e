//! Words of the author's own, and what is asked of agents' words.

use super::{FieldErrors, JobSpec};
use crate::job::LabelTest;

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
    for (name, values) in &spec.agents {
        if !name_fits(name) {
            errors.push(format!("agents.{name}"), name_rule);
        } else if values.is_empty() {
            errors.push(format!("agents.{name}"), "names no value, so no agent could match");
        }
    }
    for rule in &spec.agent_rules {
        let path = format!("agents.{}", rule.label);
        if !name_fits(&rule.label) {
            errors.push(path, name_rule);
        } else if let LabelTest::In(values) | LabelTest::NotIn(values) = &rule.test
            && values.is_empty()
        {
            errors.push(path, "names no value to compare with");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::job::{AgentRule, JobSpec, LabelTest, validate};

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
