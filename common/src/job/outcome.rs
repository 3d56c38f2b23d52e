//! How an attempt ended: the one table from which the store, the CLI, exit codes and `docs/outcomes.md` come.

use super::state::JobState;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// Nobody: it succeeded, or was cancelled on purpose.
    Nobody,
    User,
    Platform,
    External,
}

impl Blame {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::User => "user",
            Self::Platform => "platform",
            Self::External => "external",
        }
    }
}

/// How an attempt ended. The cause is decided once, where it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Succeeded,
    /// The main process ended with this code by itself. A real SIGSEGV and `exit 139` look alike to the engine.
    ExitCode(i32),
    OomKilled,
    RunTimeout,
    QueueTimeout,
    PrepareTimeout,
    Cancelled,
    DiskLimit,
    ImageNotFound,
    RegistryAuth,
    RegistryUnavailable,
    InvalidContract,
    InputFailed,
    ArtifactUploadFailed,
    ArtifactLimit,
    EntrypointNotFound,
    EntrypointNotExecutable,
    WrongPlatform,
    RuntimeError,
    EngineRestart,
    AgentLost,
    AgentShutdown,
    LostTooOften,
    ImageRefused,
    /// A GPU failed, by NVIDIA's number (Xid) if there is one.
    GpuFault(Option<u32>),
    GpuDisturbed,
    GpuIdle,
    VramLimit,
    FilesOverMemory,
    RunKeyFailed,
    DependencyFailed,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    pub state: JobState,
    pub blame: Blame,
    /// Tried again under the default policy.
    pub retried: bool,
    /// What `longshore run` exits with; `None`: the container's own code.
    pub exit_code: Option<i32>,
    pub sentence: &'static str,
    pub hint: &'static str,
}

/// A stored text that names no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an outcome")]
pub struct UnknownOutcome(pub String);

impl Outcome {
    /// One of each, `exit_code` with 1, `gpu_fault` without a number.
    pub const ALL: [Self; 31] = [
        Self::Succeeded,
        Self::ExitCode(1),
        Self::OomKilled,
        Self::RunTimeout,
        Self::QueueTimeout,
        Self::PrepareTimeout,
        Self::Cancelled,
        Self::DiskLimit,
        Self::ImageNotFound,
        Self::RegistryAuth,
        Self::RegistryUnavailable,
        Self::InvalidContract,
        Self::InputFailed,
        Self::ArtifactUploadFailed,
        Self::ArtifactLimit,
        Self::EntrypointNotFound,
        Self::EntrypointNotExecutable,
        Self::WrongPlatform,
        Self::RuntimeError,
        Self::EngineRestart,
        Self::AgentLost,
        Self::AgentShutdown,
        Self::LostTooOften,
        Self::ImageRefused,
        Self::GpuFault(None),
        Self::GpuDisturbed,
        Self::GpuIdle,
        Self::VramLimit,
        Self::FilesOverMemory,
        Self::RunKeyFailed,
        Self::DependencyFailed,
    ];

