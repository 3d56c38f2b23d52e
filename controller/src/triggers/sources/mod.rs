//! Where objects are looked for: buckets and folders that the operator names. Only lists and signs reads; writes and
//! removes nothing.

mod directory;
mod s3;

use crate::blobs;
use longshore_common::{clock::Timestamp, job::Input};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, fs, path::PathBuf, sync::Arc, time::Duration};
use url::Url;

/// One `[[object_sources]]` of the controller's settings: a bucket or a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// What triggers call it.
    pub name: String,
    /// Projects whose triggers may look into it; none: all.
    #[serde(default)]
    pub projects: Vec<String>,
    /// `https://s3.eu-central-1.amazonaws.com`. Agents must reach it too if jobs get objects as inputs.
    #[serde(default)]
    pub endpoint: Option<Url>,
    #[serde(default)]
    pub bucket: String,
    #[serde(default)]
    pub region: Option<String>,
    #[serde(default)]
    pub access_key: String,
    /// A file with the secret key alone.
    #[serde(default)]
    pub secret_key_file: Option<PathBuf>,
    /// A folder of the controller's machine instead of a bucket.
    #[serde(default)]
    pub directory: Option<PathBuf>,
}

/// Something below a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) modified: Option<Timestamp>,
}

impl Object {
    /// Another one when it was written again.
    pub(super) fn mark(&self) -> String {
        format!("{} {} {}", self.etag, self.size, self.modified.map_or(0, Timestamp::as_micros))
    }
}

/// Why a source cannot be used as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("object_sources: `{name}` {problem}")]
pub struct SourceError {
    pub name: String,
    pub problem: String,
}

#[derive(Clone, Default)]
pub struct Sources(Arc<BTreeMap<String, Source>>);

struct Source {
    projects: Vec<String>,
    place: Place,
}

enum Place {
    Bucket(Box<s3::Bucket>),
    Folder(PathBuf),
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sources").field(&self.0.keys()).finish()
    }
}

/// An address has its `.` and `..` resolved before it is signed and would be another object's, or another bucket's.
pub(super) fn check_key(key: &str) -> Result<(), String> {
    if key.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(format!(
            "`{key}` has a part `.` or `..`, so no address names it: give the object another name"
        ));
    }
    Ok(())
}

impl Sources {
    /// Makes no call. `own`: where the controller keeps its own objects, which start no jobs.
    pub fn open(configs: &[SourceConfig], own: Option<&blobs::s3::Config>) -> Result<Self, SourceError> {
        let mut sources = BTreeMap::new();
        for config in configs {
            let wrong = |problem: String| SourceError { name: config.name.clone(), problem };
            longshore_common::job::check_name("name", &config.name).map_err(|error| wrong(error.message))?;
            let place = place(config, own).map_err(wrong)?;
            let source = Source { projects: config.projects.clone(), place };
            if sources.insert(config.name.clone(), source).is_some() {
                return Err(wrong("is there twice".to_owned()));
            }
        }
        Ok(Self(Arc::new(sources)))
    }

    /// Whether triggers of a project may look into it, and give its objects to jobs.
    pub(super) fn check(&self, name: &str, project: &str, input: bool) -> Result<(), String> {
        let mine =
            |source: &&Source| source.projects.is_empty() || source.projects.iter().any(|p| p == project);
        let Some(source) = self.0.get(name).filter(mine) else {
            let known: Vec<_> =
                self.0.iter().filter(|(_, source)| mine(source)).map(|(name, _)| &**name).collect();
            let known = if known.is_empty() { "there is none".to_owned() } else { known.join(", ") };
            return Err(format!("`{name}` is no source of objects for project `{project}`: {known}"));
        };
        match source.place {
            Place::Folder(_) if input => Err(format!(
                "`{name}` is a folder of the controller's machine: a job gets its files by a share"
            )),
            Place::Folder(_) | Place::Bucket(_) => Ok(()),
        }
    }

    /// All objects below a prefix, by name. More than `most` are too many.
    pub(super) async fn list(&self, name: &str, prefix: &str, most: usize) -> Result<Vec<Object>, String> {
        let source =
            self.0.get(name).ok_or_else(|| format!("the controller has no source `{name}` any more"))?;
        let listed = match &source.place {
            Place::Bucket(bucket) => bucket.list(prefix, most).await?,
            Place::Folder(folder) => {
                let (folder, prefix) = (folder.clone(), prefix.to_owned());
                let walk = tokio::task::spawn_blocking(move || directory::list(&folder, &prefix, most));
                walk.await.map_err(|error| error.to_string())??
            }
        };
        listed.ok_or_else(|| {
            format!(
                "`{prefix}` holds more than {most} objects: name a longer prefix, or move the old ones away"
            )
        })
    }

