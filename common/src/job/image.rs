//! Names of images: `[registry[:port]/]path[:tag][@digest]`, as Docker reads them.

pub mod policy;

/// What is wrong with `text` as an image's name, or `None`.
pub fn problem(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("is empty: name an image, like `alpine:3.20`".to_owned());
    }
    if text.len() > 512 {
        return Some("is longer than 512 characters".to_owned());
    }
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Some(format!("`{text}` has a character no image name has: {odd:?}"));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return Some(format!("`{text}` is an address: leave out `{scheme}://` and name `{rest}`"));
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Some(format!("`{text}`: after @ comes sha256: and 64 hex digits"));
    }
    let (path, tag) = split_tag(name);
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Some(format!("`{text}`: a tag is 1 to 128 letters, digits, `_`, `.` or `-`"));
    }
    let (registry, path) = split_registry(path);
    if registry.is_some_and(|registry| !is_registry(registry)) {
        return Some(format!("`{text}`: `{}` is not a registry's name", registry.unwrap_or_default()));
    }
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Some(format!("`{text}`: names of images are lower case: `{}`", path.to_ascii_lowercase()));
    }
    path.split('/')
        .any(|segment| !is_segment(segment))
        .then(|| format!("`{text}` is not an image name ([registry/]name[:tag])"))
}

/// The same image by this digest, whatever the name came to mean since. The tag stays, for people.
pub fn pinned(image: &str, digest: &str) -> String {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    format!("{name}@{digest}")
}

/// The last colon starts a tag unless a slash follows it: that one is a port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    }
}

/// The first segment is a registry if it looks like a host; otherwise the engine asks its default registry.
fn split_registry(path: &str) -> (Option<&str>, &str) {
    match path.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':', '[']) || first == "localhost" => (Some(first), rest),
        _ => (None, path),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let host_byte = |b: u8| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b);
    !host.is_empty() && host.bytes().all(host_byte) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_segment(text: &str) -> bool {
    let ends_well = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    ends_well(text.bytes().next())
        && ends_well(text.bytes().last())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// `sha256:` and 64 hex digits.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_docker_takes_are_taken() {
        let digest = format!("a/b@sha256:{}", "0f".repeat(32));
        for good in [
            "alpine",
            "alpine:3.20",
            "rslethz/my-action:2",
            "localhost/x",
            "localhost:5000/x:1",
            "registry.example:443/a/b__c/d-e.f:v1_2.3-RC",
            "[::1]:5000/x",
            &digest,
        ] {
            assert_eq!(problem(good), None, "{good}");
        }
    }

    #[test]
    fn a_pinned_name_is_a_name() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        for (image, name) in [("a", "a"), ("h:1/a:2", "h:1/a:2"), ("a@sha256:00", "a")] {
            let pinned = pinned(image, &digest);
            assert_eq!(pinned, format!("{name}@{digest}"));
            assert_eq!(problem(&pinned), None);
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        for (bad, says) in [
            ("", "empty"),
            ("Alpine", "lower case: `alpine`"),
            ("alpine:", "tag"),
            ("alpine: 3", "character"),
            ("-v", "not an image name"),
            ("a//b", "not an image name"),
            ("docker://alpine", "leave out `docker://`"),
            ("alpine@sha256:12", "64 hex"),
            ("host:99999/x", "registry"),
            ("ima\nge", "character"),
        ] {
            let problem = problem(bad).unwrap_or_else(|| panic!("{bad} was taken"));
            assert!(problem.contains(says), "{bad}: {problem}");
        }
    }
}
