//! The job spec. Absent fields take their defaults; all wrong fields are told at once.

use super::machine::{overlay_resources, read_rules};
use super::{
    WireError, access, duration_from, duration_to, network_mode, pull_policy, security, text, timestamp_from,
    timestamp_to,
};
use crate::fields::FieldErrors;
use crate::job::spec::{DEFAULT_POOL, PLAIN};
use crate::job::{
    After, Deadlines, Input, JobSpec, Kleinkram, Outputs, RetryPolicy, RetryRule, ShareInput, When, validate,
};
use longshore_proto::v1;
use std::time::Duration;

/// A spec as a client sent it: read and validated, with every mistake of both.
pub fn submitted_spec(message: v1::JobSpec) -> Result<JobSpec, FieldErrors> {
    let (spec, mut errors) = read(message);
    if let Err(more) = validate(&spec) {
        errors.merge(more);
    }
    errors.into_result(spec)
}

/// A spec as another part of the same cluster sent it: read, not judged again.
impl TryFrom<v1::JobSpec> for JobSpec {
    type Error = FieldErrors;

    fn try_from(message: v1::JobSpec) -> Result<Self, FieldErrors> {
        let (spec, errors) = read(message);
        errors.into_result(spec)
    }
}

/// Replaces what the message names.
pub fn overlay_deadlines(deadlines: &mut Deadlines, message: &v1::Deadlines, errors: &mut FieldErrors) {
    let v1::Deadlines { queue, prepare, run, upload, stop_grace } = message;
    if let Some(queue) = length("deadlines.queue", queue.as_ref(), errors) {
        deadlines.queue = Some(queue);
    }
    set(&mut deadlines.prepare, length("deadlines.prepare", prepare.as_ref(), errors));
    set(&mut deadlines.run, length("deadlines.run", run.as_ref(), errors));
    set(&mut deadlines.upload, length("deadlines.upload", upload.as_ref(), errors));
    set(&mut deadlines.stop_grace, length("deadlines.stop_grace", stop_grace.as_ref(), errors));
}

fn read(message: v1::JobSpec) -> (JobSpec, FieldErrors) {
    let mut errors = FieldErrors::new();
    let mut spec = JobSpec::for_image(message.image);
    spec.name = text(message.name);
    set(&mut spec.pull, errors.take(pull_policy("pull", message.pull)));
    spec.contract = text(message.contract).unwrap_or_else(|| PLAIN.to_owned());
    spec.entrypoint = message.entrypoint.map(|list| list.values);
    spec.command = message.command.map(|list| list.values);
    spec.workdir = text(message.workdir);
    spec.user = text(message.user);
    spec.env = message.env.into_iter().collect();
    let pids_said = message.resources.as_ref().is_some_and(|resources| resources.pids.is_some());
    if let Some(resources) = &message.resources {
        overlay_resources(&mut spec.resources, resources, &mut errors);
    }
    set(&mut spec.network, errors.take(network_mode("network", message.network)));
    if let Some(deadlines) = &message.deadlines {
        overlay_deadlines(&mut spec.deadlines, deadlines, &mut errors);
    }
    if let Some(retry) = message.retry {
        spec.retry = read_retry(retry, &mut errors);
    }
    spec.priority = message.priority;
    spec.labels = message.labels.into_iter().collect();
    spec.agents = message.agents.into_iter().map(|(label, list)| (label, list.values)).collect();
    spec.agent_rules = read_rules(message.agent_rules, &mut errors);
    for (name, input) in message.inputs {
        if let Some(input) = errors.take(read_input(&name, input)) {
            spec.inputs.insert(name, input);
        }
    }
    if let Some(outputs) = message.outputs {
        spec.outputs = read_outputs(outputs);
    }
    spec.pool = text(message.pool).unwrap_or_else(|| DEFAULT_POOL.to_owned());
    spec.disconnect_tolerance =
        length("disconnect_tolerance", message.disconnect_tolerance.as_ref(), &mut errors);
    set(&mut spec.security, errors.take(security("security", message.security)));
    spec.secret_env = message.secret_env.into_iter().collect();
    spec.secret_files = message.secret_files.into_iter().collect();
    spec.caches = message.caches.into_iter().collect();
    spec.pin = message.pin;
    spec.after = read_after(message.after, &mut errors);
    spec.not_before = message.not_before.as_ref().map(timestamp_from);
    spec.kleinkram = message.kleinkram.map(Kleinkram::from);
    set(&mut spec.access, errors.take(access("access", message.access)));
    spec.settle(pids_said);
    (spec, errors)
}

