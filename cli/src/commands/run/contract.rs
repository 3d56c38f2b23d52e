//! The flags of `run` that say how an image is driven, and what a contract wants to know.

use super::words;
use clap::Args;
use longshore_common::fields::FieldErrors;
use longshore_common::job::{Access, JobSpec, Kleinkram, kleinkram::KLEINKRAM};

#[derive(Debug, Default, Args)]
pub(crate) struct ContractArgs {
    /// How the container is driven: plain, or kleinkram for images made for that platform
    #[arg(long, value_name = "NAME")]
    contract: Option<String>,
    /// A word of contract kleinkram (and that contract): project_uuid, mission_uuid, api_endpoint, s3_endpoint,
    /// key=SECRET or files_in_memory=false
    #[arg(long, value_name = "NAME=VALUE", value_parser = words::pair)]
    kleinkram: Vec<(String, String)>,
    /// What the run key of contract kleinkram may do: read, create, write or delete [default: read]
    #[arg(long, value_name = "RIGHT")]
    access: Option<Access>,
}

impl ContractArgs {
    pub(super) fn apply(&self, spec: &mut JobSpec, pids_said: bool, errors: &mut FieldErrors) {
        if let Some(contract) = &self.contract {
            spec.contract.clone_from(contract);
        } else if !self.kleinkram.is_empty() || self.access.is_some() {
            spec.contract = KLEINKRAM.to_owned();
        }
        for (name, value) in &self.kleinkram {
            let said = spec.kleinkram.get_or_insert_default();
            if let Err(problem) = set(said, name, value) {
                errors.push(format!("--kleinkram {name}"), problem);
            }
        }
        spec.access = self.access.unwrap_or_default();
        spec.settle(pids_said);
    }
}

fn set(said: &mut Kleinkram, name: &str, value: &str) -> Result<(), String> {
    let field = match name {
        "project_uuid" => &mut said.project_uuid,
        "mission_uuid" => &mut said.mission_uuid,
        "api_endpoint" => &mut said.api_endpoint,
        "s3_endpoint" => &mut said.s3_endpoint,
        "key" => &mut said.key,
        "files_in_memory" => {
            said.files_in_memory =
                value.parse().map_err(|_| format!("`{value}` is neither true nor false"))?;
            return Ok(());
        }
        _ => {
            const KNOWN: [&str; 6] =
                ["project_uuid", "mission_uuid", "api_endpoint", "s3_endpoint", "key", "files_in_memory"];
            let near = longshore_common::nearest(name, KNOWN);
            let hint = near.map_or(String::new(), |near| format!(" did you mean `{near}`?"));
            return Err(format!("is not one of {}.{hint}", KNOWN.join(", ")));
        }
    };
    *field = Some(value.to_owned());
    Ok(())
}
