//! Which fields of a job a run of an action may say, and which only if the action's author marked them. One table:
//! what is not in it belongs to the action.

use crate::{
    fields::FieldError,
    job::{JobSpec, Kleinkram},
    nearest,
};
use std::collections::BTreeSet;

/// Whose word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// The job's own: it changes nothing of what the action does.
    Run,
    /// The action's, unless it is marked.
    Marked,
}

struct Field {
    path: &'static str,
    right: Right,
    /// Takes the run's word.
    take: fn(&JobSpec, &mut JobSpec),
}

const fn run(path: &'static str, take: fn(&JobSpec, &mut JobSpec)) -> Field {
    Field { path, right: Right::Run, take }
}

const fn marked(path: &'static str, take: fn(&JobSpec, &mut JobSpec)) -> Field {
    Field { path, right: Right::Marked, take }
}

const FIELDS: &[Field] = &[
    run("name", |said, spec| spec.name.clone_from(&said.name)),
    run("labels", |said, spec| spec.labels.extend(said.labels.clone())),
    run("after", |said, spec| spec.after.clone_from(&said.after)),
    run("not_before", |said, spec| spec.not_before = said.not_before),
    // What it works on, as its inputs are; and where Kleinkram is, which projects differ in.
    run("kleinkram.project_uuid", |said, spec| {
        kleinkram(said, spec, |said, own| own.project_uuid.clone_from(&said.project_uuid));
    }),
    run("kleinkram.mission_uuid", |said, spec| {
        kleinkram(said, spec, |said, own| own.mission_uuid.clone_from(&said.mission_uuid));
    }),
    run("kleinkram.api_endpoint", |said, spec| {
        kleinkram(said, spec, |said, own| own.api_endpoint.clone_from(&said.api_endpoint));
    }),
    run("kleinkram.s3_endpoint", |said, spec| {
        kleinkram(said, spec, |said, own| own.s3_endpoint.clone_from(&said.s3_endpoint));
    }),
    run("kleinkram.key", |said, spec| kleinkram(said, spec, |said, own| own.key.clone_from(&said.key))),
    marked("resources.cpu", |said, spec| spec.resources.cpu_millis = said.resources.cpu_millis),
    marked("resources.memory", |said, spec| spec.resources.memory_bytes = said.resources.memory_bytes),
    marked("resources.shm", |said, spec| spec.resources.shm_bytes = said.resources.shm_bytes),
    marked("resources.scratch", |said, spec| spec.resources.scratch_bytes = said.resources.scratch_bytes),
    marked("resources.pids", |said, spec| spec.resources.pids = said.resources.pids),
    marked("resources.gpu", |said, spec| spec.resources.gpu.clone_from(&said.resources.gpu)),
    marked("resources.exclusive", |said, spec| spec.resources.exclusive = said.resources.exclusive),
    marked("deadlines.queue", |said, spec| spec.deadlines.queue = said.deadlines.queue),
    marked("deadlines.prepare", |said, spec| spec.deadlines.prepare = said.deadlines.prepare),
    marked("deadlines.run", |said, spec| spec.deadlines.run = said.deadlines.run),
    marked("deadlines.upload", |said, spec| spec.deadlines.upload = said.deadlines.upload),
    marked("deadlines.stop_grace", |said, spec| spec.deadlines.stop_grace = said.deadlines.stop_grace),
    marked("command", |said, spec| spec.command.clone_from(&said.command)),
    marked("retry", |said, spec| spec.retry.clone_from(&said.retry)),
    marked("priority", |said, spec| spec.priority = said.priority),
    marked("pool", |said, spec| spec.pool.clone_from(&said.pool)),
    marked("agents", |said, spec| {
        spec.agents.clone_from(&said.agents);
        spec.agent_rules.clone_from(&said.agent_rules);
    }),
    marked("outputs", |said, spec| spec.outputs.clone_from(&said.outputs)),
    marked("disconnect_tolerance", |said, spec| spec.disconnect_tolerance = said.disconnect_tolerance),
    marked("pull", |said, spec| spec.pull = said.pull),
    marked("pin", |said, spec| spec.pin = said.pin),
];

