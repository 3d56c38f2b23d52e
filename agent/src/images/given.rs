//! To whom registries gave which image. What one project's credentials bring is closed to others from before its pull
//! begins, so that neither a crash nor a cancelled job opens it. Pure; only ever closes too much: what is closed, the
//! project's own registry check opens.

use crate::runtime::{Image, ImageId, ImageRequest};
use longshore_common::job::repository;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Jobs choose the names: more of them than any node's pulls that broke off, few enough to be read at each start.
const MOST_BOOKED: usize = 10_000;

/// These projects, with credentials of their own; `None`: the node's, so everybody.
type Projects = Option<BTreeSet<String>>;

#[derive(Debug, Default)]
pub(super) struct Given {
    kept: Kept,
    /// Pulls with own credentials, by repository.
    under_way: BTreeMap<String, u32>,
    /// Booked by this process, and no pull of them was cut.
    clean: BTreeSet<String>,
}

/// What the next process must know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// By repository: what one registry says is nothing to another, which may serve the same image without right.
    images: BTreeMap<ImageId, BTreeMap<String, Projects>>,
    /// Repositories out of which own credentials may have brought images that are not among these.
    booked: BTreeSet<String>,
    /// What was known is not any more: every image is booked.
    lost: bool,
}

impl Kept {
    pub(super) fn lost() -> Self {
        Self { lost: true, ..Self::default() }
    }

    pub(super) fn has_booked(&self, image: &str) -> bool {
        self.lost || self.booked.contains(&repository(image))
    }
}

impl Given {
    pub(super) fn of(kept: Kept) -> Self {
        Self { kept, ..Self::default() }
    }

    pub(super) const fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Own credentials are about to bring it.
    pub(super) fn pull_begins(&mut self, image: &str) {
        let place = repository(image);
        if !self.kept.booked.contains(&place) {
            if self.kept.booked.len() >= MOST_BOOKED {
                self.kept.lost = true;
                return;
            }
            self.kept.booked.insert(place.clone());
            self.clean.insert(place.clone());
        }
        *self.under_way.entry(place).or_default() += 1;
    }

    /// `cleanly`: whatever came is known. What was cut stays booked for good.
    pub(super) fn pull_ended(&mut self, image: &str, cleanly: bool) {
        let place = repository(image);
        if !cleanly {
            self.clean.remove(&place);
        }
        let Some(count) = self.under_way.get_mut(&place) else { return };
        *count -= 1;
        if *count == 0 {
            self.under_way.remove(&place);
            if self.clean.remove(&place) {
                self.kept.booked.remove(&place);
            }
        }
    }

    /// Its registry gave it for the project: with the project's own credentials, or with the node's.
    pub(super) fn gave(&mut self, image: &Image, request: &ImageRequest) {
        let own = request.login.is_some();
        let known = self.kept.images.contains_key(&image.id);
        let ours = own && image.pulled;
        if !(known || ours || self.may_be_somebodys(image, request)) {
            return;
        }
        let places = self.kept.images.entry(image.id.clone()).or_default();
        let projects = places.entry(repository(&request.image)).or_insert_with(|| Some(BTreeSet::new()));
        match projects {
            Some(projects) if own => drop(projects.insert(request.project.clone())),
            projects => *projects = None,
        }
    }

    /// Whether it serves the project without a word of its registry.
    pub(super) fn is_open(&self, image: &Image, request: &ImageRequest) -> bool {
        let Some(places) = self.kept.images.get(&image.id) else {
            return !self.may_be_somebodys(image, request);
        };
        let names = |projects: &BTreeSet<String>| projects.contains(&request.project);
        match places.get(&repository(&request.image)) {
            Some(projects) => projects.as_ref().is_none_or(names),
            // By an id, or by a name somebody gave it here: for whom it is by any name, or all if it is all's by every.
            None => {
                places.values().flatten().any(names)
                    || (places.values().all(Option::is_none) && !self.may_be_somebodys(image, request))
            }
        }
    }

    /// It is not on the node any more.
    pub(super) fn forget(&mut self, image: &ImageId) {
        self.kept.images.remove(image);
    }

