//! The words of contract `kleinkram`. What of them may come from a project's settings is missing only when the
//! controller has looked there.

use super::{FieldError, FieldErrors, JobSpec, check_secret_name};
use crate::job::kleinkram::{KLEINKRAM, Kleinkram, VARIABLES};
use crate::job::spec::PLAIN;
use uuid::Uuid;

pub(super) fn check(spec: &JobSpec, errors: &mut FieldErrors) {
    if spec.contract != KLEINKRAM {
        foreign(spec, errors);
        return;
    }
    if let Some(said) = &spec.kleinkram {
        shapes("kleinkram", said, errors);
    }
    let former = VARIABLES.iter().filter_map(|one| Some((one.former?, one.field)));
    for (variable, field) in VARIABLES.iter().map(|one| (one.name, one.field)).chain(former) {
        if spec.env.contains_key(variable) || spec.secret_env.contains_key(variable) {
            let instead = match field {
                "" => "it is the job's own id".to_owned(),
                field => format!("set kleinkram.{field}"),
            };
            errors.push(format!("env.{variable}"), format!("is set by contract kleinkram: {instead}"));
        }
    }
}

fn foreign(spec: &JobSpec, errors: &mut FieldErrors) {
    if spec.contract != PLAIN {
        let near = crate::nearest(&spec.contract, [PLAIN, KLEINKRAM]);
        let hint = crate::did_you_mean(near);
        errors.push(
            "contract",
            format!("`{}` is not a contract: plain and kleinkram are{hint}", spec.contract),
        );
    }
    if spec.kleinkram.is_some() {
        errors.push("kleinkram", "goes with `contract: kleinkram`");
    }
    if !spec.access.is_default() {
        errors.push("access", "is the right of a run key, which goes with `contract: kleinkram`");
    }
}

/// What is said, field by field, below `path`; what is not said is not looked at.
pub fn shapes(path: &str, said: &Kleinkram, errors: &mut FieldErrors) {
    let Kleinkram { project_uuid, mission_uuid, api_endpoint, s3_endpoint, key, files_in_memory: _ } = said;
    for (field, value) in [("project_uuid", project_uuid), ("mission_uuid", mission_uuid)] {
        if let Some(text) = value {
            errors.take(uuid(&format!("{path}.{field}"), text));
        }
    }
    for (field, value) in [("api_endpoint", api_endpoint), ("s3_endpoint", s3_endpoint)] {
        if let Some(text) = value {
            errors.take(endpoint(&format!("{path}.{field}"), text));
        }
    }
    if let Some(name) = key {
        errors.take(check_secret_name(&format!("{path}.key.secret"), name));
    }
}

/// What a job about to be taken lacks, although `project`'s settings were looked at. `minted`: it names a minter.
pub fn complete(spec: &JobSpec, project: &str, minted: bool) -> Result<(), FieldErrors> {
    let mut errors = FieldErrors::new();
    if spec.contract != KLEINKRAM {
        return Ok(());
    }
    let nothing = Kleinkram::default();
    let said = spec.kleinkram.as_ref().unwrap_or(&nothing);
    let missing = [
        ("project_uuid", &said.project_uuid, "project-uuid UUID"),
        ("api_endpoint", &said.api_endpoint, "api-endpoint URL"),
        ("s3_endpoint", &said.s3_endpoint, "s3-endpoint URL"),
    ];
    if said.mission_uuid.is_none() {
        errors.push("kleinkram.mission_uuid", "is missing: name the mission that the action runs on");
    }
    for (field, _, flag) in missing.into_iter().filter(|(_, value, _)| value.is_none()) {
        let what = "is missing: say it in the job, or once for the project with";
        errors.push(
            format!("kleinkram.{field}"),
            format!("{what} `longshore projects set {project} --kleinkram-{flag}`"),
        );
    }
    if said.key.is_none() && !minted {
        let message = format!(
            "is missing: name a secret of the project, {{secret: NAME}}, or one of the controller's minters with \
             `longshore projects set {project} --kleinkram-minter NAME`"
        );
        errors.push("kleinkram.key", message);
    }
    errors.into_result(())
}

fn uuid(path: &str, text: &str) -> Result<(), FieldError> {
    if text.len() == 36 && Uuid::try_parse(text).is_ok() {
        return Ok(());
    }
    Err(FieldError::new(path, format!("`{text}` is not a UUID, like 0190a8c2-7b5e-7c3a-9f10-3d6f2a1b4c5d")))
}

