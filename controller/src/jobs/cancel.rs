//! Cancel: a user's word. At rest it ends the job at once; under an attempt the agent is told.

use super::{Jobs, command::Command, error::Error, types::JobView};
use crate::lifecycle::Event;
use longshore_common::ids::JobId;

impl Jobs {
    /// Asks for the end of jobs; those that have ended stay as they are.
    pub async fn cancel(&self, jobs: Vec<JobId>, by: &str, reason: &str) -> Result<Vec<JobView>, Error> {
        let event = Event::CancelRequested { by: by.to_owned(), reason: reason.to_owned() };
        let events: Vec<_> = jobs.iter().map(|job| (*job, event.clone())).collect();
        if !events.is_empty() {
            // A refusal says that the job has ended, which the view shows.
            self.call(Command::Events, events).await?;
        }
        self.get_many(&jobs).await
    }
}
