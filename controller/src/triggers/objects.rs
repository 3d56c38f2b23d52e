//! New objects below prefixes. A listing is in the order of names, not of time, so what was seen is remembered by name:
//! one row for each object that is there. What a look finds new, and that it has been seen, is written at once.

use super::{Error, Triggers, fire, sources::Object};
use crate::store::{FiringRow, Record, TriggerRow};
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
};

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
                    more |= self.compare(&row, objects, there).await?;
                    self.note_problem(row.id, None);
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
    ) -> Result<bool, Error> {
        let _one = self.inner.changing.lock().await;
        // It may be another since its prefix was listed.
        let same = self.by_id(row.id).is_some_and(|now| now.enabled && now.spec.when == row.spec.when);
        if !same {
            return Ok(false);
        }
        let mut seen: BTreeMap<_, _> = self.inner.jobs.seen_by(row.id).await?.into_iter().collect();
        let mut record = Record::default();
        let mut more = false;
        let names: BTreeSet<_> = there.iter().map(|object| object.key.clone()).collect();
        for object in there {
            let mark = object.mark();
            let fires = match seen.remove(&object.key) {
                None => true,
                Some(known) if known == mark => continue,
                Some(_) => objects.changed,
            };
            if record.firings.len() >= self.inner.config.batch {
                more = true;
                break;
            }
            if fires {
                record.firings.push(noted(row, objects, &object, &mark));
            }
            record.seen.push((row.id, object.key, mark));
        }
        record.gone =
            seen.into_keys().filter(|name| !names.contains(name)).map(|name| (row.id, name)).collect();
        if record.seen.is_empty() && record.gone.is_empty() {
            return Ok(more);
        }
        let fires = !record.firings.is_empty();
        self.inner.jobs.record_firings(record).await?;
        if fires {
            self.inner.noted.notify_one();
        }
        Ok(more)
    }
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
