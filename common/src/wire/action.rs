//! Actions, and runs of them. A run's spec is told apart into what it says and what it leaves to the action.

use super::{WireError, text};
use crate::action::{Action, ActionInput, ActionRef, Change, Invocation, Kind, Parameter, validate};
use crate::fields::FieldErrors;
use crate::job::{JobSpec, check_name};
use longshore_proto::v1;
use std::collections::BTreeSet;

/// An action as a client sent it: read and validated, with every mistake of both.
pub fn submitted_action(message: v1::ActionSpec) -> Result<Action, FieldErrors> {
    let v1::ActionSpec { name, description, job, parameters, inputs, adjustable } = message;
    let mut errors = FieldErrors::new();
    let mut action = Action::new(name, "");
    action.description = description;
    let job = job.unwrap_or_default();
    if !job.name.is_empty() {
        errors.push("job.name", "is said by a run, not by an action");
    }
    if !job.after.is_empty() {
        errors.push("job.after", "is said by a run, not by an action");
    }
    if job.not_before.is_some() {
        errors.push("job.not_before", "is said by a run, not by an action");
    }
    if !job.inputs.is_empty() {
        errors.push("job.inputs", "are declared in `inputs` of the action");
    }
    match JobSpec::try_from(v1::JobSpec { name: String::new(), inputs: Default::default(), ..job }) {
        Ok(job) => action.job = job,
        Err(more) => errors.merge(more),
    }
    for (name, message) in parameters {
        if let Some(parameter) = errors.take(parameter(&format!("env.{name}"), message)) {
            action.parameters.insert(name, parameter);
        }
    }
    for (name, message) in inputs {
        let v1::ActionInput { description, required, adjustable, source } = message;
        let source = source.map(|source| super::spec::read_input(&name, source)).transpose();
        let source = errors.take(source).flatten();
        let input = ActionInput { description, required, adjustable: adjustable.unwrap_or(true), source };
        action.inputs.insert(name, input);
    }
    action.adjustable = adjustable.into_iter().collect();
    if let Err(more) = validate(&action) {
        errors.merge(more);
    }
    errors.into_result(action)
}

