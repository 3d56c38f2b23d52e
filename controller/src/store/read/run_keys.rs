//! Run keys that are not taken back yet.

use crate::store::{Error, RunKeyRow, Store};

impl Store {
    pub(crate) async fn run_keys(&self) -> Result<Vec<RunKeyRow>, Error> {
        let rows = sqlx::query("SELECT * FROM run_keys").fetch_all(&self.read).await?;
        rows.iter().map(RunKeyRow::read).collect()
    }
}
