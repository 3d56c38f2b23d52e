//! Trigger files: the documents of `kind: trigger` in a YAML or JSON file, with every mistake told at once. Reads text,
//! never the disk.

use super::{
    Completion, Cron, MAX_DEPTH, Missed, Objects, Overlap, PER_HOUR, PER_MINUTE, RETRY_FOR, Run, SUCCEEDED,
    Setting, Signature, TriggerSpec, Webhook, When, validate,
};
use crate::{
    action::{ActionRef, NotAnAction},
    fields::{FieldError, FieldErrors},
    job::{
        JobSpec,
        file::{self, FileError, KleinkramDocument, Problem},
    },
    tree::{self, Node, Origin, Value},
    units::HumanDuration,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The JSON Schema of a trigger's document.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Document).to_value();
    schema["title"] = "Longshore trigger".into();
    schema["properties"]["job"] = file::schema();
    schema
}

/// The triggers of a file. Documents of other kinds are others' to read.
pub fn parse(text: &str, source: &str) -> Result<Vec<TriggerSpec>, FileError> {
    let fail = |problems| Err(FileError { source: source.to_owned(), problems });
    let whole = |line, message: String| Problem { line, document: None, path: String::new(), message };
    let documents = match tree::yaml_documents(text) {
        Ok(documents) => documents,
        Err(error) => return fail(vec![whole(Some(error.line), error.message)]),
    };
    let several = documents.len() > 1;
    let (mut triggers, mut problems) = (Vec::<TriggerSpec>::new(), Vec::new());
    for (index, node) in documents.iter().enumerate().filter(|(_, node)| is_trigger(node)) {
        let read = trigger(node).and_then(|trigger| {
            let twice = triggers.iter().any(|known| known.name == trigger.name);
            let message = format!("another document of this file is called `{}` too", trigger.name);
            if twice { Err(FieldError::new("name", message).into()) } else { Ok(trigger) }
        });
        match read {
            Ok(trigger) => triggers.push(trigger),
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
    if triggers.is_empty() && problems.is_empty() {
        return fail(vec![whole(None, "holds no trigger: its documents say `kind: trigger`".to_owned())]);
    }
    if problems.is_empty() { Ok(triggers) } else { fail(problems) }
}

/// Whether a document says that it is one.
pub fn is_trigger(node: &Node) -> bool {
    node.get("kind").is_some_and(|kind| matches!(&kind.value, Value::Text(kind) if kind == "trigger"))
}

fn line(node: &Node) -> Option<usize> {
    match node.origin {
        Origin::Line(line) => Some(line),
        Origin::Named(_) => None,
    }
}

fn trigger(node: &Node) -> Result<TriggerSpec, FieldErrors> {
    let mut errors = FieldErrors::new();
    let mut rest = node.clone();
    let job = take(&mut rest, "job").map(|node| inline(&node, &mut errors));
    let (document, wrong) = tree::read::<Document>(&rest);
    errors.merge(wrong);
    let Some(document) = document else { return Err(errors) };
    let Some(spec) = document.into_spec(job, &mut errors) else { return Err(errors) };
    if let Err(wrong) = validate(&spec) {
        errors.merge(wrong);
    }
    errors.into_result(spec)
}

fn take(node: &mut Node, key: &str) -> Option<Node> {
    let Value::Table(entries) = &mut node.value else { return None };
    let at = entries.iter().position(|(known, _)| known == key)?;
    Some(entries.remove(at).1)
}

/// A job as in a job file, but for what only a client could give it.
fn inline(node: &Node, errors: &mut FieldErrors) -> Box<JobSpec> {
    match file::read_node(node) {
        Ok(job) => {
            for name in job.folders.keys() {
                let message =
                    "an upload is not kept for as long as a trigger lives: use a share, a job or a url";
                errors.push(format!("job.inputs.{name}"), message);
            }
            Box::new(job.spec)
        }
        Err(wrong) => {
            errors.merge(wrong.into_iter().map(|error| error.under("job")).collect());
            // Stands in, so that the rest is judged too.
            Box::new(JobSpec::for_image("none"))
        }
    }
}

/// What starts a job by itself. One of cron, webhook, objects and completion; one of job and action.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Document {
    /// What the document describes.
    kind: DocumentKind,
    /// Unique in its project.
    name: String,
    /// For people.
    description: String,
    /// By a clock.
    cron: Option<CronDocument>,
    /// By a signed call.
    webhook: Option<WebhookDocument>,
    /// By new objects.
    objects: Option<ObjectsDocument>,
    /// By another job's end.
    completion: Option<CompletionDocument>,
    /// The action it starts: `name` or `name@version`. Without a version the newest, each time.
    action: Option<String>,
    /// Variables of the job or parameters of the action: a value, or {payload: /json/pointer} of what happened.
    set: BTreeMap<String, SettingDocument>,
    /// While a job of this trigger has not ended: allow, skip, queue or replace. Default skip for cron (queue with missed: all), else allow.
    overlap: Option<OverlapDocument>,
    /// How long a firing that a quota refused is tried again. Default 24h.
    retry_for: Option<HumanDuration>,
    /// Triggers that may have started one another. Default 8.
    max_depth: Option<u32>,
    /// Of the runs of an action.
    labels: BTreeMap<String, String>,
    /// What the runs of an action say to contract `kleinkram`: which mission.
    kleinkram: Option<KleinkramDocument>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum DocumentKind {
    #[default]
    Trigger,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct CronDocument {
    /// Minute, hour, day of month, month, day of week.
    schedule: String,
    /// Default UTC.
    time_zone: Option<String>,
    /// Of instants that passed while the controller was away: skip, once or all. Default once.
    missed: Option<MissedDocument>,
    /// At most so late, the same each time. Default: none.
    jitter: Option<HumanDuration>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum MissedDocument {
    Skip,
    Once,
    All,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct WebhookDocument {
    /// How calls are signed: longshore or github. Default longshore.
    signature: Option<SignatureDocument>,
    /// Deliveries in a minute at most. Default 60.
    per_minute: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum SignatureDocument {
    Longshore,
    Github,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ObjectsDocument {
    /// The operator's word for a bucket or a folder.
    source: String,
    /// The beginning of names.
    prefix: String,
    /// Globs over what follows the prefix. Default: all.
    #[serde(rename = "match")]
    matching: Vec<String>,
    /// An object that is written again fires too. Default: no.
    changed: bool,
    /// Those that are there already fire too. Default: no.
    existing: bool,
    /// The object becomes this input of the job.
    input: Option<String>,
    /// Objects that fire within an hour; the others wait. Default 10,000.
    per_hour: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct CompletionDocument {
    /// Of jobs of this action.
    action: Option<String>,
    /// Of jobs of this name, which may be a glob.
    job: Option<String>,
    /// Of jobs with these labels.
    labels: BTreeMap<String, String>,
    /// succeeded, failed, cancelled, timed_out or outcomes. Default succeeded.
    status: Vec<String>,
    /// Of jobs that this trigger started, too. Default: no.
    itself: bool,
    /// What the job left becomes this input.
    input: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", rename = "Overlap")]
enum OverlapDocument {
    Allow,
    Skip,
    Queue,
    Replace,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum SettingDocument {
    Value(String),
    Number(i64),
    Payload(PayloadDocument),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PayloadDocument {
    payload: String,
}

impl Document {
    fn into_spec(self, job: Option<Box<JobSpec>>, errors: &mut FieldErrors) -> Option<TriggerSpec> {
        let DocumentKind::Trigger = self.kind;
        let whens = [
            self.cron.map(CronDocument::when),
            self.webhook.map(WebhookDocument::when),
            self.objects.map(ObjectsDocument::when),
            self.completion.map(CompletionDocument::when),
        ];
        let mut whens = whens.into_iter().flatten();
        let (when, more) = (whens.next(), whens.next());
        if when.is_none() {
            errors.push("", "says not when it fires: cron, webhook, objects or completion");
        }
        if more.is_some() {
            errors.push("", "says more than one when: cron, webhook, objects or completion");
        }
        let action = self.action.and_then(|text| errors.take(action(&text)));
        let run = match (job, action) {
            (Some(_), Some(_)) => {
                errors.push("action", "goes not with `job`: one of them is started");
                None
            }
            (Some(job), None) => Some(Run::Job(job)),
            (None, Some(action)) => Some(Run::Action(action)),
            (None, None) => {
                if errors.iter().all(|error| error.path != "action") {
                    errors.push("", "says not what it starts: job or action");
                }
                None
            }
        };
        let when = when?;
        let overlap = self.overlap.map_or_else(|| when.overlap(), OverlapDocument::overlap);
        Some(TriggerSpec {
            name: self.name,
            description: self.description,
            overlap,
            when,
            run: run?,
            set: self.set.into_iter().map(|(name, from)| (name, from.setting())).collect(),
            retry_for: self.retry_for.map_or(RETRY_FOR, |length| length.0),
            max_depth: self.max_depth.unwrap_or(MAX_DEPTH),
            labels: self.labels,
            kleinkram: self.kleinkram.map(KleinkramDocument::said),
        })
    }
}

/// `name` or `name@version`.
fn action(text: &str) -> Result<ActionRef, FieldError> {
    text.parse().map_err(|error: NotAnAction| FieldError::new("action", error.to_string()))
}

impl CronDocument {
    fn when(self) -> When {
        When::Cron(Cron {
            schedule: self.schedule,
            time_zone: self.time_zone.unwrap_or_else(|| "UTC".to_owned()),
            missed: match self.missed {
                Some(MissedDocument::Skip) => Missed::Skip,
                Some(MissedDocument::Once) | None => Missed::Once,
                Some(MissedDocument::All) => Missed::All,
            },
            jitter: self.jitter.map_or(std::time::Duration::ZERO, |length| length.0),
        })
    }
}

impl WebhookDocument {
    fn when(self) -> When {
        When::Webhook(Webhook {
            signature: match self.signature {
                Some(SignatureDocument::Github) => Signature::Github,
                Some(SignatureDocument::Longshore) | None => Signature::Longshore,
            },
            per_minute: self.per_minute.unwrap_or(PER_MINUTE),
        })
    }
}

impl ObjectsDocument {
    fn when(self) -> When {
        let Self { source, prefix, matching, changed, existing, input, per_hour } = self;
        let per_hour = per_hour.unwrap_or(PER_HOUR);
        When::Objects(Objects { source, prefix, matching, changed, existing, input, per_hour })
    }
}

impl CompletionDocument {
    fn when(self) -> When {
        let Self { action, job, labels, status, itself, input } = self;
        let status = if status.is_empty() { vec![SUCCEEDED.to_owned()] } else { status };
        When::Completion(Completion { action, job, labels, status, itself, input })
    }
}

impl OverlapDocument {
    const fn overlap(self) -> Overlap {
        match self {
            Self::Allow => Overlap::Allow,
            Self::Skip => Overlap::Skip,
            Self::Queue => Overlap::Queue,
            Self::Replace => Overlap::Replace,
        }
    }
}

impl SettingDocument {
    fn setting(self) -> Setting {
        match self {
            Self::Value(text) => Setting::Value(text),
            Self::Number(number) => Setting::Value(number.to_string()),
            Self::Payload(PayloadDocument { payload }) => Setting::Payload(payload),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read_and_other_documents_are_left_alone() {
        let text = "
kind: trigger
name: nightly
cron: {schedule: '0 3 * * *', time_zone: Europe/Zurich, missed: all, jitter: 10m}
overlap: queue
job: {image: 'busybox:1', env: {A: '1'}}
set: {A: 2}
---
kind: job
image: 'busybox:1'
---
{kind: trigger, name: pushed, webhook: {signature: github}, action: convert@3,
 set: {REF: {payload: /ref}}}
---
{kind: trigger, name: bags, objects: {source: lab, prefix: in/, match: ['*.bag'], input: bag}, action: convert}
---
{kind: trigger, name: after, completion: {job: 'train-*', input: model}, job: {image: 'busybox:1'}}
";
        let all = parse(text, "t.yaml").expect("good");
        let names: Vec<_> = all.iter().map(|trigger| trigger.name.as_str()).collect();
        assert_eq!(names, ["nightly", "pushed", "bags", "after"]);
        assert_eq!((all[0].overlap, all[1].overlap), (Overlap::Queue, Overlap::Allow));
        assert_eq!(all[1].run, Run::Action(ActionRef { name: "convert".into(), version: Some(3) }));
        assert_eq!(all[0].set["A"], Setting::Value("2".into()));
        let When::Completion(completion) = &all[3].when else { panic!("{:?}", all[3].when) };
        assert_eq!(completion.status, [SUCCEEDED]);
        assert_eq!(schema()["title"], "Longshore trigger");
    }

    #[test]
    fn every_mistake_has_its_line_and_field() {
        let text = "kind: trigger
name: a
cron:
  schedule: 0 99 * * *
  zone: UTC
job:
  image: ''
overlap: maybe
---
kind: trigger
name: b
---
{kind: trigger, name: c, cron: {schedule: '@daily'}, webhook: {}, action: x@new}
---
{kind: trigger, name: d, webhook: {}, job: {image: x, inputs: {x: {dir: ./here}}}}
";
        let error = parse(text, "t.yaml").expect_err("wrong").to_string();
        for says in [
            "t.yaml:4: document 1: cron.schedule: the hour `99`",
            "t.yaml:5: document 1: cron.zone: is not a known field",
            "t.yaml:7: document 1: job.image:",
            "t.yaml:8: document 1: overlap: `maybe` is not one of allow, skip, queue, replace",
            "document 2: says not when it fires",
            "document 3: says more than one when",
            "document 3: action: `x@new` names no action",
            "document 4: job.inputs.x: an upload is not kept",
        ] {
            assert!(error.contains(says), "{says}\n{error}");
        }
        let none = parse("kind: job\nimage: x\n", "t.yaml").expect_err("no trigger").to_string();
        assert!(none.contains("holds no trigger"), "{none}");
    }
}
