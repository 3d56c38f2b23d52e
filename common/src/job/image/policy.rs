//! Which images may run, as an operator says it. The one matcher of controller and agents. Knows names alone: what
//! is behind a name is the registry's word.

use super::{problem, split_registry, split_tag};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::{fmt, str::FromStr};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImagePolicy {
    /// Only these; empty: all.
    pub allow: Vec<Pattern>,
    /// None of these, whatever `allow` says.
    #[serde(deserialize_with = "repositories")]
    pub deny: Vec<Pattern>,
    /// Only names that end in `@sha256:…`, which mean the same bytes for ever.
    pub require_digest: bool,
}

/// `rslethz/*`, `registry.example:5000/team/**`, `alpine:3.20`: segments are compared whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// `None`: every image of every registry.
    place: Option<Place>,
    tag: Option<String>,
    digest: Option<String>,
}

/// Where an image lies: a registry's host and the path there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    registry: String,
    segments: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a pattern of images: {1}")]
pub struct PatternError(String, String);

/// Why an image may not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("`{image}` is denied by `{pattern}`")]
    Denied { image: String, pattern: String },
    #[error("`{image}` is not among the images that are allowed: {allowed}")]
    NotAllowed { image: String, allowed: String },
    #[error("`{0}` has no digest, which is required: name it as NAME@sha256:…")]
    NoDigest(String),
    #[error(
        "`{0}` may be an image's id, which no pattern can judge: name its registry, as in docker.io/library/{0}"
    )]
    MayBeId(String),
}

/// Where an image lies, whatever it is called there: `docker.io/library/alpine` for `alpine:3.20`.
pub fn repository(image: &str) -> String {
    let Place { registry, segments } = parts(image).0;
    format!("{registry}/{}", segments.join("/"))
}

/// One name for all that mean the same: `docker.io/library/alpine:latest` for `alpine`. Beside a digest a tag says
/// nothing.
pub fn canonical(image: &str) -> String {
    let (_, tag, digest) = parts(image);
    let place = repository(image);
    match digest {
        Some(digest) => format!("{place}@{digest}"),
        None => format!("{place}:{}", tag.unwrap_or("latest")),
    }
}

const HUB: &str = "docker.io";
/// Other names of the same registry.
const HUB_ALIASES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
/// Patterns named in a refusal.
const SHOWN: usize = 5;

impl ImagePolicy {
    /// Whether it forbids nothing.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    pub fn check(&self, image: &str) -> Result<(), Refusal> {
        if self.is_open() {
            return Ok(());
        }
        if may_be_id(image) {
            return Err(Refusal::MayBeId(image.to_owned()));
        }
        let (place, tag, digest) = parts(image);
        let matches = |pattern: &&Pattern| pattern.matches(&place, tag, digest);
        if let Some(pattern) = self.deny.iter().find(matches) {
            return Err(Refusal::Denied { image: image.to_owned(), pattern: pattern.text.clone() });
        }
        if !self.allow.is_empty() && !self.allow.iter().any(|pattern| matches(&pattern)) {
            return Err(Refusal::NotAllowed { image: image.to_owned(), allowed: self.allowed() });
        }
        if self.require_digest && digest.is_none() {
            return Err(Refusal::NoDigest(image.to_owned()));
        }
        Ok(())
    }

    fn allowed(&self) -> String {
        let shown: Vec<_> = self.allow.iter().take(SHOWN).map(|pattern| pattern.text.as_str()).collect();
        let more = if self.allow.len() > SHOWN { ", …" } else { "" };
        shown.join(", ") + more
    }
}

impl Pattern {
    fn matches(&self, place: &Place, tag: Option<&str>, digest: Option<&str>) -> bool {
        let named = match (&self.tag, &self.digest) {
            (_, Some(wanted)) => digest.is_some_and(|digest| digest.eq_ignore_ascii_case(wanted)),
            // With a digest the engine does not look at the tag.
            (Some(wanted), None) => digest.is_none() && tag.unwrap_or("latest") == wanted,
            (None, None) => true,
        };
        named && self.place.as_ref().is_none_or(|wanted| wanted.has(place))
    }
}

impl Place {
    fn new(path: &str) -> Self {
        let (registry, path) = split_registry(path);
        let registry = registry.unwrap_or(HUB).to_ascii_lowercase();
        let registry = registry.strip_suffix(":443").unwrap_or(&registry).trim_end_matches('.');
        let hub = registry == HUB || HUB_ALIASES.contains(&registry);
        let registry = if hub { HUB } else { registry }.to_owned();
        let mut segments: Vec<_> = path.split('/').map(str::to_owned).collect();
        if hub && segments.len() == 1 {
            segments.insert(0, "library".to_owned());
        }
        Self { registry, segments }
    }

