//! A spec as a document of a job file, without what is default anyway.

use super::kleinkram;
use crate::clock::Timestamp;
use crate::job::{
    AgentRule, Input, JobSpec, LabelTest, NetworkMode, PullPolicy, RetryRule, Security, ShareInput,
    spec::PLAIN,
};
use crate::units::{ByteSize, Cores, HumanDuration};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, time::Duration};

/// Reads back as the same spec.
pub fn write(spec: &JobSpec) -> Value {
    let mut default = JobSpec::for_image(&spec.image);
    default.contract.clone_from(&spec.contract);
    default.settle(false);
    let mut document = Map::new();
    document.insert("kind".into(), "job".into());
    let mut put = |key: &str, value: Value, is_default: bool| {
        let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        if !is_default && !empty {
            document.insert(key.to_owned(), value);
        }
    };
    put("name", json!(spec.name), false);
    put("image", json!(spec.image), false);
    put("pull", json!(pull(spec.pull)), spec.pull == default.pull);
    put("pin", json!(spec.pin), !spec.pin);
    put("contract", json!(spec.contract), spec.contract == PLAIN);
    put("kleinkram", spec.kleinkram.as_ref().map_or(Value::Null, kleinkram::write), false);
    put("access", json!(spec.access), spec.access.is_default());
    put("entrypoint", json!(spec.entrypoint), false);
    put("command", json!(spec.command), false);
    put("workdir", json!(spec.workdir), false);
    put("user", json!(spec.user), false);
    put("env", env(spec), false);
    put("secrets", json!(spec.secret_files), false);
    put("resources", resources(spec, &default), false);
    put("network", json!(network(spec.network)), spec.network == default.network);
    put("security", json!(security(spec.security)), spec.security == default.security);
    put("deadlines", deadlines(spec, &default), false);
    put("retry", retry(spec, &default), false);
    put("priority", json!(spec.priority), spec.priority == default.priority);
    put("labels", json!(spec.labels), false);
    put("agents", agents(spec), false);
    put("inputs", inputs(spec), false);
    put("caches", json!(spec.caches), false);
    put("outputs", outputs(spec, &default), false);
    put("after", after(spec), false);
    put("not_before", json!(spec.not_before.map(Timestamp::to_rfc3339)), false);
    put("pool", json!(spec.pool), spec.pool == default.pool);
    put("disconnect_tolerance", spec.disconnect_tolerance.map_or(Value::Null, length), false);
    Value::Object(document)
}

fn env(spec: &JobSpec) -> Value {
    let plain = spec.env.iter().map(|(name, value)| (name.clone(), json!(value)));
    let secret = spec.secret_env.iter().map(|(name, secret)| (name.clone(), json!({ "secret": secret })));
    Value::Object(plain.chain(secret).collect())
}

fn after(spec: &JobSpec) -> Value {
    if spec.after.is_empty() { Value::Null } else { json!(spec.after) }
}

/// The fields that are not default.
fn changed<const N: usize>(fields: [(&str, Value, bool); N]) -> Value {
    let changed = fields.into_iter().filter(|(_, value, is_default)| !is_default && !value.is_null());
    Value::Object(changed.map(|(key, value, _)| (key.to_owned(), value)).collect())
}

fn size(bytes: u64) -> Value {
    ByteSize(bytes).to_string().into()
}

fn length(length: Duration) -> Value {
    HumanDuration(length).to_string().into()
}

fn resources(spec: &JobSpec, default: &JobSpec) -> Value {
    let (asked, default) = (&spec.resources, &default.resources);
    let gpu = asked.gpu.as_ref().map(|gpu| {
        changed([
            ("count", json!(gpu.count), false),
            ("memory", size(gpu.memory_bytes), gpu.memory_bytes == 0),
            ("model", json!(gpu.model), gpu.model.is_empty()),
            ("capability", json!(gpu.capability), false),
            ("driver", json!(gpu.driver), false),
            ("cuda", json!(gpu.cuda), false),
            ("mig", json!(gpu.mig), false),
            ("nvlink", json!(gpu.nvlink), !gpu.nvlink),
            ("shared", json!(gpu.shared), !gpu.shared),
        ])
    });
    changed([
        ("cpu", Cores(asked.cpu_millis).to_string().into(), asked.cpu_millis == default.cpu_millis),
        ("memory", size(asked.memory_bytes), asked.memory_bytes == default.memory_bytes),
        ("shm", size(asked.shm_bytes), asked.shm_bytes == default.shm_bytes),
        ("scratch", size(asked.scratch_bytes), asked.scratch_bytes == default.scratch_bytes),
        ("pids", json!(asked.pids), asked.pids == default.pids),
        ("gpu", json!(gpu), false),
        ("exclusive", json!(asked.exclusive), !asked.exclusive),
    ])
}

