//! The invariants, looked at from outside: what the API says, and what runs on the engines.

use crate::{jobs::Task, machine::Machine};
use longshore_common::ids::JobId;
use longshore_proto::v1::{
    self, GetJobRequest, JobState, ListJobsRequest, StreamLogsRequest, jobs_client::JobsClient,
};
use longshore_tests::token::Authorized;
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use tokio::time::Instant;

const PAGE: u32 = 1000;
/// After trouble of its own a machine may need as long to end what is not its any more: the job's grace, and tries
/// at an engine that was away.
const SETTLED: Duration = Duration::from_secs(30);

/// A hint is due within half of it, and an agent that was rung claims at once.
const SOON: Duration = Duration::from_secs(60);

/// One job as it is known, and as it was seen last.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) task: Task,
    pub(crate) cancel_asked: bool,
    pub(crate) seen: v1::Job,
    /// When it was first seen so.
    since: Instant,
    attempts: Vec<v1::Attempt>,
}

#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// By id.
    pub(crate) jobs: BTreeMap<String, Known>,
}

type Checked = Result<(), String>;

impl Checker {
    pub(crate) fn accepted(&mut self, task: Task, job: v1::Job) {
        let (seen, since, attempts) = (job.clone(), Instant::now(), Vec::new());
        self.jobs.insert(job.id, Known { task, cancel_asked: false, seen, since, attempts });
    }

    pub(crate) fn unfinished(&self) -> Vec<String> {
        let open = |known: &&Known| !is_terminal(known.seen.state());
        self.jobs.values().filter(open).map(|known| known.seen.id.clone()).collect()
    }

    /// Looks at every job that changed. Answers what changed, for the trace.
    pub(crate) async fn look(&mut self, jobs: &mut JobsClient<Authorized>) -> Result<Vec<String>, String> {
        let mut news = Vec::new();
        let request = ListJobsRequest { page_size: PAGE, ..ListJobsRequest::default() };
        let list = jobs.list(request).await.map_err(|status| format!("jobs cannot be listed: {status}"))?;
        let list = list.into_inner().jobs;
        if list.len() < self.jobs.len() {
            return Err(format!("{} jobs were accepted, {} are there", self.jobs.len(), list.len()));
        }
        for listed in list {
            // A submit whose answer got lost.
            let Some(known) = self.jobs.get_mut(&listed.id) else { continue };
            if listed.revision == known.seen.revision {
                continue;
            }
            let reply = jobs.get(GetJobRequest { job: listed.id.clone() }).await;
            let reply = reply.map_err(|status| format!("job {} cannot be got: {status}", listed.id))?;
            let reply = reply.into_inner();
            let job = reply.job.ok_or("an answer without its job")?;
            news.push(format!("{} {} attempt {}", job.id, job.state().as_str_name(), job.attempts));
            known.follow(job, reply.attempts)?;
        }
        Ok(news)
    }

    /// No job waits in its queue for a machine that has nothing to do.
    pub(crate) fn waiting(&self, machines: &[Machine], controller: Option<Instant>) -> Checked {
        let long_ago = |since: Instant| since.elapsed() > SOON;
        if !controller.is_some_and(long_ago) {
            return Ok(());
        }
        let Some(idle) = machines.iter().find(|machine| long_ago(machine.idle_since)) else { return Ok(()) };
        let queued = |known: &&Known| known.seen.state() == JobState::Queued && long_ago(known.since);
        match self.jobs.values().find(queued) {
            Some(known) => {
                let (id, since) = (&known.seen.id, known.since.elapsed());
                Err(format!("job {id} was queued {since:?} ago, and {} has nothing to do", idle.name))
            }
            None => Ok(()),
        }
    }

    /// No job runs on two machines that both know better.
    pub(crate) async fn engines(&self, machines: &[Machine]) -> Checked {
        let settled = |machine: &&Machine| machine.is_well() && machine.troubled + SETTLED < Instant::now();
        let mut running: HashMap<JobId, &str> = HashMap::new();
        for machine in machines.iter().filter(settled) {
            for job in machine.engine.running().await {
                if let Some(other) = running.insert(job, &machine.name) {
                    return Err(format!("job {job} runs on {other} and on {}", machine.name));
                }
            }
        }
        Ok(())
    }

