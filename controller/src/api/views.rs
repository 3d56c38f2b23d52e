//! What jobs, attempts and agents look like on the wire.

use crate::{
    actions::ActionView,
    hints::Hint,
    identity::{Caller, ExecPolicy, KleinkramSettings, Project, Quotas, Token},
    jobs::{AgentView, AttemptView, BatchCounts, BatchView, Ending, Explanation, JobView, StoredArtifact},
    results::Link,
    store::AuditRow,
};
use longshore_common::{fleet::Pause, wire};
use longshore_proto::v1;

pub(super) fn job(view: &JobView) -> v1::Job {
    let id = view.short_id.to_string();
    v1::Job {
        uuid: view.id.to_string(),
        project: view.project.clone(),
        spec: Some(v1::JobSpec { name: view.name.clone(), ..(&*view.spec).into() }),
        state: v1::JobState::from(view.state) as i32,
        cancel_requested: view.cancel_requested,
        outcome: view.ending.as_ref().map(|ending| outcome(ending, &id)),
        attempts: view.attempts,
        agent: view.agent.clone().unwrap_or_default(),
        gpus: view.spec.resources.gpu_count(),
        created_at: Some(wire::timestamp_to(view.created_at)),
        started_at: view.started_at.map(wire::timestamp_to),
        finished_at: view.finished_at.map(wire::timestamp_to),
        not_before: view.not_before.map(wire::timestamp_to),
        retry_of: view.retry_of.as_ref().map(ToString::to_string).unwrap_or_default(),
        revision: view.revision,
        lane: view.lane.to_string(),
        expires_at: view.expires_at.map(wire::timestamp_to),
        trigger: view.spec.trigger.as_ref().map(|origin| origin.name.clone()).unwrap_or_default(),
        trigger_kind: view
            .spec
            .trigger
            .as_ref()
            .map(|origin| origin.kind.as_str().to_owned())
            .unwrap_or_default(),
        trigger_depth: view.spec.trigger.as_ref().map_or(0, |origin| origin.depth),
        batch: view.batch.as_ref().map(|batch| batch.id.to_string()).unwrap_or_default(),
        batch_row: view.batch.as_ref().map_or(0, |batch| batch.row),
        waits: String::new(),
        action: view.action.as_ref().map(|action| action.name.clone()).unwrap_or_default(),
        action_version: view.action.as_ref().map(|action| action.version).unwrap_or_default(),
        submitted_by: view.submitter.as_ref().map(|submitter| submitter.name.clone()).unwrap_or_default(),
        id,
    }
}

