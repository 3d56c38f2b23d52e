//! A scripted controller in memory, for tests of the agent: it grants what is queued in it, keeps what it is told,
//! and fails as it is told to.

use super::{
    Claimed, CompletedUpload, Controller, Error, Event, InputPage, LogAppend, QueueAccess, WantedUpload,
    Welcome,
};
use crate::secrets::Secrets;
use async_trait::async_trait;
use longshore_common::{
    agent::{FinishReport, Grant, LaneAnswer, Offer},
    artifact::{ManifestEntry, UploadTarget},
    ids::{AttemptRef, ClaimId, ClusterId, Epoch},
    logs::Position,
    queue::{
        Lane,
        link::{LinkConsumer, Work},
    },
};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, watch};

#[derive(Debug)]
pub struct FakeController {
    state: Mutex<State>,
    version: watch::Sender<u64>,
    events: Mutex<mpsc::Sender<Event>>,
    pub bell: Arc<LinkConsumer>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Grant>,
    answer_left: Option<LaneAnswer>,
    claims: Vec<(ClaimId, Offer, BTreeMap<Lane, u32>)>,
    answered: HashMap<ClaimId, Claimed>,
    lose: u32,
    unreachable: bool,
    fenced: HashSet<AttemptRef>,
    lists_refused: bool,
    finished: Vec<FinishReport>,
    logs: HashMap<AttemptRef, Vec<u8>>,
    manifest: Vec<ManifestEntry>,
    put_url: Option<String>,
    secrets: Option<Secrets>,
}

impl FakeController {
    /// The controller, and its events as the link would give them: the first is `Connected`.
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (events, received) = mpsc::channel(64);
        let fake = Arc::new(Self {
            state: Mutex::default(),
            version: watch::Sender::new(0),
            events: Mutex::new(events),
            bell: Arc::new(LinkConsumer::new()),
        });
        fake.connect();
        (fake, received)
    }

    /// For an agent process after the first one: its link is up.
    pub fn link_again(&self) -> mpsc::Receiver<Event> {
        let (events, received) = mpsc::channel(64);
        *self.events.lock().unwrap_or_else(PoisonError::into_inner) = events;
        self.connect();
        received
    }

    pub fn connect(&self) {
        self.bell.connected();
        self.say(Event::Connected(Welcome {
            cluster: ClusterId::from_uuid(uuid::Uuid::nil()),
            epoch: Epoch(1),
            heartbeat_every: Duration::from_secs(5),
            queue: QueueAccess::Link,
            lanes: Lane::of_pool("default").to_vec(),
        }));
    }

    pub fn say(&self, event: Event) {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.try_send(event).expect("tests say little");
    }

    /// Queues a job and rings.
    pub fn submit(&self, grant: Grant) {
        let lane = grant.lane.clone();
        self.change(|state| state.queue.push_back(grant));
        self.ring(lane);
    }

    pub fn ring(&self, lane: Lane) {
        self.bell.work(&Work { lane, hints: 1 });
    }

    /// What claims hear of lanes whose work was not granted, instead of what the queue says.
    pub fn answer(&self, answer: LaneAnswer) {
        self.change(|state| state.answer_left = Some(answer));
    }

    /// The next so many claims are carried out, and their answers lost.
    pub fn lose_answers(&self, count: u32) {
        self.change(|state| state.lose = count);
    }

    pub fn unreachable(&self, unreachable: bool) {
        self.change(|state| state.unreachable = unreachable);
    }

    pub fn fence(&self, attempt: AttemptRef) {
        self.change(|state| state.fenced.insert(attempt));
    }

    /// Reports that count pages are refused, as if not all of them had arrived.
    pub fn refuse_lists(&self) {
        self.change(|state| state.lists_refused = true);
    }

    /// What every attempt is told; `None`: it is refused.
    pub fn know(&self, secrets: Option<Secrets>) {
        self.change(|state| state.secrets = secrets);
    }

    /// Where files are put, `http://127.0.0.1:1234/`.
    pub fn store_at(&self, url: String) {
        self.change(|state| state.put_url = Some(url));
    }

    pub fn claims(&self) -> Vec<(ClaimId, Offer, BTreeMap<Lane, u32>)> {
        self.lock().claims.clone()
    }

    pub fn finished(&self) -> Vec<FinishReport> {
        self.lock().finished.clone()
    }

    pub fn manifest(&self) -> Vec<ManifestEntry> {
        self.lock().manifest.clone()
    }

    pub fn log(&self, attempt: &AttemptRef) -> Vec<u8> {
        self.lock().logs.get(attempt).cloned().unwrap_or_default()
    }

    /// Returns once `seen` holds of the controller.
    pub async fn until<T>(&self, mut seen: impl FnMut(&Self) -> Option<T>) -> T {
        let mut version = self.version.subscribe();
        loop {
            if let Some(found) = seen(self) {
                return found;
            }
            version.changed().await.expect("the sender is in self");
        }
    }

    /// The report of an attempt, when it comes.
    pub async fn report(&self, attempt: AttemptRef) -> FinishReport {
        self.until(|fake| fake.finished().into_iter().find(|report| report.attempt == attempt)).await
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.version.send_modify(|version| *version += 1);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `change`, if the controller answers and the attempt is not fenced.
    fn about<T>(&self, attempt: AttemptRef, change: impl FnOnce(&mut State) -> T) -> Result<T, Error> {
        self.change(|state| {
            state.reach()?;
            if state.fenced.contains(&attempt) {
                return Err(Error::Fenced(attempt.to_string()));
            }
            Ok(change(state))
        })
    }
}

