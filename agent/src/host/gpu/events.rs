//! Listens for critical errors (Xid) on a thread of its own, for as long as NVML is loaded. Never says what they mean.

use crate::host::Xid;
use longshore_common::retry::Backoff;
use nvml_wrapper::{
    Device, Nvml, bitmasks::event::EventTypes, enums::event::XidError, error::NvmlError, event::EventSet,
};
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long one wait for an event lasts: nobody shuts NVML down meanwhile.
const WAIT_MS: u32 = 200;
/// How long NVML is waited for by whoever wants it shut down.
const PATIENCE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(10);
/// What nobody takes is of no more use; a GPU that fails tells the same again and again.
const KEPT: usize = 256;
/// After NVML has refused to listen on.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// How long a GPU that could not say who it is, is asked once more.
const NAMELESS: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(in crate::host) struct Events {
    shared: Arc<Shared>,
    followed: Vec<String>,
}

/// Where others take what was told.
#[derive(Debug)]
pub(in crate::host) struct Xids(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    nvml: Option<Arc<Nvml>>,
    /// Counts what is to be listened to anew.
    turn: u64,
    told: Vec<Xid>,
    ended: bool,
}

impl Events {
    pub(in crate::host) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let listener = Arc::clone(&shared);
        let started = thread::Builder::new().name("gpu events".into()).spawn(move || listen(&listener));
        if let Err(error) = started {
            tracing::error!(%error, "no thread to listen for errors of GPUs");
        }
        Self { shared, followed: Vec::new() }
    }

    /// Listens to these GPUs from now on.
    pub(super) fn follow(&mut self, nvml: &Arc<Nvml>, uuids: Vec<String>) {
        let mut state = self.shared.lock();
        if state.nvml.is_some() && self.followed == uuids {
            return;
        }
        state.nvml = Some(Arc::clone(nvml));
        state.turn += 1;
        self.followed = uuids;
        self.shared.changed.notify_all();
    }

    /// Listens no more, and waits a moment until nobody but the caller has NVML.
    pub(super) fn end(&mut self, nvml: &Arc<Nvml>) {
        {
            let mut state = self.shared.lock();
            state.nvml = None;
            state.turn += 1;
            self.shared.changed.notify_all();
        }
        self.followed.clear();
        let mut waited = Duration::ZERO;
        while Arc::strong_count(nvml) > 1 && waited < PATIENCE {
            thread::sleep(STEP);
            waited += STEP;
        }
    }

    pub(in crate::host) fn xids(&self) -> Xids {
        Xids(Arc::clone(&self.shared))
    }
}

impl Xids {
    /// Since the last call.
    pub(in crate::host) fn take(&self) -> Vec<Xid> {
        std::mem::take(&mut self.0.lock().told)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        (state.nvml, state.ended) = (None, true);
        state.turn += 1;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to listen to that is not this turn; `None`: it is over.
    fn after(&self, turn: u64) -> Option<(u64, Arc<Nvml>)> {
        let waiting = |state: &mut State| !state.ended && (state.nvml.is_none() || state.turn == turn);
        let state = self.changed.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner);
        (!state.ended).then(|| state.nvml.clone().map(|nvml| (state.turn, nvml))).flatten()
    }

    /// Waits, but not beyond this turn.
    fn rest(&self, turn: u64, pause: Duration) {
        let same = |state: &mut State| state.turn == turn;
        drop(self.changed.wait_timeout_while(self.lock(), pause, same));
    }

    fn tell(&self, xid: Xid) {
        let mut state = self.lock();
        if state.told.len() < KEPT {
            state.told.push(xid);
        }
    }
}

fn listen(shared: &Shared) {
    let mut last = 0;
    while let Some((turn, nvml)) = shared.after(last) {
        last = turn;
        let (mut again, mut deaf) = (AGAIN, false);
        while shared.lock().turn == turn {
            let refused = register(&nvml).and_then(|set| hear(shared, turn, &set, &mut deaf));
            if let Some(error) = refused
                && !std::mem::replace(&mut deaf, true)
            {
                tracing::warn!(%error, "errors of GPUs are not heard; listening again");
                again = AGAIN;
            }
            shared.rest(turn, again.next_wait());
        }
    }
}

/// Listens for as long as it is this turn, or until NVML refuses: why.
fn hear<'nvml>(shared: &Shared, turn: u64, set: &EventSet<'nvml>, deaf: &mut bool) -> Option<NvmlError> {
    let mut nameless: Vec<(Instant, Device<'nvml>, u32)> = Vec::new();
    while shared.lock().turn == turn {
        let heard = set.wait(WAIT_MS);
        match heard {
            Ok(_) | Err(NvmlError::Timeout) if std::mem::take(deaf) => {
                tracing::info!("errors of GPUs are heard again");
            }
            _ => {}
        }
        match heard {
            Ok(event) => {
                let Some(xid) = event.event_data else { continue };
                let code = match xid {
                    XidError::Value(code) => u32::try_from(code).unwrap_or(u32::MAX),
                    XidError::Unknown => 999,
                };
                // One that is lost does not say any more who it is, one that stumbled does later.
                let gpu = event.device.uuid().ok();
                tracing::warn!(xid = code, gpu, "a GPU tells of an error");
                if gpu.is_none() {
                    nameless.push((Instant::now(), event.device, code));
                }
                shared.tell(Xid { gpu, code });
            }
            Err(NvmlError::Timeout) => {}
            // Others may still tell something.
            Err(NvmlError::GpuLost) => thread::sleep(Duration::from_millis(WAIT_MS.into())),
            Err(error) => return Some(error),
        }
        nameless.retain(|(at, device, code)| {
            let Ok(gpu) = device.uuid() else { return at.elapsed() < NAMELESS };
            shared.tell(Xid { gpu: Some(gpu), code: *code });
            false
        });
    }
    None
}

/// All GPUs that can tell of errors. One that cannot be registered takes the whole set with it, so the others are
/// tried again without it.
fn register(nvml: &Nvml) -> Option<EventSet<'_>> {
    let count = nvml.device_count().ok()?;
    let tells = |index: &u32| {
        let types = nvml.device_by_index(*index).and_then(|device| device.supported_event_types());
        types.is_ok_and(|types| types.contains(EventTypes::CRITICAL_XID_ERROR))
    };
    let mut able: Vec<u32> = (0..count).filter(tells).collect();
    while !able.is_empty() {
        match register_all(nvml, &able) {
            Ok(set) => return Some(set),
            Err(Some(index)) => {
                tracing::warn!(gpu = index, "errors of a GPU cannot be listened for");
                able.retain(|kept| *kept != index);
            }
            Err(None) => return None,
        }
    }
    None
}

/// Or which of them failed.
fn register_all<'nvml>(nvml: &'nvml Nvml, gpus: &[u32]) -> Result<EventSet<'nvml>, Option<u32>> {
    let mut set = nvml.create_event_set().map_err(|_| None)?;
    for index in gpus {
        let device = nvml.device_by_index(*index).map_err(|_| Some(*index))?;
        set = device.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|_| Some(*index))?;
    }
    Ok(set)
}
