//! Enumerations. An unknown number is an error; unspecified is the default where there is one.

use super::WireError;
use crate::access::Role;
use crate::agent::{AgentState, LaneAnswer};
use crate::job::{Access, Blame, JobState, NetworkMode, PullPolicy, Security};
use crate::logs::Stream;
use longshore_proto::v1;

fn unknown(path: &str, number: i32, what: &str) -> WireError {
    WireError::new(path, format!("{number} is not {what}"))
}

impl From<Role> for v1::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Submitter => Self::Submitter,
            Role::Operator => Self::Operator,
            Role::Admin => Self::Admin,
        }
    }
}

pub fn role(path: &str, number: i32) -> Result<Role, WireError> {
    match v1::Role::try_from(number) {
        Ok(v1::Role::Viewer) => Ok(Role::Viewer),
        Ok(v1::Role::Submitter) => Ok(Role::Submitter),
        Ok(v1::Role::Operator) => Ok(Role::Operator),
        Ok(v1::Role::Admin) => Ok(Role::Admin),
        Ok(v1::Role::Unspecified) | Err(_) => Err(unknown(path, number, "a role")),
    }
}

impl From<JobState> for v1::JobState {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Waiting => Self::Waiting,
            JobState::Queued => Self::Queued,
            JobState::Claimed => Self::Claimed,
            JobState::Preparing => Self::Preparing,
            JobState::Running => Self::Running,
            JobState::Collecting => Self::Collecting,
            JobState::Succeeded => Self::Succeeded,
            JobState::Failed => Self::Failed,
            JobState::Cancelled => Self::Cancelled,
            JobState::TimedOut => Self::TimedOut,
        }
    }
}

pub fn job_state(path: &str, number: i32) -> Result<JobState, WireError> {
    match v1::JobState::try_from(number) {
        Ok(v1::JobState::Waiting) => Ok(JobState::Waiting),
        Ok(v1::JobState::Queued) => Ok(JobState::Queued),
        Ok(v1::JobState::Claimed) => Ok(JobState::Claimed),
        Ok(v1::JobState::Preparing) => Ok(JobState::Preparing),
        Ok(v1::JobState::Running) => Ok(JobState::Running),
        Ok(v1::JobState::Collecting) => Ok(JobState::Collecting),
        Ok(v1::JobState::Succeeded) => Ok(JobState::Succeeded),
        Ok(v1::JobState::Failed) => Ok(JobState::Failed),
        Ok(v1::JobState::Cancelled) => Ok(JobState::Cancelled),
        Ok(v1::JobState::TimedOut) => Ok(JobState::TimedOut),
        Ok(v1::JobState::Unspecified) | Err(_) => Err(unknown(path, number, "a job state")),
    }
}

impl From<Stream> for v1::Stream {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
            Stream::System => Self::System,
        }
    }
}

pub fn stream(path: &str, number: i32) -> Result<Stream, WireError> {
    match v1::Stream::try_from(number) {
        Ok(v1::Stream::Stdout) => Ok(Stream::Stdout),
        Ok(v1::Stream::Stderr) => Ok(Stream::Stderr),
        Ok(v1::Stream::System) => Ok(Stream::System),
        Ok(v1::Stream::Unspecified) | Err(_) => Err(unknown(path, number, "a stream")),
    }
}

/// A filter of streams; empty stays empty.
pub fn streams(path: &str, numbers: &[i32]) -> Result<Vec<Stream>, WireError> {
    numbers.iter().map(|number| stream(path, *number)).collect()
}

impl From<PullPolicy> for v1::PullPolicy {
    fn from(policy: PullPolicy) -> Self {
        match policy {
            PullPolicy::Auto => Self::Auto,
            PullPolicy::Always => Self::Always,
            PullPolicy::Missing => Self::Missing,
            PullPolicy::Never => Self::Never,
        }
    }
}

pub fn pull_policy(path: &str, number: i32) -> Result<PullPolicy, WireError> {
    match v1::PullPolicy::try_from(number) {
        Ok(v1::PullPolicy::Auto | v1::PullPolicy::Unspecified) => Ok(PullPolicy::Auto),
        Ok(v1::PullPolicy::Always) => Ok(PullPolicy::Always),
        Ok(v1::PullPolicy::Missing) => Ok(PullPolicy::Missing),
        Ok(v1::PullPolicy::Never) => Ok(PullPolicy::Never),
        Err(_) => Err(unknown(path, number, "a pull policy")),
    }
}

impl From<NetworkMode> for v1::NetworkMode {
    fn from(mode: NetworkMode) -> Self {
        match mode {
            NetworkMode::Bridge => Self::Bridge,
            NetworkMode::Internet => Self::Internet,
            NetworkMode::None => Self::None,
        }
    }
}

