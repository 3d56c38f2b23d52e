//! New objects below prefixes. A listing is in the order of names, not of time, so what was seen is remembered by name:
//! one row for each object that is there. What a look finds new, and that it has been seen, is written at once.

use super::{Error, Triggers, fire, sources::Object};
use crate::store::{FiringRow, Record, SeenObject, TriggerRow};
use longshore_common::{
    clock::Timestamp,
    ids::FiringId,
    trigger::{Kind, Objects, When},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

const HOUR: Duration = Duration::from_secs(3600);
/// So long an object that is not there any more is remembered: one that comes back as it was is not new.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

impl Triggers {
    /// Lists every prefix once. Answers whether one of them has more to fire.
    pub(crate) async fn look_at_objects(&self) -> Result<bool, Error> {
        if self.inner.disk.describe().is_err() {
            // What is new stays new.
            return Ok(false);
        }
        let mut sources: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in self.live() {
            if let When::Objects(objects) = &row.spec.when {
                sources.entry(objects.source.clone()).or_default().push(row);
            }
        }
        // One that does not answer keeps nobody waiting but its own.
        let looks = sources.into_values().map(|rows| self.look_into(rows));
        let more = futures::future::try_join_all(looks).await?;
        Ok(more.contains(&true))
    }

    /// Lists the prefixes of one source.
    async fn look_into(&self, rows: Vec<Arc<TriggerRow>>) -> Result<bool, Error> {
        let mut more = false;
        for row in rows {
            let When::Objects(objects) = &row.spec.when else { continue };
            match self.list_objects(objects).await {
                Ok(there) => {
                    let look = self.compare(&row, objects, there).await?;
                    more |= look == Look::More;
                    self.note_problem(row.id, (look == Look::Held).then(|| held(objects)));
                }
                Err(problem) => self.note_problem(row.id, Some(problem)),
            }
        }
        Ok(more)
    }

    async fn compare(
        &self,
        row: &Arc<TriggerRow>,
        objects: &Objects,
        there: Vec<Object>,
    ) -> Result<Look, Error> {
        let _one = self.inner.changing.lock().await;
        // It may be another since its prefix was listed, or have gone on from later.
        let same = |now: Arc<TriggerRow>| {
            now.enabled && now.spec.when == row.spec.when && now.cursor_at == row.cursor_at
        };
        if !self.by_id(row.id).is_some_and(same) {
            return Ok(Look::Done);
        }
        let now = Timestamp::now();
        let fired = self.inner.jobs.fired_since(row.id, now.minus(HOUR)).await?;
        let left = usize::try_from(u64::from(objects.per_hour).saturating_sub(fired)).unwrap_or(usize::MAX);
        let seen = self.inner.jobs.seen_by(row.id).await?;
        let mut news = News::of(objects, seen, left.min(self.inner.config.batch), now);
        news.take(row, there);
        let News { record, look, .. } = news;
        let look = if look == Look::More && left <= self.inner.config.batch { Look::Held } else { look };
        if record.seen.is_empty() && record.gone.is_none() && record.forgotten.is_empty() {
            return Ok(look);
        }
        let fires = !record.firings.is_empty();
        self.inner.jobs.record_firings(record).await?;
        if fires {
            self.inner.noted.notify_one();
        }
        Ok(look)
    }
}

/// What a look at a prefix leaves to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Done,
    More,
    /// More, within the hour.
    Held,
}

/// A listing beside what was seen before.
struct News<'a> {
    objects: &'a Objects,
    seen: BTreeMap<String, SeenObject>,
    most: usize,
    now: Timestamp,
    record: Record,
    look: Look,
}

impl<'a> News<'a> {
    fn of(objects: &'a Objects, seen: Vec<SeenObject>, most: usize, now: Timestamp) -> Self {
        let seen = seen.into_iter().map(|object| (object.name.clone(), object)).collect();
        Self { objects, seen, most, now, record: Record::default(), look: Look::Done }
    }

    fn take(&mut self, row: &TriggerRow, there: Vec<Object>) {
        let names: BTreeSet<_> = there.iter().map(|object| object.key.clone()).collect();
        for object in there {
            let mark = object.mark();
            let fires = match self.seen.remove(&object.key) {
                None => true,
                Some(known) if known.mark == mark && known.gone_at.is_none() => continue,
                // A folder may be unmounted, and a store answer short, for a while.
                Some(known) if known.mark == mark => false,
                Some(known) => self.objects.changed || known.gone_at.is_some(),
            };
            if fires && self.record.firings.len() >= self.most {
                self.look = Look::More;
                break;
            }
            if fires {
                self.record.firings.push(noted(row, self.objects, &object, &mark));
            }
            self.record.seen.push((row.id, object.key, mark));
        }
        self.miss(row, &names);
    }

    /// What is not there any more. An empty place is more likely not there itself, so nothing is forgotten of it.
    fn miss(&mut self, row: &TriggerRow, names: &BTreeSet<String>) {
        let missed =
            std::mem::take(&mut self.seen).into_values().filter(|known| !names.contains(&known.name));
        let (gone, before): (Vec<_>, Vec<_>) = missed.partition(|known| known.gone_at.is_none());
        let named = |known: SeenObject| (row.id, known.name);
        if !gone.is_empty() {
            self.record.gone = Some((self.now, gone.into_iter().map(named).collect()));
        }
        let long = |known: &SeenObject| known.gone_at.is_some_and(|at| self.now.since(at) >= REMEMBERED);
        if !names.is_empty() {
            self.record.forgotten = before.into_iter().filter(long).map(named).collect();
        }
    }
}

/// Whoever reads it is to think of the loop that it may be.
fn held(objects: &Objects) -> String {
    format!(
        "{} objects fired within the hour, which is its per_hour; the others wait. Does a job of it write below `{}`?",
        objects.per_hour, objects.prefix
    )
}

fn noted(row: &TriggerRow, objects: &Objects, object: &Object, mark: &str) -> (FiringRow, String) {
    let event = format!("object {}", hex::encode(Sha256::digest(format!("{}\0{mark}", object.key))));
    let firing = fire::new(row, FiringId::new(), event, Kind::Objects, object.key.clone(), 1);
    let payload = json!({
        "source": objects.source,
        "key": object.key,
        "name": object.key.rsplit('/').next(),
        "size": object.size,
        "etag": object.etag,
        "modified": object.modified.map(Timestamp::to_rfc3339),
    });
    (firing, payload.to_string())
}
