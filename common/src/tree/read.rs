//! Trees into types, by serde, with all mistakes at once: what could not be read is noted, taken out, and the rest
//! is read again.

use super::{Node, Value};
use crate::fields::{FieldErrors, join};
use crate::units::{ByteSize, HumanDuration};
use serde::de::value::{MapAccessDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use std::fmt;

/// The value, unless something without which it means nothing is missing, and everything that is wrong.
pub fn read<T: DeserializeOwned>(node: &Node) -> (Option<T>, FieldErrors) {
    read_with(node, false)
}

/// The same for settings, where lengths of time and numbers of bytes may be written with their units.
pub fn read_settings<T: DeserializeOwned>(node: &Node) -> (Option<T>, FieldErrors) {
    read_with(node, true)
}

fn read_with<T: DeserializeOwned>(node: &Node, units: bool) -> (Option<T>, FieldErrors) {
    let mut rest = node.clone();
    let mut errors = FieldErrors::new();
    loop {
        match T::deserialize(Reader { node: &rest, units }) {
            Ok(value) => return (Some(value), errors),
            Err(problem) => {
                errors.push(problem.path_text(), problem.message.clone());
                if !take_out(&mut rest, &problem.path) {
                    return (None, errors);
                }
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// What is wrong, and the steps to it; the last step comes first.
#[derive(Debug)]
struct Problem {
    path: Vec<Step>,
    message: String,
}

impl Problem {
    fn under(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    fn path_text(&self) -> String {
        self.path.iter().fold(String::new(), |path, step| match step {
            Step::Key(key) => join(key, &path),
            Step::Index(index) => join(&format!("[{index}]"), &path),
        })
    }
}

/// Removes the node, or the list it is an item of: the other items keep their places that way.
fn take_out(node: &mut Node, path: &[Step]) -> bool {
    let Some((step, rest)) = path.split_last() else { return false };
    match (&mut node.value, step) {
        (Value::Table(entries), Step::Key(key)) => {
            let Some(at) = entries.iter().position(|(known, _)| known == key) else { return false };
            let whole = rest.is_empty() || matches!(rest, [.., Step::Index(_)]);
            if whole {
                entries.remove(at);
                return true;
            }
            take_out(&mut entries[at].1, rest)
        }
        (Value::List(items), Step::Index(index)) => {
            items.get_mut(*index).is_some_and(|item| take_out(item, rest))
        }
        _ => false,
    }
}

impl std::error::Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: Vec::new(), message: message.to_string() }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            de::Unexpected::Unit => "nothing".to_owned(),
            de::Unexpected::Map => "a table".to_owned(),
            de::Unexpected::Seq => "a list".to_owned(),
            other => other.to_string(),
        };
        Self::custom(format_args!("is {found}, expected {expected}"))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("is {found}, expected {expected}"))
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::custom(format_args!("`{word}` is not one of {}{}", known.join(", "), meant(word, known)))
    }

    fn unknown_field(word: &str, known: &'static [&'static str]) -> Self {
        let hint = match meant(word, known) {
            near if near.is_empty() => format!("; known are {}", known.join(", ")),
            near => near,
        };
        Self { path: vec![Step::Key(word.to_owned())], message: format!("is not a known field{hint}") }
    }

    fn missing_field(word: &'static str) -> Self {
        Self { path: vec![Step::Key(word.to_owned())], message: "is missing".to_owned() }
    }
}

fn meant(word: &str, known: &[&str]) -> String {
    crate::did_you_mean(crate::nearest(word, known.iter().copied()))
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    /// Plain durations and byte counts may be texts with units.
    units: bool,
}

