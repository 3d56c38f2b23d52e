//! What a job is: its spec, states, outcomes and retry policy. Plain data and pure functions.

pub mod file;
pub mod image;
pub mod outcome;
pub mod resources;
pub mod retry;
pub mod spec;
pub mod state;
mod validate;

pub use image::policy::{ImagePolicy, Pattern};
pub use outcome::{Blame, Outcome};
pub use resources::{GpuRequest, Resources};
pub use retry::{RetryPolicy, RetryRule};
pub use spec::{Deadlines, Input, JobSpec, NetworkMode, Outputs, PullPolicy, Security};
pub use state::JobState;
pub use validate::{check_name, check_secret_name, secret_file, validate};
