//! What is remembered of a container while this process runs it: its end, once known, and the
//! engine it runs under. Losing all of it is harmless, labels and the engine say it again.

use super::{calls::Pending, engine::Client, outage::Outage, stream::Raw};
use crate::runtime::{ContainerId, Error, Exit};
use longshore_common::clock::{Moment, Timestamp};
use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;

/// All containers of this process.
#[derive(Debug, Default)]
pub(super) struct Containers(Mutex<HashMap<ContainerId, Arc<Live>>>);

pub(super) struct Live {
    /// Folders to delete with the container; empty: ask its labels.
    pub(super) scratch: Mutex<Vec<PathBuf>>,
    pub(super) starting: Pending<Raw>,
    pub(super) removing: Pending<()>,
    /// It may have written before we attached: its log is read from the engine, from the beginning.
    started_before: AtomicBool,
    /// The attached stream has ended.
    drained: watch::Sender<bool>,
    pub(super) usage: Mutex<super::usage::Meter>,
    /// The start of `/init`'s complaint, when it could not run the program.
    pub(super) complaint: Mutex<Option<String>>,
    monitored: AtomicBool,
    end: watch::Sender<Option<Result<Exit, Error>>>,
    /// How often the engine came back with the container still running.
    returns: watch::Sender<u32>,
    /// When it was started, if one of our processes has noted it.
    began: OnceLock<Moment>,
    /// Since when the engine is lost, or was when it came back; until somebody deals with it.
    lost_at: Mutex<Option<Timestamp>>,
    /// The engine that started it, or was there when we found it.
    engine: Mutex<Option<Client>>,
}

impl Containers {
    /// The entry of a container, made if it is new.
    pub(super) fn get(&self, container: &ContainerId) -> Arc<Live> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(container.clone()).or_default())
    }

    /// The entry of a container that is under way; `None`: it may be removed already.
    pub(super) fn find(&self, container: &ContainerId) -> Option<Arc<Live>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(container).cloned()
    }

    pub(super) fn forget(&self, container: &ContainerId) -> Option<Arc<Live>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(container)
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("end", &self.end.borrow()).finish_non_exhaustive()
    }
}

impl Default for Live {
    fn default() -> Self {
        Self {
            scratch: Mutex::default(),
            starting: Pending::default(),
            removing: Pending::default(),
            started_before: AtomicBool::new(false),
            drained: watch::Sender::new(false),
            usage: Mutex::default(),
            complaint: Mutex::default(),
            monitored: AtomicBool::new(false),
            end: watch::Sender::new(None),
            returns: watch::Sender::new(0),
            began: OnceLock::new(),
            lost_at: Mutex::default(),
            engine: Mutex::default(),
        }
    }
}

impl Live {
    /// True for the one caller that has to start the monitor.
    pub(super) fn begin_monitor(&self) -> bool {
        !self.monitored.swap(true, Ordering::AcqRel)
    }

    pub(super) fn ended(&self, end: Result<Exit, Error>) {
        self.end.send_replace(Some(end));
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Returns when the end is known. Cancel-safe.
    pub(super) async fn end(&self) -> Result<Exit, Error> {
        let mut end = self.end.subscribe();
        let known = end.wait_for(Option::is_some).await.expect("the sender is in self");
        known.clone().expect("waited until it is some")
    }

    /// The first word counts.
    pub(super) fn note_began(&self, began: Moment) {
        self.began.get_or_init(|| began);
    }

    pub(super) fn began(&self) -> Option<Moment> {
        self.began.get().copied()
    }

    /// The container is this engine's. `anew`: whatever was known before, for it is about to be started.
    pub(super) fn runs_under(&self, engine: &Client, anew: bool) {
        let mut known = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if anew || known.is_none() {
            *known = Some(engine.clone());
        }
    }

    pub(super) fn engine(&self) -> Option<Client> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The engine that ran it is not there any more.
    pub(super) fn lost_engine(&self) -> bool {
        self.engine().is_some_and(|engine| !engine.tether.is_whole())
    }

    /// To be called as soon as it can be known.
    pub(super) fn note_if_lost(&self) {
        if self.lost_engine() {
            let mut lost_at = self.lost_at.lock().unwrap_or_else(PoisonError::into_inner);
            lost_at.get_or_insert_with(Timestamp::now);
        }
    }

    /// The time between engines that nobody has dealt with yet.
    pub(super) fn take_outage(&self) -> Option<Outage> {
        let lost_at = self.lost_at.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Outage { lost_at, returned_at: Timestamp::now() })
    }

    pub(super) fn note_return(&self) {
        self.returns.send_modify(|count| *count += 1);
    }

    /// A watch on how often the engine came back with the container still running.
    pub(super) fn returns(&self) -> watch::Receiver<u32> {
        self.returns.subscribe()
    }

    pub(super) fn note_started_before(&self, before: bool) {
        self.started_before.store(before, Ordering::Release);
    }

    pub(super) fn started_before(&self) -> bool {
        self.started_before.load(Ordering::Acquire)
    }

    pub(super) fn drained(&self) {
        self.drained.send_replace(true);
    }

    /// Returns when the attached stream has been read to its end. Cancel-safe.
    pub(super) async fn read_out(&self) {
        // The sender is in self.
        drop(self.drained.subscribe().wait_for(|drained| *drained).await);
    }

    pub(super) fn complain(&self, text: &str) {
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
    }

    pub(super) fn complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
