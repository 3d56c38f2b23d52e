//! Attempts: who speaks for them, what they are granted, and how they end.

use super::{WireError, duration_from, duration_to, id, job_state, required, timestamp_from, timestamp_to};
use crate::agent::{FinishReport, GpuUsage, Grant, HeldAttempt, StopReason, Usage};
use crate::ids::{AttemptRef, Epoch, JobId};
use crate::job::{JobSpec, image};
use longshore_proto::v1;

impl From<AttemptRef> for v1::AttemptRef {
    fn from(attempt: AttemptRef) -> Self {
        Self { job: attempt.job.as_bytes().to_vec().into(), attempt: attempt.number, epoch: attempt.epoch.0 }
    }
}

impl TryFrom<v1::AttemptRef> for AttemptRef {
    type Error = WireError;

    fn try_from(message: v1::AttemptRef) -> Result<Self, WireError> {
        if message.attempt == 0 {
            return Err(WireError::new("ref.attempt", "is zero; attempts count from one"));
        }
        let job = id("ref.job", JobId::from_slice(&message.job))?;
        Ok(Self { job, number: message.attempt, epoch: Epoch(message.epoch) })
    }
}

/// The reference that every message about an attempt carries.
impl TryFrom<Option<v1::AttemptRef>> for AttemptRef {
    type Error = WireError;

    fn try_from(message: Option<v1::AttemptRef>) -> Result<Self, WireError> {
        required("ref", message)?.try_into()
    }
}

impl From<Usage> for v1::Usage {
    fn from(usage: Usage) -> Self {
        let Usage { cpu_micros, memory_peak_bytes, disk_peak_bytes, gpu } = usage;
        let gpu = (gpu != GpuUsage::default()).then_some(v1::GpuUsage {
            memory_peak_bytes: gpu.memory_peak_bytes,
            memory_mean_bytes: gpu.memory_mean_bytes,
            percent_peak: gpu.percent_peak,
            percent_mean: gpu.percent_mean,
        });
        Self { cpu_micros, memory_peak_bytes, disk_peak_bytes, gpu }
    }
}

impl From<v1::Usage> for Usage {
    fn from(message: v1::Usage) -> Self {
        let v1::Usage { cpu_micros, memory_peak_bytes, disk_peak_bytes, gpu } = message;
        let gpu = gpu.map_or_else(GpuUsage::default, |gpu| GpuUsage {
            memory_peak_bytes: gpu.memory_peak_bytes,
            memory_mean_bytes: gpu.memory_mean_bytes,
            percent_peak: gpu.percent_peak,
            percent_mean: gpu.percent_mean,
        });
        Self { cpu_micros, memory_peak_bytes, disk_peak_bytes, gpu }
    }
}

