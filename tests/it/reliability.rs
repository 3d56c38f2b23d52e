//! `docs/reliability.md` names the tests that hold each promise: they have to be there.

use std::{
    fs,
    path::{Path, PathBuf},
};

const PROMISES: usize = 7;

#[test]
fn every_test_that_the_promises_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/reliability.md")).expect("read the promises");
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 10, "the table is not found");
    let of_rows = rows.iter().map(|row| row.trim_end_matches('|').rsplit('|').next().unwrap_or_default());
    let promises = promises(&text);
    assert_eq!(promises.len(), PROMISES, "{promises:#?}");
    let of_promises =
        promises.iter().map(|text| text.split_once("Held by").map_or("", |(_, held_by)| held_by));
    let sources: String = ["common", "controller", "agent", "cli", "tests"]
        .iter()
        .flat_map(|folder| sources(&root.join(folder)))
        .map(|path| fs::read_to_string(path).expect("read a source"))
        .collect();
    // The story of killed parts is a program of its own, and names itself.
    let is_there = |name: &str| {
        sources.contains(&format!("fn {name}(")) || sources.contains(&format!("STORY: &str = \"{name}\""))
    };
    let mut missing = Vec::new();
    for held_by in of_rows.chain(of_promises) {
        let names: Vec<_> = held_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "a promise that no test holds: {rows:#?} {promises:#?}");
        missing.extend(names.into_iter().filter(|name| !is_there(name)));
    }
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

/// The numbered paragraphs, each on one line.
fn promises(text: &str) -> Vec<String> {
    let section = text.split("## ").find(|section| section.starts_with("Promises")).unwrap_or_default();
    let mut promises: Vec<String> = Vec::new();
    for line in section.lines().skip(1) {
        if line.starts_with(|first: char| first.is_ascii_digit()) {
            promises.push(line.to_owned());
        } else if let Some(promise) = promises.last_mut() {
            promise.push_str(line);
        }
    }
    promises
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("list a folder") {
        let path = entry.expect("list a folder").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}