/// Lists of values; with rules for the same label they become one of these.
fn agents(spec: &JobSpec) -> Value {
    let mut agents: Map<String, Value> =
        spec.agents.iter().map(|(label, any)| (label.clone(), json!(any))).collect();
    for AgentRule { label, test } in &spec.agent_rules {
        let rules = agents.entry(label.clone()).or_insert_with(|| json!({}));
        if rules.is_array() {
            *rules = json!({ "in": rules.take() });
        }
        let (key, value) = match test {
            LabelTest::In(any) => ("in", json!(any)),
            LabelTest::NotIn(none) => ("not_in", json!(none)),
            LabelTest::Exists => ("exists", json!(true)),
            LabelTest::DoesNotExist => ("exists", json!(false)),
            LabelTest::Gt(bound) => ("gt", json!(bound)),
            LabelTest::Lt(bound) => ("lt", json!(bound)),
        };
        rules[key] = value;
    }
    Value::Object(agents)
}

fn deadlines(spec: &JobSpec, default: &JobSpec) -> Value {
    let (asked, default) = (&spec.deadlines, &default.deadlines);
    changed([
        ("queue", asked.queue.map_or(Value::Null, length), false),
        ("prepare", length(asked.prepare), asked.prepare == default.prepare),
        ("run", length(asked.run), asked.run == default.run),
        ("upload", length(asked.upload), asked.upload == default.upload),
        ("stop_grace", length(asked.stop_grace), asked.stop_grace == default.stop_grace),
    ])
}

fn retry(spec: &JobSpec, default: &JobSpec) -> Value {
    let (asked, default) = (&spec.retry, &default.retry);
    changed([
        ("attempts", json!(asked.attempts), asked.attempts == default.attempts),
        ("backoff", length(asked.backoff), asked.backoff == default.backoff),
        ("max_backoff", length(asked.max_backoff), asked.max_backoff == default.max_backoff),
        ("on", json!(asked.on), asked.on.is_empty()),
        ("outcomes", rules(&asked.outcomes), asked.outcomes.is_empty()),
    ])
}

fn rules(rules: &BTreeMap<String, RetryRule>) -> Value {
    let rule = |rule: &RetryRule| {
        changed([
            ("attempts", json!(rule.attempts), false),
            ("backoff", rule.backoff.map_or(Value::Null, length), false),
        ])
    };
    Value::Object(rules.iter().map(|(name, one)| (name.clone(), rule(one))).collect())
}

fn inputs(spec: &JobSpec) -> Value {
    Value::Object(spec.inputs.iter().map(|(name, source)| (name.clone(), input(source))).collect())
}

pub(super) fn input(input: &Input) -> Value {
    match input {
        Input::Uploaded { id } => json!({ "uploaded": id }),
        Input::Job { job, path } if path.is_empty() => json!({ "job": job }),
        Input::Job { job, path } => json!({ "job": job, "path": path }),
        Input::Url { url } => json!({ "url": url }),
        Input::Share(ShareInput { share, path, writable }) => changed([
            ("share", json!(share), false),
            ("path", json!(path), path.is_empty()),
            ("writable", json!(writable), !writable),
        ]),
    }
}

fn outputs(spec: &JobSpec, default: &JobSpec) -> Value {
    let (asked, default) = (&spec.outputs, &default.outputs);
    changed([
        ("include", json!(asked.include), asked.include.is_empty()),
        ("exclude", json!(asked.exclude), asked.exclude.is_empty()),
        ("max_size", size(asked.max_size_bytes), asked.max_size_bytes == default.max_size_bytes),
        ("max_files", json!(asked.max_files), asked.max_files == default.max_files),
    ])
}

const fn pull(policy: PullPolicy) -> &'static str {
    match policy {
        PullPolicy::Auto => "auto",
        PullPolicy::Always => "always",
        PullPolicy::Missing => "missing",
        PullPolicy::Never => "never",
    }
}

const fn network(mode: NetworkMode) -> &'static str {
    match mode {
        NetworkMode::Bridge => "bridge",
        NetworkMode::Internet => "internet",
        NetworkMode::None => "none",
    }
}

const fn security(profile: Security) -> &'static str {
    match profile {
        Security::Baseline => "baseline",
        Security::Restricted => "restricted",
    }
}
