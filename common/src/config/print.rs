//! Settings as `--print-config` shows them: TOML that can be used as a file, without the secrets.

use crate::units::HumanDuration;
use serde::Serialize;
use serde_json::{Map, Value};
use std::time::Duration;

/// What a secret is shown as.
const HIDDEN: &str = "(hidden)";
const SECRETS: [&str; 4] = ["secret", "token", "password", "credential"];

/// What is not set is commented out, with the value of `example`.
pub fn print<T: Serialize>(settings: &T, example: &T) -> String {
    let [mut value, mut example] = [settings, example].map(|of| serde_json::to_value(of).unwrap_or_default());
    make_readable(&mut value);
    make_readable(&mut example);
    let mut unset = Unset::default();
    unset.mark(&mut value, &example, "");
    match toml::to_string_pretty(&value) {
        Ok(text) => unset.comment_out(&text),
        Err(error) => format!("# cannot be shown as TOML: {error}\n"),
    }
}

/// Settings without a value, which TOML cannot say.
#[derive(Debug, Default)]
struct Unset {
    /// As TOML would write them, by the number in their marks.
    examples: Vec<String>,
    /// Whole tables, as text.
    tables: String,
}

const MARK: &str = "(not set) ";

impl Unset {
    fn mark(&mut self, value: &mut Value, example: &Value, path: &str) {
        let Value::Object(table) = value else { return };
        let mut whole = Vec::new();
        for (key, value) in table.iter_mut() {
            let example = example.get(key).unwrap_or(&Value::Null);
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match (&value, example) {
                (Value::Null, Value::Object(fields)) => {
                    let text = toml::to_string_pretty(fields).unwrap_or_default();
                    let lines = text.lines().map(|line| format!("# {line}\n")).collect::<String>();
                    self.tables.push_str(&format!("\n# [{path}]\n{lines}"));
                    whole.push(key.clone());
                }
                (Value::Null, example) => {
                    let example =
                        toml::Value::try_from(example).map_or_else(|_| String::new(), |v| v.to_string());
                    *value = format!("{MARK}{}", self.examples.len()).into();
                    self.examples.push(example);
                }
                _ => self.mark(value, example, &path),
            }
        }
        table.retain(|key, _| !whole.contains(key));
    }

    fn comment_out(&self, text: &str) -> String {
        let mut shown = String::new();
        if !self.examples.is_empty() || !self.tables.is_empty() {
            shown.push_str("# Lines that begin with # are not set; their values are examples.\n");
        }
        for line in text.lines() {
            let marked = line.split_once(&format!(" = \"{MARK}"));
            let example = marked.and_then(|(key, number)| {
                Some((key, self.examples.get(number.trim_end_matches('"').parse::<usize>().ok()?)?))
            });
            match example {
                Some((key, example)) => shown.push_str(&format!("# {key} = {example}\n")),
                None => shown.push_str(&format!("{line}\n")),
            }
        }
        shown + &self.tables
    }
}

/// How serde writes `std`'s durations.
pub(super) fn is_duration(table: &Map<String, Value>) -> bool {
    table.len() == 2
        && table.get("secs").is_some_and(Value::is_u64)
        && table.get("nanos").is_some_and(Value::is_u64)
}

fn make_readable(value: &mut Value) {
    match value {
        Value::Object(table) if is_duration(table) => {
            let part = |key| table.get(key).and_then(Value::as_u64).unwrap_or_default();
            let length = Duration::from_secs(part("secs")) + Duration::from_nanos(part("nanos"));
            *value = HumanDuration(length).to_string().into();
        }
        Value::Object(table) => {
            for (key, value) in table.iter_mut() {
                let secret = SECRETS.iter().any(|word| key.contains(word));
                if secret && value.as_str().is_some_and(|text| !text.is_empty()) {
                    *value = HIDDEN.into();
                } else {
                    make_readable(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_readable),
        Value::String(text) => hide_password(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `amqp://user:password@host` keeps everything but the password.
fn hide_password(text: &mut String) {
    let Ok(mut url) = url::Url::parse(text) else { return };
    if url.password().is_some() && url.set_password(Some("hidden")).is_ok() {
        *text = url.into();
    }
}