/// An action of another contract has nothing to take it: the job is refused for that.
fn kleinkram(said: &JobSpec, spec: &mut JobSpec, take: fn(&Kleinkram, &mut Kleinkram)) {
    if let Some(said) = &said.kleinkram {
        take(said, spec.kleinkram.get_or_insert_default());
    }
}

/// What an author can mark. `resources` and `deadlines` mean all of theirs.
pub const ADJUSTABLE: &[&str] = &[
    "resources",
    "resources.cpu",
    "resources.memory",
    "resources.shm",
    "resources.scratch",
    "resources.pids",
    "resources.gpu",
    "resources.exclusive",
    "deadlines",
    "deadlines.queue",
    "deadlines.prepare",
    "deadlines.run",
    "deadlines.upload",
    "deadlines.stop_grace",
    "command",
    "retry",
    "priority",
    "pool",
    "agents",
    "outputs",
    "disconnect_tolerance",
    "pull",
    "pin",
];

/// Whether an author can mark this field.
pub(super) fn check(field: &str) -> Result<(), FieldError> {
    if ADJUSTABLE.contains(&field) {
        return Ok(());
    }
    let begun = ADJUSTABLE.iter().copied().find(|known| field.len() > 3 && known.starts_with(field));
    let hint = match begun.or_else(|| nearest(field, ADJUSTABLE.iter().copied())) {
        Some(near) => format!("did you mean `{near}`?"),
        None if field.starts_with("env.") || field.starts_with("inputs.") => {
            "mark it where it is declared".to_owned()
        }
        None => format!("there are {}", ADJUSTABLE.join(", ")),
    };
    Err(FieldError::new("adjustable", format!("`{field}` is no field that a run can say; {hint}")))
}

/// Takes the run's word on one field of the job.
pub(super) fn take(
    path: &str,
    adjustable: &BTreeSet<String>,
    said: &JobSpec,
    spec: &mut JobSpec,
) -> Result<(), FieldError> {
    let Some(field) = FIELDS.iter().find(|field| field.path == path) else {
        let problem = match path {
            "env" | "secrets" => "belongs to the action; its parameters are set with `set`",
            _ => "belongs to the action, and no run can say it otherwise",
        };
        return Err(FieldError::new(path, problem));
    };
    let whole = path.split('.').next().unwrap_or(path);
    if field.right == Right::Marked && !adjustable.contains(path) && !adjustable.contains(whole) {
        let problem = "is fixed by the action: its author has not marked it as adjustable";
        return Err(FieldError::new(path, problem));
    }
    (field.take)(said, spec);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_marked_is_what_the_table_takes_from_a_run() {
        let marked: BTreeSet<_> =
            FIELDS.iter().filter(|field| field.right == Right::Marked).map(|field| field.path).collect();
        let whole = ["resources", "deadlines"];
        let known: BTreeSet<_> = ADJUSTABLE.iter().copied().filter(|field| !whole.contains(field)).collect();
        assert_eq!(marked, known);
        for field in ADJUSTABLE {
            assert_eq!(check(field), Ok(()));
        }
        let error = check("resources.mem").expect_err("no field");
        assert!(error.message.contains("`resources.memory`?"), "{error}");
    }

    #[test]
    fn a_marked_field_is_taken_and_another_is_not() {
        let mut said = JobSpec::for_image("");
        said.resources.memory_bytes = 5;
        said.deadlines.prepare = std::time::Duration::from_secs(5);
        let marked =
            |fields: &[&str]| fields.iter().map(|field| (*field).to_owned()).collect::<BTreeSet<_>>();
        for (adjustable, path, is_taken) in [
            (marked(&[]), "resources.memory", false),
            (marked(&["resources.cpu"]), "resources.memory", false),
            (marked(&["resources.memory"]), "resources.memory", true),
            (marked(&["resources"]), "resources.memory", true),
            (marked(&["deadlines"]), "deadlines.prepare", true),
            (marked(&["resources"]), "deadlines.prepare", false),
            (marked(&[]), "name", true),
            (marked(&["resources"]), "image", false),
        ] {
            let mut spec = JobSpec::for_image("alpine");
            let before = spec.clone();
            let taken = take(path, &adjustable, &said, &mut spec);
            assert_eq!(taken.is_ok(), is_taken, "{path} with {adjustable:?}: {taken:?}");
            assert_eq!(spec != before, is_taken && path != "name", "{path}");
        }
    }
}
