//! An attempt of the agent's earlier process, gone on with: the same container, its log from where the controller has
//! it, its deadline from the true start. What had not come to a container begins anew. Never starts one twice.

use super::{
    Attempt, Attempts, Cause, Cut, Earlier, MOMENT, Origin, clean, deadlines::after, engine_backoff,
    held::Holding, secrets, stop::StopSignal,
};
use crate::{
    journal::Intent,
    link::{self, Controller},
    runtime::{Attached, ContainerId, Counts, Scratch},
    secrets::Secrets,
    slots::Permit,
};
use futures::future::{BoxFuture, OptionFuture};
use longshore_common::{clock::Moment, ids::AttemptRef, job::Outcome, logs::Position, retry::Backoff};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// An attempt that an earlier process left, listed and counted again.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) intent: Intent,
    pub(crate) holding: Holding,
    pub(crate) signal: StopSignal,
    pub(crate) permit: Permit,
}

impl Attempts {
    /// Goes on with it beside the caller. Without a container it is as if it had just been granted.
    pub(crate) fn take_over(&self, left: Left, earlier: Earlier) {
        let Left { intent, holding, signal, permit } = left;
        let log = self.tools().logs.open(intent.attempt);
        let mut attempt = self.attempt(intent.cluster, intent.grant(), (holding, signal, permit), log);
        attempt.origin = Origin::TakenOver;
        attempt.asked = intent.asked;
        attempt.began = intent.started;
        attempt.sought = Some(earlier);
        attempt.ending.stopped = intent.stopping;
        attempt.unstored = intent.unstored;
        self.spawn(attempt);
    }
}

impl Attempt {
    pub(super) async fn go_on(&mut self) -> Result<(), Cut> {
        self.find().await?;
        let (position, secrets) = self.position().await?;
        self.log = self.tools().logs.resume(self.grant.attempt, position);
        self.learn(secrets).await;
        let Some(container) = self.container.clone() else {
            if let Some(cause) = self.ending.stopped.clone() {
                return Err(cause.into());
            }
            // Half of an input may lie there.
            clean(self.tools(), None, &self.dir()).await;
            return self.begin().await;
        };
        let seen = Counts { stdout: position.stdout_bytes, stderr: position.stderr_bytes };
        let Attached { output, started_at } = self.attach(&container, seen).await?;
        if self.began.is_none() {
            self.note_start(Moment::now().earlier(started_at)).await;
        }
        self.log.system("the agent was restarted and took the container over").await;
        self.follow(output, started_at).await?;
        self.permit.release_compute();
        self.collect(&Scratch::within(&self.dir(), BTreeMap::new()).out).await
    }

    /// Its container, if there is one. An engine that is away does not keep the job: a stop that asks for nothing from
    /// the container ends the attempt after a moment, and what it ran is removed when the engine is back.
    async fn find(&mut self) -> Result<(), Cut> {
        let Some(earlier) = self.sought.clone() else { return Ok(()) };
        let shared = Arc::clone(&self.shared);
        let asked = earlier.container(&shared.tools, self.grant.attempt);
        tokio::pin!(asked);
        let mut patience = Instant::now() + MOMENT;
        let deadline = self.prepare_deadline();
        let found = loop {
            let known = self.ending.stopped.clone();
            let cause = tokio::select! {
                biased;
                cause = self.signal.beyond(known.as_ref()) => cause,
                found = &mut asked => break found,
                () = tokio::time::sleep_until(patience), if known.as_ref().is_some_and(explains_any_end) => {
                    return Err(known.expect("it was looked at").into());
                }
                // Nothing says that it ever ran.
                () = tokio::time::sleep_until(deadline.at), if known.is_none() && self.began.is_none() => {
                    Cause::PrepareDeadline(deadline.length)
                }
            };
            if matches!(cause, Cause::Leaving | Cause::Revoked) {
                return Err(cause.into());
            }
            self.ending.stop(cause);
            if known.is_none() {
                self.tools().journal.note(self.intent()).await;
                patience = Instant::now() + MOMENT;
            }
        };
        tracing::info!(container = found.is_some(), "taking over");
        self.container = found;
        self.sought = None;
        Ok(())
    }