fn endpoint(path: &str, text: &str) -> Result<(), FieldError> {
    let wrong = |problem: String| Err(FieldError::new(path, format!("`{text}` {problem}")));
    match url::Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
            wrong("does not begin with https:// or http://".to_owned())
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Err(FieldError::new(path, "holds a login, which everybody would read: leave it out"))
        }
        Ok(_) => Ok(()),
        Err(error) => wrong(format!("is not an address, like https://api.example.org: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Access, Security};

    const ID: &str = "0190a8c2-7b5e-7c3a-9f10-3d6f2a1b4c5d";

    fn action() -> JobSpec {
        let mut spec = JobSpec::for_image("rslethz/a:1");
        spec.contract = KLEINKRAM.into();
        spec.settle(false);
        spec
    }

    fn paths(spec: &JobSpec) -> Vec<String> {
        let mut errors = FieldErrors::new();
        check(spec, &mut errors);
        errors.into_result(()).err().into_iter().flatten().map(|error| error.path).collect()
    }

    #[test]
    fn the_contract_takes_away_every_capability_and_bounds_processes() {
        let spec = action();
        assert_eq!((spec.security, spec.resources.pids), (Security::Restricted, 256));
        assert!(spec.files_in_memory());
        let mut said = JobSpec::for_image("x");
        said.contract = KLEINKRAM.into();
        said.resources.pids = 4096;
        said.settle(true);
        assert_eq!(said.resources.pids, 4096);
        let mut plain = JobSpec::for_image("x");
        plain.settle(false);
        assert_eq!(plain, JobSpec::for_image("x"));
    }

    #[test]
    fn words_of_the_contract_have_their_shapes() {
        let with = |change: &dyn Fn(&mut Kleinkram)| {
            let mut spec = action();
            change(spec.kleinkram.as_mut().expect("settled"));
            paths(&spec)
        };
        assert_eq!(with(&|k| k.mission_uuid = Some(ID.into())), Vec::<String>::new());
        assert_eq!(with(&|k| k.mission_uuid = Some(ID.replace('-', ""))), ["kleinkram.mission_uuid"]);
        for bad in ["", "api.example.org", "ftp://x", "https://", "https://me:pw@x"] {
            assert_eq!(with(&|k| k.api_endpoint = Some(bad.into())), ["kleinkram.api_endpoint"], "{bad}");
        }
        for good in ["http://localhost:3000", "https://api.datasets.example"] {
            assert_eq!(with(&|k| k.s3_endpoint = Some(good.into())), Vec::<String>::new(), "{good}");
        }
        let all = with(&|k| {
            k.project_uuid = Some("x".into());
            k.mission_uuid = Some("y".into());
            k.s3_endpoint = Some("z".into());
            k.key = Some("../w".into());
        });
        let told = ["project_uuid", "mission_uuid", "s3_endpoint", "key.secret"];
        assert_eq!(all, told.map(|field| format!("kleinkram.{field}")));
    }

    #[test]
    fn a_login_in_an_address_is_not_repeated() {
        let mut spec = action();
        spec.kleinkram.as_mut().expect("settled").api_endpoint = Some("https://me:hunter2@x".into());
        let mut errors = FieldErrors::new();
        check(&spec, &mut errors);
        assert!(!errors.is_empty() && !errors.to_string().contains("hunter2"), "{errors}");
    }

    #[test]
    fn its_words_and_variables_are_nobody_elses() {
        let mut spec = JobSpec::for_image("x");
        spec.kleinkram = Some(Kleinkram::default());
        spec.access = Access::Write;
        assert_eq!(paths(&spec), ["kleinkram", "access"]);
        let mut spec = action();
        spec.access = Access::Delete;
        spec.env.insert("MISSION_UUID".into(), ID.into());
        spec.secret_env.insert("KLEINKRAM_API_KEY".into(), "k".into());
        assert_eq!(paths(&spec), ["env.KLEINKRAM_API_KEY", "env.MISSION_UUID"]);
        let mut spec = JobSpec::for_image("x");
        spec.contract = "kleinkramm".into();
        let mut errors = FieldErrors::new();
        check(&spec, &mut errors);
        assert!(errors.to_string().contains("did you mean `kleinkram`?"), "{errors}");
    }

    #[test]
    fn what_is_missing_says_where_to_set_it() {
        let errors = complete(&action(), "rsl", false).expect_err("nothing is said").to_string();
        for says in ["kleinkram.mission_uuid: is missing", "projects set rsl --kleinkram-api-endpoint URL"] {
            assert!(errors.contains(says), "{says} is not in {errors}");
        }
        assert_eq!(errors.matches("is missing").count(), 5, "{errors}");
        let mut spec = action();
        let text = || Some("x".to_owned());
        spec.kleinkram = Some(Kleinkram {
            project_uuid: text(),
            mission_uuid: text(),
            api_endpoint: text(),
            s3_endpoint: text(),
            ..Kleinkram::default()
        });
        assert_eq!(complete(&spec, "rsl", true), Ok(()));
        assert!(complete(&spec, "rsl", false).is_err());
        spec.kleinkram.as_mut().expect("said").key = text();
        assert_eq!(complete(&spec, "rsl", false), Ok(()));
        assert_eq!(complete(&JobSpec::for_image("x"), "rsl", false), Ok(()));
    }
}
