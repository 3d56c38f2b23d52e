//! The folder as a page: plain HTML without a script or a style. Names are hostile.

use super::{ARCHIVE, file};
use crate::jobs::{AttemptView, JobView, Page, StoredArtifact};
use longshore_common::{clock::Timestamp, units::ByteSize};

pub(crate) fn page(
    job: &JobView,
    attempt: &AttemptView,
    files: &Page<StoredArtifact>,
    expires: Timestamp,
) -> String {
    let (name, id) = (shown(job.name.as_bytes()), &job.short_id);
    let number = attempt.attempt.number;
    let (count, bytes) = (attempt.artifact_count, ByteSize(attempt.artifact_bytes).rounded());
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{name} {id}</title></head><body>\n\
         <h1>{name} {id}</h1>\n\
         <p>attempt {number}: {count} files, {bytes}; this link is good until {}</p>\n\
         <p><a href=\"{ARCHIVE}\">all of it as one archive</a></p>\n<table>\n",
        expires.to_rfc3339()
    );
    for StoredArtifact { entry, .. } in &files.items {
        let artifact = &entry.artifact;
        let (size, path) = (ByteSize(artifact.size).rounded(), shown(&artifact.path));
        let to = file(&artifact.path);
        text.push_str(&format!("<tr><td>{size}</td><td><a href=\"{to}\">{path}</a></td></tr>\n"));
    }
    text.push_str("</table>\n");
    if let Some(next) = &files.next {
        text.push_str(&format!("<p><a href=\"?after={}\">more</a></p>\n", shown(next.as_bytes())));
    }
    text.push_str("</body></html>\n");
    text
}

/// Text that is neither markup nor a trick of the eye.
fn shown(name: &[u8]) -> String {
    let mut text = String::new();
    for char in String::from_utf8_lossy(name).chars() {
        match char {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\'' => text.push_str("&#39;"),
            // Marks that turn the direction of what follows make `exe.txt` of `txt.exe`.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                text.push('\u{fffd}')
            }
            char if char.is_control() => text.push('\u{fffd}'),
            char => text.push(char),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_markup() {
        let name = b"<script>alert('x')</script>&\"\x1b[2J\xff\xe2\x80\xaegpj.exe";
        let text = shown(name);
        for bad in ["<", ">", "'", "\"", "\u{1b}", "\u{202e}"] {
            assert!(!text.contains(bad), "{text}");
        }
        assert!(text.starts_with("&lt;script&gt;") && text.contains('\u{fffd}'), "{text}");
        assert_eq!(file(b"a b/<\xff>?#%"), "out/a%20b/%3C%FF%3E%3F%23%25");
    }
}
