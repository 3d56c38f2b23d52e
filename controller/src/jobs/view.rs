//! Rows turned into what people see.

use super::types::{AttemptView, JobView, WholeJob};
use crate::store::{AttemptRow, ViewRow};
use longshore_common::job::{
    Resources,
    sizing::{self, Advice, Run},
};

impl AttemptView {
    /// What it tells of the use of resources, of which the job asked for these. `None`: its container never ran, or
    /// still does.
    fn run(&self, asked: &Resources) -> Option<Run> {
        let exited = self.exited_at.or(self.finished_at)?;
        Some(Run {
            asked: asked.clone(),
            used: self.usage,
            ran: exited.since(self.started_at?),
            outcome: self.ending.as_ref()?.outcome.clone(),
        })
    }
}

/// Those of attempts that are over.
pub(crate) fn runs(attempts: &[AttemptView], asked: &Resources) -> Vec<Run> {
    attempts.iter().filter_map(|attempt| attempt.run(asked)).collect()
}

impl WholeJob {
    /// What to ask for next time; `None`: nothing was measured.
    pub(crate) fn sizing(&self) -> Option<Advice> {
        let asked = &self.job.spec.resources;
        Some(sizing::advise(asked, &runs(&self.attempts, asked))).filter(|advice| advice.runs > 0)
    }
}

pub(super) fn job(view: ViewRow) -> JobView {
    let ViewRow { row, spec, agent, .. } = view;
    JobView {
        id: row.job.id,
        short_id: row.short_id,
        project: row.project,
        name: row.name,
        spec,
        state: row.job.state,
        cancel_requested: row.job.desired.is_cancel(),
        ending: row.job.ending,
        attempts: row.job.attempts,
        agent: agent.or_else(|| row.job.latest.map(|latest| latest.agent.to_string())),
        created_at: row.created_at,
        started_at: row.started_at,
        finished_at: row.job.finished_at,
        not_before: row.job.not_before,
        expires_at: row.expires_at,
        retry_of: row.retry_of,
        action: row.action,
        revision: row.revision,
        lane: row.lane,
        submitter: row.submitter,
        batch: row.batch,
        blocked: row.job.blocked,
        awaits_turn: row.job.awaits_turn,
    }
}

pub(super) fn attempt(row: AttemptRow) -> AttemptView {
    let gpus = row.gpus.iter().map(|gpu| format!("{} {} {}", gpu.index, gpu.model, gpu.uuid));
    AttemptView {
        gpus: gpus.collect(),
        attempt: row.attempt,
        state: row.state,
        agent_id: row.agent,
        agent: row.agent_name.unwrap_or_else(|| row.agent.to_string()),
        ending: row.ending,
        claimed_at: row.claimed_at,
        started_at: row.started_at,
        exited_at: row.exited_at,
        finished_at: row.finished_at,
        log_end: row.log_end,
        artifact_count: row.artifact_count,
        artifact_bytes: row.artifact_bytes,
        usage: row.usage,
        notes: row.notes,
        digest: row.digest,
        committed: row.reported,
        nonce: row.nonce,
    }
}