impl State {
    fn reach(&self) -> Result<(), Error> {
        if self.unreachable { Err(Error::Unreachable("scripted".to_owned())) } else { Ok(()) }
    }

    fn grant(&mut self, offer: &Offer) -> Claimed {
        let mut left = offer.free;
        let mut grants = Vec::new();
        while grants.len() < offer.slots as usize {
            let fits = |grant: &Grant| {
                let wants = &grant.spec.resources;
                wants.cpu_millis <= left.cpu_millis && wants.memory_bytes <= left.memory_bytes
            };
            let Some(at) = self.queue.iter().position(fits) else { break };
            let grant = self.queue.remove(at).expect("just found");
            left.cpu_millis -= grant.spec.resources.cpu_millis;
            left.memory_bytes -= grant.spec.resources.memory_bytes;
            grants.push(grant);
        }
        let answer = |lane: &Lane| {
            let more = self.queue.iter().any(|grant| grant.lane == *lane);
            self.answer_left.unwrap_or(if more { LaneAnswer::MoreButNotForYou } else { LaneAnswer::Empty })
        };
        Claimed { grants, lanes: offer.lanes.iter().map(|lane| (lane.clone(), answer(lane))).collect() }
    }
}

#[async_trait]
impl Controller for FakeController {
    async fn claim(
        &self,
        claim: ClaimId,
        offer: Offer,
        hints: BTreeMap<Lane, u32>,
    ) -> Result<Claimed, Error> {
        self.change(|state| {
            state.claims.push((claim, offer.clone(), hints));
            state.reach()?;
            let claimed = match state.answered.get(&claim) {
                Some(before) => before.clone(),
                None => state.grant(&offer),
            };
            state.answered.insert(claim, claimed.clone());
            if state.lose > 0 {
                state.lose -= 1;
                return Err(Error::Unreachable("the answer was lost".to_owned()));
            }
            Ok(claimed)
        })
    }

    async fn append_logs(&self, appends: Vec<LogAppend>) -> Result<Vec<Result<u64, Error>>, Error> {
        self.change(|state| state.reach())?;
        let append = |append: LogAppend| {
            self.about(append.attempt, |state| {
                let log = state.logs.entry(append.attempt).or_default();
                if append.offset == log.len() as u64 {
                    log.extend_from_slice(&append.data);
                }
                log.len() as u64
            })
        };
        Ok(appends.into_iter().map(append).collect())
    }

    async fn resume_log(&self, attempt: AttemptRef) -> Result<Position, Error> {
        self.about(attempt, |state| {
            let mut position = Position::default();
            let log = state.logs.get(&attempt).cloned().unwrap_or_default();
            position.pass(log.into()).expect("agents ship what can be decoded");
            position
        })
    }

    async fn fetch_input(
        &self,
        attempt: AttemptRef,
        name: &str,
        _page: Option<String>,
    ) -> Result<InputPage, Error> {
        self.about(attempt, |_| ())?;
        Err(Error::Refused(format!("input `{name}` is not there")))
    }

    async fn fetch_secrets(&self, attempt: AttemptRef) -> Result<Secrets, Error> {
        self.about(attempt, |state| state.secrets.clone())?
            .ok_or_else(|| Error::Refused("no such secret".to_owned()))
    }

    async fn open_uploads(
        &self,
        attempt: AttemptRef,
        files: Vec<WantedUpload>,
    ) -> Result<Vec<UploadTarget>, Error> {
        self.about(attempt, |state| {
            let url = state.put_url.clone().unwrap_or_default();
            let target = |file: WantedUpload| UploadTarget {
                upload_id: None,
                part_size: file.size,
                urls: vec![format!("{url}{}", file.ordinal)],
            };
            files.into_iter().map(target).collect()
        })
    }

    async fn complete_uploads(
        &self,
        attempt: AttemptRef,
        _uploads: Vec<CompletedUpload>,
    ) -> Result<(), Error> {
        self.about(attempt, |_| ())
    }

    async fn put_manifest(
        &self,
        attempt: AttemptRef,
        _page: u32,
        entries: Vec<ManifestEntry>,
    ) -> Result<(), Error> {
        self.about(attempt, |state| state.manifest.extend(entries))
    }

    async fn finish(&self, report: FinishReport) -> Result<(), Error> {
        self.about(report.attempt, |state| {
            if state.lists_refused && report.manifest_pages > 0 {
                return Err(Error::Refused("manifest incomplete: scripted".to_owned()));
            }
            state.finished.push(report);
            Ok(())
        })?
    }
}
