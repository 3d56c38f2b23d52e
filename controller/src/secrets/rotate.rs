//! Another wrapping key, or another data key, for the database of a stopped controller: in one transaction, or not at
//! all.

use super::{Config, Error, OWN, RUN, aad, keys, keys::Key, run};
use crate::{
    jobs,
    store::{self, DataKeyRow, Store},
};
use longshore_common::clock::Timestamp;
use std::{collections::BTreeMap, path::Path};

/// Wraps the data keys with the key in `new`, which is made if it is missing. With `renew` there is a new data key too,
/// and every value is encrypted again. Answers how many values there are.
pub async fn rotate(config: &Config, data_dir: &Path, new: &Path, renew: bool) -> Result<usize, Error> {
    let failed = |error: store::Error| Error::Jobs(jobs::Error::Store(error));
    let old = config.key(data_dir)?;
    let path = data_dir.join("longshore.db");
    let store = Store::open(&store::Config { path, ..store::Config::default() }).await.map_err(failed)?;
    let result = within(&store, &old, new, renew).await;
    store.close().await;
    result
}

async fn within(store: &Store, old: &Key, new: &Path, renew: bool) -> Result<usize, Error> {
    let failed = |error: store::Error| Error::Jobs(jobs::Error::Store(error));
    let mut keys = BTreeMap::new();
    for row in store.data_keys().await.map_err(failed)? {
        keys.insert(row.id, (old.unwrap(&row.wrapped).map_err(|_| Error::WrongKey)?, row.created_at));
    }
    let new = keys::from_file(new)
        .map_err(|error| Error::KeyFile { path: new.to_owned(), message: error.to_string() })?;
    let mut rows = store.secret_rows().await.map_err(failed)?;
    let mut own = store.all_job_secrets().await.map_err(failed)?;
    let mut runs = store.run_keys().await.map_err(failed)?;
    let count = rows.len() + own.len();
    if renew && let Some(last) = keys.last_key_value().map(|(id, _)| *id) {
        let (fresh, id) = (Key::random(), last + 1);
        let again = |key: i64, place: &[u8], sealed: &[u8]| {
            let (key, _) = keys.get(&key).ok_or(Error::WrongKey)?;
            let value = key.open(place, sealed).map_err(|_| Error::WrongKey)?;
            Ok::<_, Error>(fresh.seal(place, &value))
        };
        for row in &mut rows {
            let place = aad(row.kind.as_str(), &row.project, &row.name);
            (row.sealed, row.key_id) = (again(row.key_id, &place, &row.sealed)?, id);
        }
        for (_, project, secret) in &mut own {
            let place = aad(OWN, project, &secret.name);
            (secret.sealed, secret.key_id) = (again(secret.key_id, &place, &secret.sealed)?, id);
        }
        for row in &mut runs {
            let place = aad(RUN, &row.project, &run(&row.attempt));
            if let Some((key, sealed)) = &row.sealed {
                row.sealed = Some((id, again(*key, &place, sealed)?));
            }
        }
        keys = [(id, (fresh, Timestamp::now()))].into();
    }
    let wrapped = |(id, (key, created_at)): (&i64, &(Key, Timestamp))| DataKeyRow {
        id: *id,
        wrapped: new.wrap(key),
        created_at: *created_at,
    };
    let mut tx = store.begin().await.map_err(failed)?;
    tx.replace_data_keys(&keys.iter().map(wrapped).collect::<Vec<_>>()).await.map_err(failed)?;
    for row in &rows {
        tx.put_secret(row).await.map_err(failed)?;
    }
    for row in &runs {
        tx.put_run_key(row).await.map_err(failed)?;
    }
    let own: Vec<_> = own.into_iter().map(|(job, _, secret)| (job, secret)).collect();
    tx.put_job_secrets(&own).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(count)
}
