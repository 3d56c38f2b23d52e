//! Retry, as people mean it: a new job from an ended one. (A new attempt of the same job is the lifecycle's.)

use super::{
    Jobs,
    error::Error,
    types::{NewJob, SubmitError, Submitted},
};
use longshore_common::{ids::JobId, job::JobSpec};

impl Jobs {
    /// `spec`: the changed one, or `None` for the same.
    pub async fn retry(
        &self,
        job: JobId,
        request_id: Option<String>,
        spec: Option<JobSpec>,
    ) -> Result<Result<Submitted, SubmitError>, Error> {
        let old = self.get(job).await?;
        if !old.state.is_terminal() {
            return Err(Error::NotEnded { job: old.short_id });
        }
        let new = NewJob {
            request_id,
            project: old.project,
            spec: spec.unwrap_or_else(|| (*old.spec).clone()),
            retry_of: Some(old.short_id),
        };
        self.submit(vec![new]).await?.pop().ok_or(Error::Closed)
    }
}
