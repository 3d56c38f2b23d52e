//! Variables with a type: which texts one takes, and how that is said. The definition and every value that a run gives
//! are judged here alone.

use crate::{did_you_mean, fields::FieldErrors, nearest};
use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, ops::RangeInclusive};

/// Of a pattern, compiled: far more than anything that a person can read.
const PATTERN_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    String,
    /// A whole number.
    Int,
    Number,
    Bool,
    /// One of a list.
    Choice,
}

/// A variable that a run may set. Values are texts, as the container gets them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    pub kind: Kind,
    pub description: String,
    /// No job without a value.
    pub required: bool,
    /// Whether a run may give a value.
    pub adjustable: bool,
    /// The value if a run gives none; `None`: the variable is not there then.
    pub default: Option<String>,
    /// Not empty: one of these.
    pub choices: Vec<String>,
    /// Of numbers.
    pub min: Option<String>,
    pub max: Option<String>,
    /// A regular expression that matches the whole text.
    pub pattern: Option<String>,
}

impl Default for Parameter {
    fn default() -> Self {
        Self {
            kind: Kind::String,
            description: String::new(),
            required: false,
            adjustable: true,
            default: None,
            choices: Vec::new(),
            min: None,
            max: None,
            pattern: None,
        }
    }
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::Choice => "choice",
        }
    }

    const fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Number)
    }

    /// The text as the container gets it, or what it is not.
    fn read(self, text: &str) -> Result<String, String> {
        let plain = text.trim();
        let wrong = |what: &str| Err(format!("`{}` is not {what}", shown(text)));
        match self {
            Self::String | Self::Choice => Ok(text.to_owned()),
            Self::Int => match plain.parse::<i64>() {
                Ok(number) => Ok(number.to_string()),
                Err(_) => wrong("a whole number"),
            },
            Self::Number => match number(plain) {
                Some(_) => Ok(plain.to_owned()),
                None => wrong("a number"),
            },
            Self::Bool => match plain.to_ascii_lowercase().as_str() {
                truth @ ("true" | "false") => Ok(truth.to_owned()),
                _ => wrong("true or false"),
            },
        }
    }

    /// Whether `a` is below `b`; both are numbers of this kind.
    fn is_below(self, a: &str, b: &str) -> bool {
        match self {
            // Beyond 2^53 neighbours are the same to floating point.
            Self::Int => a.parse::<i64>().ok() < b.parse::<i64>().ok(),
            _ => number(a) < number(b),
        }
    }
}

impl Parameter {
    /// The value as the container gets it, or why it will not do.
    pub fn value(&self, text: &str) -> Result<String, String> {
        let value = self.kind.read(text)?;
        if !self.choices.is_empty() && !self.choices.contains(&value) {
            let all = self.choices.join(", ");
            let near = nearest(&value, self.choices.iter().map(String::as_str));
            let hint = did_you_mean(near);
            return Err(format!("`{}` is not one of {all}{hint}", shown(&value)));
        }
        let below = self.min.as_ref().is_some_and(|min| self.kind.is_below(&value, min));
        let above = self.max.as_ref().is_some_and(|max| self.kind.is_below(max, &value));
        if below || above {
            return Err(format!("{value} is not {}", self.range()));
        }
        if let Some(pattern) = &self.pattern
            && !whole(pattern).is_ok_and(|known| known.is_match(&value))
        {
            return Err(format!("`{}` does not match `{pattern}`", shown(&value)));
        }
        Ok(value)
    }