    /// An address to read an object from, of `object://SOURCE/KEY`, for a job of this project.
    pub(crate) fn sign(&self, address: &str, project: &str, valid: Duration) -> Result<String, String> {
        let rest = address.strip_prefix(Input::OBJECT).unwrap_or(address);
        let (name, key) = rest.split_once('/').ok_or_else(|| format!("`{address}` names no object"))?;
        self.check(name, project, true)?;
        check_key(key)?;
        match self.0.get(name).map(|source| &source.place) {
            Some(Place::Bucket(bucket)) => Ok(bucket.sign(key, valid)),
            Some(Place::Folder(_)) | None => Err(format!("source `{name}` signs no addresses")),
        }
    }
}

fn place(config: &SourceConfig, own: Option<&blobs::s3::Config>) -> Result<Place, String> {
    match (&config.endpoint, &config.directory) {
        (Some(_), Some(_)) => Err("has an endpoint and a directory: it is one or the other".to_owned()),
        (None, None) => Err("has neither an endpoint nor a directory".to_owned()),
        (None, Some(folder)) if !folder.is_absolute() => {
            Err(format!("has the directory {}, which is no absolute path", folder.display()))
        }
        (None, Some(folder)) => Ok(Place::Folder(folder.clone())),
        (Some(endpoint), None) => {
            let same = |own: &&blobs::s3::Config| own.endpoint == *endpoint && own.bucket == config.bucket;
            if own.is_some_and(|own| same(&own) && own.prefix.is_empty()) {
                // What jobs leave would start jobs.
                return Err(
                    "is the bucket in which results are kept: give one of them a bucket of its own, or \
                            [s3] a prefix"
                        .to_owned(),
                );
            }
            let file = config.secret_key_file.as_ref().ok_or("has no secret_key_file")?;
            let secret = fs::read_to_string(file)
                .map_err(|error| format!("has the secret_key_file {}: {error}", file.display()))?;
            s3::Bucket::open(config, endpoint, secret.trim()).map(|bucket| Place::Bucket(Box::new(bucket)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SourceConfig {
        SourceConfig {
            name: "lab".into(),
            projects: vec![],
            endpoint: None,
            bucket: String::new(),
            region: None,
            access_key: String::new(),
            secret_key_file: None,
            directory: None,
        }
    }

    #[test]
    fn a_folder_is_listed_by_name_below_its_prefix_and_no_link_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["in/b.bag", "in/a/c.bag", "other/x", "in2.txt"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, name).expect("written");
        }
        std::os::unix::fs::symlink("/etc", folder.path().join("in/etc")).expect("linked");
        let keys = |prefix: &str, most| {
            let listed = directory::list(folder.path(), prefix, most).expect("listed");
            listed.map(|all| all.into_iter().map(|object| object.key).collect::<Vec<_>>())
        };
        assert_eq!(keys("in/", 10).expect("few"), ["in/a/c.bag", "in/b.bag"]);
        assert_eq!(keys("in", 10).expect("few"), ["in/a/c.bag", "in/b.bag", "in2.txt"]);
        assert_eq!(keys("none/", 10).expect("few"), Vec::<String>::new());
        assert_eq!(keys("", 3), None, "four are more than three");
        let gone = directory::list(&folder.path().join("gone"), "", 3).expect_err("not there");
        assert!(gone.contains("gone"), "{gone}");
    }

    #[test]
    fn a_source_that_cannot_work_is_refused_at_the_start() {
        let url: Url = "http://127.0.0.1:1".parse().expect("an address");
        let own = blobs::s3::Config {
            endpoint: url.clone(),
            bucket: "b".into(),
            access_key: String::new(),
            secret_key: String::new(),
            region: "x".into(),
            path_style: true,
            prefix: String::new(),
        };
        let bucket = SourceConfig { endpoint: Some(url), bucket: "b".into(), ..config() };
        for (config, says) in [
            (config(), "neither an endpoint nor a directory"),
            (SourceConfig { directory: Some("here".into()), ..config() }, "no absolute path"),
            (SourceConfig { directory: Some("/x".into()), ..bucket.clone() }, "one or the other"),
            (bucket.clone(), "is the bucket in which results are kept"),
            (SourceConfig { bucket: "c".into(), ..bucket }, "has no secret_key_file"),
            (SourceConfig { name: "Lab 1".into(), ..config() }, "a name is"),
        ] {
            let error = Sources::open(&[config], Some(&own)).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
        let folder = SourceConfig { directory: Some("/x".into()), projects: vec!["lab".into()], ..config() };
        assert!(Sources::open(&[folder.clone(), folder.clone()], None).is_err());
        let sources = Sources::open(&[folder], None).expect("a source");
        assert_eq!(sources.check("lab", "lab", false), Ok(()));
        assert!(sources.check("lab", "other", false).expect_err("not theirs").contains("there is none"));
        assert!(sources.check("lab", "lab", true).expect_err("a folder").contains("share"));
    }
}
