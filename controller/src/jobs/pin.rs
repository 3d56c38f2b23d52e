//! One digest for all that shall run the same image: the later attempts of a pinned job, and a pinned retry. What the
//! digest is, the agents say; here it is only put into the image's name.

use super::{Jobs, error::Error};
use crate::store::{self, Tx};
use longshore_common::{
    agent::Grant,
    ids::JobId,
    job::{JobSpec, image},
};

/// Grants of pinned jobs name what their first attempt ran.
pub(super) async fn apply(grants: &mut [Grant], tx: &mut Tx) -> Result<(), store::Error> {
    let again = |grant: &Grant| grant.spec.pin && grant.attempt.number > 1;
    let jobs: Vec<JobId> =
        grants.iter().filter(|grant| again(grant)).map(|grant| grant.attempt.job).collect();
    let digests = tx.first_digests(&jobs).await?;
    for grant in grants.iter_mut().filter(|grant| again(grant)) {
        if let Some(digest) = digests.get(&grant.attempt.job) {
            grant.spec.image = image::pinned(&grant.spec.image, digest);
        }
    }
    Ok(())
}

impl Jobs {
    /// Makes the spec name exactly what the job's last attempt ran. One that names a digest is left as it is.
    pub async fn pin(&self, job: JobId, spec: &mut JobSpec) -> Result<(), Error> {
        if spec.image.contains('@') {
            return Ok(());
        }
        let attempts = self.inner.shared.store.attempts(job).await?;
        match attempts.iter().rev().find_map(|attempt| attempt.digest.as_ref()) {
            Some(digest) => {
                spec.image = image::pinned(&spec.image, digest);
                Ok(())
            }
            None => Err(Error::NoDigest { image: spec.image.clone() }),
        }
    }
}
