//! How this node keeps containers within their scratch: which parts have a hard limit and what is missing for the
//! others. Never measures what a container took.

use super::engine::{Engine, Facts};
use crate::{
    runtime::DiskLimit,
    sized::{self, Missing},
};
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What is missing is looked for again after this: a trial makes a file system, and the engine is looked at often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The limits of one agent's containers.
#[derive(Debug)]
pub(super) struct Limits {
    mode: DiskLimit,
    /// Where scratch folders are; `None`: a trial has no place, so nothing is sized.
    scratch: Option<PathBuf>,
    known: Mutex<Option<(Standing, Instant)>>,
}

/// What has a hard limit on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The writable layer, by a project quota.
    pub layer: bool,
    /// `/out` and `/tmp_disk`, in a sized file system.
    pub scratch: bool,
    /// What a hard limit of everything lacks.
    pub missing: Vec<Missing>,
}

impl Standing {
    /// For people.
    pub const fn name(&self) -> &'static str {
        match (self.layer, self.scratch) {
            (true, true) => "hard",
            (true, false) => "sampled, writable layer hard",
            (false, true) => "sampled, /out and /tmp_disk hard",
            (false, false) => "sampled",
        }
    }

    /// What is missing although it was asked for.
    pub fn warning(&self, mode: DiskLimit) -> Option<String> {
        if mode != DiskLimit::Hard || self.missing.is_empty() {
            return None;
        }
        let missing = self.missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Some(format!("runtime.disk_limit is hard and the limit is {}: {missing}", self.name()))
    }
}

impl Limits {
    pub(super) const fn new(mode: DiskLimit, scratch: Option<PathBuf>) -> Self {
        Self { mode, scratch, known: Mutex::new(None) }
    }

    pub(super) const fn mode(&self) -> DiskLimit {
        self.mode
    }

    /// As it is now, or was a moment ago. What was found complete stays so. Blocks.
    pub(super) fn look(&self, facts: &Facts, engine: Option<i32>) -> Standing {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lasts = |known: &Standing, at: &Instant| known.scratch || at.elapsed() < LOOK_AGAIN;
        let known = known.filter(|(known, at)| known.layer == self.has_layer(facts) && lasts(known, at));
        if let Some((known, _)) = known {
            return known;
        }
        let mut standing = standing(self.mode, facts.layer_quota, &facts.data_root, engine);
        if standing.scratch {
            let tried = self.scratch.as_deref().map_or_else(
                || Err(Missing::new("the agent has no scratch folder", "name one with data_dir")),
                sized::try_out,
            );
            if let Err(missing) = tried {
                standing.scratch = false;
                standing.missing.push(missing);
            }
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((standing.clone(), Instant::now()));
        standing
    }

    fn has_layer(&self, facts: &Facts) -> bool {
        facts.layer_quota && self.mode != DiskLimit::Sampled
    }

    /// As it was found last.
    pub(super) fn known(&self) -> Option<Standing> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone().map(|(known, _)| known)
    }
}

/// What can be said without changing anything.
pub(super) fn standing(
    mode: DiskLimit,
    layer_quota: bool,
    data_root: &Path,
    engine: Option<i32>,
) -> Standing {
    if mode == DiskLimit::Sampled {
        return Standing::default();
    }
    let mut missing = sized::missing(engine);
    let able = missing.is_empty();
    if !layer_quota {
        let root = data_root.display();
        let what = format!("the engine's data root {root} is not overlay2 on XFS with project quotas");
        missing.push(Missing::new(what, "put it on a disk made with mkfs.xfs and mounted with prjquota"));
    }
    // Half a limit costs every start and bounds nothing: only who asks for it gets it.
    let scratch = able && (layer_quota || mode == DiskLimit::Hard);
    Standing { layer: layer_quota, scratch, missing }
}

/// For whoever looks at a node without running anything on it.
pub fn of_node(mode: DiskLimit, driver: &str, data_root: &Path, engine: Option<i32>) -> Standing {
    standing(mode, Engine::has_layer_quota(driver, data_root), data_root, engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacking(what: &str) -> Vec<Missing> {
        vec![Missing::new(what, "mend it")]
    }

    #[test]
    fn whoever_asks_for_a_hard_limit_is_told_what_is_missing_and_others_are_not() {
        let standing = Standing { layer: false, scratch: true, missing: lacking("no XFS") };
        let said = standing.warning(DiskLimit::Hard).expect("something is missing");
        assert!(
            said.contains("hard") && said.ends_with("/out and /tmp_disk hard: no XFS: mend it"),
            "{said}"
        );
        assert_eq!(standing.warning(DiskLimit::Auto), None);
        let whole = Standing { layer: true, scratch: true, missing: Vec::new() };
        assert_eq!((whole.warning(DiskLimit::Hard), whole.name()), (None, "hard"));
    }

    #[test]
    fn by_itself_only_a_node_that_has_everything_is_hard() {
        let root = Path::new("/var/lib/docker");
        assert_eq!(standing(DiskLimit::Sampled, true, root, None), Standing::default());
        let auto = standing(DiskLimit::Auto, false, root, None);
        assert!(!auto.layer && !auto.scratch);
        assert!(auto.missing.iter().any(|missing| missing.what.contains("/var/lib/docker")), "{auto:?}");
        assert!(standing(DiskLimit::Auto, true, root, None).layer);
    }
}
