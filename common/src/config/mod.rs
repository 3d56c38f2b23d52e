//! Settings in layers: defaults, then a TOML file, then `LONGSHORE_*` variables, then flags. All mistakes are told
//! at once, each with its place. Knows no setting by name: the modules own theirs.

mod print;

pub use print::print;

use crate::fields::FieldErrors;
use crate::tree::{self, Node, Origin, Value};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, fs, io, path::PathBuf};

/// Before every variable that is a setting.
pub const PREFIX: &str = "LONGSHORE_";
/// Kubernetes injects these beside a Service of that name.
const IGNORED: [&str; 2] = ["LONGSHORE_PORT", "LONGSHORE_SERVICE_"];
/// Settings of the client and of telemetry, read elsewhere.
const ELSEWHERE: [&str; 9] =
    ["URL", "TOKEN", "PROJECT", "CONTEXT", "LOG", "LOG_FORMAT", "CONFIG", "CA_FILE", "PLAIN_TEXT"];
/// What a job's container gets: a command inside of one finds them and means nothing by them.
const OF_JOBS: [&str; 8] = ["JOB_ID", "ATTEMPT", "OUT", "SCRATCH", "DEADLINE", "CPUS", "MEMORY", "GPUS"];

/// Where settings come from, besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// Whether a file that is not there is a mistake: it was named, not assumed.
    pub file_must_exist: bool,
    pub variables: Vec<(String, String)>,
    pub flags: Vec<Flag>,
}

/// A setting given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// As typed, for errors: `--listen`.
    pub name: String,
    /// Of the setting: `blobs.directory`.
    pub path: String,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<T> {
    pub settings: T,
    /// For a person, one line each.
    pub warnings: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("configuration `{path}` cannot be read: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path}:{error}")]
    Syntax { path: PathBuf, error: tree::SyntaxError },
    #[error("{0}")]
    Wrong(Problems),
}

/// Wrong settings, each with the place it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// The settings of all layers together.
pub fn load<T: Default + Serialize + DeserializeOwned>(sources: &Sources) -> Result<Loaded<T>, Error> {
    let mut root = file(sources)?;
    let mut warnings = Vec::new();
    let names = Names::of::<T>();
    for (variable, value) in &sources.variables {
        let Some(name) = names.of_interest(variable) else { continue };
        match names.path(name) {
            Some(path) => set(&mut root, &path, value, variable),
            None => warnings.push(names.unknown(variable, name)),
        }
    }
    for flag in &sources.flags {
        let path: Vec<_> = flag.path.split('.').map(ToOwned::to_owned).collect();
        set(&mut root, &path, &flag.value, &flag.name);
    }
    let (settings, errors) = tree::read_settings(&root);
    match settings {
        Some(settings) if errors.is_empty() => Ok(Loaded { settings, warnings }),
        _ => Err(Error::Wrong(problems(sources, &root, &errors))),
    }
}

fn file(sources: &Sources) -> Result<Node, Error> {
    let empty = Node::new(Value::Table(Vec::new()), Origin::Line(1));
    let Some(path) = &sources.file else { return Ok(empty) };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !sources.file_must_exist => {
            return Ok(empty);
        }
        Err(source) => return Err(Error::Unreadable { path: path.clone(), source }),
    };
    tree::toml(&text).map_err(|error| Error::Syntax { path: path.clone(), error })
}

fn set(root: &mut Node, path: &[String], value: &str, origin: &str) {
    let keys: Vec<_> = path.iter().map(String::as_str).collect();
    root.set(&keys, Node::new(Value::Loose(value.to_owned()), Origin::Named(origin.to_owned())));
}

fn problems(sources: &Sources, root: &Node, errors: &FieldErrors) -> Problems {
    let line = |error: &crate::fields::FieldError| match &root.locate(&error.path).origin {
        Origin::Named(name) => format!("{name}: {}", error.message),
        Origin::Line(line) => match &sources.file {
            Some(file) => format!("{}:{line}: {error}", file.display()),
            None => error.to_string(),
        },
    };
    Problems(errors.iter().map(line).collect())
}

/// Every setting's variable (without the prefix) and path.
#[derive(Debug, Default)]
pub struct Names(Vec<(String, Leaf)>);

/// `open`: what a table there would hold is not known.
#[derive(Debug)]
struct Leaf {
    path: Vec<String>,
    open: bool,
}

impl Names {
    /// Out of the defaults.
    pub fn of<T: Default + Serialize>() -> Self {
        let mut names = Vec::new();
        let defaults = serde_json::to_value(T::default()).unwrap_or_default();
        collect(&defaults, &mut Vec::new(), &mut names);
        Self(names)
    }

    /// These and the other ones.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// A warning for each variable that begins as a setting's does and is none.
    pub fn warnings<'a>(&self, variables: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let unknown = |variable: &'a str| {
            let name = self.of_interest(variable)?;
            self.path(name).is_none().then(|| self.unknown(variable, name))
        };
        variables.into_iter().filter_map(unknown).collect()
    }

    /// The name without the prefix, unless the variable is somebody else's.
    fn of_interest<'a>(&self, variable: &'a str) -> Option<&'a str> {
        let name = variable.strip_prefix(PREFIX)?;
        let elsewhere = ELSEWHERE.contains(&name) || OF_JOBS.contains(&name);
        let ignored = IGNORED.iter().any(|start| variable.starts_with(start));
        (!ignored && (!elsewhere || self.0.iter().any(|(known, _)| known == name))).then_some(name)
    }

    fn path(&self, name: &str) -> Option<Vec<String>> {
        if let Some((_, leaf)) = self.0.iter().find(|(known, _)| known == name) {
            return Some(leaf.path.clone());
        }
        self.0.iter().filter(|(_, leaf)| leaf.open).find_map(|(known, leaf)| {
            let rest = name.strip_prefix(known.as_str())?.strip_prefix('_')?;
            let mut path = leaf.path.clone();
            path.push(rest.to_ascii_lowercase());
            Some(path)
        })
    }

    fn unknown(&self, variable: &str, name: &str) -> String {
        let clients = ["URL", "PROJECT"];
        let near = crate::nearest(name, self.0.iter().map(|(known, _)| known.as_str()).chain(clients));
        let hint = near.map_or(String::new(), |near| format!("; did you mean {PREFIX}{near}?"));
        format!("{variable} is not a setting and is ignored{hint}")
    }
}

fn collect(value: &serde_json::Value, path: &mut Vec<String>, names: &mut Vec<(String, Leaf)>) {
    match value {
        serde_json::Value::Object(table) if !table.is_empty() && !print::is_duration(table) => {
            for (key, value) in table {
                path.push(key.clone());
                collect(value, path, names);
                path.pop();
            }
        }
        other => {
            let name = path.join("_").to_ascii_uppercase();
            names.push((name, Leaf { path: path.clone(), open: other.is_null() }));
        }
    }
}

#[cfg(test)]
mod tests;