pub fn network_mode(path: &str, number: i32) -> Result<NetworkMode, WireError> {
    match v1::NetworkMode::try_from(number) {
        Ok(v1::NetworkMode::Bridge | v1::NetworkMode::Unspecified) => Ok(NetworkMode::Bridge),
        Ok(v1::NetworkMode::Internet) => Ok(NetworkMode::Internet),
        Ok(v1::NetworkMode::None) => Ok(NetworkMode::None),
        Err(_) => Err(unknown(path, number, "a network mode")),
    }
}

impl From<Security> for v1::Security {
    fn from(security: Security) -> Self {
        match security {
            Security::Baseline => Self::Baseline,
            Security::Restricted => Self::Restricted,
        }
    }
}

pub fn security(path: &str, number: i32) -> Result<Security, WireError> {
    match v1::Security::try_from(number) {
        Ok(v1::Security::Baseline | v1::Security::Unspecified) => Ok(Security::Baseline),
        Ok(v1::Security::Restricted) => Ok(Security::Restricted),
        Err(_) => Err(unknown(path, number, "a security profile")),
    }
}

impl From<Access> for v1::AccessRight {
    fn from(access: Access) -> Self {
        match access {
            Access::Read => Self::Read,
            Access::Create => Self::Create,
            Access::Write => Self::Write,
            Access::Delete => Self::Delete,
        }
    }
}

pub fn access(path: &str, number: i32) -> Result<Access, WireError> {
    match v1::AccessRight::try_from(number) {
        Ok(v1::AccessRight::Read | v1::AccessRight::Unspecified) => Ok(Access::Read),
        Ok(v1::AccessRight::Create) => Ok(Access::Create),
        Ok(v1::AccessRight::Write) => Ok(Access::Write),
        Ok(v1::AccessRight::Delete) => Ok(Access::Delete),
        Err(_) => Err(unknown(path, number, "a right")),
    }
}

impl From<Blame> for v1::Blame {
    fn from(blame: Blame) -> Self {
        match blame {
            Blame::Nobody => Self::None,
            Blame::User => Self::User,
            Blame::Platform => Self::Platform,
            Blame::External => Self::External,
        }
    }
}

pub fn blame(path: &str, number: i32) -> Result<Blame, WireError> {
    match v1::Blame::try_from(number) {
        Ok(v1::Blame::None) => Ok(Blame::Nobody),
        Ok(v1::Blame::User) => Ok(Blame::User),
        Ok(v1::Blame::Platform) => Ok(Blame::Platform),
        Ok(v1::Blame::External) => Ok(Blame::External),
        Ok(v1::Blame::Unspecified) | Err(_) => Err(unknown(path, number, "a blame")),
    }
}

impl From<AgentState> for v1::AgentState {
    fn from(state: AgentState) -> Self {
        match state {
            AgentState::Online => Self::Online,
            AgentState::Disconnected => Self::Disconnected,
            AgentState::Lost => Self::Lost,
        }
    }
}

pub fn agent_state(path: &str, number: i32) -> Result<AgentState, WireError> {
    match v1::AgentState::try_from(number) {
        Ok(v1::AgentState::Online) => Ok(AgentState::Online),
        Ok(v1::AgentState::Disconnected) => Ok(AgentState::Disconnected),
        Ok(v1::AgentState::Lost) => Ok(AgentState::Lost),
        Ok(v1::AgentState::Unspecified) | Err(_) => Err(unknown(path, number, "an agent state")),
    }
}

impl From<LaneAnswer> for v1::LaneAnswer {
    fn from(answer: LaneAnswer) -> Self {
        match answer {
            LaneAnswer::Empty => Self::Empty,
            LaneAnswer::More => Self::More,
            LaneAnswer::MoreButNotForYou => Self::MoreButNotForYou,
        }
    }
}

pub fn lane_answer(path: &str, number: i32) -> Result<LaneAnswer, WireError> {
    match v1::LaneAnswer::try_from(number) {
        Ok(v1::LaneAnswer::Empty) => Ok(LaneAnswer::Empty),
        Ok(v1::LaneAnswer::More) => Ok(LaneAnswer::More),
        Ok(v1::LaneAnswer::MoreButNotForYou) => Ok(LaneAnswer::MoreButNotForYou),
        Ok(v1::LaneAnswer::Unspecified) | Err(_) => Err(unknown(path, number, "an answer about a lane")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_reads_back() {
        for state in JobState::ALL {
            assert_eq!(job_state("s", v1::JobState::from(state) as i32), Ok(state));
        }
        for kind in Stream::ALL {
            assert_eq!(stream("s", v1::Stream::from(kind) as i32), Ok(kind));
        }
        for kind in [Blame::Nobody, Blame::User, Blame::Platform, Blame::External] {
            assert_eq!(blame("b", v1::Blame::from(kind) as i32), Ok(kind));
        }
    }

    #[test]
    fn unknown_numbers_are_errors_that_name_the_field() {
        assert_eq!(job_state("phase", 99).unwrap_err().to_string(), "phase: 99 is not a job state");
        assert!(job_state("phase", 0).is_err());
        assert_eq!(pull_policy("pull", 0), Ok(PullPolicy::Auto));
        assert!(pull_policy("pull", -1).is_err());
    }
}
