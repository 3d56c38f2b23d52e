//! Which jobs fit which machine. The same function decides the claim and explains the wait, so that the two can
//! never disagree. Pure: must never read a clock or a database.

mod fit;
#[cfg(test)]
mod tests;

pub use fit::{Machine, Reason, explain, fit};

use longshore_common::job::JobSpec;

/// What one round of placing came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Index of the candidate and the GPUs it gets, by UUID.
    pub grants: Vec<(usize, Vec<String>)>,
    /// Index of the candidate and the first reason why not.
    pub refused: Vec<(usize, Reason)>,
}

/// Gives `candidates` away in their order while they fit, and takes what they get from the machine. A candidate that
/// does not fit is passed over.
pub fn place<'a>(candidates: impl IntoIterator<Item = &'a JobSpec>, machine: &mut Machine) -> Placement {
    let mut placement = Placement::default();
    for (index, spec) in candidates.into_iter().enumerate() {
        match fit(spec, machine) {
            Ok(gpus) => {
                machine.take(spec, &gpus);
                placement.grants.push((index, gpus));
            }
            Err(reason) => placement.refused.push((index, reason)),
        }
    }
    placement
}
