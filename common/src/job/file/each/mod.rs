//! One job for each row of a table: a row's cells are put into the document of one job, each column where its name says,
//! and what comes out is read as any job file is. All mistakes of all rows are told at once.

mod table;
#[cfg(test)]
mod tests;

pub use table::Form;

use super::source::{Source, source};
use super::{FileError, JobFile, Problem, document, job, write};
use crate::job::{After, Input, ShareInput};
use crate::tree::{self, Node, Origin, Value};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use table::{Json, Row, rows, wrong};

/// Rows of one table, and jobs of one batch.
pub const MOST_ROWS: usize = 10_000;

/// Fields whose keys are the author's own words: all that follows the first dot is one.
const MAPS: [&str; 7] = ["env", "labels", "agents", "caches", "inputs", "set", "secrets"];
/// Fields made of fields.
const PARTS: [&str; 5] = ["resources", "deadlines", "retry", "outputs", "kleinkram"];
/// What the rows of a batch have in common.
const FIXED: [&str; 2] = ["kind", "action"];

/// The job that rows change.
#[derive(Clone, Debug)]
pub struct Template {
    node: Node,
    /// Where its own relative folders begin.
    folder: PathBuf,
    /// What a run of an action said though it is only the default.
    said: BTreeSet<String>,
}

impl Template {
    /// The one document of a job file. Whether it is a job shows when a row is in it.
    pub fn parse(text: &str, name: &str, folder: &Path) -> Result<Self, FileError> {
        let fail = |line, message| {
            let problem = Problem { line, document: None, path: String::new(), message };
            Err(FileError { source: name.to_owned(), problems: vec![problem] })
        };
        let mut documents = match tree::yaml_documents(text) {
            Ok(documents) => documents,
            Err(error) => return fail(Some(error.line), error.message),
        };
        match (documents.pop(), documents.len()) {
            (Some(node), 0) => Ok(Self { node, folder: folder.to_owned(), said: BTreeSet::new() }),
            (None, _) => fail(None, "holds no job".to_owned()),
            (Some(_), more) => {
                fail(None, format!("holds {} jobs: with a table it is one, which each row changes", more + 1))
            }
        }
    }

    /// A job that was put together elsewhere; its folders are as its author sees them.
    pub fn of(job: &JobFile) -> Self {
        let mut document = write(&job.spec);
        let mut said = BTreeSet::new();
        if let (Some(run), Some(fields)) = (&job.action, document.as_object_mut()) {
            let is_said = |key: &str| {
                let part = format!("{key}.");
                run.said.iter().any(|path| path == key || path.starts_with(&part))
            };
            fields.retain(|key, _| key == "inputs" || key == "kleinkram" || is_said(key));
            fields.insert("action".into(), run.action.to_string().into());
            fields.insert("set".into(), serde_json::json!(run.set));
            said.clone_from(&run.said);
        }
        let here = Origin::Line(1);
        let node = serde_json::from_value::<Json>(document).expect("a document has each field once");
        let mut node = node.node(here.clone());
        for (name, folder) in &job.folders {
            let dir = Value::Text(folder.to_string_lossy().into_owned());
            node.set(&["inputs", name, "dir"], Node::new(dir, here.clone()));
        }
        Self { node, folder: PathBuf::new(), said }
    }

    fn is_run(&self) -> bool {
        self.node.get("action").is_some()
    }
}

/// The job of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EachJob {
    /// In the table.
    pub line: usize,
    pub job: JobFile,
}

