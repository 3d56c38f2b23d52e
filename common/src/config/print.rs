//! Settings as `--print-config` shows them: TOML that can be used as a file, without the secrets.

use crate::units::HumanDuration;
use serde::Serialize;
use serde_json::{Map, Value};
use std::time::Duration;

/// What a secret is shown as.
const HIDDEN: &str = "(hidden)";
const SECRETS: [&str; 4] = ["secret", "token", "password", "credential"];

pub fn print<T: Serialize>(settings: &T) -> String {
    let mut value = serde_json::to_value(settings).unwrap_or_default();
    make_readable(&mut value);
    toml::to_string_pretty(&value).unwrap_or_else(|error| format!("# cannot be shown as TOML: {error}\n"))
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
            table.retain(|_, value| !value.is_null());
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
