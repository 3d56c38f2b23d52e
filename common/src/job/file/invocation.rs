//! Jobs that run an action by its name: `action`, `set`, and those fields of a job that the run says. What they mean is
//! the version's to say, on the controller; here only their form is judged.

use super::words::Scalar;
use crate::action::{ActionRef, Invocation};
use crate::fields::FieldErrors;
use crate::tree::{self, Node, Value};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Fields of a job document that no action has.
pub(super) const OF_A_RUN: [&str; 2] = ["action", "set"];
/// What stands for itself: each of theirs is said or not.
const PARTS: [&str; 3] = ["resources", "deadlines", "kleinkram"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RunDocument {
    action: String,
    set: BTreeMap<String, Scalar>,
}

/// What the document says of an action, if it names one.
pub(super) fn read(node: &Node, errors: &mut FieldErrors) -> Option<Invocation> {
    let Value::Table(entries) = &node.value else { return None };
    if node.get("action").is_none() {
        if node.get("set").is_some() {
            errors.push("set", "goes with `action: NAME`: those are its parameters; a job has `env`");
        }
        return None;
    }
    let own = entries.iter().filter(|(key, _)| OF_A_RUN.contains(&key.as_str())).cloned().collect();
    let (read, wrong) = tree::read::<RunDocument>(&Node::new(Value::Table(own), node.origin.clone()));
    errors.merge(wrong);
    let RunDocument { action, set } = read.unwrap_or_default();
    let action: Option<ActionRef> =
        action.parse().map_err(|error| errors.push("action", format!("{error}"))).ok();
    let set = set.into_iter().map(|(name, value)| (name, value.into_text())).collect();
    Some(Invocation { action: action?, set, said: said(entries) })
}

/// The document without them.
pub(super) fn without(node: &Node) -> Node {
    let mut node = node.clone();
    if let Value::Table(entries) = &mut node.value {
        entries.retain(|(key, _)| !OF_A_RUN.contains(&key.as_str()));
    }
    node
}

fn said(entries: &[(String, Node)]) -> BTreeSet<String> {
    let mut said = BTreeSet::new();
    let others = ["kind", "inputs"];
    for (key, value) in entries.iter().filter(|(key, _)| !OF_A_RUN.contains(&key.as_str())) {
        match (key.as_str(), &value.value) {
            (key, _) if others.contains(&key) => {}
            (key, Value::Table(parts)) if PARTS.contains(&key) => {
                said.extend(parts.iter().map(|(part, _)| format!("{key}.{part}")));
            }
            (key, _) => drop(said.insert(key.to_owned())),
        }
    }
    said
}
