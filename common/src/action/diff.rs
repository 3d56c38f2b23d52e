//! What differs between two versions of an action, field by field, as its document names them.

use super::Action;
use crate::{fields::join, job::file::write_action};
use serde_json::Value;
use std::collections::BTreeMap;

/// One field that differs. What is not said is the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `resources.memory`.
    pub path: String,
    /// As the document has it; `None`: not said.
    pub old: Option<String>,
    pub new: Option<String>,
}

/// In order of their paths. `None`: there was nothing before.
pub fn diff(old: Option<&Action>, new: &Action) -> Vec<Change> {
    let mut fields: BTreeMap<String, (Option<String>, Option<String>)> = BTreeMap::new();
    if let Some(old) = old {
        leaves("", &write_action(old), &mut |path, text| fields.entry(path).or_default().0 = Some(text));
    }
    leaves("", &write_action(new), &mut |path, text| fields.entry(path).or_default().1 = Some(text));
    let changes = fields.into_iter().filter(|(_, (old, new))| old != new);
    changes.map(|(path, (old, new))| Change { path, old, new }).collect()
}

/// Tables are gone through; a list is one value, for its order is part of it.
fn leaves(path: &str, value: &Value, found: &mut impl FnMut(String, String)) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                leaves(&join(path, key), value, found);
            }
        }
        Value::String(text) => found(path.to_owned(), text.clone()),
        other => found(path.to_owned(), other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Kind, Parameter};

    #[test]
    fn only_what_differs_is_told_and_each_field_by_itself() {
        let old = Action::new("convert", "alpine:3");
        assert_eq!(diff(Some(&old), &old), []);
        let mut new = old.clone();
        new.job.image = "alpine:4".into();
        new.job.resources.memory_bytes = 8 << 30;
        new.job.command = Some(vec!["a".into(), "b".into()]);
        let epochs = Parameter { kind: Kind::Int, default: Some("20".into()), ..Parameter::default() };
        new.parameters.insert("EPOCHS".into(), epochs);
        let table = |old: &Action, new: &Action| {
            let one = |change: Change| {
                let shown = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
                format!("{}: {} -> {}", change.path, shown(change.old), shown(change.new))
            };
            diff(Some(old), new).into_iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(
            table(&old, &new),
            [
                "command: - -> [\"a\",\"b\"]",
                "env.EPOCHS.default: - -> 20",
                "env.EPOCHS.type: - -> int",
                "image: alpine:3 -> alpine:4",
                "resources.memory: - -> 8GiB",
            ]
        );
        assert_eq!(table(&new, &old).len(), 5, "the other way too");
        let first: Vec<_> = diff(None, &old).into_iter().map(|change| change.path).collect();
        assert_eq!(first, ["image", "kind", "name"]);
    }
}
