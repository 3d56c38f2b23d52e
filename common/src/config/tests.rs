use super::*;
use serde::Deserialize;
use std::{collections::BTreeMap, io::Write as _, path::Path, time::Duration};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    listen: String,
    wait: Duration,
    cap_bytes: u64,
    labels: BTreeMap<String, String>,
    store: Store,
    s3: Option<S3>,
    name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Store {
    path: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct S3 {
    bucket: String,
    secret_key: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7420".into(),
            wait: Duration::from_secs(90),
            cap_bytes: 1 << 20,
            labels: BTreeMap::new(),
            store: Store::default(),
            s3: None,
            name: None,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { path: "/var/lib/longshore".into() }
    }
}

fn sources(file: Option<&Path>, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
    Sources {
        file: file.map(Path::to_owned),
        file_must_exist: file.is_some(),
        variables: variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        flags: flags
            .iter()
            .map(|(path, value)| Flag {
                name: format!("--{path}"),
                path: (*path).into(),
                value: (*value).into(),
            })
            .collect(),
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

fn load_settings(sources: &Sources) -> Result<Loaded<Settings>, Error> {
    load(sources)
}

#[test]
fn nothing_said_means_the_defaults() {
    let loaded = load_settings(&sources(None, &[("PATH", "/bin")], &[])).expect("loads");
    assert_eq!(loaded, Loaded { settings: Settings::default(), warnings: vec![] });
}

#[test]
fn each_layer_is_stronger_than_the_one_below() {
    let file = file("listen = \"file\"\nwait = \"10s\"\ncap_bytes = \"2MiB\"\n[store]\npath = \"/file\"\n");
    let variables = [("LONGSHORE_LISTEN", "variable"), ("LONGSHORE_STORE_PATH", "/variable")];
    let flags = [("listen", "flag")];
    let settings = load_settings(&sources(Some(file.path()), &variables, &flags)).expect("loads").settings;
    assert_eq!(settings.listen, "flag");
    assert_eq!(settings.store.path, PathBuf::from("/variable"));
    assert_eq!((settings.wait, settings.cap_bytes), (Duration::from_secs(10), 2 << 20));
}

#[test]
fn variables_reach_into_maps_and_tables_that_are_not_there_yet() {
    let variables = [
        ("LONGSHORE_LABELS", "site=bern,rack=4"),
        ("LONGSHORE_S3_BUCKET", "b"),
        ("LONGSHORE_S3_SECRET_KEY", "k"),
        ("LONGSHORE_WAIT", "2m"),
    ];
    let settings = load_settings(&sources(None, &variables, &[])).expect("loads").settings;
    assert_eq!(settings.labels["rack"], "4");
    assert_eq!(settings.s3, Some(S3 { bucket: "b".into(), secret_key: "k".into() }));
    assert_eq!(settings.wait, Duration::from_secs(120));
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let file = file("lissten = \"x\"\n\n[store]\npath = 5\n");
    let variables = [("LONGSHORE_CAP_BYTES", "lots")];
    let error =
        load_settings(&sources(Some(file.path()), &variables, &[("wait", "soon")])).expect_err("wrong");
    let text = error.to_string().replace(&file.path().display().to_string(), "controller.toml");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(lines[0], "controller.toml:1: lissten: is not a known field; did you mean `listen`?");
    assert!(lines[1].starts_with("controller.toml:4: store.path: "), "{text}");
    assert_eq!(lines[2], "LONGSHORE_CAP_BYTES: `lots` is not a whole number in range");
    assert!(lines[3].starts_with("--wait: `soon` is not a time"), "{text}");
}

#[test]
fn an_unknown_variable_is_one_warning_and_those_of_kubernetes_are_none() {
    let variables = [
        ("LONGSHORE_LISTN", "x"),
        ("LONGSHORE_PORT", "tcp://10.0.0.1:7420"),
        ("LONGSHORE_PORT_7420_TCP", "x"),
        ("LONGSHORE_SERVICE_HOST", "10.0.0.1"),
        ("LONGSHORE_URL", "http://x"),
    ];
    let warnings = load_settings(&sources(None, &variables, &[])).expect("loads").warnings;
    assert_eq!(warnings, ["LONGSHORE_LISTN is not a setting and is ignored; did you mean LONGSHORE_LISTEN?"]);
}

#[test]
fn a_named_file_must_be_there_and_an_assumed_one_need_not() {
    let mut sources = sources(Some(Path::new("/nowhere/x.toml")), &[], &[]);
    assert!(matches!(load_settings(&sources), Err(Error::Unreadable { .. })));
    sources.file_must_exist = false;
    assert!(load_settings(&sources).is_ok());
    let broken = file("a = \n");
    let error = load_settings(&self::sources(Some(broken.path()), &[], &[])).expect_err("no TOML");
    assert!(matches!(error, Error::Syntax { .. }), "{error}");
}

#[test]
fn what_is_printed_loads_again_and_hides_secrets() {
    let settings = Settings { wait: Duration::from_secs(5400), ..Settings::default() };
    let text = print(&settings, &settings);
    assert!(text.contains("wait = \"1h30m\""), "{text}");
    let file = file(&text);
    assert_eq!(load_settings(&sources(Some(file.path()), &[], &[])).expect("loads").settings, settings);
    let s3 = S3 { bucket: "b".into(), secret_key: "hunter2".into() };
    let listen = "amqp://guest:hunter2@host/".into();
    let settings = Settings { s3: Some(s3), listen, ..Settings::default() };
    let text = print(&settings, &settings);
    assert!(
        !text.contains("hunter2") && text.contains("(hidden)") && text.contains("guest:hidden@"),
        "{text}"
    );
}

#[test]
fn what_is_not_set_is_printed_as_a_comment_with_an_example() {
    let s3 = S3 { bucket: "jobs".into(), secret_key: "hunter2".into() };
    let example = Settings { s3: Some(s3), name: Some("gpu-04".into()), ..Settings::default() };
    let text = print(&Settings::default(), &example);
    assert!(text.contains("\n# name = \"gpu-04\"\n"), "{text}");
    assert!(text.ends_with("\n# [s3]\n# bucket = \"jobs\"\n# secret_key = \"(hidden)\"\n"), "{text}");
    let file = file(&text);
    assert_eq!(
        load_settings(&sources(Some(file.path()), &[], &[])).expect("loads").settings,
        Settings::default()
    );
}

#[test]
fn a_client_warns_of_what_no_part_knows() {
    let names = Names::of::<Settings>().and(Names::of::<Store>());
    let variables = [
        "PATH",
        "LONGSHORE_STORE_PATH",
        "LONGSHORE_S3_BUCKET",
        "LONGSHORE_JOB_ID",
        "LONGSHORE_URI",
        "LONGSHORE_URL",
    ];
    assert_eq!(
        names.warnings(variables),
        ["LONGSHORE_URI is not a setting and is ignored; did you mean LONGSHORE_URL?"]
    );
}
