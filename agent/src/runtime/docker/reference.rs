//! Reads image names as Docker does.

/// An image name taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    /// `registry.example/team/app`, without tag and digest.
    pub(super) repository: &'a str,
    pub(super) tag: Option<&'a str>,
    /// `sha256:…`
    pub(super) digest: Option<&'a str>,
}

/// Docker Hub's name where people write it.
pub(super) const HUB: &str = "docker.io";

impl<'a> Reference<'a> {
    pub(super) fn parse(image: &'a str) -> Self {
        let (name, digest) = match image.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (image, None),
        };
        // A colon before the last slash belongs to a port.
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match name[last..].rfind(':') {
            Some(colon) => (&name[..last + colon], Some(&name[last + colon + 1..])),
            None => (name, None),
        };
        Self { repository, tag, digest }
    }

    /// Names whatever the registry now has: it has to be asked.
    pub(super) fn moves(&self) -> bool {
        self.digest.is_none() && matches!(self.tag, None | Some("latest"))
    }

    /// `registry.example:5000`; Docker Hub if the first segment names no host.
    pub(super) fn registry(&self) -> &'a str {
        match self.repository.split_once('/') {
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
            _ => HUB,
        }
    }

    /// What to pull: the engine takes the tag apart from the name, and every tag if there is none.
    pub(super) fn to_pull(&self) -> (String, String) {
        match self.digest {
            Some(digest) => (format!("{}@{digest}", self.repository), String::new()),
            None => (self.repository.to_owned(), self.tag.unwrap_or("latest").to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let cases = [
            ("busybox", "docker.io", None, true),
            ("busybox:latest", "docker.io", Some("latest"), true),
            ("rslethz/my-action:2", "docker.io", Some("2"), false),
            ("localhost:5000/a/b", "localhost:5000", None, true),
            ("localhost:5000/a/b:1", "localhost:5000", Some("1"), false),
            ("registry.example/a@sha256:00", "registry.example", None, false),
            ("registry.example/a:latest@sha256:00", "registry.example", Some("latest"), false),
        ];
        for (image, registry, tag, moves) in cases {
            let reference = Reference::parse(image);
            assert_eq!(
                (reference.registry(), reference.tag, reference.moves()),
                (registry, tag, moves),
                "{image}"
            );
        }
    }

    #[test]
    fn an_untagged_name_pulls_one_tag_and_a_digest_pulls_itself() {
        let pull = |image| Reference::parse(image).to_pull();
        assert_eq!(pull("localhost:5000/a"), ("localhost:5000/a".to_owned(), "latest".to_owned()));
        assert_eq!(pull("a:1@sha256:00"), ("a@sha256:00".to_owned(), String::new()));
    }
}
