//! Learns how a container ended. A stream that closed and an engine that went away are not an end: the monitor
//! asks until the engine says so itself. Must never decide what the end means for a job.

use super::{
    absence::{Absence, End, is_older},
    engine::{Client, Engine, status},
    live::Live,
    time, usage,
};
use crate::runtime::{ContainerId, Error, Exit};
use bollard::{
    errors::Error as DockerError,
    models::{ContainerState, ContainerStateStatusEnum},
    query_parameters::{InspectContainerOptions, WaitContainerOptions},
};
use futures::StreamExt as _;
use longshore_common::{
    clock::{Moment, Timestamp},
    job::Outcome,
    retry::Backoff,
    tasks,
};
use std::{sync::Arc, time::Duration};

/// An engine that restarts is back within seconds; one that does not is looked for twice a minute.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A stopping engine ends its containers itself and then takes no connection, or (behind systemd's socket) keeps
/// it waiting for its successor.
const LOOK: Duration = Duration::from_secs(5);
/// The engine may hear of a kill for memory after the end it caused.
const LATE_OOM: Duration = Duration::from_millis(100);
const KILLED: i32 = 137;

/// Starts to watch the container, once. It must have been started.
pub(super) fn begin(engine: &Arc<Engine>, container: &ContainerId, live: &Arc<Live>) {
    if live.begin_monitor() {
        let (engine, container, live) = (Arc::clone(engine), container.clone(), Arc::clone(live));
        tasks::spawn("container.monitor", async move {
            let end = tokio::select! {
                biased;
                end = watch(&engine, &container, &live) => end,
                never = usage::glance(&container, &live) => match never {},
            };
            live.ended(end);
        });
    }
}

async fn watch(engine: &Engine, container: &ContainerId, live: &Live) -> Result<Exit, Error> {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut away = false;
    loop {
        match step(engine, container, live, away).await {
            Step::Ended(exit) => return Ok(exit),
            Step::Gone(error) => return Err(error),
            Step::Running => {
                away = false;
                backoff.reset();
            }
            Step::Away => {
                live.note_if_lost();
                away = true;
                backoff.wait().await;
            }
        }
    }
}

enum Step {
    Ended(Exit),
    /// The container does not exist any more.
    Gone(Error),
    Running,
    /// The engine does not answer, or not to the point.
    Away,
}

/// One wait and one look. After a break the look comes first: the container may still run.
async fn step(engine: &Engine, container: &ContainerId, live: &Live, back: bool) -> Step {
    let Ok(client) = engine.client().await else { return Step::Away };
    live.runs_under(&client, false);
    if back {
        let step = look(engine, &client, container, live).await;
        if matches!(step, Step::Running) {
            live.note_if_lost();
            if client.facts.live_restore && live.engine().is_some_and(|before| before.facts.live_restore) {
                live.runs_under(&client, live.lost_engine());
            } else {
                // It crashed, and is about to end what it finds running.
                tracing::info!(container = %container.0, "engine is back, the container still runs");
            }
            live.note_return();
        }
        return step;
    }
    let options = WaitContainerOptions { condition: "not-running".to_owned() };
    let mut wait = std::pin::pin!(client.api.wait_container(&container.0, Some(options)));
    match wait.next().await {
        // The code comes with the look, together with everything else.
        Some(Ok(_) | Err(DockerError::DockerContainerWaitError { .. })) => {
            look(engine, &client, container, live).await
        }
        Some(Err(error)) => unanswered(engine, container, &error),
        None => Step::Away,
    }
}

async fn look(engine: &Engine, client: &Client, container: &ContainerId, live: &Live) -> Step {
    let mut state = match inspect(engine, client, container, live).await {
        Ok(state) => state,
        Err(step) => return step,
    };
    if exit_code(&state) == KILLED && state.oom_killed != Some(true) {
        tokio::time::sleep(LATE_OOM).await;
        state = match inspect(engine, client, container, live).await {
            Ok(state) => state,
            Err(step) => return step,
        };
    }
    if state.running == Some(true) {
        return Step::Running;
    }
    let finished_at = at(state.finished_at.as_deref());
    // A loaded engine notes the start of a short container after its end.
    let started_at = at(state.started_at.as_deref()).min(finished_at);
    let before = live.engine().unwrap_or_else(|| client.clone());
    let (now, code) = (Moment::now(), exit_code(&state));
    let absence = Absence {
        changed: !before.tether.is_whole(),
        live_restore: before.facts.live_restore && client.facts.live_restore,
        last_contact: before.tether.last_contact(),
        began: client.tether.began().filter(|engine| is_older(live.began(), started_at, *engine)),
        watched_until: engine.watched_until.get().copied(),
        returned: now,
    };
    Step::Ended(Exit {
        code,
        oom_flag: state.oom_killed.unwrap_or(false),
        started_at,
        finished_at,
        engine_restarted: absence.explains(&End { code, finished_at }),
    })
}

/// The state, asked for over a new connection (bollard keeps none), with little patience.
async fn inspect(
    engine: &Engine,
    client: &Client,
    container: &ContainerId,
    live: &Live,
) -> Result<ContainerState, Step> {
    let asked = client.api.inspect_container(&container.0, None::<InspectContainerOptions>);
    match tokio::time::timeout(LOOK, asked).await {
        Ok(Ok(answer)) => {
            client.tether.note_contact();
            usage::remember(container, live, &answer);
            let state = answer.state.unwrap_or_default();
            if matches!(state.status, Some(ContainerStateStatusEnum::CREATED)) {
                let detail = format!("container {} was never started", container.0);
                return Err(Step::Gone(Error::ends(Outcome::RuntimeError, detail)));
            }
            Ok(state)
        }
        Ok(Err(error)) => Err(unanswered(engine, container, &error)),
        Err(_) => Err(Step::Away),
    }
}

fn unanswered(engine: &Engine, container: &ContainerId, error: &DockerError) -> Step {
    if status(error) == Some(404) {
        let detail = format!("container {} is gone from the engine: somebody removed it", container.0);
        return Step::Gone(Error::ends(Outcome::RuntimeError, detail));
    }
    // A stopping engine also answers 500; whatever it is, the container's end is not known yet.
    if let Error::Ends { detail, .. } = engine.failed("wait for the container", error) {
        tracing::warn!(container = %container.0, error = %detail, "engine cannot say how the container ended");
    }
    Step::Away
}

fn exit_code(state: &ContainerState) -> i32 {
    state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1)
}

fn at(text: Option<&str>) -> Timestamp {
    text.and_then(time::parse).unwrap_or_else(Timestamp::now)
}

#[cfg(test)]
mod tests;
