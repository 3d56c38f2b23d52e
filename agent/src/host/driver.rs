//! Who asks NVML: one thread, with a bound on how long it is waited for. A driver that is stuck keeps that thread and
//! nobody else; what it said last is told with the word that it hangs, until it answers again.

use super::{
    Age, GpuReading, Nvml, Xid,
    gpu::{Events, Gpus, Xids},
};
use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// A reading that takes longer than this is not waited for: the one before is told.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the driver said last.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) gpus: Vec<GpuReading>,
    pub(super) nvml: Nvml,
    pub(super) version: Option<String>,
    pub(super) cuda: Option<String>,
    pub(super) problem: Option<String>,
    /// Another one each time the kernel module is loaded.
    pub(super) load: Option<u64>,
}

pub(super) struct Driver {
    state: Mutex<State>,
    xids: Xids,
}

struct State {
    asks: SyncSender<()>,
    answers: Receiver<Answer>,
    last: Option<Answer>,
    asked: Option<Instant>,
    limit: Duration,
}

impl Driver {
    /// `module`: where the kernel shows the driver's module. After `limit` without an answer it hangs.
    pub(super) fn start(
        gpus: impl FnOnce(Events) -> Gpus + Send + 'static,
        module: PathBuf,
        limit: Duration,
    ) -> Self {
        let (asks, asked) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let events = Events::start();
        let xids = events.xids();
        let work = move || {
            let mut gpus = gpus(events);
            while asked.recv().is_ok() && answer.send(ask(&mut gpus, &module)).is_ok() {}
        };
        if let Err(error) = thread::Builder::new().name("nvml".into()).spawn(work) {
            tracing::error!(%error, "no thread to ask NVML: this machine has no GPU");
        }
        Self { state: Mutex::new(State { asks, answers, last: None, asked: None, limit }), xids }
    }

    /// Errors are told once, also by a driver that does not answer.
    pub(super) fn read(&self) -> (Answer, Age, Vec<Xid>) {
        let mut state = self.lock();
        let age = state.ask();
        // After the answer: what made a GPU fail in it has been told by then.
        (state.told(), age, self.xids.take())
    }

    /// As `read`, for whoever does nothing about errors.
    pub(super) fn look(&self) -> Answer {
        let mut state = self.lock();
        state.ask();
        state.told()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Answers what question the newest answer is for.
    fn ask(&mut self) -> Age {
        let end = Instant::now() + PATIENCE;
        let pending = self.asked.is_some();
        if pending {
            self.take(self.patience(end));
            if self.asked.is_some() {
                return Age::Old;
            }
        }
        // Without the thread there is nothing more to come.
        if self.asks.try_send(()).is_err() {
            return Age::Fresh;
        }
        self.asked = Some(Instant::now());
        self.take(self.patience(end));
        match (self.asked, pending) {
            (None, _) => Age::Fresh,
            (Some(_), true) => Age::Late,
            (Some(_), false) => Age::Old,
        }
    }

    /// The first answer is worth waiting for: without it there would be no GPU at all.
    fn patience(&self, end: Instant) -> Duration {
        let left = self.left();
        if self.last.is_some() { left.min(end.saturating_duration_since(Instant::now())) } else { left }
    }

    fn told(&self) -> Answer {
        let last = self.last.clone().unwrap_or_default();
        let hangs = self.asked.is_some() && self.left().is_zero();
        Answer { nvml: if hangs { Nvml::Hangs } else { last.nvml }, ..last }
    }

    fn left(&self) -> Duration {
        self.asked.map_or(Duration::ZERO, |asked| self.limit.saturating_sub(asked.elapsed()))
    }

    fn take(&mut self, patience: Duration) {
        match self.answers.recv_timeout(patience) {
            Ok(answer) => {
                if self.left().is_zero() && self.asked.is_some() {
                    tracing::info!("the NVIDIA driver answers again");
                }
                self.asked = None;
                self.last = Some(answer);
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

fn ask(gpus: &mut Gpus, module: &Path) -> Answer {
    let found = gpus.read();
    let nvml = if found.is_some() { Nvml::Answers } else { Nvml::Absent };
    Answer {
        gpus: found.unwrap_or_default(),
        nvml,
        version: gpus.driver(),
        cuda: gpus.cuda(),
        problem: gpus.problem(),
        load: std::fs::metadata(module).ok().map(|module| module.ino()),
    }
}
