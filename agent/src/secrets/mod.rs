//! What an attempt may know: fetched when it is needed, in memory and in a folder that is no disk, gone with the
//! attempt. Never in the journal, a log or an error.

mod vault;

pub use vault::{Owner, Vault};

use longshore_common::job::JobSpec;
use std::{collections::BTreeMap, fmt};
use zeroize::Zeroizing;

/// A value that nobody prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Zeroizing<Vec<u8>>);

impl Value {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What a registry wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryLogin {
    pub host: String,
    pub username: String,
    pub password: Value,
}

/// Of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// By name.
    pub values: BTreeMap<String, Value>,
    /// The project's, for the image's registry.
    pub login: Option<RegistryLogin>,
    /// What started the job, if a trigger did. Told to its container; no secret, and not masked.
    pub trigger: Option<TriggerFile>,
    /// Made for this attempt, of a contract that has one.
    pub run_key: Option<Value>,
    /// Why there should be one and is none.
    pub no_run_key: Option<String>,
}

/// What a trigger tells a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerFile {
    pub name: String,
    pub kind: String,
    /// JSON.
    pub content: Vec<u8>,
}

impl Secrets {
    /// Everything that a log must not show.
    pub fn to_mask(&self) -> impl Iterator<Item = &[u8]> {
        let passwords = self.login.iter().map(|login| login.password.bytes());
        let key = self.run_key.iter().map(Value::bytes);
        self.values.values().map(Value::bytes).chain(passwords).chain(key)
    }

    /// Variables with their values, or what is wrong with one.
    pub fn env(&self, spec: &JobSpec) -> Result<BTreeMap<String, Value>, String> {
        let named = spec.secret_env.iter();
        named.map(|(variable, name)| Ok((variable.clone(), self.text(name)?.clone()))).collect()
    }

    /// One that a variable can hold.
    pub fn text(&self, name: &str) -> Result<&Value, String> {
        let value = self.get(name)?;
        if std::str::from_utf8(value.bytes()).is_ok_and(|text| !text.contains('\0')) {
            return Ok(value);
        }
        Err(format!("secret `{name}` is not text: no variable can hold it, a file can"))
    }

    /// Names of files with their contents.
    pub fn files(&self, spec: &JobSpec) -> Result<BTreeMap<String, Value>, String> {
        let named = spec.secret_files.iter().map(|(name, path)| {
            let file = longshore_common::job::secret_file(path);
            let file = file.ok_or_else(|| format!("`{path}` is no file for secret `{name}`"))?;
            Ok((file.to_owned(), self.get(name)?.clone()))
        });
        named.collect()
    }

    fn get(&self, name: &str) -> Result<&Value, String> {
        self.values.get(name).ok_or_else(|| format!("the controller gave no secret `{name}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_where_the_job_names_them_and_into_no_message() {
        let mut spec = JobSpec::for_image("app");
        spec.secret_env.insert("TOKEN".into(), "t".into());
        spec.secret_files.insert("k".into(), "/run/secrets/id".into());
        let login = RegistryLogin { host: "r".into(), username: "u".into(), password: Value::new("hunter2") };
        let values =
            [("t", "hunter2"), ("k", "hunter2")].map(|(name, value)| (name.to_owned(), Value::new(value)));
        let secrets = Secrets {
            values: values.into(),
            login: Some(login),
            run_key: Some(Value::new("key")),
            no_run_key: None,
            trigger: None,
        };
        assert_eq!(secrets.env(&spec).expect("text")["TOKEN"].bytes(), b"hunter2");
        assert_eq!(secrets.files(&spec).expect("there")["id"].bytes(), b"hunter2");
        assert_eq!(secrets.to_mask().count(), 4);
        assert!(!format!("{secrets:?}").contains("hunter2"));
        spec.secret_env.insert("OTHER".into(), "gone".into());
        assert!(secrets.env(&spec).expect_err("it is not there").contains("`gone`"));
        let binary = Secrets { values: [("t".to_owned(), Value::new([0xff]))].into(), ..Secrets::default() };
        spec.secret_env.remove("OTHER");
        assert!(binary.env(&spec).expect_err("not text").contains("a file can"));
    }
}