fn read_after(messages: Vec<v1::After>, errors: &mut FieldErrors) -> Vec<After> {
    let read = |(index, message): (usize, v1::After)| {
        let when = match v1::AfterWhen::try_from(message.when) {
            Ok(v1::AfterWhen::Unspecified | v1::AfterWhen::Succeeded) => When::Succeeded,
            Ok(v1::AfterWhen::Failed) => When::Failed,
            Ok(v1::AfterWhen::Finished) => When::Finished,
            Err(_) => {
                errors.push(format!("after[{index}].when"), format!("{} is not a known end", message.when));
                return None;
            }
        };
        Some(After { job: message.job, when })
    };
    messages.into_iter().enumerate().filter_map(read).collect()
}

impl From<&After> for v1::After {
    fn from(after: &After) -> Self {
        let when = match after.when {
            When::Succeeded => v1::AfterWhen::Succeeded,
            When::Failed => v1::AfterWhen::Failed,
            When::Finished => v1::AfterWhen::Finished,
        };
        Self { job: after.job.clone(), when: when as i32 }
    }
}

fn read_retry(message: v1::RetryPolicy, errors: &mut FieldErrors) -> RetryPolicy {
    let mut retry = RetryPolicy { on: message.on, ..RetryPolicy::default() };
    if message.attempts != 0 {
        retry.attempts = message.attempts;
    }
    set(&mut retry.backoff, length("retry.backoff", message.backoff.as_ref(), errors));
    // A backoff longer than the default cap is not cut by it.
    retry.max_backoff = length("retry.max_backoff", message.max_backoff.as_ref(), errors)
        .unwrap_or(retry.max_backoff.max(retry.backoff));
    for (name, rule) in message.outcomes {
        let backoff = length(&format!("retry.outcomes.{name}.backoff"), rule.backoff.as_ref(), errors);
        let attempts = (rule.attempts != 0).then_some(rule.attempts);
        retry.outcomes.insert(name, RetryRule { attempts, backoff });
    }
    retry
}

pub(super) fn read_input(name: &str, message: v1::Input) -> Result<Input, WireError> {
    use v1::input::Source;
    match message.source {
        Some(Source::Uploaded(v1::UploadedInput { id })) => Ok(Input::Uploaded { id }),
        Some(Source::Job(v1::JobInput { job, path })) => Ok(Input::Job { job, path }),
        Some(Source::Url(url)) => Ok(Input::Url { url }),
        Some(Source::Share(v1::ShareInput { share, path, writable })) => {
            Ok(Input::Share(ShareInput { share, path, writable }))
        }
        None => Err(WireError::new(format!("inputs.{name}"), "names no source: uploaded, job, share or url")),
    }
}

