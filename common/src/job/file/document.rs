//! The shape of a job file, field by field. Its doc comments are the descriptions of the JSON Schema.

use super::JobFile;
use super::kleinkram::KleinkramDocument;
use super::machine::{self, LabelDocument, ResourcesDocument};
use super::words::{Files, Moment, Setting, Word, Words};
use crate::fields::{FieldError, FieldErrors};
use crate::job::spec::SECRETS_FOLDER;
use crate::job::{
    Access, After, Deadlines, Input, JobSpec, NetworkMode, Outputs, PullPolicy, RetryPolicy, RetryRule,
    Security, ShareInput, When, check_name,
};
use crate::tree::{Node, Value};
use crate::units::{ByteSize, HumanDuration};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};

/// The JSON Schema of a job file's document.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Document).to_value();
    schema["title"] = "Longshore job".into();
    schema
}

/// A container to run once, to its end.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Document {
    /// What the document describes.
    kind: Kind,
    /// For people; not unique. As a job's name it means the newest job of that name.
    name: Option<String>,
    /// The container image: `[registry/]name[:tag][@digest]`.
    image: String,
    /// When to ask the registry. Default `auto`: always for no tag or `latest`, else only if the image is missing.
    pull: Option<Pull>,
    /// Run the image's digest of the first attempt in every attempt. Default: each asks anew what the name means.
    pin: bool,
    /// How the container is driven. `plain` (default): run it, wait, keep `/out`. `kleinkram`: so, as a Kleinkram action.
    contract: Option<String>,
    /// Instead of the image's entrypoint.
    entrypoint: Option<Words>,
    /// Instead of the image's command.
    command: Option<Words>,
    /// An absolute path in the container.
    workdir: Option<String>,
    /// `uid`, `uid:gid` or a user of the image.
    user: Option<Word>,
    /// Environment variables. Truths and fractions must be quoted; `{secret: NAME}` takes one of the project's secrets.
    env: BTreeMap<String, Setting>,
    /// Secrets as files: a list of names puts each at `/run/secrets/NAME`; with a path, there.
    secrets: Files,
    /// Limits, all of them enforced.
    resources: ResourcesDocument,
    /// `bridge` (default), `internet` (public addresses only) or `none`.
    network: Option<Network>,
    /// `restricted`: without any capability, also as root. Default `baseline`; an agent may demand more.
    security: Option<SecurityProfile>,
    /// How long each part may take.
    deadlines: DeadlinesDocument,
    /// When a job that ended badly is tried again.
    retry: RetryDocument,
    /// Larger runs first; -100 to 100, default 0.
    priority: i32,
    /// Words of your own, to filter by.
    labels: BTreeMap<String, Word>,
    /// Only agents with these labels: one value, any of a list, or rules: `in`, `not_in`, `exists`, `gt`, `lt`.
    agents: BTreeMap<String, LabelDocument>,
    /// Read-only folders at `/in/NAME`.
    inputs: BTreeMap<String, InputDocument>,
    /// Folders that the project's jobs keep between them on one machine: name and absolute path in the container.
    caches: BTreeMap<String, Word>,
    /// Which files of `/out` are kept.
    outputs: OutputsDocument,
    /// Jobs that must have ended before this one begins.
    after: Vec<AfterDocument>,
    /// It begins then at the earliest: `2026-11-21T18:00:00Z`, or `+2h` from now.
    not_before: Option<Moment>,
    /// The set of agents that may run it. Default `default`.
    pool: Option<String>,
    /// How long its agent may be out of touch before the job is given to another. Default: the cluster's, 10m.
    disconnect_tolerance: Option<HumanDuration>,
    /// What contract `kleinkram` tells the container. Default: the settings of the project.
    kleinkram: Option<KleinkramDocument>,
    /// What the run key of contract `kleinkram` may do: `read` (default), `create`, `write` or `delete`.
    access: Option<Access>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct AfterDocument {
    /// An id, or a name: the newest job of that name, which may be one above in the same file.
    job: String,
    /// `succeeded` (default), `failed` (by itself), or `finished` in whatever way.
    when: When,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    Job,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Pull {
    Auto,
    Always,
    Missing,
    Never,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Network {
    Bridge,
    Internet,
    None,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum SecurityProfile {
    Baseline,
    Restricted,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct DeadlinesDocument {
    /// From submit (or `not_before`, or its turn in a batch) to an agent's claim. Default: none.
    queue: Option<HumanDuration>,
    /// For image and inputs. Default 30m.
    prepare: Option<HumanDuration>,
    /// For the container. Default 24h.
    run: Option<HumanDuration>,
    /// For storing `/out`. Default 1h.
    upload: Option<HumanDuration>,
    /// Between SIGTERM and SIGKILL. Default 10s.
    stop_grace: Option<HumanDuration>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RetryDocument {
    /// Attempts at most, the first included. Default 4.
    attempts: Option<u32>,
    /// The first wait; it doubles. Default 2s.
    backoff: Option<HumanDuration>,
    /// The longest wait. Default 5m.
    max_backoff: Option<HumanDuration>,
    /// Outcomes to try again after. Default: those that are the platform's fault.
    on: Vec<String>,
    /// What differs after one outcome, by its name.
    outcomes: BTreeMap<String, RetryRuleDocument>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RetryRuleDocument {
    /// Attempts at most, all of them counted; 1: never again after this outcome.
    attempts: Option<u32>,
    /// The first wait; it doubles.
    backoff: Option<HumanDuration>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct InputDocument {
    /// A local folder or file; the client uploads it.
    dir: Option<PathBuf>,
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

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct OutputsDocument {
    /// Globs over paths below `/out`. Default: all.
    include: Vec<String>,
    /// Globs of what is left out.
    exclude: Vec<String>,
    /// Of all kept files together. Default 1TiB.
    max_size: Option<ByteSize>,
    /// Default 1,000,000.
    max_files: Option<u64>,
}

/// The tree without the fields of later versions; each is an error of its own.
pub(super) fn without_later_fields(node: &Node, errors: &mut FieldErrors) -> Node {
    let mut node = node.clone();
    let Value::Table(entries) = &mut node.value else { return node };
    entries.retain(|(key, value)| {
        let kind = match &value.value {
            Value::Text(kind) if key == "kind" => kind.as_str(),
            _ => "",
        };
        if kind == "action" {
            errors.push("kind", "is action: `longshore actions apply -f` takes those");
            return false;
        }
        if kind == "trigger" {
            errors.push("kind", "is trigger: `longshore triggers apply -f` takes those");
            return false;
        }
        if kind == "workflow" {
            errors.push("kind", "is not available in this version: job is");
            return false;
        }
        true
    });
    for (field, key) in [("inputs", "s3")] {
        let Some((_, table)) = entries.iter_mut().find(|(known, _)| known == field) else { continue };
        let Value::Table(values) = &mut table.value else { continue };
        values.retain(|(name, value)| {
            let later = value.get(key).is_some();
            if later {
                errors.push(format!("{field}.{name}.{key}"), "is not available in this version");
            }
            !later
        });
    }
    node
}

impl Document {
    /// The spec with every default filled in; what does not fit together is noted.
    pub(super) fn into_job(self, errors: &mut FieldErrors) -> JobFile {
        let Kind::Job = self.kind;
        let mut spec = JobSpec::for_image(self.image);
        let mut folders = BTreeMap::new();
        for (name, input) in self.inputs {
            match input.source(&name) {
                Ok(Source::Ready(input)) => drop(spec.inputs.insert(name, input)),
                Ok(Source::Folder(folder)) => {
                    // Those in the spec are checked with it; these are not in it yet.
                    errors.take(check_name(&format!("inputs.{name}"), &name));
                    folders.insert(name, folder);
                }
                Err(error) => errors.add(error),
            }
        }
        spec.name = self.name;
        set(&mut spec.pull, self.pull.map(Pull::policy));
        spec.pin = self.pin;
        set(&mut spec.contract, self.contract);
        spec.entrypoint = self.entrypoint.map(Words::into_strings);
        spec.command = self.command.map(Words::into_strings);
        spec.workdir = self.workdir;
        spec.user = self.user.map(|user| user.0);
        for (name, value) in self.env {
            match value {
                Setting::Word(word) => drop(spec.env.insert(name, word.0)),
                Setting::Secret(secret) => drop(spec.secret_env.insert(name, secret)),
            }
        }
        for (secret, path) in self.secrets.0 {
            let path = path.unwrap_or_else(|| format!("{SECRETS_FOLDER}/{secret}"));
            spec.secret_files.insert(secret, path);
        }
        let pids_said = self.resources.says_pids();
        spec.resources = self.resources.resources();
        set(&mut spec.network, self.network.map(Network::mode));
        set(&mut spec.security, self.security.map(SecurityProfile::profile));
        spec.deadlines = self.deadlines.deadlines();
        spec.retry = self.retry.policy();
        spec.priority = self.priority;
        spec.labels = self.labels.into_iter().map(|(name, value)| (name, value.0)).collect();
        machine::select(self.agents, &mut spec);
        spec.caches = self.caches.into_iter().map(|(name, path)| (name, path.0)).collect();
        spec.outputs = self.outputs.outputs();
        spec.after = self.after.into_iter().map(|after| After { job: after.job, when: after.when }).collect();
        spec.not_before = self.not_before.map(|moment| moment.0);
        set(&mut spec.pool, self.pool);
        spec.disconnect_tolerance = self.disconnect_tolerance.map(|length| length.0);
        spec.kleinkram = self.kleinkram.map(KleinkramDocument::said);
        set(&mut spec.access, self.access);
        spec.settle(pids_said);
        JobFile { spec, action: None, folders }
    }
}

impl Pull {
    const fn policy(self) -> PullPolicy {
        match self {
            Self::Auto => PullPolicy::Auto,
            Self::Always => PullPolicy::Always,
            Self::Missing => PullPolicy::Missing,
            Self::Never => PullPolicy::Never,
        }
    }
}

impl Network {
    const fn mode(self) -> NetworkMode {
        match self {
            Self::Bridge => NetworkMode::Bridge,
            Self::Internet => NetworkMode::Internet,
            Self::None => NetworkMode::None,
        }
    }
}

impl SecurityProfile {
    const fn profile(self) -> Security {
        match self {
            Self::Baseline => Security::Baseline,
            Self::Restricted => Security::Restricted,
        }
    }
}

impl DeadlinesDocument {
    fn deadlines(self) -> Deadlines {
        let mut deadlines = Deadlines { queue: self.queue.map(|length| length.0), ..Deadlines::default() };
        set(&mut deadlines.prepare, self.prepare.map(|length| length.0));
        set(&mut deadlines.run, self.run.map(|length| length.0));
        set(&mut deadlines.upload, self.upload.map(|length| length.0));
        set(&mut deadlines.stop_grace, self.stop_grace.map(|length| length.0));
        deadlines
    }
}

impl RetryDocument {
    fn policy(self) -> RetryPolicy {
        let mut policy = RetryPolicy { on: self.on, ..RetryPolicy::default() };
        set(&mut policy.attempts, self.attempts);
        set(&mut policy.backoff, self.backoff.map(|length| length.0));
        // A backoff longer than the default cap is not cut by it.
        policy.max_backoff =
            self.max_backoff.map_or(policy.max_backoff.max(policy.backoff), |length| length.0);
        let rule = |RetryRuleDocument { attempts, backoff }| RetryRule {
            attempts,
            backoff: backoff.map(|length| length.0),
        };
        policy.outcomes = self.outcomes.into_iter().map(|(name, document)| (name, rule(document))).collect();
        policy
    }
}

pub(super) enum Source {
    Ready(Input),
    Folder(PathBuf),
}

impl InputDocument {
    /// One that names no folder of whoever wrote it.
    pub(super) const fn of(
        uploaded: Option<String>,
        job: Option<String>,
        share: Option<String>,
        path: Option<String>,
        writable: bool,
        url: Option<String>,
    ) -> Self {
        Self { dir: None, uploaded, job, share, path, writable, url }
    }

    pub(super) fn source(self, name: &str) -> Result<Source, FieldError> {
        let wrong = |message| Err(FieldError::new(format!("inputs.{name}"), message));
        if self.path.is_some() && self.job.is_none() && self.share.is_none() {
            return wrong("has a path, which goes with `job` or `share`");
        }
        if self.writable && self.share.is_none() {
            return wrong("is writable, which goes with `share`");
        }
        let (path, writable) = (self.path.unwrap_or_default(), self.writable);
        match (self.dir, self.job, self.url, self.uploaded, self.share) {
            (Some(dir), None, None, None, None) => Ok(Source::Folder(dir)),
            (None, Some(job), None, None, None) => Ok(Source::Ready(Input::Job { job, path })),
            (None, None, Some(url), None, None) => Ok(Source::Ready(Input::Url { url })),
            (None, None, None, Some(id), None) => Ok(Source::Ready(Input::Uploaded { id })),
            (None, None, None, None, Some(share)) => {
                Ok(Source::Ready(Input::Share(ShareInput { share, path, writable })))
            }
            (None, None, None, None, None) => wrong("names no source: dir, job, share or url"),
            _ => wrong("names more than one source: dir, job, share or url"),
        }
    }
}

impl OutputsDocument {
    fn outputs(self) -> Outputs {
        let mut outputs = Outputs { include: self.include, exclude: self.exclude, ..Outputs::default() };
        set(&mut outputs.max_size_bytes, self.max_size.map(|size| size.0));
        set(&mut outputs.max_files, self.max_files);
        outputs
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}