    /// What is wrong with the definition, at its path.
    pub(super) fn check(&self, path: &str, errors: &mut FieldErrors) {
        let at = |field: &str| format!("{path}.{field}");
        let bounds = [("min", &self.min), ("max", &self.max)];
        for (field, bound) in bounds {
            match bound {
                Some(_) if !self.kind.is_number() => {
                    errors.push(at(field), format!("goes with int and number, not with {}", self.kind));
                }
                Some(bound) => drop(self.kind.read(bound).map_err(|problem| errors.push(at(field), problem))),
                None => {}
            }
        }
        if let (Some(min), Some(max)) = (&self.min, &self.max)
            && self.kind.is_below(max, min)
        {
            errors.push(at("max"), format!("is below min: nothing is {}", self.range()));
        }
        self.check_choices(path, errors);
        if let Some(pattern) = &self.pattern {
            if self.kind != Kind::String {
                errors.push(at("pattern"), format!("goes with string, not with {}", self.kind));
            } else if let Err(problem) = whole(pattern) {
                errors.push(at("pattern"), problem);
            }
        }
        match &self.default {
            Some(_) if self.required => {
                errors.push(at("required"), "has a default too: a run that says nothing takes that");
            }
            Some(default) => drop(self.value(default).map_err(|problem| errors.push(at("default"), problem))),
            None if !self.adjustable => {
                errors
                    .push(at("adjustable"), "is false and there is no default: it would have no value ever");
            }
            None => {}
        }
    }

    fn check_choices(&self, path: &str, errors: &mut FieldErrors) {
        let at = format!("{path}.choices");
        match self.kind {
            Kind::Choice if self.choices.is_empty() => errors.push(at, "is empty: a choice is one of a list"),
            Kind::Bool if !self.choices.is_empty() => {
                errors.push(at, "goes not with bool: it is true or false")
            }
            _ => {
                let mut seen = BTreeSet::new();
                for (index, choice) in self.choices.iter().enumerate() {
                    let at = format!("{at}[{index}]");
                    if let Err(problem) = self.kind.read(choice) {
                        errors.push(at, problem);
                    } else if !seen.insert(choice) {
                        errors.push(at, format!("`{}` is there twice", shown(choice)));
                    }
                }
            }
        }
    }

    /// What it takes, for people: `a whole number between 1 and 500`.
    pub fn takes(&self) -> String {
        if !self.choices.is_empty() {
            return format!("one of {}", self.choices.join(", "));
        }
        let what = match self.kind {
            Kind::String | Kind::Choice => "a text",
            Kind::Int => "a whole number",
            Kind::Number => "a number",
            Kind::Bool => "true or false",
        };
        match (&self.pattern, self.min.is_some() || self.max.is_some()) {
            (Some(pattern), _) => format!("{what} that matches {pattern}"),
            (None, true) => format!("{what} {}", self.range()),
            (None, false) => what.to_owned(),
        }
    }