impl From<&HeldAttempt> for v1::HeldAttempt {
    fn from(held: &HeldAttempt) -> Self {
        Self {
            r#ref: Some(held.attempt.into()),
            phase: v1::JobState::from(held.phase) as i32,
            started_at: held.started_at.map(timestamp_to),
            exited_at: held.exited_at.map(timestamp_to),
            usage: Some(held.usage.into()),
            digest: held.digest.clone().unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::HeldAttempt> for HeldAttempt {
    type Error = WireError;

    fn try_from(message: v1::HeldAttempt) -> Result<Self, WireError> {
        let phase = job_state("phase", message.phase)?;
        if !phase.is_held() {
            return Err(WireError::new("phase", format!("{phase} is no state of a live attempt")));
        }
        Ok(Self {
            attempt: message.r#ref.try_into()?,
            phase,
            started_at: message.started_at.as_ref().map(timestamp_from),
            exited_at: message.exited_at.as_ref().map(timestamp_from),
            usage: message.usage.map(Usage::from).unwrap_or_default(),
            digest: digest(message.digest)?,
        })
    }
}

impl From<&Grant> for v1::Grant {
    fn from(grant: &Grant) -> Self {
        Self {
            r#ref: Some(grant.attempt.into()),
            job_id: grant.short_id.to_string(),
            project: grant.project.clone(),
            spec: Some((&grant.spec).into()),
            lease: Some(duration_to(grant.lease)),
            gpus: grant.gpus.clone(),
            lane: grant.lane.to_string(),
            cancel_requested: grant.cancel_requested,
            sealed: grant.sealed,
        }
    }
}

impl TryFrom<v1::Grant> for Grant {
    type Error = WireError;

    fn try_from(message: v1::Grant) -> Result<Self, WireError> {
        let spec = JobSpec::try_from(required("spec", message.spec)?);
        Ok(Self {
            attempt: message.r#ref.try_into()?,
            short_id: id("job_id", message.job_id.parse())?,
            project: message.project,
            spec: spec.map_err(|errors| WireError::new("spec", errors.to_string()))?,
            lease: duration_from("lease", &required("lease", message.lease)?)?,
            gpus: message.gpus,
            lane: super::agent::lane("lane", &message.lane)?,
            cancel_requested: message.cancel_requested,
            sealed: message.sealed,
        })
    }
}

/// The command to stop an attempt.
pub fn stop_to(attempt: AttemptRef, reason: StopReason) -> v1::Stop {
    let (reason, detail) = match reason {
        StopReason::Cancel(detail) => (v1::StopReason::Cancel, detail),
        StopReason::Revoke => (v1::StopReason::Revoke, String::new()),
        StopReason::HandBack(detail) => (v1::StopReason::HandBack, detail),
    };
    v1::Stop { r#ref: Some(attempt.into()), reason: reason as i32, detail }
}

pub fn stop_from(message: v1::Stop) -> Result<(AttemptRef, StopReason), WireError> {
    let reason = match v1::StopReason::try_from(message.reason) {
        Ok(v1::StopReason::Cancel) => StopReason::Cancel(message.detail),
        Ok(v1::StopReason::Revoke) => StopReason::Revoke,
        Ok(v1::StopReason::HandBack) => StopReason::HandBack(message.detail),
        Ok(v1::StopReason::Unspecified) | Err(_) => {
            return Err(WireError::new("reason", format!("{} is not a reason to stop", message.reason)));
        }
    };
    Ok((message.r#ref.try_into()?, reason))
}

impl From<&FinishReport> for v1::FinishReport {
    fn from(report: &FinishReport) -> Self {
        Self {
            r#ref: Some(report.attempt.into()),
            outcome: report.outcome.to_string(),
            detail: report.detail.clone(),
            log_end: report.log_end,
            manifest_pages: report.manifest_pages,
            artifact_count: report.artifact_count,
            artifact_bytes: report.artifact_bytes,
            usage: Some(report.usage.into()),
            started_at: report.started_at.map(timestamp_to),
            exited_at: report.exited_at.map(timestamp_to),
            notes: report.notes.clone(),
            digest: report.digest.clone().unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::FinishReport> for FinishReport {
    type Error = WireError;

    fn try_from(message: v1::FinishReport) -> Result<Self, WireError> {
        let outcome = message.outcome.parse();
        Ok(Self {
            attempt: message.r#ref.try_into()?,
            outcome: outcome.map_err(|error| WireError::new("outcome", format!("{error}")))?,
            detail: message.detail,
            log_end: message.log_end,
            manifest_pages: message.manifest_pages,
            artifact_count: message.artifact_count,
            artifact_bytes: message.artifact_bytes,
            usage: message.usage.map(Usage::from).unwrap_or_default(),
            started_at: message.started_at.as_ref().map(timestamp_from),
            exited_at: message.exited_at.as_ref().map(timestamp_from),
            notes: message.notes,
            digest: digest(message.digest)?,
        })
    }
}

/// Becomes part of an image's name: nothing else may come in by it.
fn digest(text: String) -> Result<Option<String>, WireError> {
    match text {
        text if text.is_empty() => Ok(None),
        text if image::is_digest(&text) => Ok(Some(text)),
        text => Err(WireError::new("digest", format!("`{text}` is not sha256: and 64 hex digits"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, ids::ShortId, job::JobState, job::Outcome, queue::Lane};
    use std::time::Duration;

    fn attempt() -> AttemptRef {
        AttemptRef { job: JobId::new(), number: 3, epoch: Epoch(7) }
    }

    #[test]
    fn what_agent_and_controller_say_of_an_attempt_reads_back() {
        let grant = Grant {
            attempt: attempt(),
            short_id: ShortId::random(),
            project: "default".into(),
            spec: JobSpec::for_image("alpine:3"),
            lease: Duration::from_secs(600),
            gpus: vec!["GPU-1".into()],
            lane: Lane::new("default", true),
            cancel_requested: true,
            sealed: true,
        };
        assert_eq!(Grant::try_from(v1::Grant::from(&grant)), Ok(grant));

        let report = FinishReport {
            attempt: attempt(),
            outcome: Outcome::ExitCode(3),
            detail: "exit 3".into(),
            log_end: 9,
            manifest_pages: 1,
            artifact_count: 2,
            artifact_bytes: 5,
            usage: Usage {
                cpu_micros: 1,
                memory_peak_bytes: 2,
                disk_peak_bytes: 3,
                gpu: GpuUsage {
                    memory_peak_bytes: 4,
                    memory_mean_bytes: 5,
                    percent_peak: 6,
                    percent_mean: 7,
                },
            },
            started_at: Some(Timestamp::from_micros(5)),
            exited_at: None,
            notes: vec!["oom_event: a child".into()],
            digest: Some(format!("sha256:{}", "0f".repeat(32))),
        };
        assert_eq!(FinishReport::try_from(v1::FinishReport::from(&report)), Ok(report));

        for reason in [StopReason::Cancel("by anna".into()), StopReason::Revoke] {
            let attempt = attempt();
            assert_eq!(stop_from(stop_to(attempt, reason.clone())), Ok((attempt, reason)));
        }
    }

    #[test]
    fn an_attempt_that_is_not_live_cannot_be_held() {
        let held = HeldAttempt {
            attempt: attempt(),
            phase: JobState::Collecting,
            started_at: None,
            exited_at: None,
            usage: Usage::default(),
            digest: None,
        };
        let mut message = v1::HeldAttempt::from(&held);
        assert_eq!(HeldAttempt::try_from(message.clone()), Ok(held));
        message.phase = v1::JobState::Succeeded as i32;
        assert_eq!(HeldAttempt::try_from(message.clone()).unwrap_err().path, "phase");
        message.phase = v1::JobState::Running as i32;
        message.digest = "latest".into();
        assert_eq!(HeldAttempt::try_from(message).unwrap_err().path, "digest");
    }

    #[test]
    fn a_reference_without_its_parts_is_refused() {
        assert_eq!(AttemptRef::try_from(None::<v1::AttemptRef>).unwrap_err().path, "ref");
        let mut message = v1::AttemptRef::from(attempt());
        message.job = bytes::Bytes::from_static(b"short");
        assert_eq!(AttemptRef::try_from(message).unwrap_err().path, "ref.job");
        assert!(AttemptRef::try_from(v1::AttemptRef { attempt: 0, ..attempt().into() }).is_err());
    }
}