    /// As a pattern.
    fn has(&self, other: &Self) -> bool {
        let (wanted, rest) = match self.segments.split_last() {
            Some((last, before)) if last == "**" => (before, true),
            _ => (&self.segments[..], false),
        };
        let lengths =
            if rest { other.segments.len() > wanted.len() } else { other.segments.len() == wanted.len() };
        self.registry == other.registry
            && lengths
            && wanted.iter().zip(&other.segments).all(|(wanted, segment)| wanted == "*" || wanted == segment)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = |why: &str| PatternError(text.to_owned(), why.to_owned());
        if text == "**" {
            return Ok(Self { text: text.to_owned(), place: None, tag: None, digest: None });
        }
        if text == "*" {
            return Err(wrong("write `**` for every image, `docker.io/library/*` for Docker's own"));
        }
        // With words for the stars it must be an image's name.
        let plain: Vec<_> =
            text.split('/').map(|part| if matches!(part, "*" | "**") { "any" } else { part }).collect();
        if plain.iter().any(|part| part.contains('*')) {
            return Err(wrong("a star stands for a whole segment between slashes, and takes no tag"));
        }
        let segments: Vec<_> = text.split('/').collect();
        let (first, before_last) = (segments[0], &segments[..segments.len() - 1]);
        if first.contains('*') {
            return Err(wrong("begin with a registry or a name; `**` alone is every image"));
        }
        if before_last.contains(&"**") {
            return Err(wrong("`**` stands at the end"));
        }
        if let Some(why) = problem(&plain.join("/")) {
            return Err(wrong(&why));
        }
        let (mut place, tag, digest) = parts(text);
        let (tag, digest) = (tag.map(str::to_owned), digest.map(str::to_owned));
        // `docker.io/**` is all of it, not of its library.
        if place.segments == ["library", "**"] && !text.contains("library") {
            place.segments.remove(0);
        }
        Ok(Self { text: text.to_owned(), place: Some(place), tag, digest })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Pattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The same image has many tags, and a digest hides them: only whole repositories can be denied.
fn repositories<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
    let patterns = Vec::<Pattern>::deserialize(deserializer)?;
    match patterns.iter().find(|pattern| pattern.tag.is_some() || pattern.digest.is_some()) {
        Some(odd) => {
            let why = "only whole repositories can be denied: leave out its tag and digest".to_owned();
            Err(D::Error::custom(PatternError(odd.text.clone(), why)))
        }
        None => Ok(patterns),
    }
}

fn parts(image: &str) -> (Place, Option<&str>, Option<&str>) {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let (path, tag) = split_tag(name);
    (Place::new(path), tag, digest)
}

/// Engines take the first digits of an id where a name is asked for.
fn may_be_id(image: &str) -> bool {
    let digits = image.strip_prefix("sha256:").unwrap_or(image);
    digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_has_one_name() {
        for (image, name) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("docker.io/library/alpine:latest", "docker.io/library/alpine:latest"),
            ("rslethz/a:2", "docker.io/rslethz/a:2"),
            ("registry.lab:5000/a", "registry.lab:5000/a:latest"),
            ("registry.lab/a:2@sha256:00", "registry.lab/a@sha256:00"),
        ] {
            assert_eq!(canonical(image), name);
        }
    }

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_repository_has_one_name() {
        for (image, place) in [
            ("alpine", "docker.io/library/alpine"),
            ("index.docker.io/library/alpine:3.20", "docker.io/library/alpine"),
            ("rslethz/app@sha256:00", "docker.io/rslethz/app"),
            ("Registry.example:443/a/b:1@sha256:00", "registry.example/a/b"),
            ("registry.example:5000/a", "registry.example:5000/a"),
        ] {
            assert_eq!(repository(image), place, "{image}");
        }
    }