/// Numbers and truths out of loose text.
macro_rules! loose {
    ($($method:ident $visit:ident $expects:literal)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            match &self.node.value {
                Value::Loose(text) => match text.trim().parse() {
                    Ok(value) => visitor.$visit(value),
                    Err(_) => Err(de::Error::custom(format_args!("`{text}` is not {}", $expects))),
                },
                _ => self.deserialize_any(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(truth) => visitor.visit_bool(*truth),
            Value::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_i64(number),
                (_, Ok(number)) => visitor.visit_u64(number),
                _ => Err(de::Error::custom(format_args!("{number} is too large a number"))),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) | Value::Loose(text) => visitor.visit_str(text),
            Value::List(items) => {
                visitor.visit_seq(Items { items: items.iter(), index: 0, units: self.units })
            }
            Value::Table(entries) => {
                visitor.visit_map(Entries { entries: entries.iter(), value: None, units: self.units })
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        if self.node.value == Value::Null { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &str, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match &self.node.value {
            Value::Text(text) | Value::Loose(text) => {
                let word: StrDeserializer<'_, Problem> = text.as_str().into_deserializer();
                visitor.visit_enum(word)
            }
            Value::Table(entries) => MapAccessDeserializer::new(Entries {
                entries: entries.iter(),
                value: None,
                units: self.units,
            })
            .deserialize_enum(name, variants, visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let Value::Loose(text) = &self.node.value else { return self.deserialize_any(visitor) };
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let items: Vec<_> =
            words.map(|word| Node::new(Value::Loose(word.to_owned()), self.node.origin.clone())).collect();
        visitor.visit_seq(Items { items: items.iter(), index: 0, units: self.units })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let Value::Loose(text) = &self.node.value else { return self.deserialize_any(visitor) };
        let mut entries = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let Some((key, value)) = word.split_once('=') else {
                return Err(de::Error::custom(format_args!("`{word}` is not name=value")));
            };
            let node = Node::new(Value::Loose(value.to_owned()), self.node.origin.clone());
            entries.push((key.to_owned(), node));
        }
        visitor.visit_map(Entries { entries: entries.iter(), value: None, units: self.units })
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let text = match &self.node.value {
            Value::Loose(text) => text,
            Value::Text(text) if self.units => text,
            _ => return self.deserialize_any(visitor),
        };
        match (text.trim().parse::<u64>(), text.parse::<ByteSize>()) {
            (Ok(number), _) => visitor.visit_u64(number),
            (_, Ok(size)) if self.units => visitor.visit_u64(size.0),
            _ => Err(de::Error::custom(format_args!("`{text}` is not a whole number in range"))),
        }
    }

    /// `std`'s durations are tables of two numbers to serde; nobody writes them so.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match &self.node.value {
            Value::Text(text) | Value::Loose(text) if self.units && name == "Duration" => {
                let HumanDuration(length) = text.parse().map_err(de::Error::custom)?;
                let parts = [length.as_secs(), u64::from(length.subsec_nanos())];
                visitor.visit_seq(SeqDeserializer::new(parts.into_iter()))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    loose! {
        deserialize_bool visit_bool "true or false"
        deserialize_i8 visit_i8 "a whole number"
        deserialize_i16 visit_i16 "a whole number"
        deserialize_i32 visit_i32 "a whole number"
        deserialize_i64 visit_i64 "a whole number"
        deserialize_u8 visit_u8 "a whole number in range"
        deserialize_u16 visit_u16 "a whole number in range"
        deserialize_u32 visit_u32 "a whole number in range"
        deserialize_f32 visit_f32 "a number"
        deserialize_f64 visit_f64 "a number"
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Node>,
    index: usize,
    units: bool,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Reader { node: item, units: self.units })
            .map(Some)
            .map_err(|problem| problem.under(Step::Index(index)))
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, (String, Node)>,
    value: Option<&'a (String, Node)>,
    units: bool,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.value = Some(entry);
        let key: StrDeserializer<'_, Problem> = entry.0.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let (key, node) = self.value.take().expect("serde asks for a value after its key");
        seed.deserialize(Reader { node, units: self.units })
            .map_err(|problem| problem.under(Step::Key(key.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Origin, yaml_documents};
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Outer {
        word: String,
        number: u16,
        list: Vec<u32>,
        inner: Option<Inner>,
        map: BTreeMap<String, bool>,
        kind: Option<Kind>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        depth: u8,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Plain,
        Sized { size: u32 },
    }

    fn parse(text: &str) -> (Option<Outer>, Vec<String>) {
        let (value, errors) = read(&yaml_documents(text).expect("good yaml")[0]);
        (value, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_good_tree_is_read() {
        let (value, errors) = parse(
            "{word: x, number: 7, list: [1, 2], inner: {depth: 3}, map: {a: true}, kind: {sized: {size: 4}}}",
        );
        assert_eq!(errors, Vec::<String>::new());
        let value = value.expect("read");
        assert_eq!((value.number, value.list, value.inner), (7, vec![1, 2], Some(Inner { depth: 3 })));
        assert_eq!(value.kind, Some(Kind::Sized { size: 4 }));
    }

    #[test]
    fn every_mistake_is_told_with_its_path() {
        let (value, errors) = parse(
            "{wrod: x, number: -7, list: [1, x], inner: {depth: 300, width: 1}, map: {a: 1}, kind: plian}",
        );
        assert_eq!(
            errors,
            [
                "wrod: is not a known field; did you mean `word`?",
                "number: is integer `-7`, expected u16",
                "list[1]: is string \"x\", expected u32",
                "inner.depth: is integer `300`, expected u8",
                "inner.width: is not a known field; known are depth",
                "map.a: is integer `1`, expected a boolean",
                "kind: `plian` is not one of plain, sized; did you mean `plain`?",
            ]
        );
        assert!(value.is_some());
    }

    #[test]
    fn what_is_no_table_at_all_is_one_mistake() {
        let (value, errors) = parse("just text");
        assert!(value.is_none());
        assert_eq!(errors.len(), 1);
    }

    #[test]
    fn settings_may_be_written_with_units() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Settings {
            wait: std::time::Duration,
            cap_bytes: u64,
        }
        let node = crate::tree::toml("wait = \"1h30m\"\ncap_bytes = \"2MiB\"\n").expect("good toml");
        let settings = Settings { wait: std::time::Duration::from_secs(5400), cap_bytes: 2 << 20 };
        assert_eq!(read_settings(&node), (Some(settings), FieldErrors::new()));
        assert!(!read::<Settings>(&node).1.is_empty(), "job files have types for such amounts");
        let node = crate::tree::toml("wait = \"soon\"\ncap_bytes = \"2\"\n").expect("good toml");
        assert!(read_settings::<Settings>(&node).1.to_string().contains("wait: `soon` is not a time"));
    }

    #[test]
    fn loose_text_becomes_what_is_asked_for() {
        let mut node = Node::new(Value::Table(vec![]), Origin::Line(1));
        for (path, text) in
            [("number", "7"), ("list", "1, 2"), ("map", "a=true,b=false"), ("kind", "plain"), ("word", "5")]
        {
            node.set(&[path], Node::new(Value::Loose(text.into()), Origin::Named(path.into())));
        }
        node.set(&["inner", "depth"], Node::new(Value::Loose("x".into()), Origin::Named("DEPTH".into())));
        let (value, errors) = read_settings::<Outer>(&node);
        let value = value.expect("read");
        assert_eq!((value.number, value.word.as_str(), value.list), (7, "5", vec![1, 2]));
        assert_eq!(value.map, BTreeMap::from([("a".to_owned(), true), ("b".to_owned(), false)]));
        assert_eq!(errors.to_string(), "inner.depth: `x` is not a whole number in range");
        assert_eq!(node.locate("inner.depth").origin.to_string(), "DEPTH");
    }
}
