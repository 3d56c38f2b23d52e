//! Tables as people write them: CSV with a header, or an object of JSON a line. Knows no field of a job, but which
//! columns' objects are columns themselves.

use super::super::Problem;
use super::{MAPS, MOST_ROWS, PARTS};
use crate::tree::{Node, Origin, Value};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::{collections::HashSet, fmt};

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Csv,
    JsonLines,
}

/// A row, and what its columns set; those that set nothing are left out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) line: usize,
    pub(super) cells: Vec<(String, Value)>,
}

impl Form {
    /// By the file's name; of one without, by what it begins with.
    pub fn of(name: &str, bytes: &[u8]) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        if name.ends_with(".csv") {
            Some(Self::Csv)
        } else if name.ends_with(".jsonl") || name.ends_with(".ndjson") {
            Some(Self::JsonLines)
        } else if name == "-" {
            let begins = without_mark(bytes).iter().find(|byte| !byte.is_ascii_whitespace());
            Some(if begins == Some(&b'{') { Self::JsonLines } else { Self::Csv })
        } else {
            None
        }
    }
}

/// The rows and the line of the header, or what keeps them from being read.
pub(super) fn rows(bytes: &[u8], form: Form) -> Result<Vec<Row>, Vec<Problem>> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(vec![wrong(None, "", "is UTF-16; save it as UTF-8")]);
    }
    let bytes = without_mark(bytes);
    let (rows, problems) = match form {
        Form::Csv => csv_rows(bytes),
        Form::JsonLines => json_rows(bytes),
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    if rows.len() > MOST_ROWS {
        let message = format!("has more than {MOST_ROWS} rows, which is the most of a batch; split it");
        return Err(vec![wrong(None, "", &message)]);
    }
    if rows.is_empty() {
        return Err(vec![wrong(None, "", "holds no rows")]);
    }
    Ok(rows)
}

pub(super) fn wrong(line: Option<usize>, path: &str, message: &str) -> Problem {
    Problem { line, document: None, path: path.to_owned(), message: message.to_owned() }
}

fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

fn csv_rows(bytes: &[u8]) -> (Vec<Row>, Vec<Problem>) {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    let mut columns: Option<Vec<String>> = None;
    let mut lines = Lines { bytes, at: 0, line: 1 };
    for record in reader.byte_records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                problems.push(wrong(None, "", &error.to_string()));
                break;
            }
        };
        let line = lines.of(&record);
        let Some(columns) = &columns else {
            columns = Some(header(&record, line, &mut problems));
            continue;
        };
        if record.len() != columns.len() {
            let (cells, header) = (record.len(), columns.len());
            let message = format!("has {cells} cells, and the header has {header}");
            problems.push(wrong(Some(line), "", &message));
            continue;
        }
        let mut cells = Vec::new();
        for (column, cell) in columns.iter().zip(&record) {
            match std::str::from_utf8(cell) {
                Ok("") => {}
                Ok(text) => cells.push((column.clone(), Value::Loose(text.to_owned()))),
                Err(_) => problems.push(wrong(Some(line), column, "is not UTF-8; save the file as UTF-8")),
            }
        }
        add(Row { line, cells }, &mut rows, &mut problems);
        if rows.len() > MOST_ROWS {
            break;
        }
    }
    if ends_quoted(&bytes[lines.at..]) {
        let message = "a quote that begins in this row is not closed, so all that follows is one cell";
        problems.push(wrong(Some(lines.line), "", message));
    }
    if columns.is_none() {
        problems.push(wrong(None, "", "is empty: its first line names the columns"));
    }
    (rows, problems)
}

/// Counts lines up to where records begin: the reader counts those with two signs at their end too late.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
}

impl Lines<'_> {
    fn of(&mut self, record: &csv::ByteRecord) -> usize {
        let begin = record.position().and_then(|at| usize::try_from(at.byte()).ok()).unwrap_or_default();
        let rest = self.bytes.get(begin..).unwrap_or_default();
        let begin = begin + rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let passed = self.bytes.get(self.at..begin).unwrap_or_default();
        self.line += passed.iter().filter(|byte| **byte == b'\n').count();
        self.at = begin;
        self.line
    }
}