fn read_outputs(message: v1::Outputs) -> Outputs {
    let mut outputs = Outputs { include: message.include, exclude: message.exclude, ..Outputs::default() };
    set(&mut outputs.max_size_bytes, message.max_size_bytes);
    set(&mut outputs.max_files, message.max_files);
    outputs
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn length(path: &str, value: Option<&prost_types::Duration>, errors: &mut FieldErrors) -> Option<Duration> {
    value.and_then(|value| errors.take(duration_from(path, value)))
}

impl From<&JobSpec> for v1::JobSpec {
    fn from(spec: &JobSpec) -> Self {
        let list = |values: &Vec<String>| v1::StringList { values: values.clone() };
        Self {
            name: spec.name.clone().unwrap_or_default(),
            image: spec.image.clone(),
            pull: v1::PullPolicy::from(spec.pull) as i32,
            contract: spec.contract.clone(),
            entrypoint: spec.entrypoint.as_ref().map(list),
            command: spec.command.as_ref().map(list),
            workdir: spec.workdir.clone().unwrap_or_default(),
            user: spec.user.clone().unwrap_or_default(),
            env: spec.env.clone().into_iter().collect(),
            resources: Some((&spec.resources).into()),
            network: v1::NetworkMode::from(spec.network) as i32,
            deadlines: Some((&spec.deadlines).into()),
            retry: Some((&spec.retry).into()),
            priority: spec.priority,
            labels: spec.labels.clone().into_iter().collect(),
            agents: spec.agents.iter().map(|(label, values)| (label.clone(), list(values))).collect(),
            agent_rules: spec.agent_rules.iter().map(v1::AgentRule::from).collect(),
            inputs: spec.inputs.iter().map(|(name, input)| (name.clone(), input.into())).collect(),
            outputs: Some((&spec.outputs).into()),
            pool: spec.pool.clone(),
            disconnect_tolerance: spec.disconnect_tolerance.map(duration_to),
            security: v1::Security::from(spec.security) as i32,
            secret_env: spec.secret_env.clone().into_iter().collect(),
            secret_files: spec.secret_files.clone().into_iter().collect(),
            caches: spec.caches.clone().into_iter().collect(),
            pin: spec.pin,
            after: spec.after.iter().map(v1::After::from).collect(),
            not_before: spec.not_before.map(timestamp_to),
            kleinkram: spec.kleinkram.as_ref().map(v1::Kleinkram::from),
            access: v1::AccessRight::from(spec.access) as i32,
        }
    }
}

impl From<&Deadlines> for v1::Deadlines {
    fn from(deadlines: &Deadlines) -> Self {
        Self {
            queue: deadlines.queue.map(duration_to),
            prepare: Some(duration_to(deadlines.prepare)),
            run: Some(duration_to(deadlines.run)),
            upload: Some(duration_to(deadlines.upload)),
            stop_grace: Some(duration_to(deadlines.stop_grace)),
        }
    }
}

impl From<&RetryPolicy> for v1::RetryPolicy {
    fn from(retry: &RetryPolicy) -> Self {
        Self {
            attempts: retry.attempts,
            backoff: Some(duration_to(retry.backoff)),
            max_backoff: Some(duration_to(retry.max_backoff)),
            on: retry.on.clone(),
            outcomes: retry.outcomes.iter().map(|(name, rule)| (name.clone(), rule.into())).collect(),
        }
    }
}

impl From<&RetryRule> for v1::RetryRule {
    fn from(rule: &RetryRule) -> Self {
        Self { attempts: rule.attempts.unwrap_or_default(), backoff: rule.backoff.map(duration_to) }
    }
}

impl From<&Input> for v1::Input {
    fn from(input: &Input) -> Self {
        use v1::input::Source;
        let source = match input {
            Input::Uploaded { id } => Source::Uploaded(v1::UploadedInput { id: id.clone() }),
            Input::Job { job, path } => Source::Job(v1::JobInput { job: job.clone(), path: path.clone() }),
            Input::Url { url } => Source::Url(url.clone()),
            Input::Share(ShareInput { share, path, writable }) => Source::Share(v1::ShareInput {
                share: share.clone(),
                path: path.clone(),
                writable: *writable,
            }),
        };
        Self { source: Some(source) }
    }
}

impl From<&Outputs> for v1::Outputs {
    fn from(outputs: &Outputs) -> Self {
        Self {
            include: outputs.include.clone(),
            exclude: outputs.exclude.clone(),
            max_size_bytes: Some(outputs.max_size_bytes),
            max_files: Some(outputs.max_files),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{
        Access, AgentRule, GpuRequest, KLEINKRAM, LabelTest, NetworkMode, PullPolicy, Security,
    };

    fn full() -> JobSpec {
        let mut spec = JobSpec::for_image("registry.example/rsl/trainer:1.4");
        spec.name = Some("finetune".into());
        spec.pull = PullPolicy::Missing;
        spec.entrypoint = Some(vec![]);
        spec.command = Some(vec!["python".into(), "train.py".into()]);
        spec.workdir = Some("/work".into());
        spec.user = Some("1000:1000".into());
        spec.env.insert("A".into(), String::new());
        spec.resources.gpu = Some(GpuRequest { memory_bytes: 5, ..GpuRequest::of(2) });
        spec.resources.exclusive = true;
        spec.agent_rules = vec![AgentRule::new("rack", LabelTest::Lt(9))];
        spec.network = NetworkMode::Internet;
        spec.security = Security::Restricted;
        spec.deadlines.queue = Some(Duration::from_millis(1500));
        spec.deadlines.stop_grace = Duration::ZERO;
        spec.retry.on = vec!["exit_code".into()];
        let rule = RetryRule { attempts: Some(2), backoff: Some(Duration::from_secs(7)) };
        spec.retry.outcomes =
            [("oom_killed".to_owned(), rule), ("agent_lost".to_owned(), RetryRule::default())].into();
        spec.priority = -5;
        spec.labels.insert("team".into(), "rsl".into());
        spec.agents.insert("site".into(), vec!["zurich".into(), "bern".into()]);
        spec.inputs.insert("a".into(), Input::Uploaded { id: "00".repeat(32) });
        spec.inputs.insert("b".into(), Input::Job { job: "abcdefgh".into(), path: "ckpt/".into() });
        spec.inputs.insert("c".into(), Input::Url { url: "https://example.org/x".into() });
        let share = ShareInput { share: "datasets".into(), path: "study".into(), writable: true };
        spec.inputs.insert("d".into(), Input::Share(share));
        spec.outputs = Outputs { include: vec!["*.txt".into()], max_files: 3, ..Outputs::default() };
        spec.pool = "big".into();
        spec.disconnect_tolerance = Some(Duration::from_secs(90));
        spec.secret_env.insert("HF_TOKEN".into(), "hf-token".into());
        spec.secret_files.insert("ssh".into(), "/run/secrets/id_rsa".into());
        spec.caches.insert("hf".into(), "/root/.cache/huggingface".into());
        spec.pin = true;
        spec.contract = KLEINKRAM.into();
        spec.resources.pids = 99;
        let said = |text: &str| Some(text.to_owned());
        spec.kleinkram = Some(Kleinkram {
            project_uuid: said("0190a8c2-0000-7000-8000-000000000001"),
            mission_uuid: said("0190a8c2-0000-7000-8000-000000000002"),
            api_endpoint: said("https://api.example"),
            s3_endpoint: said("https://s3.example"),
            key: said("run-key"),
            files_in_memory: false,
        });
        spec.access = Access::Write;
        spec.not_before = Some(crate::clock::Timestamp::from_micros(1_900_000_000_000_001));
        spec
    }

    #[test]
    fn a_full_spec_reads_back() {
        let spec = full();
        assert_eq!(JobSpec::try_from(v1::JobSpec::from(&spec)), Ok(spec));
    }

    #[test]
    fn an_image_alone_is_a_spec_of_defaults() {
        let message = v1::JobSpec { image: "alpine".into(), ..v1::JobSpec::default() };
        assert_eq!(submitted_spec(message), Ok(JobSpec::for_image("alpine")));
    }

    #[test]
    fn zero_means_zero_where_a_field_can_be_absent() {
        let resources = v1::Resources { shm_bytes: Some(0), ..v1::Resources::default() };
        let message =
            v1::JobSpec { image: "alpine".into(), resources: Some(resources), ..v1::JobSpec::default() };
        assert_eq!(submitted_spec(message).expect("valid").resources.shm_bytes, 0);
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let message = v1::JobSpec {
            pull: 77,
            deadlines: Some(v1::Deadlines {
                run: Some(prost_types::Duration { seconds: -3, nanos: 0 }),
                ..v1::Deadlines::default()
            }),
            inputs: [("x".to_owned(), v1::Input::default())].into(),
            ..v1::JobSpec::default()
        };
        let errors = submitted_spec(message).expect_err("wrong in four places");
        let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["pull", "deadlines.run", "inputs.x", "image"]);
    }
}
