//! The containers that run, for whoever wants to start a process in one.

use super::{Held, Holding};
use crate::{attempt::stop::StopSignal, logs::Masker, runtime::ContainerId};
use longshore_common::{ids::AttemptRef, job::JobState};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Debug)]
pub(super) struct Inside {
    container: ContainerId,
    masker: Masker,
    lines: mpsc::Sender<String>,
}

/// A container that runs now.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) container: ContainerId,
    pub(crate) masker: Masker,
    /// Into the attempt's log.
    pub(crate) lines: mpsc::Sender<String>,
    /// When it is told to stop.
    pub(crate) stop: StopSignal,
    /// When the container has ended.
    pub(crate) over: CancellationToken,
}

impl Held {
    /// Why not, if it does not run.
    pub(crate) fn open(&self, attempt: &AttemptRef) -> Result<Open, String> {
        let entries = self.lock();
        let entry = entries.get(attempt).ok_or("the attempt is not this agent's any more")?;
        let Some(Inside { container, masker, lines }) = entry.inside.clone() else {
            return Err(match entry.attempt.phase {
                JobState::Collecting => {
                    "its container has ended; the job only collects what it left".to_owned()
                }
                phase => format!("its container does not run yet: the job is {phase}"),
            });
        };
        let (stop, over) = (entry.stopper.listen(), entry.over.clone());
        if let Some((_, why)) = stop.said().and_then(|cause| cause.verdict()) {
            return Err(format!("the job is being stopped: {why}"));
        }
        Ok(Open { container, masker, lines, stop, over })
    }
}

impl Holding {
    /// Its container runs.
    pub(crate) fn opens(&self, container: &ContainerId, masker: Masker) {
        self.update(|entry| {
            let lines = entry.gpus.lines();
            entry.inside = Some(Inside { container: container.clone(), masker, lines });
        });
    }
}
