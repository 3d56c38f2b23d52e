//! What a job is: its spec, states, outcomes and retry policy. Plain data and pure functions.

mod after;
pub mod file;
mod gpu;
pub mod image;
pub mod kleinkram;
mod labels;
pub mod outcome;
pub mod resources;
pub mod retry;
pub mod sizing;
pub mod spec;
pub mod state;
mod validate;
mod version;

pub use after::{After, UnknownWhen, When};
pub use gpu::GpuRequest;
pub use image::policy::{ImagePolicy, Pattern, canonical, repository};
pub use kleinkram::{Access, KLEINKRAM, Kleinkram};
pub use labels::{AgentRule, LabelTest};
pub use outcome::{Blame, Outcome};
pub use resources::Resources;
pub use retry::{RetryPolicy, RetryRule};
pub use spec::{
    Deadlines, Input, JobSpec, NetworkMode, Outputs, PullPolicy, SHARE_READ_ONLY, SHARE_WRITABLE, Security,
    ShareInput, share_access, share_label, share_value,
};
pub use state::JobState;
pub use validate::{check_name, check_secret_name, secret_file, validate};
pub use version::{Version, VersionError};
