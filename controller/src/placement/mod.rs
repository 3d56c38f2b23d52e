//! Which jobs fit which machine. The same function decides the claim and explains the wait, so that the two can
//! never disagree. Pure: must never read a clock or a database.

mod fit;
mod tenants;
#[cfg(test)]
mod tests;

pub use fit::{Machine, Reason, explain, fit};
pub use tenants::{Held, Tenants};

use longshore_common::job::JobSpec;

/// What one round of placing came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Index of the candidate and the GPUs it gets, by UUID.
    pub grants: Vec<(usize, Vec<String>)>,
    /// Index of the candidate and the first reason why not.
    pub refused: Vec<(usize, Reason)>,
}

/// Gives `candidates`, each with its project, away in their order while they fit, and takes what they get from the
/// machine. A candidate that does not fit, or that its project may not hold, is passed over.
pub fn place<'a>(
    candidates: impl IntoIterator<Item = (&'a str, &'a JobSpec)>,
    machine: &mut Machine,
    tenants: &mut Tenants,
) -> Placement {
    let mut placement = Placement::default();
    for (index, (project, spec)) in candidates.into_iter().enumerate() {
        let allowed = tenants.refuse(project, spec).map_or(Ok(()), Err);
        match allowed.and_then(|()| fit(spec, machine)) {
            Ok(gpus) => {
                machine.take(spec, &gpus);
                tenants.take(project, spec);
                placement.grants.push((index, gpus));
            }
            Err(reason) => placement.refused.push((index, reason)),
        }
    }
    placement
}