fn parameter(path: &str, message: v1::ActionParameter) -> Result<Parameter, WireError> {
    let kind = match v1::ParameterType::try_from(message.r#type) {
        Ok(v1::ParameterType::Unspecified | v1::ParameterType::String) => Kind::String,
        Ok(v1::ParameterType::Int) => Kind::Int,
        Ok(v1::ParameterType::Number) => Kind::Number,
        Ok(v1::ParameterType::Bool) => Kind::Bool,
        Ok(v1::ParameterType::Choice) => Kind::Choice,
        Err(_) => {
            let problem = format!("{} is no type of parameter", message.r#type);
            return Err(WireError::new(format!("{path}.type"), problem));
        }
    };
    let v1::ActionParameter {
        r#type: _,
        description,
        required,
        adjustable,
        default_value: default,
        choices,
        min,
        max,
        pattern,
    } = message;
    let adjustable = adjustable.unwrap_or(true);
    let pattern = text(pattern);
    Ok(Parameter { kind, description, required, adjustable, default, choices, min, max, pattern })
}

impl From<&Action> for v1::ActionSpec {
    fn from(action: &Action) -> Self {
        let Action { name, description, job, parameters, inputs, adjustable } = action;
        Self {
            name: name.clone(),
            description: description.clone(),
            job: Some(job.into()),
            parameters: parameters.iter().map(|(name, one)| (name.clone(), one.into())).collect(),
            inputs: inputs.iter().map(|(name, one)| (name.clone(), one.into())).collect(),
            adjustable: adjustable.iter().cloned().collect(),
        }
    }
}

impl From<&Parameter> for v1::ActionParameter {
    fn from(parameter: &Parameter) -> Self {
        let kind = match parameter.kind {
            Kind::String => v1::ParameterType::String,
            Kind::Int => v1::ParameterType::Int,
            Kind::Number => v1::ParameterType::Number,
            Kind::Bool => v1::ParameterType::Bool,
            Kind::Choice => v1::ParameterType::Choice,
        };
        Self {
            r#type: kind as i32,
            description: parameter.description.clone(),
            required: parameter.required,
            adjustable: Some(parameter.adjustable),
            default_value: parameter.default.clone(),
            choices: parameter.choices.clone(),
            min: parameter.min.clone(),
            max: parameter.max.clone(),
            pattern: parameter.pattern.clone().unwrap_or_default(),
        }
    }
}

impl From<&ActionInput> for v1::ActionInput {
    fn from(input: &ActionInput) -> Self {
        Self {
            description: input.description.clone(),
            required: input.required,
            adjustable: Some(input.adjustable),
            source: input.source.as_ref().map(v1::Input::from),
        }
    }
}

impl From<Change> for v1::ActionChange {
    fn from(Change { path, old, new }: Change) -> Self {
        Self { path, old, new }
    }
}

/// What a run of an action says of it and of its job.
pub fn submitted_run(run: v1::ActionRun, spec: v1::JobSpec) -> Result<(Invocation, JobSpec), FieldErrors> {
    let mut errors = FieldErrors::new();
    let v1::ActionRun { name, version, set } = run;
    errors.take(check_name("action.name", &name));
    let said = said(&spec);
    let job = JobSpec::try_from(spec).map_err(|more| errors.merge(more)).ok();
    let action = ActionRef { name, version: (version > 0).then_some(version) };
    let invocation = Invocation { action, set: set.into_iter().collect(), said };
    let job = errors.into_result(job)?;
    Ok((invocation, job.expect("its errors were noted")))
}

impl From<&Invocation> for v1::ActionRun {
    fn from(invocation: &Invocation) -> Self {
        let Invocation { action, set, said: _ } = invocation;
        Self {
            name: action.name.clone(),
            version: action.version.unwrap_or_default(),
            set: set.clone().into_iter().collect(),
        }
    }
}

/// The message of a run's spec: what it says, and nothing that is only a default.
pub fn said_of(spec: &JobSpec, said: &BTreeSet<String>) -> v1::JobSpec {
    let mut message = v1::JobSpec::from(spec);
    let is = |path: &str| said.contains(path);
    if let Some(resources) = &mut message.resources {
        keep(&mut resources.cpu_millis, is("resources.cpu"));
        keep(&mut resources.memory_bytes, is("resources.memory"));
        keep(&mut resources.shm_bytes, is("resources.shm"));
        keep(&mut resources.scratch_bytes, is("resources.scratch"));
        keep(&mut resources.pids, is("resources.pids"));
        keep(&mut resources.gpu, is("resources.gpu"));
        keep(&mut resources.exclusive, is("resources.exclusive"));
    }
    if let Some(deadlines) = &mut message.deadlines {
        keep(&mut deadlines.queue, is("deadlines.queue"));
        keep(&mut deadlines.prepare, is("deadlines.prepare"));
        keep(&mut deadlines.run, is("deadlines.run"));
        keep(&mut deadlines.upload, is("deadlines.upload"));
        keep(&mut deadlines.stop_grace, is("deadlines.stop_grace"));
    }
    if let Some(kleinkram) = &mut message.kleinkram {
        keep(&mut kleinkram.project_uuid, is("kleinkram.project_uuid"));
        keep(&mut kleinkram.mission_uuid, is("kleinkram.mission_uuid"));
        keep(&mut kleinkram.api_endpoint, is("kleinkram.api_endpoint"));
        keep(&mut kleinkram.s3_endpoint, is("kleinkram.s3_endpoint"));
        keep(&mut kleinkram.key_secret, is("kleinkram.key"));
        keep(&mut kleinkram.files_in_memory, is("kleinkram.files_in_memory"));
    }
    keep(&mut message.access, is("access"));
    keep(&mut message.contract, is("contract"));
    keep(&mut message.pull, is("pull"));
    keep(&mut message.network, is("network"));
    keep(&mut message.security, is("security"));
    keep(&mut message.retry, is("retry"));
    keep(&mut message.outputs, is("outputs"));
    keep(&mut message.pool, is("pool"));
    message
}

fn keep<T: Default>(field: &mut T, said: bool) {
    if !said {
        *field = T::default();
    }
}

/// The paths of the fields that a run's spec says. One that is not known here is still told: nothing that a client
/// sends is passed over in silence.
fn said(message: &v1::JobSpec) -> BTreeSet<String> {
    let mut rest = message.clone();
    let mut said = BTreeSet::new();
    rest.inputs.clear();
    if let Some(resources) = rest.resources.take() {
        let v1::Resources { cpu_millis, memory_bytes, shm_bytes, scratch_bytes, pids, gpu, exclusive } =
            resources;
        let parts = [
            ("cpu", cpu_millis.is_some()),
            ("memory", memory_bytes.is_some()),
            ("shm", shm_bytes.is_some()),
            ("scratch", scratch_bytes.is_some()),
            ("pids", pids.is_some()),
            ("gpu", gpu.is_some()),
            ("exclusive", exclusive.is_some()),
        ];
        said.extend(parts.into_iter().filter(|(_, is)| *is).map(|(part, _)| format!("resources.{part}")));
    }
    if let Some(deadlines) = rest.deadlines.take() {
        let v1::Deadlines { queue, prepare, run, upload, stop_grace } = deadlines;
        let parts = [
            ("queue", queue.is_some()),
            ("prepare", prepare.is_some()),
            ("run", run.is_some()),
            ("upload", upload.is_some()),
            ("stop_grace", stop_grace.is_some()),
        ];
        said.extend(parts.into_iter().filter(|(_, is)| *is).map(|(part, _)| format!("deadlines.{part}")));
    }
    if let Some(kleinkram) = rest.kleinkram.take() {
        let v1::Kleinkram {
            project_uuid,
            mission_uuid,
            api_endpoint,
            s3_endpoint,
            key_secret,
            files_in_memory,
        } = kleinkram;
        let parts = [
            ("project_uuid", !project_uuid.is_empty()),
            ("mission_uuid", !mission_uuid.is_empty()),
            ("api_endpoint", !api_endpoint.is_empty()),
            ("s3_endpoint", !s3_endpoint.is_empty()),
            ("key", !key_secret.is_empty()),
            ("files_in_memory", files_in_memory.is_some()),
        ];
        said.extend(parts.into_iter().filter(|(_, is)| *is).map(|(part, _)| format!("kleinkram.{part}")));
    }
    let mut whole = |path: &str, is: bool| {
        if is {
            said.insert(path.to_owned());
        }
    };
    whole("name", take(&mut rest.name));
    whole("image", take(&mut rest.image));
    whole("caches", take(&mut rest.caches));
    whole("pull", take(&mut rest.pull));
    whole("contract", take(&mut rest.contract));
    whole("access", take(&mut rest.access));
    whole("entrypoint", take(&mut rest.entrypoint));
    whole("command", take(&mut rest.command));
    whole("workdir", take(&mut rest.workdir));
    whole("user", take(&mut rest.user));
    whole("env", take(&mut rest.env) | take(&mut rest.secret_env));
    whole("secrets", take(&mut rest.secret_files));
    whole("network", take(&mut rest.network));
    whole("security", take(&mut rest.security));
    whole("retry", take(&mut rest.retry));
    whole("priority", take(&mut rest.priority));
    whole("labels", take(&mut rest.labels));
    whole("agents", take(&mut rest.agents) | take(&mut rest.agent_rules));
    whole("outputs", take(&mut rest.outputs));
    whole("pool", take(&mut rest.pool));
    whole("disconnect_tolerance", take(&mut rest.disconnect_tolerance));
    whole("pin", take(&mut rest.pin));
    whole("after", take(&mut rest.after));
    whole("not_before", take(&mut rest.not_before));
    whole("spec", rest != v1::JobSpec::default());
    said
}

/// Whether it said something; it does not any more.
fn take<T: Default + PartialEq>(field: &mut T) -> bool {
    std::mem::take(field) != T::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::resolve;
    use crate::job::Input;
    use std::collections::BTreeMap;

    fn full() -> Action {
        let mut action = Action::new("convert", "alpine:3");
        action.description = "Converts.".into();
        action.job.env.insert("A".into(), "1".into());
        let text = |text: &str| Some(text.to_owned());
        let one = Parameter {
            kind: Kind::Number,
            description: "how much".into(),
            adjustable: false,
            default: text("0.5"),
            choices: vec!["0.5".into(), "1".into()],
            min: text("0"),
            max: text("1"),
            ..Parameter::default()
        };
        let other = Parameter { required: true, pattern: text("[a-z]+"), ..Parameter::default() };
        action.parameters = [("X".to_owned(), one), ("Y".to_owned(), other)].into();
        let url = Some(Input::Url { url: "https://x.example/y".into() });
        let fixed = ActionInput { adjustable: false, source: url, ..ActionInput::default() };
        let needed = ActionInput { required: true, description: "scans".into(), ..ActionInput::default() };
        action.inputs = [("w".to_owned(), fixed), ("s".to_owned(), needed)].into();
        action.adjustable = ["resources".to_owned(), "priority".to_owned()].into();
        action
    }

    #[test]
    fn a_full_action_reads_back() {
        let action = full();
        assert_eq!(submitted_action((&action).into()), Ok(action));
    }

    #[test]
    fn all_mistakes_of_an_action_are_told_at_once() {
        let odd = v1::ActionParameter { r#type: 77, ..v1::ActionParameter::default() };
        let message = v1::ActionSpec {
            name: "No Name".into(),
            job: Some(v1::JobSpec { name: "x".into(), priority: 5_000, ..v1::JobSpec::default() }),
            parameters: [("X".to_owned(), odd)].into(),
            adjustable: vec!["image".into()],
            ..v1::ActionSpec::default()
        };
        let errors = submitted_action(message).expect_err("wrong");
        let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["job.name", "env.X.type", "name", "adjustable", "image", "priority"]);
    }

    #[test]
    fn what_a_run_says_comes_over_and_its_defaults_do_not() {
        let mut job = JobSpec::for_image("");
        job.resources.memory_bytes = 8 << 30;
        job.priority = 4;
        job.labels.insert("a".into(), "b".into());
        job.inputs.insert("s".into(), Input::Job { job: "abcdefgh".into(), path: String::new() });
        let said = ["labels", "priority", "resources.memory"].map(str::to_owned);
        let invocation = Invocation {
            action: "convert@2".parse().expect("a name"),
            set: BTreeMap::from([("Y".to_owned(), "y".to_owned())]),
            said: said.into(),
        };
        let message = said_of(&job, &invocation.said);
        let (read, spec) = submitted_run((&invocation).into(), message).expect("read");
        assert_eq!(read, invocation);
        let spec = resolve(&full(), 2, &read, &spec).expect("a job");
        assert_eq!((spec.resources.memory_bytes, spec.priority), (8 << 30, 4));
    }

    #[test]
    fn no_field_that_a_client_sends_is_passed_over() {
        let spec = v1::JobSpec::from(&JobSpec::for_image("alpine"));
        let (read, _) =
            submitted_run(v1::ActionRun { name: "a".into(), ..Default::default() }, spec).expect("read");
        for path in ["image", "contract", "resources.cpu", "deadlines.run", "retry", "outputs", "pool"] {
            assert!(read.said.contains(path), "{path} in {:?}", read.said);
        }
        assert!(!read.said.contains("spec"), "every field has a path of its own: {:?}", read.said);
    }
}