    /// This outcome's row of the table.
    pub const fn row(&self) -> &'static Row {
        match self {
            Self::Succeeded => &TABLE[0],
            Self::ExitCode(_) => &TABLE[1],
            Self::OomKilled => &TABLE[2],
            Self::RunTimeout => &TABLE[3],
            Self::QueueTimeout => &TABLE[4],
            Self::PrepareTimeout => &TABLE[5],
            Self::Cancelled => &TABLE[6],
            Self::DiskLimit => &TABLE[7],
            Self::ImageNotFound => &TABLE[8],
            Self::RegistryAuth => &TABLE[9],
            Self::RegistryUnavailable => &TABLE[10],
            Self::InvalidContract => &TABLE[11],
            Self::InputFailed => &TABLE[12],
            Self::ArtifactUploadFailed => &TABLE[13],
            Self::ArtifactLimit => &TABLE[14],
            Self::EntrypointNotFound => &TABLE[15],
            Self::EntrypointNotExecutable => &TABLE[16],
            Self::WrongPlatform => &TABLE[17],
            Self::RuntimeError => &TABLE[18],
            Self::EngineRestart => &TABLE[19],
            Self::AgentLost => &TABLE[20],
            Self::AgentShutdown => &TABLE[21],
            Self::LostTooOften => &TABLE[22],
            Self::ImageRefused => &TABLE[23],
            Self::GpuFault(_) => &TABLE[24],
            Self::GpuDisturbed => &TABLE[25],
            Self::GpuIdle => &TABLE[26],
            Self::VramLimit => &TABLE[27],
            Self::FilesOverMemory => &TABLE[28],
            Self::RunKeyFailed => &TABLE[29],
            Self::DependencyFailed => &TABLE[30],
        }
    }

    pub const fn name(&self) -> &'static str {
        self.row().name
    }

    pub const fn state(&self) -> JobState {
        self.row().state
    }

    pub const fn blame(&self) -> Blame {
        self.row().blame
    }

    pub const fn retried_by_default(&self) -> bool {
        self.row().retried
    }

    /// Nothing comes after it, whatever a retry policy says.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Cancelled | Self::QueueTimeout | Self::LostTooOften)
    }

    /// What `longshore run` exits with.
    pub const fn cli_exit_code(&self) -> i32 {
        match (self, self.row().exit_code) {
            (Self::ExitCode(code), _) => *code,
            (_, Some(code)) => code,
            (_, None) => 125,
        }
    }

    /// The table, in the order of the documentation.
    pub const fn table() -> &'static [Row] {
        &TABLE
    }
}

/// The stored text: the name, with the number of `exit_code(3)` and `gpu_fault(79)`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExitCode(code) => write!(f, "exit_code({code})"),
            Self::GpuFault(Some(xid)) => write!(f, "gpu_fault({xid})"),
            other => f.write_str(other.name()),
        }
    }
}

impl FromStr for Outcome {
    type Err = UnknownOutcome;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownOutcome(text.to_owned());
        let number = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        if let Some(code) = number("exit_code") {
            return code.parse().map(Self::ExitCode).map_err(|_| unknown());
        }
        if let Some(xid) = number("gpu_fault") {
            return xid.parse().map(|xid| Self::GpuFault(Some(xid))).map_err(|_| unknown());
        }
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.name() == text && !matches!(outcome, Self::ExitCode(_)))
            .ok_or_else(unknown)
    }
}

const fn row(
    name: &'static str,
    (state, blame, retried): (JobState, Blame, bool),
    exit_code: Option<i32>,
    sentence: &'static str,
    hint: &'static str,
) -> Row {
    Row { name, state, blame, retried, exit_code, sentence, hint }
}

use Blame::{External, Nobody, Platform, User};
use JobState::{Failed, TimedOut};

