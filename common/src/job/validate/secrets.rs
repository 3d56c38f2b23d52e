//! How a job names secrets. Whether they are there is the controller's to say.

use super::{FieldError, FieldErrors, JobSpec};
use crate::job::spec::SECRETS_FOLDER;
use std::collections::BTreeSet;

const MOST: usize = 100;

pub(super) fn check(spec: &JobSpec, errors: &mut FieldErrors) {
    if spec.secrets().len() > MOST {
        errors.push("secrets", format!("are more than {MOST}"));
    }
    for (variable, secret) in &spec.secret_env {
        let path = format!("env.{variable}");
        if variable.is_empty() || variable.contains(['=', '\0']) {
            errors.push(path, "a variable's name is not empty and has no `=`");
        } else if spec.env.contains_key(variable) {
            errors.push(path, "is given twice: as a value and as a secret");
        } else {
            errors.take(check_secret_name(&format!("{path}.secret"), secret));
        }
    }
    let mut files = BTreeSet::new();
    for (secret, path) in &spec.secret_files {
        let field = format!("secrets.{secret}");
        if let Some(error) = check_secret_name(&field, secret).err() {
            errors.add(error);
        } else if secret_file(path).is_none() {
            errors.push(
                field,
                format!("`{path}` is no file of {SECRETS_FOLDER}, like {SECRETS_FOLDER}/{secret}"),
            );
        } else if !files.insert(path) {
            errors.push(field, format!("`{path}` is another secret's file already"));
        }
    }
}

/// Names of secrets may be those of variables too.
pub fn check_secret_name(path: &str, name: &str) -> Result<(), FieldError> {
    let fits = (1..=63).contains(&name.len())
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if fits {
        return Ok(());
    }
    let rule = "a secret's name is 1 to 63 letters, digits, `_`, `.`, `-`, and starts with no `.` or `-`";
    Err(FieldError::new(path, format!("`{name}`: {rule}")))
}

/// The name of the file at this path; `None` if it is not right in the folder of secrets.
pub fn secret_file(path: &str) -> Option<&str> {
    let name = path.strip_prefix(SECRETS_FOLDER)?.strip_prefix('/')?;
    check_secret_name("", name).is_ok().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(change: impl FnOnce(&mut JobSpec)) -> Vec<String> {
        let mut spec = JobSpec::for_image("alpine:3");
        change(&mut spec);
        let mut errors = FieldErrors::new();
        check(&spec, &mut errors);
        errors.into_result(()).err().into_iter().flatten().map(|error| error.path).collect()
    }

    #[test]
    fn a_secret_has_a_name_and_a_file_of_its_own() {
        let env = |variable: &str, secret: &str| {
            paths(|spec| {
                spec.env.insert("PLAIN".into(), "x".into());
                spec.secret_env.insert(variable.into(), secret.into());
            })
        };
        assert_eq!(env("HF_TOKEN", "hf-token"), Vec::<String>::new());
        assert_eq!(env("HF_TOKEN", "HF_TOKEN"), Vec::<String>::new());
        assert_eq!(env("HF_TOKEN", "../x"), ["env.HF_TOKEN.secret"]);
        assert_eq!(env("PLAIN", "x"), ["env.PLAIN"]);
        assert_eq!(env("A=B", "x"), ["env.A=B"]);
        let file = |path: &str| paths(|spec| drop(spec.secret_files.insert("key".into(), path.into())));
        assert_eq!(file("/run/secrets/id_rsa"), Vec::<String>::new());
        for bad in ["/etc/passwd", "/run/secrets/", "/run/secrets/..", "/run/secrets/a/b", "/run/secretsx"] {
            assert_eq!(file(bad), ["secrets.key"], "{bad}");
        }
        let twice = paths(|spec| {
            spec.secret_files = [("a", "/run/secrets/x"), ("b", "/run/secrets/x")]
                .map(|(name, path)| (name.to_owned(), path.to_owned()))
                .into();
        });
        assert_eq!(twice, ["secrets.b"]);
    }
}
