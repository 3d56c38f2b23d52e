//! The GPUs of this machine over time: which are sick and why, and what jobs use of theirs. Takes readings and says
//! what follows from them; never reads the machine, never stops a job.

mod health;
mod looks;
mod meter;
mod xid;

pub(crate) use health::{Health, Signal};
pub(crate) use looks::Looks;
pub(crate) use meter::{Finding, Meter, Sample};

use serde::{Deserialize, Serialize};

/// `[gpus]` of the agent's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long a GPU that was lost must answer again before jobs get it.
    pub recovery_seconds: u64,
    /// Errors (Xid) that set a GPU aside here beside those of the table.
    pub fatal_xids: Vec<u32>,
    /// Errors that are not acted upon here, whatever the table says.
    pub ignored_xids: Vec<u32>,
    pub idle: Idle,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // One that comes and goes must not take a job at each coming.
            recovery_seconds: 60,
            fatal_xids: Vec::new(),
            ignored_xids: Vec::new(),
            idle: Idle::default(),
        }
    }
}

/// What becomes of a job that holds a GPU and does not use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Idle {
    pub action: IdleAction,
    /// Below this it is idle.
    pub percent: u32,
    /// For so long without a moment above.
    pub minutes: u64,
}

impl Default for Idle {
    fn default() -> Self {
        // A line in the job's log harms nobody; ending jobs is for the operator to decide. Half an hour is longer
        // than downloads and preprocessing should take at the price of a GPU.
        Self { action: IdleAction::Warn, percent: 1, minutes: 30 }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdleAction {
    Off,
    /// Says so in the job's log, once.
    #[default]
    Warn,
    /// Ends the job as `gpu_idle`.
    End,
}
