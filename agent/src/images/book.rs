//! Which images this agent brought to its node, under which names, when a job used each last, and whose they are. Pure,
//! but for the file it is kept in.

use super::given::{self, Given};
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
    pub(super) given: Given,
    /// By how many attempts.
    used: BTreeMap<ImageId, u32>,
    /// As on disk.
    noted: Kept,
}

/// What is on disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    pulled: BTreeMap<ImageId, Entry>,
    given: given::Kept,
}

impl Kept {
    pub(super) fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("ids, names and times are JSON")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    names: BTreeSet<String>,
    last_used: Timestamp,
}

impl Book {
    /// What an earlier process noted. Of one that cannot be read the images stay, and are nobody's until their
    /// registries were asked.
    pub(super) fn open(path: &Path) -> Self {
        let read = match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Kept::default()),
            Err(error) => Err(error),
        };
        let noted = read.unwrap_or_else(|error| {
            tracing::error!(
                %error, path = %path.display(),
                "whose the images are is not known: they stay, and serve a project when its registry check lets it; \
                 remove the file with the agent stopped if every image on this node is for everybody"
            );
            Kept { given: given::Kept::lost(), ..Kept::default() }
        });
        let Kept { pulled, given } = noted.clone();
        Self { pulled, given: Given::of(given), used: BTreeMap::new(), noted }
    }

    /// An attempt is about to use it.
    pub(super) fn begin(&mut self, image: &ImageId, name: &str, pulled: bool, now: Timestamp) {
        *self.used.entry(image.clone()).or_default() += 1;
        if pulled {
            let fresh = Entry { names: BTreeSet::new(), last_used: now };
            self.pulled.entry(image.clone()).or_insert(fresh);
        }
        if let Some(entry) = self.pulled.get_mut(image) {
            entry.names.insert(name.to_owned());
            entry.last_used = now;
        }
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
            Removal::Gone { .. } => {
                self.pulled.remove(image);
                self.given.forget(image);
            }
            Removal::Theirs => drop(self.pulled.remove(image)),
            Removal::Needed => self.touch(image, now),
        }
    }

    /// Whether the next process would not know enough of it.
    pub(super) fn is_unsaved(&self) -> bool {
        self.given.kept() != &self.noted.given
            || self.pulled.len() != self.noted.pulled.len()
            || self.pulled.iter().any(|(image, entry)| {
                self.noted.pulled.get(image).is_none_or(|noted| {
                    noted.names != entry.names || entry.last_used.since(noted.last_used) > COARSE
                })
            })
    }

    /// Whether a crash from now on does not open what comes under this name.
    pub(super) fn is_booked_on_disk(&self, image: &str) -> bool {
        self.noted.given.has_booked(image)
    }

    /// What to save.
    pub(super) fn kept(&self) -> Kept {
        Kept { pulled: self.pulled.clone(), given: self.given.kept().clone() }
    }

    pub(super) fn saved(&mut self, kept: Kept) {
        self.noted = kept;
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
    fn the_next_process_knows_what_was_pulled_and_about_when_it_was_used() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("images.json");
        let image = ImageId("sha256:a".to_owned());
        let mut book = Book::open(&path);
        assert!(!book.is_unsaved());
        book.begin(&image, "app:1", true, at(0));
        assert!(book.is_unsaved());
        let kept = book.kept();
        longshore_common::durable::replace(&path, &kept.text()).expect("saved");
        assert!(book.is_unsaved(), "until it is");
        book.saved(kept);
        book.end(&image, at(60));
        assert!(!book.is_unsaved(), "a minute is not worth a write");
        book.begin(&image, "app:1", false, at(7200));
        assert!(book.is_unsaved());
        let next = Book::open(&path);
        assert_eq!(next.oldest(|used| used == at(0), &BTreeSet::new()).map(|(image, _)| image), Some(image));
        // The last is of an agent that noted less.
        for spoilt in ["nonsense", "{}", r#"{"sha256:a": {"names": [], "last_used": 0}}"#] {
            fs::write(&path, spoilt).expect("written");
            let next = Book::open(&path);
            assert!(next.oldest(|_| true, &BTreeSet::new()).is_none());
            assert_eq!(next.given.kept(), &given::Kept::lost(), "{spoilt}");
        }
    }
}
