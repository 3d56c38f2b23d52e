//! Retry, as people mean it: a new job from an ended one. (A new attempt of the same job is the lifecycle's.)

use super::{
    Jobs,
    error::Error,
    types::{NewJob, Order, SubmitError, Submitted, Submitter},
};
use longshore_common::{ids::JobId, job::JobSpec};

impl Jobs {
    /// The job that this request has made already.
    pub async fn requested(&self, project: &str, request: &str) -> Result<Option<JobId>, Error> {
        Ok(self.inner.shared.store.requested(project, request).await?)
    }

    /// `spec`: the changed one, or `None` for the same.
    pub async fn retry(
        &self,
        job: JobId,
        request_id: Option<String>,
        spec: Option<JobSpec>,
        submitter: Option<Submitter>,
    ) -> Result<Result<Submitted, SubmitError>, Error> {
        let old = self.get(job).await?;
        let made = match &request_id {
            Some(request) => self.inner.shared.store.requested(&old.project, request).await?,
            None => None,
        };
        let retry_of = match old.retry_of {
            // A name means its newest job: for a repeat that is the one this very request has made.
            Some(source) if made == Some(job) => source,
            _ if !old.state.is_terminal() => return Err(Error::NotEnded { job: old.short_id }),
            _ => old.short_id,
        };
        let mut spec = spec.unwrap_or_else(|| (*old.spec).clone());
        // Who asks for it again has seen how they ended.
        spec.after.clear();
        spec.not_before = None;
        let own = self.job_secrets(job).await?;
        let new = NewJob { request_id, project: old.project, spec, retry_of: Some(retry_of), own, submitter };
        self.submit(vec![Order::again(new, old.action)]).await?.pop().ok_or(Error::Closed)
    }
}
