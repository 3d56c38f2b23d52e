//! What was done to the parts, and when: printed as it happens, and read again by the checker.

use crate::faults::{Link, Part, What};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    began: Instant,
    wall: SystemTime,
    entries: Arc<Mutex<Vec<Entry>>>,
}

/// A fault that was done, in time since the beginning.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) what: What,
    pub(crate) from: Duration,
    /// `None`: not over yet.
    pub(crate) to: Option<Duration>,
}

impl Timeline {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), wall: SystemTime::now(), entries: Arc::default() }
    }

    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A time the controller or the engine told; all processes are on this machine.
    pub(crate) fn of(&self, time: &prost_types::Timestamp) -> Duration {
        let since_1970 = Duration::new(
            u64::try_from(time.seconds).unwrap_or_default(),
            u32::try_from(time.nanos).unwrap_or_default(),
        );
        let began = self.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        since_1970.saturating_sub(began)
    }

    pub(crate) fn note(&self, text: &str) {
        println!("  {:>6.1} s  {text}", self.now().as_secs_f64());
    }

    pub(crate) fn fault(&self, what: What) {
        self.note(&what.to_string());
        self.lock().push(Entry { what, from: self.now(), to: None });
    }

    pub(crate) fn over(&self, what: What) {
        let now = self.now();
        if let Some(entry) =
            self.lock().iter_mut().rev().find(|entry| entry.what == what && entry.to.is_none())
        {
            entry.to = Some(now);
        }
    }

    /// All that happened between these times.
    pub(crate) fn between(&self, from: Duration, to: Duration) -> Vec<Entry> {
        let inside = |entry: &Entry| entry.from <= to && entry.to.is_none_or(|end| end >= from);
        self.lock().iter().filter(|entry| inside(entry)).cloned().collect()
    }

    /// When this part was started again after each kill.
    pub(crate) fn restarts(&self, part: Part) -> Vec<Duration> {
        let of = |entry: &Entry| matches!(entry.what, What::Kill { part: killed, .. } if killed == part);
        self.lock().iter().filter(|entry| of(entry)).filter_map(|entry| entry.to).collect()
    }

    pub(crate) fn count(&self, test: impl Fn(What) -> bool) -> usize {
        self.lock().iter().filter(|entry| test(entry.what)).count()
    }

    pub(crate) fn text(&self) -> String {
        self.lock().iter().map(|entry| format!("{entry}\n")).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    pub(crate) fn lasts_at(&self, at: Duration) -> bool {
        self.from <= at && self.to.is_none_or(|to| to > at)
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let to = self.to.map_or("…".to_owned(), |to| format!("{:.1}", to.as_secs_f64()));
        write!(f, "{:>6.1} – {to} s  {}", self.from.as_secs_f64(), self.what)
    }
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kill { part: Part::Engine, live_restore: true } => {
                f.write_str("kill engine (back with live-restore)")
            }
            Self::Kill { part, .. } => write!(f, "kill {part}"),
            Self::Pause(part) => write!(f, "stop {part}"),
            Self::Cut(link) => write!(f, "cut {link}"),
            Self::Freeze(link) => write!(f, "freeze {link}"),
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Controller => f.write_str("controller"),
            Self::Agent(seat) => write!(f, "agent-{seat}"),
            Self::Broker => f.write_str("broker"),
            Self::Engine => f.write_str("engine"),
            Self::Store => f.write_str("store"),
        }
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agent(seat) => write!(f, "agent-{seat} ↔ controller"),
            Self::ControllerBroker => f.write_str("controller ↔ broker"),
            Self::AgentsBroker => f.write_str("agents ↔ broker"),
            Self::Store => f.write_str("all ↔ store"),
        }
    }
}
