//! YAML 1.2 (and JSON, which is a part of it) as trees, one per document. Only `true` and `false` are truths; `no`,
//! `on` and `0755` stay the texts they are.

use super::{Node, Origin, SyntaxError, Value};
use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};
use std::collections::{HashMap, HashSet};

/// More than any job file has: aliases of aliases, and brackets without end, stop here.
const MOST_NODES: usize = 200_000;
const DEEPEST: usize = 64;

/// The documents of a file that hold anything.
pub fn yaml_documents(text: &str) -> Result<Vec<Node>, SyntaxError> {
    let mut builder = Builder { events: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let mut documents = Vec::new();
    loop {
        let (event, span) = builder.next()?;
        match event {
            Event::StreamEnd => return Ok(documents),
            Event::DocumentStart(..) => builder.anchors.clear(),
            event if event.is_node() => {
                let node = builder.node(event, span, 0)?;
                if node.value != Value::Null {
                    documents.push(node);
                }
            }
            _ => {}
        }
    }
}

struct Builder<'a> {
    events: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), SyntaxError> {
        loop {
            match self.events.next() {
                Some(Ok((Event::Comment(..) | Event::Anchor(..), _))) => {}
                Some(Ok(found)) => return Ok(found),
                Some(Err(error)) => return Err(scan_error(&error)),
                None => return Ok((Event::StreamEnd, Span::default())),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        let line = span.start.line();
        let wrong = |message: &str| Err(SyntaxError { line, message: message.to_owned() });
        self.nodes += 1;
        if self.nodes > MOST_NODES || depth > DEEPEST {
            return wrong("is larger or deeper than a file of this kind may be");
        }
        let anchor = event.anchor_id();
        let as_text = match event.tag().map(ToString::to_string) {
            None => false,
            Some(tag) if tag.ends_with("str") => true,
            Some(tag) => return wrong(&format!("the tag `{tag}` is not read")),
        };
        let value = match event {
            Event::Scalar(text, style, ..) if as_text || style != ScalarStyle::Plain => {
                Value::Text(text.into_owned())
            }
            Event::Scalar(text, ..) => plain(&text),
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.table(depth)?,
            Event::Alias(id) => self.alias(id, line)?,
            _ => return wrong("is no value"),
        };
        let node = Node::new(value, Origin::Line(line));
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn table(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut keys = HashSet::new();
        loop {
            let (event, span) = self.next()?;
            let line = span.start.line();
            let key = match event {
                Event::MappingEnd => return Ok(Value::Table(entries)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(SyntaxError { line, message: "a key is a word".to_owned() }),
            };
            if key == "<<" {
                let message = "`<<` is not read: write the fields out".to_owned();
                return Err(SyntaxError { line, message });
            }
            if !keys.insert(key.clone()) {
                return Err(SyntaxError { line, message: format!("`{key}` is there twice") });
            }
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            entries.push((key, Node { origin: Origin::Line(line), ..node }));
        }
    }

    /// What an anchor named; it costs what writing it out would.
    fn alias(&mut self, id: usize, line: usize) -> Result<Value, SyntaxError> {
        let unknown = || SyntaxError { line, message: "names an anchor that is not there yet".to_owned() };
        let node = self.anchors.get(&id).ok_or_else(unknown)?;
        self.nodes += count(node);
        if self.nodes > MOST_NODES {
            return Err(SyntaxError { line, message: "aliases make the file too large".to_owned() });
        }
        Ok(node.value.clone())
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(count).sum(),
        Value::Table(entries) => entries.iter().map(|(_, node)| count(node)).sum::<usize>(),
        _ => 0,
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b)) {
        return Value::Text(text.to_owned());
    }
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    if leading_zero || !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Value::Text(text.to_owned());
    }
    if let Ok(number) = text.parse::<i128>() {
        return Value::Integer(number);
    }
    text.parse::<f64>().map_or_else(|_| Value::Text(text.to_owned()), Value::Float)
}

fn scan_error(error: &ScanError) -> SyntaxError {
    SyntaxError { line: error.marker().line(), message: error.kind().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        let mut documents = yaml_documents(text).expect("good yaml");
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0)
    }

    #[test]
    fn scalars_are_what_they_look_like() {
        for (text, value) in [
            ("5", Value::Integer(5)),
            ("-5", Value::Integer(-5)),
            ("1.5", Value::Float(1.5)),
            ("1e3", Value::Float(1000.0)),
            ("true", Value::Bool(true)),
            ("no", Value::Text("no".into())),
            ("0755", Value::Text("0755".into())),
            ("\"5\"", Value::Text("5".into())),
            ("!!str 5", Value::Text("5".into())),
            ("1.2.3", Value::Text("1.2.3".into())),
            ("64GiB", Value::Text("64GiB".into())),
            ("-", Value::List(vec![Node::new(Value::Null, Origin::Line(1))])),
        ] {
            assert_eq!(one(text).value, value, "{text}");
        }
    }

    #[test]
    fn several_documents_and_json_are_read_and_lines_are_kept() {
        let documents = yaml_documents("# nothing\n---\na: 1\n---\n---\n{\"a\": [2, 3]}\n").expect("good");
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[1].locate("a[1]").value, Value::Integer(3));
        let node = one("a:\n  b: 1\n  c.d:\n    - x\n");
        assert_eq!(node.locate("a.b").origin, Origin::Line(2));
        assert_eq!(node.locate("a.c.d[0]").origin, Origin::Line(4));
        assert_eq!(node.locate("a.c.d[7].x").origin, Origin::Line(3));
    }

    #[test]
    fn an_anchor_serves_its_document_only() {
        let node = one("a: &x [1, 2]\nb: *x\n");
        assert_eq!(node.get("a").map(|n| &n.value), node.get("b").map(|n| &n.value));
        assert!(yaml_documents("a: &x 1\n---\nb: *x\n").is_err());
    }

    #[test]
    fn bad_files_name_the_line() {
        for (text, line, says) in [
            ("a: 1\na: 2\n", 2, "twice"),
            ("a: [1, 2\n", 2, ""),
            ("x: 1\na: !secret y\n", 2, "tag"),
            ("<<: {a: 1}\n", 1, "<<"),
            ("[a]: 1\n", 1, "key"),
        ] {
            let error = yaml_documents(text).expect_err(text);
            assert!(error.line.abs_diff(line) <= 1 && error.message.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn bombs_end_early() {
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..9 {
            let before = format!("*a{}, ", n - 1).repeat(10);
            laughs.push_str(&format!("a{n}: &a{n} [{before}]\n"));
        }
        assert!(yaml_documents(&laughs).is_err());
        assert!(yaml_documents(&"[".repeat(10_000)).is_err());
    }
}
