//! Secrets, as far as they are rows: what is in them is `secrets`' to know.

use super::{Jobs, chores::Chore, error::Error};
use crate::store::{DataKeyRow, SecretKind, SecretRow};
use longshore_common::ids::JobId;

/// A secret that one job brought along, encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSecret {
    pub name: String,
    pub sealed: Vec<u8>,
    pub key_id: i64,
    /// Two of the same value have the same one. Not stored with it.
    pub mark: Vec<u8>,
}

impl Jobs {
    pub(crate) async fn data_keys(&self) -> Result<Vec<DataKeyRow>, Error> {
        Ok(self.inner.shared.store.data_keys().await?)
    }

    pub(crate) async fn secret_rows(&self) -> Result<Vec<SecretRow>, Error> {
        Ok(self.inner.shared.store.secret_rows().await?)
    }

    pub(crate) async fn job_secrets(&self, job: JobId) -> Result<Vec<OwnSecret>, Error> {
        Ok(self.inner.shared.store.job_secrets(job).await?)
    }

    pub(crate) async fn put_data_key(&self, key: DataKeyRow) -> Result<(), Error> {
        self.chore(Chore::DataKey(Box::new(key))).await.map(drop)
    }

    pub(crate) async fn put_secret(&self, row: SecretRow) -> Result<(), Error> {
        self.chore(Chore::Secret(Box::new(row))).await.map(drop)
    }

    pub(crate) async fn remove_secret(&self, place: (String, SecretKind, String)) -> Result<(), Error> {
        self.chore(Chore::RemoveSecret(place)).await.map(drop)
    }
}
