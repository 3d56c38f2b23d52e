//! Actions: named, versioned definitions of what to run, and what a run of one may say. Plain data and pure functions:
//! an action is checked, compared with its former self, and turned into the spec of an ordinary job. Knows no store and
//! no version but the one it is given.

mod check;
mod diff;
mod fields;
mod parameter;
mod reference;
mod resolve;

pub use check::validate;
pub use diff::{Change, diff};
pub use fields::ADJUSTABLE;
pub use parameter::{Kind, Parameter};
pub use reference::{ActionRef, NotAnAction};
pub use resolve::{Invocation, resolve};

use crate::job::{Input, JobSpec};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One version of an action. Immutable once applied; two that are equal are the same version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub name: String,
    pub description: String,
    /// What every job of it is made of: without name and inputs, and with the variables that nobody may set.
    pub job: JobSpec,
    /// Variables with a type, by name.
    pub parameters: BTreeMap<String, Parameter>,
    pub inputs: BTreeMap<String, ActionInput>,
    /// Fields of the job that whoever runs it may say otherwise: some of [`ADJUSTABLE`].
    pub adjustable: BTreeSet<String>,
}

/// A read-only folder at `/in/<name>` that the action works on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionInput {
    pub description: String,
    /// No job without one.
    pub required: bool,
    /// Whether a run may name a source.
    pub adjustable: bool,
    /// What it is if a run names none.
    pub source: Option<Input>,
}

impl Action {
    /// One with every default, for an image.
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            job: JobSpec::for_image(image),
            parameters: BTreeMap::new(),
            inputs: BTreeMap::new(),
            adjustable: BTreeSet::new(),
        }
    }

    /// What it says of itself in one line.
    pub fn summary(&self) -> &str {
        self.description.lines().next().unwrap_or_default()
    }
}

impl Default for ActionInput {
    fn default() -> Self {
        Self { description: String::new(), required: false, adjustable: true, source: None }
    }
}