    fn range(&self) -> String {
        match (&self.min, &self.max) {
            (Some(min), Some(max)) => format!("between {min} and {max}"),
            (Some(min), None) => format!("{min} or more"),
            (None, Some(max)) => format!("{max} or less"),
            (None, None) => "any".to_owned(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn number(text: &str) -> Option<f64> {
    const FINITE: RangeInclusive<f64> = f64::MIN..=f64::MAX;
    text.parse().ok().filter(|number| FINITE.contains(number))
}

fn whole(pattern: &str) -> Result<Regex, String> {
    // Alone first: `a)(b` would only fit together with what is put around it.
    Regex::new(pattern).map_err(|error| {
        let line = error.to_string();
        format!("`{}` is no regular expression: {}", shown(pattern), line.lines().last().unwrap_or_default())
    })?;
    RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(PATTERN_BYTES)
        .build()
        .map_err(|_| format!("`{}` is too large a regular expression", shown(pattern)))
}

/// A long value fills no screen.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Kind) -> Parameter {
        Parameter { kind, ..Parameter::default() }
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn each_kind_takes_what_it_is_and_nothing_else() {
        let between = Parameter { min: text("1"), max: text("500"), ..of(Kind::Int) };
        let part = Parameter { min: text("0"), max: text("0.5"), ..of(Kind::Number) };
        let formats = Parameter { choices: vec!["mp4".into(), "mkv".into()], ..of(Kind::Choice) };
        let sizes = Parameter { choices: vec!["8".into(), "16".into()], ..of(Kind::Int) };
        let hex = Parameter { pattern: text("[0-9a-f]+"), ..of(Kind::String) };
        let table: [(&Parameter, &str, Result<&str, &str>); 23] = [
            (&of(Kind::String), " as it is ", Ok(" as it is ")),
            (&of(Kind::Int), "007", Ok("7")),
            (&of(Kind::Int), " -3", Ok("-3")),
            (&of(Kind::Int), "1.5", Err("is not a whole number")),
            (&of(Kind::Int), "", Err("is not a whole number")),
            (&of(Kind::Number), "1.50", Ok("1.50")),
            (&of(Kind::Number), "1e-3", Ok("1e-3")),
            (&of(Kind::Number), "nan", Err("is not a number")),
            (&of(Kind::Number), "inf", Err("is not a number")),
            (&of(Kind::Bool), "True", Ok("true")),
            (&of(Kind::Bool), "yes", Err("is not true or false")),
            (&between, "1", Ok("1")),
            (&between, "501", Err("501 is not between 1 and 500")),
            (&between, "0", Err("0 is not between 1 and 500")),
            (&part, "0.5", Ok("0.5")),
            (&part, "0.51", Err("is not between 0 and 0.5")),
            (&formats, "mp4", Ok("mp4")),
            (&formats, "mp3", Err("is not one of mp4, mkv; did you mean `mp4`?")),
            (&formats, "", Err("is not one of mp4, mkv")),
            (&sizes, "016", Ok("16")),
            (&sizes, "7", Err("is not one of 8, 16")),
            (&hex, "c0ffee", Ok("c0ffee")),
            (&hex, "c0ffee!", Err("does not match `[0-9a-f]+`")),
        ];
        for (parameter, given, expected) in table {
            match (parameter.value(given), expected) {
                (Ok(value), Ok(good)) => assert_eq!(value, good, "{given}"),
                (Err(problem), Err(says)) => assert!(problem.contains(says), "{given}: {problem}"),
                (found, _) => panic!("{given}: {found:?}"),
            }
        }
    }

    #[test]
    fn neighbours_beyond_floating_point_are_told_apart() {
        let bounded = Parameter { max: text("9007199254740992"), ..of(Kind::Int) };
        assert!(bounded.value("9007199254740993").is_err());
    }

    #[test]
    fn a_definition_that_makes_no_sense_is_refused() {
        let paths = |parameter: Parameter| {
            let mut errors = FieldErrors::new();
            parameter.check("env.X", &mut errors);
            errors.into_iter().map(|error| error.path).collect::<Vec<_>>()
        };
        let table: [(Parameter, &[&str]); 12] = [
            (of(Kind::Int), &[]),
            (Parameter { min: text("1"), ..of(Kind::String) }, &["env.X.min"]),
            (Parameter { min: text("a"), max: text("b"), ..of(Kind::Int) }, &["env.X.min", "env.X.max"]),
            (Parameter { min: text("5"), max: text("4"), ..of(Kind::Int) }, &["env.X.max"]),
            (of(Kind::Choice), &["env.X.choices"]),
            (Parameter { choices: vec!["a".into(), "a".into()], ..of(Kind::Choice) }, &["env.X.choices[1]"]),
            (Parameter { choices: vec!["a".into()], ..of(Kind::Int) }, &["env.X.choices[0]"]),
            (Parameter { pattern: text("("), ..of(Kind::String) }, &["env.X.pattern"]),
            (Parameter { pattern: text("a)(b"), ..of(Kind::String) }, &["env.X.pattern"]),
            (Parameter { default: text("x"), ..of(Kind::Int) }, &["env.X.default"]),
            (Parameter { default: text("1"), required: true, ..of(Kind::Int) }, &["env.X.required"]),
            (Parameter { adjustable: false, ..of(Kind::Int) }, &["env.X.adjustable"]),
        ];
        for (parameter, expected) in table {
            assert_eq!(paths(parameter.clone()), expected, "{parameter:?}");
        }
    }

    #[test]
    fn what_it_takes_is_said_in_words() {
        let bounded = Parameter { min: text("1"), ..of(Kind::Int) };
        assert_eq!(bounded.takes(), "a whole number 1 or more");
        let choices = Parameter { choices: vec!["a".into(), "b".into()], ..of(Kind::Choice) };
        assert_eq!(choices.takes(), "one of a, b");
    }
}
