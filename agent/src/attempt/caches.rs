//! The caches that an attempt mounts.

use super::{Attempt, Cut};
use longshore_common::job::Outcome;
use std::{collections::BTreeMap, path::PathBuf};

impl Attempt {
    /// Path in the container to the folder that lies there.
    pub(super) async fn open_caches(&self) -> Result<BTreeMap<String, PathBuf>, Cut> {
        let asked = &self.grant.spec.caches;
        if asked.is_empty() {
            return Ok(BTreeMap::new());
        }
        for (name, path) in asked {
            self.log.system(&format!("cache    {name}  {path}")).await;
        }
        let (caches, project, asked) =
            (self.tools().caches.clone(), self.grant.project.clone(), asked.clone());
        let made = tokio::task::spawn_blocking(move || {
            let make = |(name, path): (String, String)| {
                let folder =
                    caches.make(&project, &name).map_err(|error| format!("cache `{name}`: {error}"))?;
                Ok((path, folder))
            };
            asked.into_iter().map(make).collect::<Result<_, String>>()
        });
        match made.await {
            Ok(made) => made.map_err(|detail| Cut::Failed(Outcome::RuntimeError, detail)),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
