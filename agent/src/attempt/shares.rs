//! The shares that an attempt mounts.

use super::{Attempt, Cut, secrets::folder_name};
use crate::shares::{Error, Pinned, Pins};
use longshore_common::job::{Input, Outcome, ShareInput};
use std::path::Path;

impl Attempt {
    pub(super) async fn pin_shares(&self, dir: &Path) -> Result<Pins, Cut> {
        let asked: Vec<(String, ShareInput)> = self.grant.spec.inputs.iter().filter_map(share).collect();
        if asked.is_empty() {
            return Ok(Pins::new());
        }
        let failed = |detail: String| Cut::Failed(Outcome::InputFailed, detail);
        if !self.tools().runtime.sees_mounts().await {
            let detail = "shares: the engine does not see what the agent mounts; run the agent outside of a container \
                          and without PrivateTmp=, PrivateMounts= or ProtectSystem= in its unit";
            return Err(failed(detail.to_owned()));
        }
        for (name, ShareInput { share, path, writable }) in &asked {
            let may = if *writable { "writable" } else { "read-only" };
            let from = format!("{share}/{path}");
            self.log.system(&format!("share    {name}  {}  {may}", from.trim_end_matches('/'))).await;
        }
        let (shares, attempt, project) =
            (self.tools().shares.clone(), folder_name(dir), self.grant.project.clone());
        let pinned = tokio::task::spawn_blocking(move || {
            let pin = |(name, asked): (String, ShareInput)| {
                let folder = shares.pin(&attempt, &name, &project, &asked)?;
                Ok((name, Pinned { folder, writable: asked.writable }))
            };
            asked.into_iter().map(pin).collect::<Result<Pins, Error>>()
        });
        match pinned.await {
            Ok(pinned) => pinned.map_err(|error| failed(error.to_string())),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

fn share((name, input): (&String, &Input)) -> Option<(String, ShareInput)> {
    match input {
        Input::Share(share) => Some((name.clone(), share.clone())),
        Input::Uploaded { .. } | Input::Job { .. } | Input::Url { .. } => None,
    }
}