    /// Whether own credentials may have brought it before that was noted. What no registry gave, none did.
    fn may_be_somebodys(&self, image: &Image, request: &ImageRequest) -> bool {
        let asked_for = repository(&request.image);
        // That the request itself booked says nothing of what was here before.
        let just_now = request.login.is_some()
            && self.clean.contains(&asked_for)
            && self.under_way.get(&asked_for) == Some(&1);
        let is_booked =
            |place: &String| self.kept.booked.contains(place) && !(just_now && *place == asked_for);
        let mut places = image.given_as.iter().map(|name| repository(name));
        !image.given_as.is_empty()
            && (self.kept.lost || is_booked(&asked_for) || places.any(|place| is_booked(&place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{RegistryLogin, Value};
    use longshore_common::job::PullPolicy;

    fn login() -> RegistryLogin {
        RegistryLogin { host: "registry.lab".into(), username: "u".into(), password: Value::new("p") }
    }

    fn request(project: &str, image: &str, own: bool) -> ImageRequest {
        let login = own.then(login);
        ImageRequest { image: image.into(), policy: PullPolicy::Auto, project: project.into(), login }
    }

    fn image(id: &str, given_as: &[&str], pulled: bool) -> Image {
        Image {
            id: ImageId(id.to_owned()),
            pulled,
            asked: pulled,
            given_as: given_as.iter().map(|&name| name.to_owned()).collect(),
            user: String::new(),
            digest: None,
        }
    }

    const PRIVATE: &str = "registry.lab/team/app:1";
    const DIGEST: &str = "registry.lab/team/app@sha256:00";

    fn private(pulled: bool) -> Image {
        image("sha256:a", &[DIGEST], pulled)
    }

    /// By every name that the engine takes for it.
    fn opens(given: &Given, project: &str) -> [bool; 3] {
        [PRIVATE, DIGEST, "sha256:a"]
            .map(|name| given.is_open(&private(false), &request(project, name, false)))
    }

    #[test]
    fn what_a_projects_credentials_brought_is_that_projects() {
        let mut given = Given::default();
        assert_eq!(opens(&given, "lab"), [true; 3], "nobody brought it");
        given.pull_begins(PRIVATE);
        given.gave(&private(true), &request("lab", PRIVATE, true));
        given.pull_ended(PRIVATE, true);
        assert_eq!((opens(&given, "lab"), opens(&given, "other")), ([true; 3], [false; 3]));
        assert!(!given.kept().has_booked(PRIVATE));
        let mut given = Given::of(given.kept().clone());
        assert_eq!(opens(&given, "other"), [false; 3], "also after a restart");
        given.gave(&private(false), &request("other", PRIVATE, true));
        assert_eq!((opens(&given, "other"), opens(&given, "third")), ([true; 3], [false; 3]));
        given.gave(&private(false), &request("third", PRIVATE, false));
        assert_eq!(opens(&given, "anybody")[..2], [true; 2], "the node's own credentials are everybody's");
    }

    #[test]
    fn between_the_pull_and_the_note_an_image_is_nobodys() {
        let mut given = Given::default();
        given.pull_begins(PRIVATE);
        assert_eq!(opens(&given, "other"), [false; 3], "the engine has it, the agent has not noted it");
        let killed = Given::of(given.kept().clone());
        assert_eq!(opens(&killed, "other"), [false; 3], "nor does a crash open it");
        given.pull_ended(PRIVATE, false);
        assert_eq!(opens(&given, "other"), [false; 3], "nor a job that was cancelled");
        // Another pull that ends well knows nothing of what the first one left.
        given.pull_begins("registry.lab/team/app:2");
        given.pull_ended("registry.lab/team/app:2", true);
        assert_eq!(opens(&given, "other"), [false; 3]);
        given.gave(&private(false), &request("lab", PRIVATE, true));
        assert_eq!((opens(&given, "lab"), opens(&given, "other")), ([true; 3], [false; 3]));
        let built = image("sha256:b", &[], false);
        assert!(given.is_open(&built, &request("other", "registry.lab/team/app:dev", false)), "built here");
    }

    #[test]
    fn what_was_here_before_stays_everybodys() {
        let mut given = Given::default();
        given.pull_begins(PRIVATE);
        given.gave(&private(false), &request("lab", PRIVATE, true));
        given.pull_ended(PRIVATE, true);
        assert_eq!(opens(&given, "other"), [true; 3], "an operator pulled it");
    }

    #[test]
    fn a_registry_says_nothing_of_anothers_images() {
        let mut given = Given::default();
        given.gave(&private(true), &request("lab", PRIVATE, true));
        // It serves a manifest that names the same image.
        let evil = "evil.example/x:1";
        for own in [true, false] {
            given.gave(&private(false), &request("evil", evil, own));
            assert_eq!(opens(&given, "other"), [false; 3], "{own}");
            let asks = request("evil", PRIVATE, false);
            assert!(!given.is_open(&private(false), &asks), "{own}");
        }
        // Nor while nothing is noted of the true one.
        let mut given = Given::default();
        given.pull_begins(PRIVATE);
        given.gave(&private(false), &request("evil", evil, false));
        assert_eq!(opens(&given, "other"), [false; 3]);
    }

    #[test]
    fn a_lost_note_closes_every_image_that_a_registry_gave() {
        let mut given = Given::of(Kept::lost());
        assert_eq!(opens(&given, "lab"), [false; 3]);
        given.gave(&private(false), &request("lab", PRIVATE, true));
        assert_eq!((opens(&given, "lab"), opens(&given, "other")), ([true; 3], [false; 3]));
        let public = image("sha256:p", &["alpine@sha256:00"], false);
        given.gave(&public, &request("other", "alpine:3", false));
        assert!(given.is_open(&public, &request("third", "alpine:3", false)), "asked for once");
        assert!(given.is_open(&image("sha256:b", &[], false), &request("third", "site:1", false)));
    }

    #[test]
    fn names_that_jobs_make_up_do_not_fill_the_book() {
        let mut given = Given::default();
        for n in 0..MOST_BOOKED + 5 {
            let image = format!("nowhere.example/{n}");
            given.pull_begins(&image);
            given.pull_ended(&image, false);
        }
        assert!(given.kept.booked.len() == MOST_BOOKED && given.kept.lost);
    }
}
