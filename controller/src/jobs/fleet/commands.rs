//! What operators say, and what they ask.

use super::{
    ALL, FleetWatch,
    change::{Change, GpuName, Named},
};
use crate::{
    jobs::{AgentView, Error, Jobs, command::Command, nudges::Stop},
    lifecycle::Event,
    store::AgentEvent,
};
use longshore_common::{
    agent::{Gpu, StopReason},
    clock::Timestamp,
    fleet::{Cordon, Orders, Pause},
    ids::AgentId,
    wire::HANDS_BACK,
};
use std::{collections::BTreeMap, time::Duration};

/// How often a machine that is to be empty is looked at.
const DRAINING: Duration = Duration::from_secs(1);

impl Jobs {
    /// When this returns, no claim is granted anything that the cordon keeps.
    pub async fn cordon(&self, agent: &AgentView, gpu: Option<&Gpu>, cordon: Cordon) -> Result<(), Error> {
        self.fleet(Change::Cordon { agent: named(agent), gpu: gpu.map(gpu_name), cordon }).await.map(drop)
    }

    pub async fn uncordon(&self, agent: &AgentView, gpu: Option<&Gpu>, author: &str) -> Result<(), Error> {
        let author = author.to_owned();
        self.fleet(Change::Uncordon { agent: named(agent), gpu: gpu.map(gpu_name), author }).await.map(drop)
    }

    /// Over those of the agent's own settings; `None` takes one away.
    pub async fn label_agent(
        &self,
        agent: &AgentView,
        labels: BTreeMap<String, Option<String>>,
        author: &str,
    ) -> Result<(), Error> {
        let (author, own) = (author.to_owned(), self.inner.shared.agents.own_labels(agent.identity.id));
        self.fleet(Change::Label { agent: named(agent), labels, own, author }).await.map(drop)
    }

    /// The jobs of the project, or of all, wait until they are resumed.
    pub async fn pause(&self, project: Option<&str>, pause: Pause) -> Result<(), Error> {
        let project = project.unwrap_or(ALL).to_owned();
        self.fleet(Change::Pause { project, pause }).await.map(drop)
    }

    pub async fn resume(&self, project: Option<&str>) -> Result<(), Error> {
        self.fleet(Change::Resume { project: project.unwrap_or(ALL).to_owned() }).await.map(drop)
    }

    /// `None`: of all projects.
    pub fn paused(&self, project: Option<&str>) -> Option<Pause> {
        self.inner.shared.fleet.now().pauses().get(project.unwrap_or(ALL)).cloned()
    }

    pub fn paused_projects(&self) -> Vec<(String, Pause)> {
        let fleet = self.inner.shared.fleet.now();
        let own = fleet.pauses().iter().filter(|(project, _)| *project != ALL);
        own.map(|(project, pause)| (project.clone(), pause.clone())).collect()
    }

    /// What the machine is to be told.
    pub fn orders(&self, agent: AgentId) -> Orders {
        self.inner.shared.fleet.now().orders(agent, Timestamp::now())
    }

    /// Those after a revision, in order; of one agent, if one is named.
    pub async fn agent_events(
        &self,
        after: u64,
        agent: Option<AgentId>,
        limit: u32,
    ) -> Result<Vec<AgentEvent>, Error> {
        Ok(self.inner.shared.store.agent_events(after, agent, limit).await?)
    }

    pub(in crate::jobs) async fn fleet(&self, change: Change) -> Result<u64, Error> {
        self.call(Command::Fleet, change).await
    }

    /// Ends what is over, hands back what is overdue, and notes what happened. Answers when to look again.
    pub(crate) async fn sweep_fleet(&self, watch: &mut FleetWatch) -> Result<Option<Timestamp>, Error> {
        let now = Timestamp::now();
        let fleet = self.inner.shared.fleet.now();
        let views = self.agents();
        if fleet.has_ended(now) {
            let names = views.iter().map(|view| (view.identity.id, view.identity.name.clone()));
            self.fleet(Change::Expire(names.collect())).await?;
        }
        for (agent, cordon) in fleet.overdue(now) {
            self.hand_back(agent, &format!("the machine is {}", cordon.sentence(now))).await?;
        }
        watch.look(self, &views).await?;
        let mut draining = false;
        for id in fleet.draining() {
            draining = true;
            // One that was removed, or never came back, has nothing either.
            let view = views.iter().find(|view| view.identity.id == id);
            if let Some(view) = view.filter(|view| view.jobs.is_empty()) {
                self.fleet(Change::Drained(named(view))).await?;
            }
        }
        let soon = draining.then(|| now.plus(DRAINING));
        let due = self.inner.shared.fleet.now().due(now);
        Ok([soon, due].into_iter().flatten().min())
    }

    /// What the agent holds is to go back to the queue: by the agent, or if it is too old to know the word, without it.
    async fn hand_back(&self, agent: AgentId, detail: &str) -> Result<(), Error> {
        let shared = &self.inner.shared;
        if shared.agents.protocol(agent) < HANDS_BACK {
            let held = shared.live.held_by(agent);
            shared.live.take_back(agent, &held);
            let event = |attempt| Event::HandedBack { attempt, detail: detail.to_owned() };
            return self
                .events(held.into_iter().map(|attempt| (attempt.job, event(attempt))).collect())
                .await;
        }
        let stops = shared.live.hand_back(agent, detail).into_iter().map(|attempt| {
            let reason = StopReason::HandBack(detail.to_owned());
            Stop { agent, attempt, reason }
        });
        shared.nudges.stop(stops);
        Ok(())
    }
}

pub(super) fn named(agent: &AgentView) -> Named {
    Named { id: agent.identity.id, name: agent.identity.name.clone() }
}

fn gpu_name(gpu: &Gpu) -> GpuName {
    GpuName { uuid: gpu.uuid.clone(), name: format!("GPU {}", gpu.index) }
}
