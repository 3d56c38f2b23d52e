//! Action files: a job file's fields, and what makes an action of them. The action's own words are read here; the rest
//! of the document goes the way of every job.

use super::document::{self, Document, InputDocument, Source};
use super::words::Scalar;
use super::{FileError, documents};
use crate::action::{Action, ActionInput, Kind, Parameter, validate};
use crate::fields::FieldErrors;
use crate::job::JobSpec;
use crate::tree::{self, Node, Value as Tree};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What of the document is the action's alone.
const OWN: [&str; 5] = ["kind", "name", "description", "adjustable", "inputs"];

/// A named definition that jobs are made of. A new version for each change.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ActionDocument {
    /// What the document describes.
    kind: ActionKind,
    /// What it is run by: `longshore run @NAME`.
    name: String,
    /// What it does, for whoever looks for one. The first line is shown in lists.
    description: String,
    /// Variables of the container. A text is a value that no run can change; a table declares one that runs can set.
    env: BTreeMap<String, ParameterDocument>,
    /// Read-only folders at `/in/NAME`: what each is, whether a run must name its source, and the source if none does.
    inputs: BTreeMap<String, DeclaredInput>,
    /// Fields that a run may say otherwise: `resources.memory`, `deadlines`, `priority`, …
    adjustable: Vec<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ActionKind {
    #[default]
    Action,
}

/// A variable with a type.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ParameterDocument {
    /// `string` (default), `int`, `number`, `bool`, or `choice` (default where there are choices).
    r#type: Option<Kind>,
    /// The value if a run gives none. Without one the variable is not there then.
    default: Option<Scalar>,
    /// The values that will do.
    choices: Vec<Scalar>,
    /// The least number.
    min: Option<Scalar>,
    /// The largest number.
    max: Option<Scalar>,
    /// A regular expression that matches the whole text.
    pattern: Option<String>,
    /// Every run gives a value. Default false.
    required: bool,
    /// For whoever sets it.
    description: String,
    /// Whether a run may give a value. Default true.
    adjustable: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct DeclaredInput {
    /// For whoever names its source.
    description: String,
    /// Every run names a source. Default false.
    required: bool,
    /// Whether a run may name a source. Default true.
    adjustable: Option<bool>,
    /// Files uploaded before, by the digest of their list.
    uploaded: Option<String>,
    /// The outputs of this job.
    job: Option<String>,
    /// A share of the machine, by the operator's word for it.
    share: Option<String>,
    /// A folder or file of that job's outputs, or a folder of the share. Default: all.
    path: Option<String>,
    /// Whether the job may write into the share. Default: no.
    writable: bool,
    /// One file, fetched by the agent. Only `https://`.
    url: Option<String>,
}

/// The actions of a file. `source` is its name in errors.
pub fn parse_actions(text: &str, source: &str) -> Result<Vec<Action>, FileError> {
    let mut names = BTreeSet::new();
    documents(text, source, "holds no action", |node| {
        let action = action(node)?;
        if names.insert(action.name.clone()) {
            return Ok(action);
        }
        let mut errors = FieldErrors::new();
        errors.push("name", format!("`{}` is there twice in this file", action.name));
        Err(errors)
    })
}

/// The JSON Schema of an action file's document.
pub fn action_schema() -> Value {
    let mut schema = document::schema();
    let mut own = schemars::schema_for!(ActionDocument).to_value();
    let of_job = |name: &str| schema["properties"][name].clone();
    let plain = of_job("env")["additionalProperties"].clone();
    let declared = own["properties"]["env"]["additionalProperties"].clone();
    own["properties"]["env"]["additionalProperties"] = json!({ "anyOf": [plain, declared] });
    for part in ["properties", "$defs"] {
        let own = own[part].as_object().cloned().unwrap_or_default();
        if let Some(all) = schema[part].as_object_mut() {
            all.extend(own);
        }
    }
    if let Some(all) = schema["properties"].as_object_mut() {
        super::invocation::OF_A_RUN.iter().for_each(|field| drop(all.remove(*field)));
    }
    schema["title"] = "Longshore action".into();
    schema["description"] = own["description"].clone();
    schema["required"] = json!(["kind", "name", "image"]);
    schema
}

