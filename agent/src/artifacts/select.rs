//! Which files of `/out` the job wants kept, as globs over bytes. Pure.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use longshore_common::job::Outputs;
use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

/// Reads like an ignore file: a pattern without a slash matches a name at any depth, one with a slash from the top;
/// a folder's pattern means all of it; `*` stays within a name, `**` does not.
#[derive(Debug)]
pub(super) struct Selection {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Selection {
    pub(super) fn new(outputs: &Outputs) -> Result<Self, String> {
        let include = if outputs.include.is_empty() { None } else { Some(set("include", &outputs.include)?) };
        Ok(Self { include, exclude: set("exclude", &outputs.exclude)? })
    }

    pub(super) fn keeps(&self, path: &[u8]) -> bool {
        let path = OsStr::from_bytes(path);
        self.include.as_ref().is_none_or(|include| include.is_match(path)) && !self.exclude.is_match(path)
    }

    /// Whether nothing below this folder is kept.
    pub(super) fn leaves_out_folder(&self, path: &[u8]) -> bool {
        self.exclude.is_match(OsStr::from_bytes(path))
    }
}

fn set(field: &str, patterns: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let trimmed = pattern.trim_end_matches('/');
        let anchored = trimmed.contains('/');
        let trimmed = trimmed.trim_start_matches('/');
        let base = if anchored { trimmed.to_owned() } else { format!("**/{trimmed}") };
        for text in [format!("{base}/**"), base] {
            let glob = GlobBuilder::new(&text).literal_separator(true).build();
            set.add(glob.map_err(|err| format!("outputs.{field}: `{pattern}`: {}", err.kind()))?);
        }
    }
    set.build().map_err(|err| format!("outputs.{field}: {err}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let outputs = Outputs { include: own(include), exclude: own(exclude), ..Outputs::default() };
        Selection::new(&outputs).unwrap()
    }

    #[test]
    fn patterns_read_like_an_ignore_file() {
        let selection = selection(&[], &["*.tmp", "cache/", "/top", "logs/*.txt"]);
        for left_out in ["a.tmp", "d/e/a.tmp", "cache/x", "d/cache/e/x", "top", "top/x", "logs/a.txt"] {
            assert!(!selection.keeps(left_out.as_bytes()), "{left_out}");
        }
        for kept in ["a.txt", "d/top", "logs/d/a.txt", "d/logs/a.txt", ".tmp2"] {
            assert!(selection.keeps(kept.as_bytes()), "{kept}");
        }
        assert!(selection.leaves_out_folder(b"d/cache"));
        assert!(!selection.leaves_out_folder(b"d"));
    }

    #[test]
    fn names_that_are_not_text_match() {
        let selection = selection(&["*.bin"], &[]);
        assert!(selection.keeps(b"d/\xff\xfe.bin") && !selection.keeps(b"\xff.txt"));
        assert!(selection.keeps(b"new\nline.bin"));
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        let outputs = Outputs { exclude: vec!["[".to_owned()], ..Outputs::default() };
        let detail = Selection::new(&outputs).unwrap_err();
        assert!(detail.starts_with("outputs.exclude: `[`"), "{detail}");
    }
}