/// The jobs of a table's rows, in their order. `name` is what the table is called in errors; folders that its cells name
/// begin where it lies.
pub fn each(template: &Template, bytes: &[u8], form: Form, name: &str) -> Result<Vec<EachJob>, FileError> {
    let fail = |problems| Err(FileError { source: name.to_owned(), problems });
    let rows = match rows(bytes, form) {
        Ok(rows) => rows,
        Err(problems) => return fail(problems),
    };
    let columns = match Columns::of(template, &rows) {
        Ok(columns) => columns,
        Err(problems) => return fail(problems),
    };
    let folder = Path::new(name).parent().unwrap_or(Path::new(""));
    let mut jobs = Vec::with_capacity(rows.len());
    let mut problems = Vec::new();
    for row in &rows {
        match columns.job(template, row, folder) {
            Ok(job) => jobs.push(EachJob { line: row.line, job }),
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(jobs) } else { fail(summed(problems)) }
}

/// What others have to say of rows, as this would say it: line, field and message.
pub fn told(name: &str, problems: Vec<(Option<usize>, String, String)>) -> FileError {
    let problems = problems.into_iter().map(|(line, path, message)| wrong(line, &path, &message));
    FileError { source: name.to_owned(), problems: summed(problems.collect()) }
}

/// Where the columns' cells go.
struct Columns(HashMap<String, Vec<String>>);

impl Columns {
    fn of(template: &Template, rows: &[Row]) -> Result<Self, Vec<Problem>> {
        let schema = document::schema();
        let mut known: BTreeSet<&str> =
            schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        known.extend(["set", "action"]);
        let (mut keys, mut problems) = (HashMap::new(), Vec::new());
        for row in rows {
            for (column, _) in &row.cells {
                if keys.contains_key(column) {
                    continue;
                }
                match path(column, &known, template.is_run()) {
                    Ok(path) => drop(keys.insert(column.clone(), path)),
                    Err(message) => {
                        keys.insert(column.clone(), Vec::new());
                        problems.push(wrong(None, column, &message));
                    }
                }
            }
        }
        if problems.is_empty() { Ok(Self(keys)) } else { Err(problems) }
    }

    fn job(&self, template: &Template, row: &Row, folder: &Path) -> Result<JobFile, Vec<Problem>> {
        let mut node = template.node.clone();
        let mut problems = Vec::new();
        for (column, value) in &row.cells {
            let keys: Vec<_> = self.0[column].iter().map(String::as_str).collect();
            match meant(&keys, value, column) {
                Ok(value) => node.set(&keys, Node::new(value, Origin::Named(column.clone()))),
                Err(message) => problems.push(wrong(Some(row.line), column, &message)),
            }
        }
        let mut job = match job(&node) {
            Ok(job) if problems.is_empty() => job,
            Ok(_) => return Err(problems),
            Err(errors) => {
                for error in errors {
                    let path = match &node.locate(&error.path).origin {
                        Origin::Named(column) => column,
                        Origin::Line(_) => &error.path,
                    };
                    problems.push(wrong(Some(row.line), path, &error.message));
                }
                return Err(problems);
            }
        };
        for (name, dir) in &mut job.folders {
            let by_row = node.locate(&format!("inputs.{name}"));
            let base = if matches!(by_row.origin, Origin::Named(_)) { folder } else { &template.folder };
            *dir = base.join(&*dir);
        }
        if let Some(run) = &mut job.action {
            run.said.extend(template.said.iter().cloned());
        }
        Ok(job)
    }
}

/// The keys of a column's place in a job's document.
fn path(column: &str, known: &BTreeSet<&str>, is_run: bool) -> Result<Vec<String>, String> {
    let (first, rest) = column.split_once('.').unwrap_or((column, ""));
    if FIXED.contains(&first) {
        return Err("is the same for all rows, and no column".to_owned());
    }
    let words = |words: &[&str]| Ok(words.iter().map(|word| (*word).to_owned()).collect());
    if known.contains(first) {
        return match rest {
            "" => words(&[first]),
            rest if MAPS.contains(&first) => words(&[first, rest]),
            _ => words(&column.split('.').collect::<Vec<_>>()),
        };
    }
    if is_run {
        return words(&["set", column]);
    }
    let hint = match crate::nearest(first, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? A"),
        None => "a".to_owned(),
    };
    Err(format!("is no field of a job; {hint} variable is `env.{column}`, an input `inputs.{column}`"))
}

/// A cell's value: what is written short in one is what it stands for.
fn meant(keys: &[&str], value: &Value, column: &str) -> Result<Value, String> {
    let (Value::Loose(text) | Value::Text(text)) = value else { return Ok(value.clone()) };
    let node = |value| Node::new(value, Origin::Named(column.to_owned()));
    let table = |entries: &[(&str, Value)]| {
        Value::Table(entries.iter().map(|(key, value)| ((*key).to_owned(), node(value.clone()))).collect())
    };
    let said = |text: &str| Value::Text(text.to_owned());
    match keys {
        ["inputs", _] => Ok(match source(text)? {
            Source::Folder(folder) => table(&[("dir", said(&folder.to_string_lossy()))]),
            Source::Ready(Input::Job { job, path }) if path.is_empty() => table(&[("job", said(&job))]),
            Source::Ready(Input::Job { job, path }) => table(&[("job", said(&job)), ("path", said(&path))]),
            Source::Ready(Input::Url { url }) => table(&[("url", said(&url))]),
            Source::Ready(Input::Uploaded { id }) => table(&[("uploaded", said(&id))]),
            Source::Ready(Input::Share(ShareInput { share, path, writable })) => table(&[
                ("share", said(&share)),
                ("path", if path.is_empty() { Value::Null } else { said(&path) }),
                ("writable", Value::Bool(writable)),
            ]),
        }),
        ["after"] => {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            let after = words.map(|word| {
                let After { job, when } = word.parse().map_err(|error| format!("{error}"))?;
                Ok(node(table(&[("job", said(&job)), ("when", said(when.as_str()))])))
            });
            after.collect::<Result<_, String>>().map(Value::List)
        }
        _ => Ok(value.clone()),
    }
}

/// The same mistake in many rows is one line.
fn summed(problems: Vec<Problem>) -> Vec<Problem> {
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    let mut found: Vec<(Problem, usize)> = Vec::new();
    for problem in problems {
        let key = (problem.path.clone(), problem.message.clone());
        match places.get(&key) {
            Some(at) => found[*at].1 += 1,
            None => {
                places.insert(key, found.len());
                found.push((problem, 0));
            }
        }
    }
    let with_count = |(mut problem, more): (Problem, usize)| {
        if more > 0 {
            let rows = if more == 1 { "row" } else { "rows" };
            problem.message.push_str(&format!(" (and in {more} more {rows})"));
        }
        problem
    };
    found.into_iter().map(with_count).collect()
}
