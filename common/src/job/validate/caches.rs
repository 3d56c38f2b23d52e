//! Where a job may have its caches. Whether there is room for them is the agent's to say.

use super::{FieldErrors, check_name};
use crate::job::spec::SECRETS_FOLDER;
use std::collections::BTreeMap;

const MOST: usize = 16;
const LONGEST_PATH: usize = 1024;
/// What the job's other folders are for, and what the kernel's are.
const TAKEN: [(&str, &str); 7] = [
    ("/in", "inputs are there"),
    ("/out", "outputs are there"),
    ("/tmp_disk", "the scratch folder is there"),
    (SECRETS_FOLDER, "secrets are there"),
    ("/proc", "the kernel's files are there"),
    ("/sys", "the kernel's files are there"),
    ("/dev", "devices are there"),
];

pub(super) fn check(caches: &BTreeMap<String, String>, errors: &mut FieldErrors) {
    if caches.len() > MOST {
        errors.push("caches", format!("are more than {MOST}"));
    }
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (name, path) in caches {
        let field = format!("caches.{name}");
        errors.take(check_name(&field, name));
        if let Some(problem) = problem(path) {
            errors.push(field, format!("`{path}` {problem}"));
            continue;
        }
        if let Some((folder, why)) = TAKEN.iter().find(|(folder, _)| overlap(folder, path)) {
            errors.push(field, format!("`{path}` and {folder} overlap: {why}"));
        } else if let Some((other, at)) = seen.iter().find(|(_, at)| overlap(at, path)) {
            errors.push(field, format!("`{path}` and `{at}` of cache `{other}` overlap: choose one outside"));
        }
        seen.push((name, path));
    }
}

fn problem(path: &str) -> Option<&'static str> {
    let Some(inside) = path.strip_prefix('/') else {
        return Some("is not an absolute path in the container");
    };
    if inside.is_empty() {
        return Some("is the whole container: name a folder in it");
    }
    if path.len() > LONGEST_PATH || path.contains(['\0', '\n']) {
        return Some("is no path that a folder can have");
    }
    let odd = |part: &str| matches!(part, "" | "." | "..");
    inside
        .split('/')
        .any(odd)
        .then_some("is written in a roundabout way: leave out `//`, `.`, `..` and a last `/`")
}

/// One is in the other, or they are the same.
fn overlap(one: &str, other: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(one, other) || within(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(caches: &[(&str, &str)]) -> Vec<String> {
        let caches = caches.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect();
        let mut errors = FieldErrors::new();
        check(&caches, &mut errors);
        errors.into_result(()).err().into_iter().flatten().map(|error| error.path).collect()
    }

    #[test]
    fn a_cache_has_a_name_and_a_clean_folder_of_its_own() {
        let fine = [
            ("hf", "/root/.cache/huggingface"),
            ("pip", "/root/.cache/pip"),
            ("a", "/output"),
            ("b", "/run/x"),
        ];
        assert_eq!(paths(&fine), Vec::<String>::new());
        let roundabout = ["x", "", "/", "//x", "/x/", "/x/../y", "/./x"];
        let taken = ["/in", "/in/x", "/out/a", "/run", "/run/secrets/x", "/dev/shm", "/proc"];
        for bad in roundabout.into_iter().chain(taken) {
            assert_eq!(paths(&[("hf", bad)]), ["caches.hf"], "{bad}");
        }
        assert_eq!(paths(&[("hf", &format!("/{}", "x".repeat(LONGEST_PATH)))]), ["caches.hf"]);
    }

    #[test]
    fn all_mistakes_come_together_and_none_lies_in_another() {
        let found = paths(&[("../up", "relative"), ("b", "/x"), ("c", "/x"), ("d", "/x/y"), ("e", "/xy")]);
        assert_eq!(found, ["caches.../up", "caches.../up", "caches.c", "caches.d"]);
        let many: Vec<_> = (0..=MOST).map(|n| (format!("c{n}"), format!("/c{n}"))).collect();
        let many: Vec<_> = many.iter().map(|(name, path)| (name.as_str(), path.as_str())).collect();
        assert_eq!(paths(&many), ["caches"]);
    }
}
