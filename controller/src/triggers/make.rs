//! The job of a firing: what the trigger's author wrote, with what they let the event say.

use super::sources::check_key;
use crate::store::{FiringRow, TriggerRow};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use longshore_common::{
    action::Invocation,
    job::{Input, JobSpec},
    trigger::{self, Objects, Origin, Run, TriggerSpec, When},
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What its trigger's author wrote, as far as it needs no version of an action.
pub(super) enum Made {
    Job(Box<JobSpec>),
    /// A run, and what it says of the job.
    Run(Invocation, Box<JobSpec>),
}

/// The same firing makes the same.
pub(super) fn made(row: &TriggerRow, payload: &Value) -> Result<Made, String> {
    let values = trigger::apply(&row.spec.set, payload).map_err(|error| error.to_string())?;
    let inputs = inputs(row, payload)?;
    Ok(match &row.spec.run {
        Run::Job(job) => {
            let mut spec = (**job).clone();
            for (name, value) in values {
                // Only what the author wrote down is there to be set.
                spec.env.entry(name).and_modify(|known| *known = value);
            }
            spec.inputs.extend(inputs);
            spec.name.get_or_insert_with(|| row.spec.name.clone());
            Made::Job(Box::new(spec))
        }
        Run::Action(action) => {
            let mut job = JobSpec::for_image("image");
            job.inputs = inputs;
            job.labels.clone_from(&row.spec.labels);
            job.kleinkram.clone_from(&row.spec.kleinkram);
            let invocation = Invocation { action: action.clone(), set: values, said: said(&row.spec) };
            Made::Run(invocation, Box::new(job))
        }
    })
}

/// The fields that its runs say.
fn said(spec: &TriggerSpec) -> BTreeSet<String> {
    let kleinkram = spec.kleinkram.clone().unwrap_or_default();
    let fields = [
        ("labels", !spec.labels.is_empty()),
        ("kleinkram.project_uuid", kleinkram.project_uuid.is_some()),
        ("kleinkram.mission_uuid", kleinkram.mission_uuid.is_some()),
        ("kleinkram.api_endpoint", kleinkram.api_endpoint.is_some()),
        ("kleinkram.s3_endpoint", kleinkram.s3_endpoint.is_some()),
        ("kleinkram.key", kleinkram.key.is_some()),
    ];
    fields.into_iter().filter(|(_, is_said)| *is_said).map(|(field, _)| field.to_owned()).collect()
}

/// What started the job.
pub(super) fn origin(row: &TriggerRow, firing: &FiringRow) -> Origin {
    Origin {
        trigger: row.id.to_string(),
        name: row.spec.name.clone(),
        kind: firing.kind,
        firing: firing.id.to_string(),
        depth: firing.depth,
    }
}

/// What happened, as an input.
fn inputs(row: &TriggerRow, payload: &Value) -> Result<BTreeMap<String, Input>, String> {
    let text = |key: &str| payload.get(key).and_then(Value::as_str);
    let mut inputs = BTreeMap::new();
    match &row.spec.when {
        When::Objects(objects) => {
            if let Some(name) = &objects.input {
                let key =
                    text("key").ok_or("the payload names no `key`, of which the job gets the object")?;
                if !Matcher::new(objects)?.takes(key) {
                    return Err(format!("`{key}` is no object that this trigger looks at"));
                }
                check_key(key)?;
                let url = format!("{}{}/{key}", Input::OBJECT, objects.source);
                inputs.insert(name.clone(), Input::Url { url });
            }
        }
        When::Completion(completion) => {
            if let Some(name) = &completion.input {
                let job =
                    text("job").ok_or("the payload names no `job`, of which the job gets the outputs")?;
                inputs.insert(name.clone(), Input::Job { job: job.to_owned(), path: String::new() });
            }
        }
        When::Cron(_) | When::Webhook(_) => {}
    }
    Ok(inputs)
}

/// What the container reads.
pub(super) fn file(project: &str, name: &str, firing: &FiringRow, payload: &Value) -> String {
    json!({
        "trigger": name,
        "project": project,
        "kind": firing.kind.as_str(),
        "cause": firing.cause,
        "firing": firing.id.to_string(),
        "at": firing.at.to_rfc3339(),
        "depth": firing.depth,
        "payload": payload,
    })
    .to_string()
}

/// Which objects of a source a trigger looks at.
pub(super) struct Matcher<'a> {
    prefix: &'a str,
    /// `None`: all.
    globs: Option<GlobSet>,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(objects: &'a Objects) -> Result<Self, String> {
        let mut globs = GlobSetBuilder::new();
        for text in &objects.matching {
            // `*` ends at a folder's border, as in a shell.
            let glob = GlobBuilder::new(text).literal_separator(true).build();
            globs.add(glob.map_err(|error| error.to_string())?);
        }
        let globs = if objects.matching.is_empty() {
            None
        } else {
            Some(globs.build().map_err(|error| error.to_string())?)
        };
        Ok(Self { prefix: &objects.prefix, globs })
    }

    pub(super) fn takes(&self, key: &str) -> bool {
        // What ends in a slash stands for a folder.
        let Some(rest) = key.strip_prefix(self.prefix).filter(|_| !key.ends_with('/')) else { return false };
        self.globs.as_ref().is_none_or(|globs| globs.is_match(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::trigger::PER_HOUR;

    #[test]
    fn globs_are_over_what_follows_the_prefix() {
        let objects = |globs: &[&str]| Objects {
            source: "lab".into(),
            prefix: "in/".into(),
            matching: globs.iter().map(|glob| (*glob).to_owned()).collect(),
            changed: false,
            existing: false,
            input: None,
            per_hour: PER_HOUR,
        };
        for (globs, key, takes) in [
            (&[][..], "in/a/b.bag", true),
            (&[], "other/a", false),
            (&[], "in/folder/", false),
            (&["*.bag"], "in/a.bag", true),
            (&["*.bag"], "in/a/b.bag", false),
            (&["**/*.bag", "x"], "in/a/b.bag", true),
            (&["*.bag"], "in/a.txt", false),
        ] {
            assert_eq!(Matcher::new(&objects(globs)).expect("globs").takes(key), takes, "{globs:?} {key}");
        }
    }
}
