//! Texts in job files, and the shapes that are often written by mistake.

use crate::{clock::Timestamp, units::HumanDuration};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// A text or a whole number. Truths and fractions are refused: `1.10` and `yes` do not stay what was typed.
#[derive(Debug)]
pub(super) struct Word(pub(super) String);

/// The value of a variable: a word, or the name of a secret.
#[derive(Debug)]
pub(super) enum Setting {
    Word(Word),
    Secret(String),
}

/// The name of a secret, where its value may not stand.
#[derive(Debug)]
pub(super) struct SecretName(pub(super) String);

/// A value of a parameter: what it means is said by the parameter's type.
#[derive(Debug)]
pub(super) enum Scalar {
    Text(String),
    Integer(i64),
    Number(f64),
    Truth(bool),
}

/// Secrets as files: names, or names with paths.
#[derive(Debug, Default)]
pub(super) struct Files(pub(super) Vec<(String, Option<String>)>);

/// A point in time: RFC 3339, or a length of time from now.
#[derive(Debug)]
pub(super) struct Moment(pub(super) Timestamp);

/// A list of words; a single text is refused, for nobody agrees on how to split it.
#[derive(Debug)]
pub(super) struct Words(pub(super) Vec<Word>);

/// One word or a list of them.
#[derive(Debug)]
pub(super) struct Choices(pub(super) Vec<Word>);

impl Words {
    pub(super) fn into_strings(self) -> Vec<String> {
        self.0.into_iter().map(|word| word.0).collect()
    }
}

impl Scalar {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Integer(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Truth(truth) => truth.to_string(),
        }
    }

    /// Where a text is meant: what does not stay what was typed is refused.
    pub(super) fn into_word(self) -> Result<String, String> {
        match self {
            Self::Truth(truth) => Err(format!("is a bare {truth}: quote it, \"{truth}\"")),
            Self::Number(number) => Err(format!("is a bare {number}: quote it as it should be read")),
            other => Ok(other.into_text()),
        }
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number or a truth")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar::Integer(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar::Text(number.to_string()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Scalar, E> {
        Ok(Scalar::Truth(truth))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Scalar, E> {
        Err(E::custom("has no value: write \"\" for an empty one"))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ScalarVisitor)
    }
}

impl JsonSchema for Scalar {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Word(text) = Word::deserialize(from)?;
        moment(&text, Timestamp::now()).map(Self).map_err(de::Error::custom)
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let wrong = || format!("`{text}` is not a time like 2026-11-21T18:00:00Z, or +2h from now");
    match text.strip_prefix('+') {
        Some(length) => length.parse().map(|HumanDuration(length)| now.plus(length)).map_err(|_| wrong()),
        None => text
            .parse::<jiff::Timestamp>()
            .map(|at| Timestamp::from_micros(at.as_microsecond()))
            .map_err(|_| wrong()),
    }
}

struct WordVisitor;

impl Visitor<'_> for WordVisitor {
    type Value = Word;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a whole number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Word, E> {
        Ok(Word(text.to_owned()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Word, E> {
        Ok(Word(number.to_string()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Word, E> {
        Ok(Word(number.to_string()))
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Word, E> {
        Err(E::custom(format_args!("is a bare {truth}: quote it, \"{truth}\"")))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Word, E> {
        Err(E::custom(format_args!("is a bare {number}: quote it as it should be read")))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Word, E> {
        Err(E::custom("has no value: write \"\" for an empty one"))
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(WordVisitor)
    }
}

struct WordsVisitor {
    single: bool,
}

impl<'de> Visitor<'de> for WordsVisitor {
    type Value = Vec<Word>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Word>, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = items.next_element()? {
            words.push(word);
        }
        Ok(words)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<Word>, E> {
        if self.single {
            return Ok(vec![Word(text.to_owned())]);
        }
        let list = text.split_whitespace().collect::<Vec<_>>().join(", ");
        Err(E::custom(format_args!("is a text: write a list, [{list}], or [sh, -c, \"{text}\"]")))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Vec<Word>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Vec<Word>, E> {
        WordVisitor.visit_bool(truth).map(|word| vec![word])
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(WordsVisitor { single: false }).map(Self)
    }
}

impl<'de> Deserialize<'de> for Choices {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(WordsVisitor { single: true }).map(Self)
    }
}

struct SettingVisitor;

impl<'de> Visitor<'de> for SettingVisitor {
    type Value = Setting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a whole number or {secret: NAME}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Setting, A::Error> {
        let mut name = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != "secret" {
                return Err(de::Error::custom(format_args!("`{key}` is not known here: secret is")));
            }
            name = Some(map.next_value::<Word>()?.0);
        }
        name.map(Setting::Secret).ok_or_else(|| de::Error::custom("names no secret"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Setting, E> {
        WordVisitor.visit_str(text).map(Setting::Word)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Setting, E> {
        WordVisitor.visit_i64(number).map(Setting::Word)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Setting, E> {
        WordVisitor.visit_u64(number).map(Setting::Word)
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Setting, E> {
        WordVisitor.visit_bool(truth).map(Setting::Word)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Setting, E> {
        WordVisitor.visit_f64(number).map(Setting::Word)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Setting, E> {
        WordVisitor.visit_unit().map(Setting::Word)
    }
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SettingVisitor)
    }
}

impl<'de> Deserialize<'de> for SecretName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Setting::deserialize(from)? {
            Setting::Secret(name) => Ok(Self(name)),
            Setting::Word(_) => Err(de::Error::custom(
                "stands here for everybody to read: store it with `longshore secrets set NAME` and write {secret: NAME}",
            )),
        }
    }
}

struct FilesVisitor;

impl<'de> Visitor<'de> for FilesVisitor {
    type Value = Files;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names, or names with paths")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Files, A::Error> {
        let mut files = Vec::new();
        while let Some(name) = list.next_element::<Word>()? {
            files.push((name.0, None));
        }
        Ok(Files(files))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Files, A::Error> {
        let mut files = Vec::new();
        while let Some((name, path)) = map.next_entry::<String, Word>()? {
            files.push((name, Some(path.0)));
        }
        Ok(Files(files))
    }
}

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(FilesVisitor)
    }
}

impl JsonSchema for Setting {
    fn schema_name() -> Cow<'static, str> {
        "Setting".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = generator.subschema_for::<Word>();
        json_schema!({ "anyOf": [word, {
            "type": "object",
            "properties": { "secret": { "type": "string" } },
            "required": ["secret"],
            "additionalProperties": false
        }] })
    }
}

impl JsonSchema for SecretName {
    fn schema_name() -> Cow<'static, str> {
        "SecretName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": { "secret": { "type": "string" } },
            "required": ["secret"],
            "additionalProperties": false
        })
    }
}

impl JsonSchema for Files {
    fn schema_name() -> Cow<'static, str> {
        "SecretFiles".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "array", "items": { "type": "string" } },
            { "type": "object", "additionalProperties": { "type": "string" } }
        ] })
    }
}

impl JsonSchema for Word {
    fn schema_name() -> Cow<'static, str> {
        "Word".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"] })
    }
}

impl JsonSchema for Words {
    fn schema_name() -> Cow<'static, str> {
        "Words".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": generator.subschema_for::<Word>() })
    }
}

impl JsonSchema for Choices {
    fn schema_name() -> Cow<'static, str> {
        "Choices".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Word>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}
