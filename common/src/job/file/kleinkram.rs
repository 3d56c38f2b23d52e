//! The words of contract `kleinkram` in a job file.

use super::words::SecretName;
use crate::job::Kleinkram;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KleinkramDocument {
    /// The project of the mission, in Kleinkram.
    project_uuid: Option<String>,
    /// The mission that the action runs on.
    mission_uuid: Option<String>,
    /// Where Kleinkram's API is.
    api_endpoint: Option<String>,
    /// Where Kleinkram's object store is.
    s3_endpoint: Option<String>,
    /// `{secret: NAME}`: the secret that is the run key. Default: one is minted for each attempt.
    key: Option<SecretName>,
    /// Whether what it writes beside `/out` and `/tmp_disk` counts against its memory limit. Default: true.
    files_in_memory: Option<bool>,
}

impl KleinkramDocument {
    pub(crate) fn said(self) -> Kleinkram {
        let Self { project_uuid, mission_uuid, api_endpoint, s3_endpoint, key, files_in_memory } = self;
        Kleinkram {
            project_uuid,
            mission_uuid,
            api_endpoint,
            s3_endpoint,
            key: key.map(|key| key.0),
            files_in_memory: files_in_memory.unwrap_or(Kleinkram::default().files_in_memory),
        }
    }
}

pub(super) fn write(said: &Kleinkram) -> Value {
    let default = Kleinkram::default().files_in_memory;
    let fields = [
        ("project_uuid", json!(said.project_uuid)),
        ("mission_uuid", json!(said.mission_uuid)),
        ("api_endpoint", json!(said.api_endpoint)),
        ("s3_endpoint", json!(said.s3_endpoint)),
        ("key", said.key.as_ref().map_or(Value::Null, |name| json!({ "secret": name }))),
        (
            "files_in_memory",
            if said.files_in_memory == default { Value::Null } else { json!(said.files_in_memory) },
        ),
    ];
    let said = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(said.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}