fn action(node: &Node) -> Result<Action, FieldErrors> {
    let mut errors = FieldErrors::new();
    let Tree::Table(_) = node.value else {
        errors.push("", "is no action: write kind, name and image");
        return Err(errors);
    };
    if !matches!(node.get("kind").map(|kind| &kind.value), Some(Tree::Text(kind)) if kind == "action") {
        let problem = match node.get("kind").map(|kind| &kind.value) {
            Some(Tree::Text(kind)) if kind == "job" => "is job: `longshore submit -f` takes those".to_owned(),
            Some(Tree::Text(kind)) => format!("is {kind}: write `kind: action`"),
            _ => "is missing: write `kind: action`".to_owned(),
        };
        errors.push("kind", problem);
        return Err(errors);
    }
    let (own, rest) = split(node, &mut errors);
    let (own, wrong) = tree::read::<ActionDocument>(&own);
    errors.merge(wrong);
    let rest = document::without_later_fields(&rest, &mut errors);
    let (rest, wrong) = tree::read::<Document>(&rest);
    errors.merge(wrong);
    let (Some(own), Some(rest)) = (own, rest) else { return Err(errors) };
    let action = own.into_action(rest.into_job(&mut errors).spec, &mut errors);
    if let Err(wrong) = validate(&action) {
        errors.merge(wrong);
    }
    errors.into_result(action)
}

/// What is the action's own, and what a job says too. A field that neither knows is noted.
fn split(node: &Node, errors: &mut FieldErrors) -> (Node, Node) {
    let (mut own, mut rest) = (Vec::new(), Vec::new());
    let Tree::Table(entries) = &node.value else { return (node.clone(), node.clone()) };
    let mut known = None;
    for (key, value) in entries {
        let entry = (key.clone(), value.clone());
        match (key.as_str(), &value.value) {
            (key, _) if OWN.contains(&key) => own.push(entry),
            (key, _) if super::invocation::OF_A_RUN.contains(&key) => {
                errors.push(key, "is said by a run, not by an action");
            }
            ("env", Tree::Table(variables)) => {
                let is_declared = |(_, value): &(String, Node)| {
                    matches!(value.value, Tree::Table(_)) && value.get("secret").is_none()
                };
                let (declared, plain) = variables.iter().cloned().partition(is_declared);
                let part = |entries| Node::new(Tree::Table(entries), value.origin.clone());
                own.push((key.clone(), part(declared)));
                rest.push((key.clone(), part(plain)));
            }
            _ => {
                let known = known.get_or_insert_with(job_fields);
                if known.contains(key) {
                    rest.push(entry);
                } else {
                    let all = known.iter().map(String::as_str).chain(OWN);
                    let hint = crate::did_you_mean(crate::nearest(key, all));
                    errors.push(key.clone(), format!("is not a known field{hint}"));
                }
            }
        }
    }
    let part = |entries| Node::new(Tree::Table(entries), node.origin.clone());
    (part(own), part(rest))
}

fn job_fields() -> BTreeSet<String> {
    let schema = document::schema();
    schema["properties"].as_object().into_iter().flat_map(Map::keys).cloned().collect()
}

impl ActionDocument {
    fn into_action(self, job: JobSpec, errors: &mut FieldErrors) -> Action {
        let ActionKind::Action = self.kind;
        let mut action = Action::new(self.name, "");
        action.description = self.description.trim_end().to_owned();
        action.job = job;
        for (name, parameter) in self.env {
            let parameter = parameter.parameter(&format!("env.{name}"), errors);
            action.parameters.insert(name, parameter);
        }
        for (name, input) in self.inputs {
            let input = input.input(&name, errors);
            action.inputs.insert(name, input);
        }
        action.adjustable = self.adjustable.into_iter().collect();
        action
    }
}

impl ParameterDocument {
    fn parameter(self, path: &str, errors: &mut FieldErrors) -> Parameter {
        let usual = if self.choices.is_empty() { Kind::String } else { Kind::Choice };
        let kind = self.r#type.unwrap_or(usual);
        let is_text = matches!(kind, Kind::String | Kind::Choice);
        let mut text = |field: String, value: Scalar| {
            let value = if is_text { value.into_word() } else { Ok(value.into_text()) };
            // What is no such value at all stays as it is, for its own error.
            let value = value.map_err(|problem| errors.push(format!("{path}.{field}"), problem)).ok()?;
            Some(if kind == Kind::Int { tidy(value) } else { value })
        };
        let choices = self.choices.into_iter().enumerate();
        Parameter {
            kind,
            description: self.description.trim_end().to_owned(),
            required: self.required,
            adjustable: self.adjustable.unwrap_or(true),
            choices: choices
                .filter_map(|(index, choice)| text(format!("choices[{index}]"), choice))
                .collect(),
            default: self.default.and_then(|value| text("default".to_owned(), value)),
            min: self.min.map(Scalar::into_text),
            max: self.max.map(Scalar::into_text),
            pattern: self.pattern,
        }
    }
}

