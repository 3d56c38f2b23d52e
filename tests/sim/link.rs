//! An agent's link that loses, delays, repeats and reorders what passes. Underneath is the real one, over a wire of
//! the simulation.

use crate::{
    weather::{Fate, Weather},
    wire::Wire,
};
use async_trait::async_trait;
use futures::future::BoxFuture;
use longshore_agent::credential::Wallet;
use longshore_agent::link::{
    Claimed, CompletedUpload, Controller, Error, Event, InputPage, Linked, LogAppend, Reporter, WantedUpload,
    grpc::{self, Access, Settings},
};
use longshore_common::{
    agent::{AgentIdentity, FinishReport, Offer},
    artifact::{ManifestEntry, UploadTarget},
    ids::{AttemptRef, ClaimId},
    logs::Position,
    queue::Lane,
    shutdown::Shutdown,
    tasks,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::sleep};

/// Before a caller gives up on an answer that was lost.
const PATIENCE: Duration = Duration::from_secs(15);
const EVENTS: usize = 256;

pub(crate) fn open(
    wire: &Arc<Wire>,
    weather: Arc<Weather>,
    (identity, key): (AgentIdentity, String),
    reporter: Arc<dyn Reporter>,
    leave: Shutdown,
) -> Linked {
    let access = Access::fixed(identity.id, Wallet::fixed(key));
    let settings = Settings { url: "simulated".to_owned(), access, identity, heartbeat_every: None };
    let linked = grpc::start_over(wire.channel(), settings, reporter, leave);
    let (sender, events) = mpsc::channel(EVENTS);
    drop(tasks::spawn("events", relay(linked.events, sender, Arc::clone(&weather))));
    Linked { controller: Arc::new(Faulty { inner: linked.controller, weather }), events, bell: linked.bell }
}

/// What comes down: a connection's own news in order, the rest as it likes.
async fn relay(mut events: mpsc::Receiver<Event>, to: mpsc::Sender<Event>, weather: Arc<Weather>) {
    while let Some(event) = events.recv().await {
        let fate = match event {
            Event::Connected(_) | Event::Disconnected { .. } | Event::Orders(_) => Fate::Fine,
            Event::Renewed { .. } | Event::Stop { .. } | Event::ResetGpu(_) | Event::Exec { .. } => {
                weather.fate("event")
            }
        };
        let again = match fate {
            Fate::Fine => None,
            Fate::Lost | Fate::AnswerLost => continue,
            Fate::Late(pause) | Fate::AnswerLate(pause) => {
                later(to.clone(), event, pause);
                continue;
            }
            Fate::Twice(pause) => Some((event.clone(), pause)),
        };
        if to.send(event).await.is_err() {
            return;
        }
        if let Some((event, pause)) = again {
            later(to.clone(), event, pause);
        }
    }
}

fn later(to: mpsc::Sender<Event>, event: Event, pause: Duration) {
    drop(tasks::spawn("late event", async move {
        sleep(pause).await;
        // The agent may have ended.
        drop(to.send(event).await);
    }));
}

#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn Controller>,
    weather: Arc<Weather>,
}

type Answer<T> = BoxFuture<'static, Result<T, Error>>;

impl Faulty {
    async fn call<T: Send + 'static>(
        &self,
        kind: &'static str,
        call: impl Fn(Arc<dyn Controller>) -> Answer<T> + Send,
    ) -> Result<T, Error> {
        let call = || call(Arc::clone(&self.inner));
        let lost = || Error::Unreachable("simulated".to_owned());
        match self.weather.fate(kind) {
            Fate::Fine => call().await,
            Fate::Lost => {
                sleep(PATIENCE).await;
                Err(lost())
            }
            Fate::AnswerLost => {
                drop(call().await);
                sleep(PATIENCE).await;
                Err(lost())
            }
            Fate::Late(pause) => {
                sleep(pause).await;
                call().await
            }
            Fate::AnswerLate(pause) => {
                let answer = call().await;
                sleep(pause).await;
                answer
            }
            Fate::Twice(pause) => {
                let again = call();
                drop(tasks::spawn("repeat", async move {
                    sleep(pause).await;
                    again.await.map(drop)
                }));
                call().await
            }
        }
    }
}

#[async_trait]
impl Controller for Faulty {
    async fn claim(
        &self,
        claim: ClaimId,
        offer: Offer,
        hints: BTreeMap<Lane, u32>,
    ) -> Result<Claimed, Error> {
        self.call("claim", move |inner| {
            let (offer, hints) = (offer.clone(), hints.clone());
            Box::pin(async move { inner.claim(claim, offer, hints).await })
        })
        .await
    }

    async fn append_logs(&self, appends: Vec<LogAppend>) -> Result<Vec<Result<u64, Error>>, Error> {
        self.call("append_logs", move |inner| {
            let appends = appends.clone();
            Box::pin(async move { inner.append_logs(appends).await })
        })
        .await
    }

    async fn resume_log(&self, attempt: AttemptRef) -> Result<Position, Error> {
        self.call("resume_log", move |inner| Box::pin(async move { inner.resume_log(attempt).await })).await
    }

    async fn fetch_input(
        &self,
        attempt: AttemptRef,
        name: &str,
        page: Option<String>,
    ) -> Result<InputPage, Error> {
        self.inner.fetch_input(attempt, name, page).await
    }

    async fn open_uploads(
        &self,
        attempt: AttemptRef,
        files: Vec<WantedUpload>,
    ) -> Result<Vec<UploadTarget>, Error> {
        self.inner.open_uploads(attempt, files).await
    }

    async fn complete_uploads(
        &self,
        attempt: AttemptRef,
        uploads: Vec<CompletedUpload>,
    ) -> Result<(), Error> {
        self.inner.complete_uploads(attempt, uploads).await
    }

    async fn put_manifest(
        &self,
        attempt: AttemptRef,
        page: u32,
        entries: Vec<ManifestEntry>,
    ) -> Result<(), Error> {
        self.inner.put_manifest(attempt, page, entries).await
    }

    async fn finish(&self, report: FinishReport) -> Result<(), Error> {
        self.call("finish", move |inner| {
            let report = report.clone();
            Box::pin(async move { inner.finish(report).await })
        })
        .await
    }
}