pub(super) fn batch(view: &BatchView) -> v1::Batch {
    let BatchCounts { waiting, queued, running, succeeded, failed, timed_out, cancelled, removed } =
        view.counts;
    v1::Batch {
        id: view.id.to_string(),
        project: view.project.clone(),
        name: view.name.clone(),
        max_parallel: view.max_parallel.unwrap_or_default(),
        total: view.total,
        counts: Some(v1::BatchCounts {
            waiting,
            queued,
            running,
            succeeded,
            failed,
            timed_out,
            cancelled,
            removed,
        }),
        created_at: Some(wire::timestamp_to(view.created_at)),
        finished_at: view.finished_at.map(wire::timestamp_to),
        submitted_by: view.submitter.clone().unwrap_or_default(),
        retry_of: view.retry_of.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

pub(super) fn action(view: &ActionView) -> v1::Action {
    let usage = &view.usage;
    v1::Action {
        project: view.project.clone(),
        spec: Some((&*view.action).into()),
        version: view.version,
        latest: view.latest,
        created_at: Some(wire::timestamp_to(view.created_at)),
        created_by: view.created_by.clone(),
        restored_from: view.restored_from.unwrap_or_default(),
        archived_at: view.archived.as_ref().map(|archived| wire::timestamp_to(archived.at)),
        archived_by: view.archived.as_ref().map(|archived| archived.by.clone()).unwrap_or_default(),
        usage: Some(v1::ActionUsage {
            jobs: usage.jobs,
            succeeded: usage.succeeded,
            failed: usage.failed,
            cancelled: usage.cancelled,
            used_at: usage.used_at.map(wire::timestamp_to),
        }),
    }
}

pub(super) fn attempt(view: &AttemptView, job: &str) -> v1::Attempt {
    v1::Attempt {
        number: view.attempt.number,
        state: v1::JobState::from(view.state) as i32,
        agent: view.agent.clone(),
        gpus: view.gpus.clone(),
        outcome: view.ending.as_ref().map(|ending| outcome(ending, job)),
        claimed_at: Some(wire::timestamp_to(view.claimed_at)),
        started_at: view.started_at.map(wire::timestamp_to),
        exited_at: view.exited_at.map(wire::timestamp_to),
        finished_at: view.finished_at.map(wire::timestamp_to),
        log_end: view.log_end,
        artifact_count: view.artifact_count,
        artifact_bytes: view.artifact_bytes,
        usage: Some(view.usage.into()),
        notes: view.notes.clone(),
        digest: view.digest.clone().unwrap_or_default(),
    }
}

fn outcome(ending: &Ending, job: &str) -> v1::Outcome {
    wire::outcome(&ending.outcome, &ending.detail, job)
}

pub(super) fn explanation(explanation: Explanation) -> v1::JobExplanation {
    let reason = |reason: crate::jobs::AgentReason| v1::AgentReason {
        agent: reason.agent,
        reason: reason.reason,
        permanent: reason.permanent,
        until: reason.until.map(wire::timestamp_to),
    };
    v1::JobExplanation {
        place: explanation.place,
        summary: explanation.summary,
        agents: explanation.agents.into_iter().map(reason).collect(),
        estimate: explanation.estimate.map(wire::timestamp_to),
        changes: explanation.changes,
    }
}

/// Jobs of projects that the caller does not see are not named.
pub(super) fn agent(view: &AgentView, caller: &Caller) -> v1::Agent {
    // The GPUs as the last heartbeat told them; the inventory's are those of the start.
    let mut inventory = v1::Inventory::from(&view.inventory);
    inventory.gpus = view.gpus.iter().map(v1::Gpu::from).collect();
    let (seen, others): (Vec<_>, Vec<_>) = view.jobs.iter().partition(|job| caller.sees(&job.project));
    for gpu in &mut inventory.gpus {
        // A shared one names several.
        let is_own = |name: &&str| !others.iter().any(|job| job.job.as_str() == *name);
        let own: Vec<_> = gpu.job.split(", ").filter(is_own).collect();
        if own.len() < gpu.job.split(", ").count() {
            gpu.job = own.into_iter().chain(["another project"]).collect::<Vec<_>>().join(", ");
        }
    }
    let held = |job: &&crate::jobs::HeldJob| v1::HeldJob {
        job: job.job.to_string(),
        attempt: job.attempt,
        gpus: job.gpus.clone(),
        project: job.project.clone(),
    };
    let orders = v1::Orders::from(&view.orders);
    v1::Agent {
        id: view.identity.id.to_string(),
        name: view.identity.name.clone(),
        state: v1::AgentState::from(view.state) as i32,
        version: view.identity.version.clone(),
        seen_at: Some(wire::timestamp_to(view.seen_at)),
        inventory: Some(inventory),
        free: Some(view.free.into()),
        jobs: seen.iter().map(held).collect(),
        note: view.note.clone(),
        closed_because: view.closed.clone(),
        labels: view.identity.labels.clone().into_iter().collect(),
        pool: view.identity.pool.clone(),
        cordon: orders.cordon,
        gpu_cordons: orders.gpus,
        caches_bytes: view.caches_bytes,
    }
}

pub(super) fn artifact(stored: &StoredArtifact) -> v1::Artifact {
    (&stored.entry.artifact).into()
}

pub(super) fn token(token: &Token) -> v1::Token {
    v1::Token {
        id: token.id.clone(),
        name: token.name.clone(),
        role: v1::Role::from(token.role) as i32,
        project: token.project.clone().unwrap_or_default(),
        created_at: Some(wire::timestamp_to(token.created_at)),
        created_by: token.created_by.clone(),
        expires_at: token.expires_at.map(wire::timestamp_to),
        used_at: token.used_at.map(wire::timestamp_to),
    }
}

fn quotas(quotas: &Quotas) -> v1::Quotas {
    v1::Quotas {
        queued: quotas.queued,
        running: quotas.running,
        cpu_millis: quotas.cpu_millis,
        memory_bytes: quotas.memory,
        gpus: quotas.gpus,
        storage_bytes: quotas.storage,
    }
}

pub(super) fn project(project: &Project, used: Option<&Quotas>, paused: Option<&Pause>) -> v1::Project {
    let images = &project.settings.images;
    v1::Project {
        name: project.name.clone(),
        quotas: Some(quotas(&project.settings.quotas)),
        images: Some(v1::ProjectImages {
            allow: images.allow.iter().map(ToString::to_string).collect(),
            deny: images.deny.iter().map(ToString::to_string).collect(),
            require_digest: images.require_digest,
        }),
        retention: project.settings.retention.map(wire::duration_to),
        created_at: Some(wire::timestamp_to(project.created_at)),
        used: used.map(quotas),
        weight: project.settings.weight.into(),
        paused: paused.map(Into::into),
        exec: match project.settings.exec {
            ExecPolicy::Off => v1::ExecPolicy::Off,
            ExecPolicy::Operator => v1::ExecPolicy::Operator,
            ExecPolicy::Own => v1::ExecPolicy::Own,
        } as i32,
        kleinkram: Some(kleinkram(&project.settings.kleinkram)),
    }
}

fn kleinkram(settings: &KleinkramSettings) -> v1::ProjectKleinkram {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    v1::ProjectKleinkram {
        project_uuid: text(&settings.project_uuid),
        api_endpoint: text(&settings.api_endpoint),
        s3_endpoint: text(&settings.s3_endpoint),
        minter: text(&settings.minter),
    }
}

pub(super) fn result_link(link: Link) -> v1::ResultLink {
    let Link { folder, archive, expires } = link;
    v1::ResultLink { folder, archive, expires_at: Some(wire::timestamp_to(expires)) }
}

pub(super) fn hint(hint: Hint) -> v1::Hint {
    v1::Hint { name: hint.name.to_owned(), text: hint.text, line: hint.line.unwrap_or_default() }
}

pub(super) fn audit(line: &AuditRow) -> v1::AuditEntry {
    v1::AuditEntry {
        at: Some(wire::timestamp_to(line.at)),
        actor: line.actor.clone(),
        address: line.address.clone(),
        action: line.action.clone(),
        project: line.project.clone(),
        targets: line.targets.clone(),
        target_count: line.target_count,
        result: line.result.clone(),
        message: line.message.clone(),
    }
}
