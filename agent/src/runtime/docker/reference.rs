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

    /// The digest under which this name's repository has the image, out of all that the engine knows of it.
    pub(super) fn digest_among(&self, known: &[String]) -> Option<String> {
        let own = |other: &&str| familiar(Reference::parse(other).repository) == familiar(self.repository);
        let mut digests =
            known.iter().map(String::as_str).filter(own).filter_map(|name| Some(name.split_once('@')?.1));
        let found = match self.digest {
            Some(asked) => digests.find(|digest| digest.eq_ignore_ascii_case(asked)),
            None => digests.next(),
        };
        found.map(str::to_owned)
    }

    /// What to pull: the engine takes the tag apart from the name, and every tag if there is none.
    pub(super) fn to_pull(&self) -> (String, String) {
        match self.digest {
            Some(digest) => (format!("{}@{digest}", self.repository), String::new()),
            None => (self.repository.to_owned(), self.tag.unwrap_or("latest").to_owned()),
        }
    }
}

/// Docker leaves out its own registry where it names repositories.
fn familiar(repository: &str) -> &str {
    let hub =
        ["docker.io/library/", "index.docker.io/library/", "docker.io/", "index.docker.io/", "library/"];
    hub.iter().find_map(|host| repository.strip_prefix(host)).unwrap_or(repository)
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
    fn the_digest_is_that_of_the_names_own_repository() {
        let known = ["localhost:5000/a@sha256:01", "busybox@sha256:02", "registry.example/a@sha256:03"];
        let known = known.map(str::to_owned);
        for (image, digest) in [
            ("localhost:5000/a:1", Some("sha256:01")),
            ("docker.io/library/busybox:1", Some("sha256:02")),
            ("busybox", Some("sha256:02")),
            ("registry.example/a:1@sha256:03", Some("sha256:03")),
            ("registry.example/a@sha256:04", None),
            ("other.example/a", None),
        ] {
            assert_eq!(Reference::parse(image).digest_among(&known).as_deref(), digest, "{image}");
        }
        assert_eq!(Reference::parse("a").digest_among(&[]), None);
    }

    #[test]
    fn an_untagged_name_pulls_one_tag_and_a_digest_pulls_itself() {
        let pull = |image| Reference::parse(image).to_pull();
        assert_eq!(pull("localhost:5000/a"), ("localhost:5000/a".to_owned(), "latest".to_owned()));
        assert_eq!(pull("a:1@sha256:00"), ("a@sha256:00".to_owned(), String::new()));
    }
}
