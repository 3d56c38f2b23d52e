//! Values as people wrote them, with the place they come from. Job files and configuration are read through this
//! tree, so that all mistakes are told at once, each with its field and its place. Knows no field by name.

mod from_toml;
mod from_yaml;
mod read;

pub use from_toml::toml;
pub use from_yaml::yaml_documents;
pub use read::{read, read_settings};

use std::fmt;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub origin: Origin,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    /// Text that may also mean a number, a truth or a list: from the environment or a flag.
    Loose(String),
    List(Vec<Node>),
    /// In the order written; no key twice.
    Table(Vec<(String, Node)>),
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Line(usize),
    /// A variable or a flag, by name.
    Named(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// A file that is no tree at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct SyntaxError {
    pub line: usize,
    pub message: String,
}

impl Node {
    pub const fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// The deepest node on the way to a field's path (`inputs.a.url`, `retry.on[0]`). Keys may hold dots themselves.
    pub fn locate(&self, path: &str) -> &Self {
        let deeper = match &self.value {
            Value::Table(entries) => entries.iter().find_map(|(key, node)| {
                let rest = path.strip_prefix(key.as_str())?;
                let boundary = rest.is_empty() || rest.starts_with(['.', '[']);
                boundary.then(|| node.locate(rest.strip_prefix('.').unwrap_or(rest)))
            }),
            Value::List(items) => path.strip_prefix('[').and_then(|rest| {
                let (index, rest) = rest.split_once(']')?;
                let node = items.get(index.parse::<usize>().ok()?)?;
                Some(node.locate(rest.strip_prefix('.').unwrap_or(rest)))
            }),
            _ => None,
        };
        deeper.unwrap_or(self)
    }

    /// The entry of a table.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|(known, _)| known == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Puts a value at a path of keys, making tables on the way and replacing what is no table.
    pub fn set(&mut self, keys: &[&str], node: Self) {
        let Some((first, rest)) = keys.split_first() else {
            *self = node;
            return;
        };
        if !matches!(self.value, Value::Table(_)) {
            self.value = Value::Table(Vec::new());
        }
        let Value::Table(entries) = &mut self.value else { return };
        let at = entries.iter().position(|(key, _)| key == first).unwrap_or_else(|| {
            entries.push(((*first).to_owned(), Self::new(Value::Null, node.origin.clone())));
            entries.len() - 1
        });
        entries[at].1.set(rest, node);
    }
}
