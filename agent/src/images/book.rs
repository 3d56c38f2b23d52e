//! Which images this agent brought to its node, under which names, and when a job used each last. Pure, but for the
//! file it is kept in.

use crate::runtime::{ImageId, Removal};
use longshore_common::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, ErrorKind},
    path::Path,
    time::Duration,
};

/// Older than this a use need not be on disk: an image would only go that much too early.
const COARSE: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Book {
    pulled: BTreeMap<ImageId, Entry>,
    /// By how many attempts.
    used: BTreeMap<ImageId, u32>,
    /// As on disk.
    noted: BTreeMap<ImageId, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    names: BTreeSet<String>,
    last_used: Timestamp,
    /// The projects whose credentials a registry gave it for; `None`: the node's own, so it is everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    projects: Option<BTreeSet<String>>,
}

impl Book {
    /// What an earlier process noted. One that cannot be read is as none: its images stay.
    pub(super) fn open(path: &Path) -> Self {
        let read = match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        };
        let pulled: BTreeMap<_, _> = read.unwrap_or_else(|error| {
            tracing::error!(%error, path = %path.display(), "which images were pulled is not known: they stay");
            BTreeMap::new()
        });
        Self { noted: pulled.clone(), pulled, used: BTreeMap::new() }
    }

    /// An attempt is about to use it.
    pub(super) fn begin(&mut self, image: &ImageId, name: &str, pulled: bool, now: Timestamp) {
        *self.used.entry(image.clone()).or_default() += 1;
        if pulled {
            let fresh = Entry { names: BTreeSet::new(), last_used: now, projects: None };
            self.pulled.entry(image.clone()).or_insert(fresh);
        }
        if let Some(entry) = self.pulled.get_mut(image) {
            entry.names.insert(name.to_owned());
            entry.last_used = now;
        }
    }

    /// A registry gave it for a project: with the project's own credentials, or with the node's.
    pub(super) fn opened(&mut self, image: &ImageId, project: &str, own: bool, pulled: bool) {
        if pulled && own {
            let projects = Some([project.to_owned()].into());
            let fresh = Entry { names: BTreeSet::new(), last_used: Timestamp::now(), projects };
            self.pulled.entry(image.clone()).or_insert(fresh);
        }
        let Some(entry) = self.pulled.get_mut(image) else { return };
        match &mut entry.projects {
            Some(projects) if own => drop(projects.insert(project.to_owned())),
            projects => *projects = None,
        }
    }

    /// Whether it serves this project without a word of its registry.
    pub(super) fn is_open(&self, image: &ImageId, project: &str) -> bool {
        let projects = self.pulled.get(image).and_then(|entry| entry.projects.as_ref());
        projects.is_none_or(|projects| projects.contains(project))
    }

    pub(super) fn end(&mut self, image: &ImageId, now: Timestamp) {
        if let Some(count) = self.used.get_mut(image) {
            *count -= 1;
            if *count == 0 {
                self.used.remove(image);
            }
        }
        self.touch(image, now);
    }

    /// The one that was used least recently, if it is to go, and its names.
    pub(super) fn oldest(
        &self,
        idle_since: impl Fn(Timestamp) -> bool,
        but: &BTreeSet<ImageId>,
    ) -> Option<(ImageId, BTreeSet<String>)> {
        let free = |image: &ImageId| !self.used.contains_key(image) && !but.contains(image);
        let idle = self.pulled.iter().filter(|(image, _)| free(image));
        let (image, entry) = idle.min_by_key(|(_, entry)| entry.last_used)?;
        idle_since(entry.last_used).then(|| (image.clone(), entry.names.clone()))
    }

    pub(super) fn removed(&mut self, image: &ImageId, removal: Removal, now: Timestamp) {
        match removal {
            Removal::Gone { .. } | Removal::Theirs => drop(self.pulled.remove(image)),
            Removal::Needed => self.touch(image, now),
        }
    }

    /// Whether the next process would not know enough of it.
    pub(super) fn is_unsaved(&self) -> bool {
        self.pulled.len() != self.noted.len()
            || self.pulled.iter().any(|(image, entry)| {
                self.noted.get(image).is_none_or(|noted| {
                    noted.names != entry.names
                        || noted.projects != entry.projects
                        || entry.last_used.since(noted.last_used) > COARSE
                })
            })
    }

    /// The text to save; counts as saved from now on.
    pub(super) fn text(&mut self) -> Vec<u8> {
        self.noted.clone_from(&self.pulled);
        serde_json::to_vec(&self.pulled).expect("ids, names and times are JSON")
    }

    fn touch(&mut self, image: &ImageId, now: Timestamp) {
        if let Some(entry) = self.pulled.get_mut(image) {
            entry.last_used = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    #[test]
    fn only_own_and_idle_images_go_and_the_least_recently_used_first() {
        let [ours, newer, theirs] = ["sha256:a", "sha256:b", "sha256:c"].map(|id| ImageId(id.to_owned()));
        let mut book = Book::default();
        book.begin(&ours, "app:1", true, at(1));
        book.begin(&newer, "app:2", true, at(2));
        book.begin(&theirs, "base:1", false, at(0));
        let oldest = |book: &Book, but: &[&ImageId]| {
            let but = but.iter().map(|&image| image.clone()).collect();
            book.oldest(|_| true, &but).map(|(image, _)| image)
        };
        assert_eq!(oldest(&book, &[]), None, "all are in use");
        for image in [&newer, &ours, &theirs] {
            book.end(image, at(10));
        }
        book.begin(&newer, "app:latest", false, at(20));
        book.end(&newer, at(30));
        assert_eq!(oldest(&book, &[]), Some(ours.clone()));
        assert_eq!(book.oldest(|used| used < at(10), &BTreeSet::new()), None, "it is too young");
        assert_eq!(oldest(&book, &[&ours]), Some(newer.clone()));
        book.removed(&ours, Removal::Needed, at(40));
        let names = ["app:2", "app:latest"].map(str::to_owned);
        assert_eq!(book.oldest(|_| true, &BTreeSet::new()), Some((newer.clone(), names.into())));
        book.removed(&newer, Removal::Theirs, at(41));
        book.removed(&ours, Removal::Gone { bytes: 0 }, at(41));
        assert_eq!(oldest(&book, &[]), None);
    }

    #[test]
    fn what_a_projects_credentials_brought_is_that_projects() {
        let image = ImageId("sha256:a".to_owned());
        let mut book = Book::default();
        assert!(book.is_open(&image, "lab"), "nobody brought it");
        book.opened(&image, "lab", true, true);
        book.begin(&image, "app:1", true, at(1));
        assert!(book.is_open(&image, "lab") && !book.is_open(&image, "other"));
        let pulled = serde_json::from_slice(&book.text()).expect("it reads back");
        let next = Book { pulled, ..Book::default() };
        assert!(!next.is_open(&image, "other"), "also after a restart");
        book.opened(&image, "other", true, false);
        assert!(book.is_open(&image, "other") && !book.is_open(&image, "third"));
        book.opened(&image, "third", false, false);
        assert!(book.is_open(&image, "anybody"), "the node's own credentials are everybody's");
    }

    #[test]
    fn the_next_process_knows_what_was_pulled_and_about_when_it_was_used() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("images.json");
        let image = ImageId("sha256:a".to_owned());
        let mut book = Book::open(&path);
        assert!(!book.is_unsaved());
        book.begin(&image, "app:1", true, at(0));
        assert!(book.is_unsaved());
        longshore_common::durable::replace(&path, &book.text()).expect("saved");
        book.end(&image, at(60));
        assert!(!book.is_unsaved(), "a minute is not worth a write");
        book.begin(&image, "app:1", false, at(7200));
        assert!(book.is_unsaved());
        let next = Book::open(&path);
        assert_eq!(next.oldest(|used| used == at(0), &BTreeSet::new()).map(|(image, _)| image), Some(image));
        fs::write(&path, b"nonsense").expect("written");
        assert!(Book::open(&path).oldest(|_| true, &BTreeSet::new()).is_none());
    }
}
