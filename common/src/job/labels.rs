//! What a job asks of the labels of agents, beyond a list of values.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One label, and what holds of it on every agent that may run the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRule {
    pub label: String,
    pub test: LabelTest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelTest {
    In(Vec<String>),
    /// Also where there is no such label.
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    /// A whole number above this one.
    Gt(i64),
    /// A whole number below this one.
    Lt(i64),
}

impl AgentRule {
    pub fn new(label: impl Into<String>, test: LabelTest) -> Self {
        Self { label: label.into(), test }
    }

    /// `have`: the agent's value of the label.
    pub fn holds(&self, have: Option<&str>) -> bool {
        let number = || have.and_then(|have| have.parse::<i64>().ok());
        match &self.test {
            LabelTest::In(any) => have.is_some_and(|have| any.iter().any(|value| value == have)),
            LabelTest::NotIn(none) => !have.is_some_and(|have| none.iter().any(|value| value == have)),
            LabelTest::Exists => have.is_some(),
            LabelTest::DoesNotExist => have.is_none(),
            LabelTest::Gt(bound) => number().is_some_and(|number| number > *bound),
            LabelTest::Lt(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

/// As it is typed after `--agent`.
impl fmt::Display for AgentRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, test } = self;
        match test {
            LabelTest::In(any) => write!(f, "{label}={}", any.join("|")),
            LabelTest::NotIn(none) => write!(f, "{label}!={}", none.join("|")),
            LabelTest::Exists => write!(f, "{label}"),
            LabelTest::DoesNotExist => write!(f, "!{label}"),
            LabelTest::Gt(bound) => write!(f, "{label}>{bound}"),
            LabelTest::Lt(bound) => write!(f, "{label}<{bound}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_holds_where_it_should() {
        let some = || vec!["a".to_owned(), "b".to_owned()];
        let table: [(LabelTest, Option<&str>, bool); 13] = [
            (LabelTest::In(some()), Some("a"), true),
            (LabelTest::In(some()), Some("c"), false),
            (LabelTest::In(some()), None, false),
            (LabelTest::NotIn(some()), Some("a"), false),
            (LabelTest::NotIn(some()), Some("c"), true),
            (LabelTest::NotIn(some()), None, true),
            (LabelTest::Exists, Some(""), true),
            (LabelTest::Exists, None, false),
            (LabelTest::DoesNotExist, None, true),
            (LabelTest::Gt(3), Some("4"), true),
            (LabelTest::Gt(3), Some("3"), false),
            (LabelTest::Gt(3), Some("many"), false),
            (LabelTest::Lt(-2), Some("-3"), true),
        ];
        for (test, have, holds) in table {
            let rule = AgentRule::new("site", test);
            assert_eq!(rule.holds(have), holds, "{rule} of {have:?}");
        }
    }
}
