//! What of an event becomes a variable of the job: what its author named, and nothing else.

use super::Setting;
use serde_json::Value;
use std::collections::BTreeMap;

/// Of one value. An event is no place for documents.
const LONGEST: usize = 4 << 10;

/// Why an event does not fit a trigger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("set.{name}: {message}")]
pub struct SetError {
    pub name: String,
    pub message: String,
}

/// The values that `set` gives for this event. What the event does not have is left out.
pub fn apply(set: &BTreeMap<String, Setting>, payload: &Value) -> Result<BTreeMap<String, String>, SetError> {
    let mut values = BTreeMap::new();
    for (name, setting) in set {
        let wrong = |message: String| SetError { name: name.clone(), message };
        let value = match setting {
            Setting::Value(value) => value.clone(),
            Setting::Payload(pointer) => match payload.pointer(pointer) {
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                Some(Value::Bool(truth)) => truth.to_string(),
                Some(Value::Array(_) | Value::Object(_)) => {
                    return Err(wrong(format!("`{pointer}` is no single value in what happened")));
                }
            },
        };
        if value.len() > LONGEST {
            return Err(wrong(format!("has {} bytes; {LONGEST} at most", value.len())));
        }
        if value.contains('\0') {
            return Err(wrong("has a NUL character".to_owned()));
        }
        values.insert(name.clone(), value);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn payload(pointer: &str) -> Setting {
        Setting::Payload(pointer.to_owned())
    }

    #[test]
    fn only_what_was_named_is_taken_and_only_single_values() {
        let event = json!({"object": {"key": "a/b", "size": 7, "good": true}, "image": "evil", "none": null});
        let set = [
            ("FILE", payload("/object/key")),
            ("SIZE", payload("/object/size")),
            ("GOOD", payload("/object/good")),
            ("GONE", payload("/object/gone")),
            ("NONE", payload("/none")),
            ("FIXED", Setting::Value("x".into())),
        ];
        let set = set.map(|(name, setting)| (name.to_owned(), setting)).into();
        let got = apply(&set, &event).expect("fits");
        let got: Vec<_> = got.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(got, [("FILE", "a/b"), ("FIXED", "x"), ("GOOD", "true"), ("SIZE", "7")]);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for (event, says) in [
            (json!({"a": {"b": 1}}), "set.X: `/a` is no single value"),
            (json!({"a": "x".repeat(5000)}), "set.X: has 5000 bytes"),
            (json!({"a": "x\u{0}y"}), "set.X: has a NUL"),
        ] {
            let error = apply(&[("X".to_owned(), payload("/a"))].into(), &event).expect_err(says);
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
