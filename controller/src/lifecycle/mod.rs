//! The rule book of a job as one pure function. Must never read a clock, a random number or a database.

mod refusal;

pub use refusal::Refusal;