#[rustfmt::skip]
const TABLE: [Row; 31] = [
    row("succeeded", (JobState::Succeeded, Nobody, false), Some(0),
        "the main process exited with 0 and every artifact is stored",
        ""),
    row("exit_code", (Failed, User, false), None,
        "the main process exited by itself with a code that is not 0",
        "read the last lines: longshore logs JOB"),
    row("oom_killed", (Failed, User, false), Some(137),
        "the container passed its memory limit",
        "longshore retry JOB --memory SIZE"),
    row("run_timeout", (TimedOut, User, false), Some(124),
        "the run deadline passed; the container got SIGTERM, its grace, SIGKILL",
        "longshore retry JOB --run-deadline TIME"),
    row("queue_timeout", (TimedOut, Platform, false), Some(124),
        "no agent claimed the job before its queue deadline",
        "longshore explain JOB says which agent lacked what"),
    row("prepare_timeout", (TimedOut, Platform, true), Some(124),
        "image and inputs were not ready before the prepare deadline",
        "a larger deadlines.prepare, or a nearer registry"),
    row("cancelled", (JobState::Cancelled, Nobody, false), Some(130),
        "somebody cancelled it",
        ""),
    row("disk_limit", (Failed, User, false), Some(125),
        "writable layer, /tmp_disk and /out together passed the scratch limit",
        "longshore retry JOB --scratch SIZE"),
    row("image_not_found", (Failed, User, false), Some(125),
        "the registry does not have the image",
        "check the name; push it, or select the node that has it"),
    row("registry_auth", (Failed, User, false), Some(125),
        "the registry refused the credentials or wants some",
        "longshore registries set HOST for the project, or a login for it on the node (docs/operator.md)"),
    row("registry_unavailable", (Failed, External, true), Some(125),
        "the registry did not answer and no local copy may serve",
        "try again when it is back"),
    row("invalid_contract", (Failed, User, false), Some(125),
        "image and contract do not fit each other",
        "the detail names the part that is missing"),
    row("input_failed", (Failed, User, false), Some(125),
        "an input could not be fetched, or its digest is wrong",
        "the detail names the input and what the source answered"),
    row("artifact_upload_failed", (Failed, Platform, false), Some(125),
        "the container ended, and its files could not be stored before the upload deadline",
        "the files are kept on the node; running again is not needed"),
    row("artifact_limit", (Failed, User, false), Some(125),
        "/out has more bytes or files than outputs allows",
        "raise outputs.max_size or outputs.max_files, or exclude some"),
    row("entrypoint_not_found", (Failed, User, false), Some(127),
        "the image has no such program",
        "check entrypoint and command against the image"),
    row("entrypoint_not_executable", (Failed, User, false), Some(126),
        "the program is there and may not be executed",
        "chmod +x in the image, or name an interpreter"),
    row("wrong_platform", (Failed, User, false), Some(125),
        "the image is made for another processor than the node's",
        "build it for the node, or select agents: {arch: …}"),
    row("runtime_error", (Failed, Platform, true), Some(125),
        "the container engine failed",
        "longshore check on the node"),
    row("engine_restart", (Failed, Platform, true), Some(125),
        "the container engine went away and took the container with it",
        ""),
    row("agent_lost", (Failed, Platform, true), Some(125),
        "the agent was not heard of for the length of its lease",
        "longshore agents ls"),
    row("agent_shutdown", (Failed, Platform, true), Some(125),
        "the agent was stopped and gave the job back",
        ""),
    row("lost_too_often", (Failed, User, false), Some(125),
        "the job's agents died under it on several machines",
        "look for what the job does to its machine before trying again"),
    row("image_refused", (Failed, User, false), Some(125),
        "the node's operator does not allow the image there",
        "the detail names the rule; use another image or another node"),
    row("gpu_fault", (Failed, Platform, true), Some(125),
        "a GPU of the job failed; it is set aside, and the job is tried on another one",
        "longshore agents ls says which one and why"),
    row("gpu_disturbed", (Failed, External, true), Some(125),
        "a process of somebody else came onto a GPU of the job, and the job failed after that",
        "the detail names the process and its user"),
    row("gpu_idle", (Failed, User, false), Some(125),
        "the job held a GPU for longer without using it than the node's operator allows",
        "ask for no GPU, or use it earlier"),
    row("vram_limit", (Failed, User, false), Some(125),
        "the job took more memory of a shared GPU than it asked for",
        "longshore retry JOB --gpus 1,shared,memory=SIZE"),
    row("files_over_memory", (Failed, User, false), Some(137),
        "what the container wrote into its own files, which count as memory under its contract, passed the memory limit",
        "write to /tmp_disk or /out, or longshore retry JOB --memory SIZE, or kleinkram.files_in_memory: false"),
    row("run_key_failed", (Failed, External, true), Some(125),
        "the minter of the project made no run key for the attempt",
        "the detail names the minter; whoever runs the controller looks at it (docs/operator.md)"),
    row("dependency_failed", (Failed, User, false), Some(125),
        "a job that it was to follow ended otherwise than it waited for",
        "the detail names that job; longshore retry JOB runs this one without waiting"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_reads_back_and_has_its_own_row() {
        let mut names: Vec<_> = Outcome::ALL.iter().map(Outcome::name).collect();
        for outcome in Outcome::ALL {
            assert_eq!(outcome.to_string().parse(), Ok(outcome));
        }
        assert_eq!("gpu_fault(79)".parse(), Ok(Outcome::GpuFault(Some(79))));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Outcome::table().len());
    }

    #[test]
    fn unknown_text_is_an_error() {
        for text in ["", "exit_code", "exit_code(x)", "gpu_fault(x)", "gpu_idle(1)", "Succeeded"] {
            assert!(text.parse::<Outcome>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_row_ends_a_job() {
        assert!(Outcome::table().iter().all(|row| row.state.is_terminal() && !row.sentence.is_empty()));
    }
}