/// Whether a cell that begins with a quote goes on to the end of the file.
fn ends_quoted(record: &[u8]) -> bool {
    let (mut quoted, mut begins) = (false, true);
    let mut bytes = record.iter().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' if quoted && bytes.next_if_eq(&&b'"').is_some() => {}
            b'"' if quoted => quoted = false,
            b'"' if begins => quoted = true,
            _ => {}
        }
        begins = !quoted && matches!(byte, b',' | b'\r' | b'\n');
    }
    quoted
}

fn header(record: &csv::ByteRecord, line: usize, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut columns = Vec::new();
    for (index, cell) in record.iter().enumerate() {
        let name = String::from_utf8_lossy(cell).trim().to_owned();
        if name.is_empty() {
            problems.push(wrong(Some(line), "", &format!("column {} has no name", index + 1)));
        } else if record.len() == 1 && name.contains([';', '\t']) {
            problems.push(wrong(Some(line), "", "has one column: write commas between the cells"));
        } else if !seen.insert(name.clone()) {
            problems.push(wrong(Some(line), &name, "is there twice"));
        }
        columns.push(name);
    }
    columns
}

fn add(row: Row, rows: &mut Vec<Row>, problems: &mut Vec<Problem>) {
    if row.cells.is_empty() {
        problems.push(wrong(Some(row.line), "", "sets nothing: all its cells are empty"));
    } else {
        rows.push(row);
    }
}

fn json_rows(bytes: &[u8]) -> (Vec<Row>, Vec<Problem>) {
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for (index, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = index + 1;
        if text.trim_ascii().is_empty() {
            continue;
        }
        let entries = match serde_json::from_slice::<Json>(text) {
            Ok(Json(Value::Table(entries))) => entries,
            Ok(_) => {
                problems.push(wrong(Some(line), "", "is no object: write {\"env.NAME\": \"value\", …}"));
                continue;
            }
            Err(error) => {
                let message = error.to_string();
                // There is but one line, and it is named already.
                let message = message.replace(" at line 1 column", ", at column");
                problems.push(wrong(Some(line), "", &message));
                continue;
            }
        };
        let mut cells = Vec::new();
        for (key, node) in entries {
            flatten(key, node.value, &mut cells);
        }
        let mut seen = HashSet::new();
        for (column, _) in &cells {
            if !seen.insert(column.as_str()) {
                problems.push(wrong(Some(line), column, "is there twice"));
            }
        }
        add(Row { line, cells }, &mut rows, &mut problems);
        if rows.len() > MOST_ROWS {
            break;
        }
    }
    (rows, problems)
}

/// `{"env": {"A": 1}}` sets the column `env.A` and leaves the other variables as they are.
fn flatten(column: String, value: Value, cells: &mut Vec<(String, Value)>) {
    let first = column.split('.').next().unwrap_or_default();
    let opens = MAPS.contains(&column.as_str()) || PARTS.contains(&first);
    match value {
        Value::Null => {}
        Value::Table(entries) if opens => {
            for (key, node) in entries {
                flatten(format!("{column}.{key}"), node.value, cells);
            }
        }
        value => cells.push((column, value)),
    }
}

/// A value of JSON in which no key is there twice.
pub(super) struct Json(pub(super) Value);

impl Json {
    pub(super) fn node(self, origin: Origin) -> Node {
        Node::new(self.0, origin)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(JsonVisitor).map(Self)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Json>()? {
            list.push(item.node(Origin::Line(1)));
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (mut table, mut seen) = (Vec::new(), HashSet::new());
        while let Some((key, value)) = entries.next_entry::<String, Json>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("`{key}` is there twice")));
            }
            table.push((key, value.node(Origin::Line(1))));
        }
        Ok(Value::Table(table))
    }
}
