//! Job files: YAML or JSON, several documents each, as people write them. Turns them into specs, with every mistake
//! of every document told at once. Reads text, never the disk.

mod action;
mod document;
pub mod each;
mod invocation;
mod kleinkram;
mod machine;
mod source;
mod words;
mod write;

pub use action::{action_schema, parse_actions, write_action};
pub use document::schema;
pub(crate) use kleinkram::KleinkramDocument;
pub use source::{Source, source};
pub use write::write;

use super::{JobSpec, KLEINKRAM, validate};
use crate::action::Invocation;
use crate::fields::FieldErrors;
use crate::tree::{self, Node, Origin};
use document::Document;
use std::{collections::BTreeMap, fmt, path::PathBuf};

/// One job of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFile {
    /// Valid, but for the inputs that are still local folders. Of a run of an action only what it says counts.
    pub spec: JobSpec,
    /// The action that it runs.
    pub action: Option<Invocation>,
    /// Inputs to be uploaded before the job is submitted: name to folder, as written.
    pub folders: BTreeMap<String, PathBuf>,
}

/// Everything that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    pub source: String,
    pub problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub line: Option<usize>,
    /// From 1; `None` if the file has one document.
    pub document: Option<usize>,
    pub path: String,
    pub message: String,
}

/// The jobs of a file. `source` is its name in errors.
pub fn parse(text: &str, source: &str) -> Result<Vec<JobFile>, FileError> {
    documents(text, source, "holds no job", job)
}

/// What each document is, or what is wrong with any of them.
fn documents<T>(
    text: &str,
    source: &str,
    nothing: &str,
    mut read: impl FnMut(&Node) -> Result<T, FieldErrors>,
) -> Result<Vec<T>, FileError> {
    let fail = |problems| Err(FileError { source: source.to_owned(), problems });
    let documents = match tree::yaml_documents(text) {
        Ok(documents) => documents,
        Err(error) => {
            let (line, message) = (Some(error.line), error.message);
            return fail(vec![Problem { line, document: None, path: String::new(), message }]);
        }
    };
    if documents.is_empty() {
        let message = nothing.to_owned();
        return fail(vec![Problem { line: None, document: None, path: String::new(), message }]);
    }
    let several = documents.len() > 1;
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for (index, node) in documents.iter().enumerate() {
        match read(node) {
            Ok(one) => found.push(one),
            Err(errors) => {
                let first = problems.len();
                problems.extend(errors.into_iter().map(|error| Problem {
                    line: line(node.locate(&error.path)),
                    document: several.then_some(index + 1),
                    path: error.path,
                    message: error.message,
                }));
                problems[first..].sort_by_key(|problem| problem.line);
            }
        }
    }
    if problems.is_empty() { Ok(found) } else { fail(problems) }
}

/// One document; `kind` may be left out.
pub(crate) fn read_node(node: &Node) -> Result<JobFile, FieldErrors> {
    job(node)
}

fn job(node: &Node) -> Result<JobFile, FieldErrors> {
    let mut errors = FieldErrors::new();
    let action = invocation::read(node, &mut errors);
    let names_action = node.get("action").is_some();
    let known = document::without_later_fields(&invocation::without(node), &mut errors);
    let (document, wrong) = tree::read::<Document>(&known);
    errors.merge(wrong);
    let Some(document) = document else { return Err(errors) };
    let mut job = JobFile { action, ..document.into_job(&mut errors) };
    if names_action {
        if node.get("image").is_some() {
            errors.push("image", "belongs to the action: leave out either `image` or `action`");
        }
        // The version has one, and a contract; all else that is said is judged here already.
        "image".clone_into(&mut job.spec.image);
        if job.spec.kleinkram.is_some() {
            KLEINKRAM.clone_into(&mut job.spec.contract);
        }
    }
    if let Err(wrong) = validate(&job.spec) {
        errors.merge(wrong);
    }
    if names_action {
        job.spec.image.clear();
    }
    errors.into_result(job)
}

fn line(node: &Node) -> Option<usize> {
    match node.origin {
        Origin::Line(line) => Some(line),
        Origin::Named(_) => None,
    }
}

impl std::error::Error for FileError {}

/// One line for each mistake, in the form editors jump to.
impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.source)?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            if let Some(document) = problem.document {
                write!(f, ": document {document}")?;
            }
            if problem.path.is_empty() {
                write!(f, ": {}", problem.message)?;
            } else {
                write!(f, ": {}: {}", problem.path, problem.message)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