    /// Nothing is left of anything on the machines.
    pub(crate) async fn left_over(&self, machines: &[Machine]) -> Checked {
        for machine in machines {
            let containers = machine.engine.known().await;
            if !containers.is_empty() || machine.held() > 0 {
                return Err(format!(
                    "{} holds {} attempts and has containers {containers:?}",
                    machine.name,
                    machine.held()
                ));
            }
        }
        Ok(())
    }

    /// Every log is what its container wrote.
    pub(crate) async fn logs(&self, jobs: &mut JobsClient<Authorized>) -> Checked {
        for known in self.jobs.values() {
            let Some(outcome) = &known.seen.outcome else { continue };
            if !known.task.ended_by_itself(outcome) {
                continue;
            }
            let id = &known.seen.id;
            let request = StreamLogsRequest { job: id.clone(), ..StreamLogsRequest::default() };
            let failed = |status| format!("the log of {id} cannot be read: {status}");
            let mut messages = jobs.stream_logs(request).await.map_err(failed)?.into_inner();
            let mut stdout = Vec::new();
            while let Some(message) = messages.message().await.map_err(failed)? {
                let records = message.records.iter().filter(|record| record.stream() == v1::Stream::Stdout);
                records.for_each(|record| stdout.extend_from_slice(&record.data));
            }
            let stdout = String::from_utf8_lossy(&stdout);
            if stdout != known.task.stdout() {
                return Err(format!("the log of {id} is {stdout:?}, it wrote {:?}", known.task.stdout()));
            }
        }
        Ok(())
    }
}

impl Known {
    fn follow(&mut self, job: v1::Job, attempts: Vec<v1::Attempt>) -> Checked {
        let id = job.id.clone();
        let wrong = |what: String| Err(format!("job {id}: {what}"));
        let before = &self.seen;
        if job.attempts < before.attempts || attempts.len() < self.attempts.len() {
            return wrong(format!("attempts went from {} to {}", before.attempts, job.attempts));
        }
        if is_terminal(before.state()) && (job.state() != before.state() || job.outcome != before.outcome) {
            return wrong(format!("{} became {}", told(before), told(&job)));
        }
        if !attempts.iter().zip(1..).all(|(attempt, number)| attempt.number == number) {
            return wrong(format!("its attempts are not numbered 1..{}", attempts.len()));
        }
        let live = attempts.iter().filter(|attempt| attempt.outcome.is_none()).count();
        let held = is_held(job.state());
        if live > 1 || (live == 1) != held {
            return wrong(format!("is {} with {live} live attempts", told(&job)));
        }
        if held && attempts.last().is_none_or(|attempt| attempt.outcome.is_some()) {
            return wrong("is held by an attempt that is not its last".to_owned());
        }
        // Taken until another attempt was granted, which may have happened since.
        let last = self.attempts.len();
        for (now, before) in attempts.iter().zip(&self.attempts) {
            let Some(outcome) = &before.outcome else { continue };
            let late = outcome.name == "agent_lost" && now.number as usize == last;
            if now.agent != before.agent || (now.outcome != before.outcome && !late) {
                return wrong(format!("attempt {} was {outcome:?}, is {:?}", now.number, now.outcome));
            }
        }
        match (&job.outcome, is_terminal(job.state())) {
            (Some(outcome), true) if !self.task.may_end(outcome, self.cancel_asked) => {
                return wrong(format!("{:?} ended {outcome:?}", self.task.script));
            }
            (Some(_), true) | (None, false) => {}
            (outcome, _) => return wrong(format!("{} with outcome {outcome:?}", told(&job))),
        }
        (self.seen, self.since, self.attempts) = (job, Instant::now(), attempts);
        Ok(())
    }
}

fn told(job: &v1::Job) -> String {
    let outcome = job.outcome.as_ref().map_or("", |outcome| outcome.name.as_str());
    format!("{} {outcome}", job.state().as_str_name())
}

pub(crate) const fn is_terminal(state: JobState) -> bool {
    matches!(state, JobState::Succeeded | JobState::Failed | JobState::Cancelled | JobState::TimedOut)
}

const fn is_held(state: JobState) -> bool {
    matches!(state, JobState::Claimed | JobState::Preparing | JobState::Running | JobState::Collecting)
}
