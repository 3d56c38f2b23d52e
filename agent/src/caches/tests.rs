use super::*;
use longshore_common::ids::{Epoch, JobId};
use std::os::unix::fs::symlink;

fn attempt() -> AttemptRef {
    AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) }
}

fn open(root: &Path) -> Caches {
    Caches::open(root.to_owned(), Config::default()).expect("opened")
}

/// Used for a moment, with so many MiB in it.
async fn filled(caches: &Caches, project: &str, name: &str, mib: usize) {
    let user = attempt();
    caches.hold(user, project, [&name.to_owned()]);
    let data = caches.make(project, name).expect("made");
    fs::write(data.join("model"), vec![1; mib << 20]).expect("written");
    caches.release(&user);
    caches.measure().await;
}

fn names(caches: &Caches) -> Vec<String> {
    caches.list().into_iter().map(|kept| format!("{}/{}", kept.key.project, kept.key.name)).collect()
}

/// Removes what is to go; says which.
fn shrunk(caches: &Caches, bounds: (u64, u64), is_short: bool) -> Vec<String> {
    let mut gone = Vec::new();
    while let Some((key, _, aside)) = caches.set_aside(bounds, is_short).expect("set aside") {
        remove(&aside);
        gone.push(format!("{}/{}", key.project, key.name));
    }
    gone
}

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn the_least_recently_used_goes_first_and_none_that_is_used() {
    let home = tempfile::tempdir().expect("a folder");
    let caches = open(home.path());
    for name in ["old", "middle", "young"] {
        filled(&caches, "lab", name, 4).await;
    }
    let user = attempt();
    caches.hold(user, "lab", [&"old".to_owned()]);
    assert_eq!(shrunk(&caches, (10 * MIB, 8 * MIB), false), ["lab/middle"]);
    assert_eq!(shrunk(&caches, (100 * MIB, 8 * MIB), false), Vec::<String>::new());
    assert_eq!(shrunk(&caches, (100 * MIB, 8 * MIB), true), ["lab/young"], "the disk is short");
    assert_eq!(shrunk(&caches, (0, 0), true), Vec::<String>::new(), "the last one is used");
    caches.release(&user);
    assert_eq!(shrunk(&caches, (100 * MIB, 3 * MIB), false), ["lab/old"], "it is larger than one may be");
    assert!(names(&caches).is_empty() && !home.path().join("lab/old").exists());
}

#[tokio::test]
async fn a_cache_is_its_projects_and_any_user_may_write_into_it() {
    let home = tempfile::tempdir().expect("a folder");
    let caches = open(home.path());
    let [one, other] = ["lab", "clinic"].map(|project| caches.make(project, "hf").expect("made"));
    fs::write(one.join("model"), "x").expect("written");
    assert!(!other.join("model").exists());
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o7777;
    // What a job did to it does not lock the next one out.
    fs::set_permissions(&one, fs::Permissions::from_mode(0o000)).expect("set");
    assert_eq!(caches.make("lab", "hf").expect("again"), one);
    assert_eq!((mode(&one), mode(one.parent().expect("its own"))), (0o1777, 0o700));
    for (project, name) in
        [("..", "x"), ("lab", ".."), ("lab", "a/b"), ("", "x"), ("lab", ".trash"), ("/etc", "x")]
    {
        caches.make(project, name).expect_err("no name");
    }
}

#[tokio::test]
async fn no_link_is_followed_and_what_cannot_be_measured_is_too_large() {
    let (home, elsewhere) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("another"));
    fs::write(elsewhere.path().join("precious"), vec![1; 8 << 20]).expect("written");
    let caches = open(home.path());
    filled(&caches, "lab", "hf", 1).await;
    let data = caches.make("lab", "hf").expect("there");
    symlink(elsewhere.path(), data.join("out")).expect("linked");
    symlink("/", data.join("root")).expect("linked");
    caches.measure().await;
    let bytes = caches.list()[0].bytes;
    assert!((MIB..2 * MIB).contains(&bytes), "{bytes}");
    assert_eq!(shrunk(&caches, (0, 0), false), ["lab/hf"]);
    assert!(elsewhere.path().join("precious").exists());
}

#[tokio::test]
async fn the_next_process_knows_them_again_and_ends_what_a_kill_cut_short() {
    let home = tempfile::tempdir().expect("a folder");
    let caches = open(home.path());
    filled(&caches, "lab", "old", 1).await;
    filled(&caches, "lab", "young", 1).await;
    // Set aside, and killed before it was gone.
    let cut = caches.set_aside((MIB, 10 * MIB), false).expect("set aside").expect("the oldest");
    assert_eq!((cut.0.name.as_str(), cut.2.exists()), ("old", true));
    fs::create_dir_all(home.path().join("lab/not ours")).expect("made");
    let next = open(home.path());
    assert_eq!(names(&next), ["lab/young"]);
    let left = attempt();
    next.hold(left, "lab", [&"young".to_owned()]);
    next.measure().await;
    assert_eq!(shrunk(&next, (0, 0), true), Vec::<String>::new(), "a container of before has it");
    next.empty_trash();
    assert!(!cut.2.exists() && home.path().join("lab/not ours").exists());
    next.release(&left);
    filled(&next, "lab", "fresh", 1).await;
    assert_eq!(shrunk(&next, (2 * MIB - 1, 10 * MIB), false), ["lab/young"], "its last use is known");
}

#[tokio::test]
async fn one_that_was_held_and_never_made_leaves_nothing() {
    let home = tempfile::tempdir().expect("a folder");
    let caches = open(home.path());
    let user = attempt();
    caches.hold(user, "lab", [&"hf".to_owned()]);
    assert!(names(&caches).is_empty());
    caches.release(&user);
    caches.release(&user);
    assert!(caches.lock().is_empty());
}

#[tokio::test]
async fn the_one_that_grows_fastest_is_known_with_its_users() {
    let home = tempfile::tempdir().expect("a folder");
    let caches = open(home.path());
    let (user, other) = (attempt(), attempt());
    for (user, name, mib) in [(user, "slow", 1), (other, "fast", 4)] {
        caches.hold(user, "lab", [&name.to_owned()]);
        let data = caches.make("lab", name).expect("made");
        fs::write(data.join("model"), vec![1; mib << 20]).expect("written");
    }
    let growth = caches.measure().await.expect("both grew");
    assert_eq!((growth.key.name.as_str(), growth.users), ("fast", vec![other]));
    assert_eq!(caches.measure().await, None);
}
