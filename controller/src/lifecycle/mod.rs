//! The rule book of a job as one pure function: `step(job, event, now)`. Must never read a clock, a random number
//! or a database.

mod again;
mod effect;
mod event;
mod refusal;
mod state;
mod step;
#[cfg(test)]
mod tests;

pub use effect::Effect;
pub use event::{Event, Loss, Phase};
pub use refusal::Refusal;
pub use state::{Desired, Ending, Job, Latest};
pub use step::{Step, step};