    /// Where the controller has the log, and what is not to be seen in it. Without that word lines would be lost or
    /// come twice, so it is waited for;
    /// a stop, also one that had begun before, is carried out meanwhile.
    async fn position(&mut self) -> Result<(Position, Secrets), Cut> {
        let shared = Arc::clone(&self.shared);
        let grant = Arc::clone(&self.grant);
        let asked = async {
            let controller = &*shared.tools.controller;
            let position = position(controller, grant.attempt).await?;
            Ok((position, secrets::fetch(controller, &grant).await?))
        };
        tokio::pin!(asked);
        let mut stopping = OptionFuture::from(self.ending.stopped.is_some().then(|| self.stopping()));
        let mut overdue = self.overdue();
        loop {
            let known = self.ending.stopped.clone();
            let cause = tokio::select! {
                biased;
                cause = self.signal.beyond(known.as_ref()) => cause,
                position = &mut asked => return position,
                Some(()) = &mut stopping => {
                    stopping = None.into();
                    continue;
                }
                () = &mut overdue, if known.is_none() => Cause::RunDeadline(self.grant.spec.deadlines.run),
            };
            if matches!(cause, Cause::Leaving | Cause::Revoked) {
                return Err(cause.into());
            }
            // Not in the log: where that ends is not known yet.
            self.ending.stop(cause);
            if known.is_none() {
                self.tools().journal.note(self.intent()).await;
                stopping = Some(self.stopping()).into();
            }
        }
    }

    /// Returns when the container has run for as long as it may, if it runs.
    fn overdue(&self) -> BoxFuture<'static, ()> {
        let (shared, container, run) =
            (Arc::clone(&self.shared), self.container.clone(), self.grant.spec.deadlines.run);
        let began = self.began;
        Box::pin(async move {
            let Some(container) = container else { return std::future::pending().await };
            let mut backoff = engine_backoff();
            loop {
                match shared.tools.runtime.runs_since(&container).await {
                    Ok(Some(since)) => {
                        let now = Moment::now();
                        let left = run.saturating_sub(began.unwrap_or_else(|| now.earlier(since)).until(now));
                        return tokio::time::sleep_until(after(Instant::now(), left)).await;
                    }
                    Err(error) if error.is_transient() => backoff.wait().await,
                    Ok(None) | Err(_) => return std::future::pending().await,
                }
            }
        })
    }

    /// Ends the container before it is followed again.
    fn stopping(&self) -> BoxFuture<'static, ()> {
        let (shared, container, grace) =
            (Arc::clone(&self.shared), self.container.clone(), self.stop_grace());
        Box::pin(async move {
            let Some(container) = container else { return };
            let mut backoff = engine_backoff();
            while let Err(error) = shared.tools.runtime.stop(&container, grace).await {
                tracing::warn!(%error, "the container is not stopped yet");
                if !error.is_transient() {
                    return;
                }
                backoff.wait().await;
            }
        })
    }

    async fn attach(&mut self, container: &ContainerId, seen: Counts) -> Result<Attached, Cut> {
        let shared = Arc::clone(&self.shared);
        let mut backoff = engine_backoff();
        loop {
            match shared.tools.runtime.attach(container, seen, self.began).await {
                Ok(attached) => return Ok(attached),
                Err(error) => self.bear(error).await?,
            }
            let known = self.ending.stopped.clone();
            tokio::select! {
                cause = self.signal.beyond(known.as_ref()) => match cause {
                    Cause::Leaving | Cause::Revoked => return Err(cause.into()),
                    // Carried out as soon as the container is followed.
                    cause => self.begin_stop(cause).await,
                },
                () = backoff.wait() => {}
            }
        }
    }
}

/// Whatever became of the container. What ran into its deadline may have been taken along by the engine before.
const fn explains_any_end(cause: &Cause) -> bool {
    !matches!(cause, Cause::RunDeadline(_))
}

/// Asks until there is an answer.
async fn position(controller: &dyn Controller, attempt: AttemptRef) -> Result<Position, Cut> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        match controller.resume_log(attempt).await {
            Ok(position) => return Ok(position),
            Err(link::Error::Fenced(_)) => return Err(Cause::Revoked.into()),
            Err(link::Error::Refused(detail)) => {
                let detail = format!("the log cannot be gone on with after a restart: {detail}");
                return Err(Cut::Failed(Outcome::RuntimeError, detail));
            }
            Err(link::Error::Unreachable(_) | link::Error::Denied(_)) => backoff.wait().await,
        }
    }
}
