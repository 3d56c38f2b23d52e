//! The images on this node, as far as this agent brought them: brings them for attempts, and removes those that no
//! job used for long, and more while the disk is short, before it is so full that claims stop. Never touches an image
//! that somebody else brought or named, that a container is made of, or that an attempt is about to use.

mod book;
mod given;
#[cfg(test)]
mod tests;

use crate::{
    machine::Machine,
    runtime::{self, Image, ImageId, ImageRequest, Progress, Removal, Runtime},
};
use book::Book;
use longshore_common::{
    clock::Timestamp,
    durable,
    job::{ImagePolicy, Outcome, PullPolicy},
    units::plural,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep},
};

const LOOK: Duration = Duration::from_secs(10);
/// Operators look at notes now and then; what happened yesterday is in the log.
const TELL_FOR: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// An image this agent pulled goes when no job used it for this long.
    pub unused_seconds: u64,
    /// With less free than this on the disk of the engine's images, those used least recently go at once.
    pub room_bytes: u64,
    /// Which images run on this node, whatever the controller took.
    pub policy: ImagePolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // A weekly job finds its image still there; an experiment of last month does not cost disk.
            unused_seconds: 14 * 24 * 3600,
            // Well before `capacity.disk_floor_bytes`, at which claims stop: a pull or a layer must still fit.
            room_bytes: 5 << 30,
            // Which registries a lab trusts nobody else knows.
            policy: ImagePolicy::default(),
        }
    }
}

/// Clones are handles.
#[derive(Clone, Debug)]
pub struct Images(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    runtime: Arc<dyn Runtime>,
    /// `None`: nothing outlives the process, so nothing is noted and nothing removed.
    path: Option<PathBuf>,
    book: Mutex<Book>,
    saving: Mutex<()>,
    /// Being removed. Changed under the lock of the book.
    going: watch::Sender<Option<ImageId>>,
    told: Mutex<Option<Told>>,
}

/// What was removed lately.
#[derive(Clone, Copy, Debug)]
struct Told {
    at: Instant,
    images: u32,
    bytes: u64,
}

/// An image that must stay: an attempt uses it as long as this lives.
#[derive(Debug)]
pub struct InUse {
    images: Images,
    image: ImageId,
}

impl Images {
    /// Of the agent whose book is at `path`.
    pub fn open(path: Option<PathBuf>, config: Config, runtime: Arc<dyn Runtime>) -> Self {
        let book = path.as_deref().map(Book::open).unwrap_or_default();
        Self(Arc::new(Inner {
            config,
            runtime,
            path,
            book: Mutex::new(book),
            saving: Mutex::default(),
            going: watch::Sender::new(None),
            told: Mutex::default(),
        }))
    }

    /// Makes the image present by policy, if it may run here. It stays while the answer lives.
    pub async fn ensure(
        &self,
        request: &ImageRequest,
        progress: &Progress,
    ) -> Result<(Image, InUse), runtime::Error> {
        if let Err(refusal) = self.0.config.policy.check(&request.image) {
            return Err(runtime::Error::ends(Outcome::ImageRefused, refusal.to_string()));
        }
        loop {
            let mut pull = self.begin_pull(request).await;
            let found = self.0.runtime.ensure_image(request, progress).await;
            pull.nothing_is_left(nothing_came(&found));
            let found = found?;
            self.admit(&found, request).await?;
            pull.nothing_is_left(true);
            drop(pull);
            if let Some(in_use) = self.begin(&found.id, &request.image, found.pulled) {
                if found.pulled {
                    self.save().await;
                }
                return Ok((found, in_use));
            }
            // It was found just before it went.
            let mut going = self.0.going.subscribe();
            drop(going.wait_for(|going| going.as_ref() != Some(&found.id)).await);
        }
    }

    /// Books on disk what a project's own credentials are about to bring.
    async fn begin_pull<'a>(&'a self, request: &'a ImageRequest) -> Pull<'a> {
        let is_own = request.login.is_some() && request.policy != PullPolicy::Never;
        let pull = Pull { images: self, image: is_own.then_some(&request.image), is_clean: false };
        if is_own {
            self.book().given.pull_begins(&request.image);
            if !self.book().is_booked_on_disk(&request.image) {
                self.save().await;
            }
        }
        pull
    }

