//! What a trigger is: when it fires, what it starts, and what of the event the job gets. Plain data and pure
//! functions; knows no clock, no store and no project.

pub mod file;
mod schedule;
mod set;
mod validate;

pub use schedule::{Schedule, ScheduleError};
pub use set::{SetError, apply};
pub use validate::validate;

use crate::{
    action::ActionRef,
    job::{JobSpec, Kleinkram},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// A trigger as its author wrote it, every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerSpec {
    pub name: String,
    pub description: String,
    pub when: When,
    pub run: Run,
    /// Variables of the job, parameters of the action.
    pub set: BTreeMap<String, Setting>,
    pub overlap: Overlap,
    /// How long a firing that a quota refused is tried again.
    pub retry_for: Duration,
    /// Triggers that started one another, this one included.
    pub max_depth: u32,
    /// Of runs of an action.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What runs of an action say to the contract.
    #[serde(default)]
    pub kleinkram: Option<Kleinkram>,
}

/// What it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    Cron(Cron),
    Webhook(Webhook),
    Objects(Objects),
    Completion(Completion),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cron {
    /// Minute, hour, day of month, month, day of week.
    pub schedule: String,
    /// `Europe/Zurich`
    pub time_zone: String,
    pub missed: Missed,
    /// At most so late; the same each time.
    pub jitter: Duration,
}

/// What becomes of instants that passed while nobody looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    Skip,
    /// The latest one fires.
    #[default]
    Once,
    /// The latest [`MOST_MISSED`] fire.
    All,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    pub signature: Signature,
    /// Deliveries.
    pub per_minute: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signature {
    /// `X-Longshore-Signature: t=…,id=…,v1=…`
    #[default]
    Longshore,
    /// `X-Hub-Signature-256: sha256=…`
    Github,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    /// An operator's word for a bucket or a folder.
    pub source: String,
    pub prefix: String,
    /// Globs over what follows the prefix; none: all.
    pub matching: Vec<String>,
    /// An object that is written again fires too.
    pub changed: bool,
    /// Those that are there already fire too.
    pub existing: bool,
    /// The object is at `/in/NAME`.
    pub input: Option<String>,
    /// Objects that fire within an hour; the others wait. It is what ends a loop through the prefix.
    #[serde(default = "per_hour")]
    pub per_hour: u32,
}

const fn per_hour() -> u32 {
    PER_HOUR
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    pub action: Option<String>,
    /// A name, or a glob of names.
    pub job: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// States or outcomes.
    pub status: Vec<String>,
    /// Of jobs that this trigger started, too.
    pub itself: bool,
    /// What the job left is at `/in/NAME`.
    pub input: Option<String>,
}

/// What it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    Job(Box<JobSpec>),
    Action(ActionRef),
}

/// Where a variable's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    Value(String),
    /// A JSON pointer into what happened. What is not there leaves the value as it is.
    Payload(String),
}

/// What becomes of a firing while a job of the same trigger has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    Allow,
    Skip,
    /// It waits for that end.
    Queue,
    /// The former job is cancelled.
    Replace,
}

/// What started a job, if a trigger did. Only a controller writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The trigger's id.
    pub trigger: String,
    pub name: String,
    pub kind: Kind,
    /// Names what happened.
    pub firing: String,
    /// Triggers that started one another, this one included.
    pub depth: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Cron,
    Webhook,
    Objects,
    Completion,
    Manual,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::Webhook => "webhook",
            Self::Objects => "objects",
            Self::Completion => "completion",
            Self::Manual => "manual",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Cron, Self::Webhook, Self::Objects, Self::Completion, Self::Manual];
        all.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| format!("`{text}` is no kind"))
    }
}

impl When {
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Cron(_) => Kind::Cron,
            Self::Webhook(_) => Kind::Webhook,
            Self::Objects(_) => Kind::Objects,
            Self::Completion(_) => Kind::Completion,
        }
    }

    /// Of a trigger that says nothing about it.
    pub const fn overlap(&self) -> Overlap {
        match self {
            // All are asked for.
            Self::Cron(Cron { missed: Missed::All, .. }) => Overlap::Queue,
            // A nightly run that takes longer than a day shall not pile up.
            Self::Cron(_) => Overlap::Skip,
            Self::Webhook(_) | Self::Objects(_) | Self::Completion(_) => Overlap::Allow,
        }
    }
}

impl TriggerSpec {
    /// With every default.
    pub fn new(name: impl Into<String>, when: When, run: Run) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            overlap: when.overlap(),
            when,
            run,
            set: BTreeMap::new(),
            retry_for: RETRY_FOR,
            max_depth: MAX_DEPTH,
            labels: BTreeMap::new(),
            kleinkram: None,
        }
    }
}

/// Instants that fire late at most.
pub const MOST_MISSED: usize = 100;
/// Whoever is asked for a larger quota answers within the day.
pub const RETRY_FOR: Duration = Duration::from_secs(24 * 3600);
/// Longer chains than anybody draws on a board.
pub const MAX_DEPTH: u32 = 8;
/// Deliveries in a minute: a busy repository's pushes.
pub const PER_MINUTE: u32 = 60;
/// Objects in an hour: more than a busy instrument makes.
pub const PER_HOUR: u32 = 10_000;
/// The state that is waited for when nothing is said.
pub const SUCCEEDED: &str = "succeeded";
/// What happened, for the container.
pub const TRIGGER_FILE: &str = "/run/longshore/trigger.json";
/// The folder it is in.
pub const TRIGGER_FOLDER: &str = "/run/longshore";
/// Its name there.
pub const TRIGGER_FILE_NAME: &str = "trigger.json";
/// Of what is told of an event.
pub const MOST_PAYLOAD: usize = 256 << 10;
