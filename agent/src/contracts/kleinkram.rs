//! Contract `kleinkram`: an image made for that platform finds its variables under both the names that it ever gave
//! them. Folders, walls and the rule of files as memory are the job's, settled when it was taken.

use crate::secrets::{Secrets, Value};
use longshore_common::{
    agent::Grant,
    job::{JobSpec, Kleinkram, kleinkram::VARIABLES},
};
use std::collections::BTreeMap;

const KEY: &str = "KLEINKRAM_API_KEY";

/// All but the key.
pub fn env(grant: &Grant) -> BTreeMap<String, String> {
    let nothing = Kleinkram::default();
    let said = grant.spec.kleinkram.as_ref().unwrap_or(&nothing);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let named = [
        ("KLEINKRAM_PROJECT_UUID", text(&said.project_uuid)),
        ("KLEINKRAM_MISSION_UUID", text(&said.mission_uuid)),
        ("KLEINKRAM_ACTION_UUID", grant.attempt.job.to_string()),
        ("KLEINKRAM_API_ENDPOINT", text(&said.api_endpoint)),
        ("KLEINKRAM_S3_ENDPOINT", text(&said.s3_endpoint)),
    ];
    with_former(named)
}

/// The key, made for this attempt or given as a secret.
pub fn secret_env(spec: &JobSpec, secrets: &Secrets) -> Result<BTreeMap<String, Value>, String> {
    let name = spec.kleinkram.as_ref().and_then(|said| said.key.as_deref());
    let key = match name {
        Some(name) => secrets.text(name)?,
        None => secrets.run_key.as_ref().ok_or("the controller gave no run key")?,
    };
    if std::str::from_utf8(key.bytes()).is_err() || key.bytes().contains(&0) {
        return Err("the run key is not text: no variable can hold it".to_owned());
    }
    Ok(with_former([(KEY, key.clone())]))
}

fn with_former<T: Clone, const N: usize>(named: [(&str, T); N]) -> BTreeMap<String, T> {
    let mut env = BTreeMap::new();
    for (name, value) in named {
        let known = VARIABLES.iter().find(|known| known.name == name);
        if let Some(former) = known.and_then(|known| known.former) {
            env.insert(former.to_owned(), value.clone());
        }
        env.insert(name.to_owned(), value);
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::{
        ids::{AttemptRef, Epoch, JobId, ShortId},
        job::KLEINKRAM,
        queue::Lane,
    };
    use std::time::Duration;

    fn grant() -> Grant {
        let mut spec = JobSpec::for_image("rslethz/a:1");
        spec.contract = KLEINKRAM.into();
        spec.settle(false);
        let text = |text: &str| Some(text.to_owned());
        spec.kleinkram = Some(Kleinkram {
            project_uuid: text("p"),
            mission_uuid: text("m"),
            api_endpoint: text("https://api"),
            s3_endpoint: text("https://s3"),
            ..Kleinkram::default()
        });
        Grant {
            attempt: AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) },
            short_id: ShortId::random(),
            project: "default".into(),
            spec,
            lease: Duration::from_secs(600),
            gpus: Vec::new(),
            lane: Lane::new("default", false),
            cancel_requested: false,
            sealed: true,
        }
    }

    #[test]
    fn six_variables_and_five_former_names_have_equal_values() {
        let grant = grant();
        let mut env = env(&grant);
        let secrets = Secrets { run_key: Some(Value::new("key")), ..Secrets::default() };
        let key = secret_env(&grant.spec, &secrets).expect("a key");
        assert!(!env.contains_key(KEY), "the key is nobody else's to read");
        env.extend(
            key.iter()
                .map(|(name, key)| (name.clone(), String::from_utf8(key.bytes().to_vec()).expect("text"))),
        );
        assert_eq!(env.len(), 11);
        assert_eq!(env["KLEINKRAM_ACTION_UUID"], grant.attempt.job.to_string());
        assert_eq!(env["KLEINKRAM_S3_ENDPOINT"], "https://s3");
        for known in VARIABLES {
            assert_eq!(env[known.name], env[known.former.unwrap_or(known.name)], "{known:?}");
        }
    }

    #[test]
    fn a_secret_can_be_the_key_and_one_that_is_missing_is_told() {
        let mut grant = grant();
        assert!(secret_env(&grant.spec, &Secrets::default()).is_err());
        grant.spec.kleinkram.as_mut().expect("said").key = Some("k".into());
        let told = secret_env(&grant.spec, &Secrets::default()).expect_err("there is none");
        assert!(told.contains("`k`"), "{told}");
        let secrets = Secrets { values: [("k".to_owned(), Value::new("v"))].into(), ..Secrets::default() };
        assert_eq!(secret_env(&grant.spec, &secrets).expect("a key")["APIKEY"].bytes(), b"v");
    }
}
