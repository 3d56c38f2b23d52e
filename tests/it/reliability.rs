//! `docs/reliability.md` names the test that holds each promise: it has to be there.

use std::{
    fs,
    path::{Path, PathBuf},
};

#[test]
fn every_test_that_the_promises_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/reliability.md")).expect("read the promises");
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 10, "the table is not found");
    let sources: String = ["common", "controller", "agent", "cli", "tests"]
        .iter()
        .flat_map(|folder| sources(&root.join(folder)))
        .map(|path| fs::read_to_string(path).expect("read a source"))
        .collect();
    let mut missing = Vec::new();
    for row in rows {
        let held_by = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let names: Vec<_> = held_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test holds this: {row}");
        missing.extend(names.into_iter().filter(|name| !sources.contains(&format!("fn {name}("))));
    }
    assert!(missing.is_empty(), "no such tests: {missing:?}");
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