    #[test]
    fn segments_are_compared_whole() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        let pinned = format!("rslethz/app@{digest}");
        let tagged_and_pinned = format!("rslethz/app:1@{digest}");
        let other = format!("rslethz/app@sha256:{}", "1e".repeat(32));
        let table = [
            ("rslethz/*", "rslethz/app", true),
            ("rslethz/*", "docker.io/rslethz/app:2", true),
            ("rslethz/*", "index.docker.io/rslethz/app", true),
            ("docker.io/rslethz/*", "rslethz/app", true),
            ("rslethz/*", "rslethz-evil/x", false),
            ("rslethz/*", "evil/rslethz/app", false),
            ("rslethz/*", "rslethz", false),
            ("rslethz/*", "rslethz/app/deep", false),
            ("rslethz/**", "rslethz/app/deep", true),
            ("rslethz/**", "rslethz/app", true),
            ("rslethz/**", "rslethz", false),
            ("rslethz/*", "rslethz.evil.example/app", false),
            ("rslethz/*", "registry.example/rslethz/app", false),
            ("registry.example/rslethz/*", "registry.example/rslethz/app", true),
            ("registry.example/rslethz/*", "registry.example.evil/rslethz/app", false),
            ("registry.example/rslethz/*", "registry.example:5000/rslethz/app", false),
            ("registry.example/rslethz/*", "registry.example:443/rslethz/app", true),
            ("registry.example/rslethz/*", "Registry.Example./rslethz/app", true),
            ("registry.example:5000/*/app", "registry.example:5000/b/app:1", true),
            ("registry.example:5000/*/app", "registry.example:5000/b/c/app", false),
            ("registry.example/**", "registry.example/a/b/c:1", true),
            ("docker.io/**", "rslethz/app", true),
            ("docker.io/**", "alpine", true),
            ("docker.io/**", "registry.example/alpine", false),
            ("docker.io/library/*", "alpine:3", true),
            ("docker.io/library/*", "rslethz/alpine", false),
            ("alpine", "alpine:3.20", true),
            ("alpine", "docker.io/library/alpine", true),
            ("alpine", "registry-1.docker.io/library/alpine", true),
            ("alpine", "alpine-evil", false),
            ("alpine:3.20", "alpine:3.20", true),
            ("alpine:3.20", "alpine:3.2", false),
            ("alpine:latest", "alpine", true),
            ("alpine:3.20", "alpine", false),
            ("rslethz/app", &pinned, true),
            ("rslethz/app:1", &tagged_and_pinned, false),
            (&pinned, &pinned, true),
            (&pinned, &tagged_and_pinned, true),
            (&pinned, &other, false),
            (&pinned, "rslethz/app", false),
            ("**", "registry.example:5000/a/b/c", true),
        ];
        for (text, image, expected) in table {
            let (place, tag, digest) = parts(image);
            assert_eq!(pattern(text).matches(&place, tag, digest), expected, "{text} and {image}");
        }
    }

    #[test]
    fn patterns_that_would_mean_less_than_they_seem_to_are_refused() {
        for (text, says) in [
            ("*", "`**` for every image"),
            ("", "empty"),
            ("rsl*/app", "whole segment"),
            ("rslethz/app:*", "whole segment"),
            ("*/app", "begin with"),
            ("**/app", "begin with"),
            ("rslethz/**/app", "at the end"),
            ("rslethz/", "not an image name"),
            ("https://registry.example/a", "leave out"),
            ("Rslethz/app", "lower case"),
        ] {
            let error = text.parse::<Pattern>().expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn deny_wins_and_digests_can_be_demanded() {
        let read = |text: serde_json::Value| serde_json::from_value::<ImagePolicy>(text);
        let policy = serde_json::json!({ "allow": ["rslethz/**"], "deny": ["rslethz/old/**"], "require_digest": true });
        let policy = read(policy).expect("valid");
        let pinned = |name: &str| format!("{name}@sha256:{}", "0f".repeat(32));
        assert_eq!(policy.check(&pinned("rslethz/app")), Ok(()));
        for (image, says) in [
            ("rslethz/app:1".to_owned(), "has no digest"),
            (pinned("rslethz/old/app"), "denied by `rslethz/old/**`"),
            (pinned("rslethz-evil/x"), "allowed: rslethz/**"),
            ("cafe".to_owned(), "docker.io/library/cafe"),
            (format!("sha256:{}", "0f".repeat(32)), "image's id"),
        ] {
            let refusal = policy.check(&image).expect_err(&image).to_string();
            assert!(refusal.contains(says), "{image}: {refusal}");
        }
        assert_eq!(ImagePolicy::default().check("cafe"), Ok(()), "without a policy everything runs");
        let error = read(serde_json::json!({ "deny": ["alpine:3"] })).expect_err("a tag cannot be denied");
        assert!(error.to_string().contains("whole repositories"), "{error}");
    }
}
