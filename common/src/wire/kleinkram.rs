//! The words of contract `kleinkram`.

use super::text;
use crate::job::Kleinkram;
use longshore_proto::v1;

impl From<v1::Kleinkram> for Kleinkram {
    fn from(message: v1::Kleinkram) -> Self {
        let v1::Kleinkram {
            project_uuid,
            mission_uuid,
            api_endpoint,
            s3_endpoint,
            key_secret,
            files_in_memory,
        } = message;
        Self {
            project_uuid: text(project_uuid),
            mission_uuid: text(mission_uuid),
            api_endpoint: text(api_endpoint),
            s3_endpoint: text(s3_endpoint),
            key: text(key_secret),
            files_in_memory: files_in_memory.unwrap_or(Self::default().files_in_memory),
        }
    }
}

impl From<&Kleinkram> for v1::Kleinkram {
    fn from(said: &Kleinkram) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            project_uuid: text(&said.project_uuid),
            mission_uuid: text(&said.mission_uuid),
            api_endpoint: text(&said.api_endpoint),
            s3_endpoint: text(&said.s3_endpoint),
            key_secret: text(&said.key),
            files_in_memory: Some(said.files_in_memory),
        }
    }
}
