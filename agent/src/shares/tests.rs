use super::*;
use std::os::unix::fs::symlink;

fn share(name: &str, path: &Path) -> Share {
    Share { name: name.into(), path: path.into(), ..Share::default() }
}

fn asked(path: &str) -> ShareInput {
    ShareInput { share: "data".into(), path: path.into(), writable: false }
}

#[test]
fn a_share_has_a_valid_name_an_absolute_path_and_is_there_once() {
    let home = tempfile::tempdir().expect("a folder");
    let open = |config: &[Share]| Shares::open(config, home.path().join("pins"));
    for (bad, says) in [
        (vec![share("a b", home.path())], "a b"),
        (vec![share("data", Path::new("srv"))], "absolute"),
        (vec![share("data", Path::new("/"))], "absolute"),
        (vec![share("data", home.path()), share("data", home.path())], "twice"),
    ] {
        let error = open(&bad).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
    let writable = Share { writable: true, ..share("out", home.path()) };
    let shares = open(&[share("data", home.path()), writable, share("gone", Path::new("/no/such/place"))]);
    let labels: Vec<_> = shares.expect("opened").labels().collect();
    let label = |name: &str, may: &str| (name.to_owned(), may.to_owned());
    assert_eq!(labels, [label("share.data", "read-only"), label("share.out", "writable")]);
}

#[test]
fn nothing_outside_a_share_is_opened() {
    let home = tempfile::tempdir().expect("a folder");
    let root = home.path().join("root");
    fs::create_dir_all(root.join("study/a")).expect("made");
    fs::create_dir(home.path().join("secret")).expect("made");
    fs::write(root.join("file"), "x").expect("written");
    symlink("../secret", root.join("up")).expect("linked");
    symlink("/etc", root.join("etc")).expect("linked");
    symlink("study", root.join("latest")).expect("linked");
    for fine in ["", "study", "study/a", "latest/a"] {
        open_below(&root, fine).expect(fine);
    }
    for (bad, says) in [
        ("..", "leads out"),
        ("study/../../secret", "leads out"),
        ("up", "leads out"),
        ("etc", "leads out"),
        ("/etc", "leads out"),
        ("file", "no folder"),
        ("none", "not there"),
    ] {
        let error = open_below(&root, bad).expect_err(bad);
        assert!(error.contains(says), "{bad}: {error}");
    }
}

#[test]
fn who_may_not_mount_a_share_is_told_why() {
    let home = tempfile::tempdir().expect("a folder");
    let config = Share { projects: vec!["imaging".into()], ..share("data", home.path()) };
    let shares = Shares::open(&[config], home.path().join("pins")).expect("opened");
    let refused = |project: &str, asked: &ShareInput| {
        shares.pin("k.1", "scans", project, asked).expect_err("refused").to_string()
    };
    assert!(refused("robots", &asked("")).contains("not for project `robots`"));
    assert!(refused("imaging", &ShareInput { writable: true, ..asked("") }).contains("read-only"));
    assert!(refused("imaging", &ShareInput { share: "x".into(), ..asked("") }).contains("no share `x`"));
    assert!(refused("imaging", &asked("none")).contains("input `scans`: share `data`: `none` is not there"));
}

#[test]
fn what_was_pinned_is_let_go_and_never_removed() {
    let home = tempfile::tempdir().expect("a folder");
    let (root, pins) = (home.path().join("root"), home.path().join("pins"));
    fs::create_dir(&root).expect("made");
    fs::write(root.join("precious"), "x").expect("written");
    let shares = Shares::open(&[share("data", &root)], pins.clone()).expect("opened");
    if rustix::process::geteuid().is_root() {
        let folder = shares.pin("k.1", "scans", "default", &asked("")).expect("pinned");
        // What the job asked for stays what it was, whatever takes its name.
        fs::rename(&root, home.path().join("moved")).expect("moved");
        assert_eq!(fs::read(folder.join("precious")).expect("there"), b"x");
        let error = fs::write(folder.join("new"), "x").expect_err("read-only");
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        fs::rename(home.path().join("moved"), &root).expect("moved back");
        shares.keep_only(&["k.1".to_owned()].into());
        assert!(folder.join("precious").exists());
    } else {
        fs::create_dir_all(pins.join("k.1/scans")).expect("made");
    }
    shares.keep_only(&BTreeSet::new());
    shares.release("k.1").expect("gone is fine");
    assert!(!pins.join("k.1").exists() && root.join("precious").exists());
    // Whatever is in a mount point that is none is somebody's.
    fs::create_dir_all(pins.join("k.2/scans/full")).expect("made");
    shares.release("k.2").expect_err("not empty");
    assert!(pins.join("k.2/scans/full").exists());
}