    /// What one project's credentials brought is another's only when its own registry check says so.
    async fn admit(&self, found: &Image, request: &ImageRequest) -> Result<(), runtime::Error> {
        if found.asked {
            self.book().given.gave(found, request);
        } else if !self.book().given.is_open(found, request) {
            self.0.runtime.check_image(request).await?;
            self.book().given.gave(found, request);
        }
        if self.book().is_unsaved() {
            self.save().await;
        }
        Ok(())
    }

    fn begin(&self, image: &ImageId, name: &str, pulled: bool) -> Option<InUse> {
        let mut book = self.book();
        if self.0.going.borrow().as_ref() == Some(image) {
            return None;
        }
        book.begin(image, name, pulled, Timestamp::now());
        Some(InUse { images: self.clone(), image: image.clone() })
    }

    /// Removes what is to go, now and then. Runs until it is dropped.
    pub(crate) async fn collect(&self, machine: &Machine) {
        if self.0.path.is_none() {
            return;
        }
        loop {
            sleep(LOOK).await;
            self.sweep(machine).await;
            if self.book().is_unsaved() {
                self.save().await;
            }
        }
    }

    async fn sweep(&self, machine: &Machine) {
        let mut tried = BTreeSet::new();
        loop {
            let short = machine.lacks_room_for_images(self.0.config.room_bytes).await;
            let Some((image, names)) = self.next(short, &tried) else { return };
            let removed = self.0.runtime.remove_image(&image, &names).await;
            let mut book = self.book();
            match &removed {
                Ok(removal) => book.removed(&image, *removal, Timestamp::now()),
                Err(error) => tracing::warn!(image = %image.0, %error, "an image cannot be removed"),
            }
            self.0.going.send_replace(None);
            drop(book);
            if let Ok(Removal::Gone { bytes }) = removed {
                tracing::info!(image = %image.0, names = ?names, bytes, disk_is_short = short, "removed an image");
                self.tell(bytes);
            }
            tried.insert(image);
        }
    }

    fn next(&self, short: bool, tried: &BTreeSet<ImageId>) -> Option<(ImageId, BTreeSet<String>)> {
        let (now, unused) = (Timestamp::now(), Duration::from_secs(self.0.config.unused_seconds));
        let book = self.book();
        let next = book.oldest(|last_used| short || now.since(last_used) >= unused, tried)?;
        self.0.going.send_replace(Some(next.0.clone()));
        Some(next)
    }

    fn tell(&self, bytes: u64) {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.filter(|told| told.at.elapsed() < TELL_FOR);
        let (images, all) = before.map_or((0, 0), |told| (told.images, told.bytes));
        *told = Some(Told { at: Instant::now(), images: images + 1, bytes: all + bytes });
    }

    /// What was removed lately, for the operator.
    pub(crate) fn note(&self) -> Option<String> {
        let told = *self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Told { images, bytes, .. } = told.filter(|told| told.at.elapsed() < TELL_FOR)?;
        let images = plural(images.into(), "image", "images");
        Some(format!("removed {images} that no job uses, {} MiB", bytes >> 20))
    }

    async fn save(&self) {
        let Some(path) = self.0.path.clone() else { return };
        let inner = Arc::clone(&self.0);
        let saved = spawn_blocking(move || {
            let _turn = inner.saving.lock().unwrap_or_else(PoisonError::into_inner);
            let book = || inner.book.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = book().kept();
            durable::replace(&path, &kept.text())?;
            book().saved(kept);
            Ok::<_, std::io::Error>(())
        });
        if let Ok(Err(error)) = saved.await {
            tracing::warn!(%error, "which images this agent pulled, and for whom, is not on disk");
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A project's own credentials may bring an image as long as this lives.
struct Pull<'a> {
    images: &'a Images,
    /// `None`: the node's own, which bring what is everybody's.
    image: Option<&'a String>,
    is_clean: bool,
}

impl Pull<'_> {
    /// Whether whatever came is noted by now.
    const fn nothing_is_left(&mut self, is_clean: bool) {
        self.is_clean = is_clean;
    }
}

impl Drop for Pull<'_> {
    fn drop(&mut self) {
        if let Some(image) = self.image {
            self.images.book().given.pull_ended(image, self.is_clean);
        }
    }
}

fn nothing_came(found: &Result<Image, runtime::Error>) -> bool {
    use Outcome::{ImageNotFound, RegistryAuth};
    match found {
        Ok(found) => !found.asked,
        Err(error) => matches!(error, runtime::Error::Ends { outcome: ImageNotFound | RegistryAuth, .. }),
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.images.book().end(&self.image, Timestamp::now());
    }
}
