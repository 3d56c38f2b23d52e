//! Whose images are, over cuts and crashes.

use super::*;
use crate::{
    runtime::fake::Fake,
    secrets::{RegistryLogin, Value},
};
use tokio::sync::mpsc;

fn images(path: &std::path::Path) -> Images {
    Images::open(Some(path.to_owned()), Config::default(), Arc::new(Fake::new()))
}

fn login() -> RegistryLogin {
    RegistryLogin { host: "registry.lab".into(), username: "u".into(), password: Value::new("p") }
}

fn request(project: &str, image: &str, own: bool) -> ImageRequest {
    let login = own.then(login);
    ImageRequest { image: image.into(), policy: PullPolicy::Always, project: project.into(), login }
}

fn is_open(images: &Images, project: &str, name: &str) -> bool {
    let found = Image {
        id: ImageId("registry.lab/app:1".to_owned()),
        pulled: false,
        asked: false,
        given_as: vec!["registry.lab/app@sha256:00".to_owned()],
        user: String::new(),
        digest: None,
    };
    images.book().given.is_open(&found, &request(project, name, false))
}

#[tokio::test]
async fn a_pull_that_was_cut_leaves_its_image_closed_here_and_after_a_crash() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("images.json");
    let first = images(&path);
    let lab = request("lab", "registry.lab/app:1", true);
    let pull = first.begin_pull(&lab).await;
    assert!(!is_open(&images(&path), "other", "registry.lab/app:1"), "booked on disk before it begins");
    drop(pull);
    for images in [&first, &images(&path)] {
        assert!(!is_open(images, "other", "registry.lab/app:1"));
        assert!(!is_open(images, "other", "elsewhere.example/x"), "by any name");
    }
}

#[tokio::test]
async fn a_pull_that_ended_is_that_projects_and_books_no_longer() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("images.json");
    let first = images(&path);
    let progress = Progress::new(mpsc::channel(8).0);
    let lab = request("lab", "registry.lab/app:1", true);
    let (found, in_use) = first.ensure(&lab, &progress).await.expect("the fake brings it");
    assert!(found.pulled && found.asked);
    drop(in_use);
    for images in [&first, &images(&path)] {
        assert!(
            is_open(images, "lab", "registry.lab/app:1") && !is_open(images, "other", "registry.lab/app:1")
        );
    }
    assert!(!first.book().given.kept().has_booked("registry.lab/app:1"));
    let missing = request("lab", "fake.missing/app:1", true);
    first.ensure(&missing, &progress).await.expect_err("nobody has it");
    assert!(!first.book().given.kept().has_booked("fake.missing/app:1"), "nothing came");
}