/// `007` is seven, as its value will be.
fn tidy(text: String) -> String {
    text.trim().parse::<i64>().map_or(text, |number| number.to_string())
}

impl DeclaredInput {
    fn input(self, name: &str, errors: &mut FieldErrors) -> ActionInput {
        let Self { description, required, adjustable, uploaded, job, share, path, writable, url } = self;
        let named = [&uploaded, &job, &share, &path, &url].into_iter().any(Option::is_some) || writable;
        let source = InputDocument::of(uploaded, job, share, path, writable, url);
        let source = if named { Some(source.source(name)) } else { None };
        let source = source.and_then(|source| match errors.take(source)? {
            Source::Ready(input) => Some(input),
            Source::Folder(_) => None,
        });
        let description = description.trim_end().to_owned();
        ActionInput { description, required, adjustable: adjustable.unwrap_or(true), source }
    }
}

/// Reads back as the same action.
pub fn write_action(action: &Action) -> Value {
    let job = super::write(&action.job);
    let mut fields = Map::new();
    fields.insert("kind".into(), "action".into());
    fields.insert("name".into(), json!(action.name));
    if !action.description.is_empty() {
        fields.insert("description".into(), json!(action.description));
    }
    let of_job = job.as_object().into_iter().flatten().filter(|(key, _)| *key != "kind");
    fields.extend(of_job.map(|(key, value)| (key.clone(), value.clone())));
    let mut put = |key: &str, entries: Map<String, Value>| {
        let table = fields.entry(key).or_insert_with(|| json!({}));
        table.as_object_mut().into_iter().for_each(|table| table.extend(entries.clone()));
        if table.as_object().is_some_and(Map::is_empty) {
            fields.remove(key);
        }
    };
    put("env", action.parameters.iter().map(|(name, one)| (name.clone(), parameter(one))).collect());
    put("inputs", action.inputs.iter().map(|(name, one)| (name.clone(), input(one))).collect());
    if !action.adjustable.is_empty() {
        fields.insert("adjustable".into(), json!(action.adjustable));
    }
    Value::Object(fields)
}

fn parameter(parameter: &Parameter) -> Value {
    let Parameter { kind, description, required, adjustable, default, choices, min, max, pattern } =
        parameter;
    let value = |text: &String| typed(*kind, text);
    let mut fields = Map::new();
    fields.insert("type".into(), json!(kind.as_str()));
    let mut put = |key: &str, value: Option<Value>| drop(value.map(|value| fields.insert(key.into(), value)));
    put("description", Some(json!(description)).filter(|_| !description.is_empty()));
    put("required", required.then(|| json!(true)));
    put("adjustable", (!adjustable).then_some(json!(false)));
    put("default", default.as_ref().map(value));
    put("choices", Some(choices.iter().map(value).collect()).filter(|_| !choices.is_empty()));
    put("min", min.as_ref().map(value));
    put("max", max.as_ref().map(value));
    put("pattern", pattern.as_ref().map(|pattern| json!(pattern)));
    Value::Object(fields)
}

/// Numbers and truths as such, where they read back as the same text.
fn typed(kind: Kind, text: &str) -> Value {
    let number = || match text.parse::<i64>() {
        Ok(whole) => Some(json!(whole)),
        Err(_) => text.parse::<f64>().ok().map(|part| json!(part)),
    };
    let value = match kind {
        Kind::String | Kind::Choice => None,
        Kind::Bool => text.parse::<bool>().ok().map(|truth| json!(truth)),
        Kind::Int | Kind::Number => number().filter(|number| is_written(number, text)),
    };
    value.unwrap_or_else(|| json!(text))
}

fn is_written(number: &Value, text: &str) -> bool {
    let written = number.to_string();
    written == text
}

fn input(input: &ActionInput) -> Value {
    let ActionInput { description, required, adjustable, source } = input;
    let mut fields = match source {
        Some(source) => super::write::input(source),
        None => json!({}),
    };
    if !description.is_empty() {
        fields["description"] = json!(description);
    }
    if *required {
        fields["required"] = json!(true);
    }
    if !adjustable {
        fields["adjustable"] = json!(false);
    }
    fields
}

#[cfg(test)]
#[path = "action_tests.rs"]
mod tests;
