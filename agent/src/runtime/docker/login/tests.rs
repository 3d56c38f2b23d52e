//! Which credentials are shown, and what is said of them.

use super::*;
use crate::runtime::config::Login;
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

const FILE: &str = r#"{"auths": {
    "registry.example:5000": {"auth": "YW5uYTpzZTpjcmV0"},
    "https://index.docker.io/v1/": {"auth": "YW5uYTpodWI="},
    "empty.example": {}
}, "credHelpers": {"helped.example": "own"}, "credsStore": "all"}"#;

#[test]
fn a_docker_login_serves() {
    let file = file::read(FILE).expect("readable");
    let found = file.login("registry.example:5000").expect("there");
    assert_eq!((found.username.as_deref(), found.password.as_deref()), (Some("anna"), Some("se:cret")));
    assert_eq!(file.login(HUB).expect("there").password.as_deref(), Some("hub"));
    assert_eq!(file.login("empty.example"), None);
    assert_eq!(file.login("other.example"), None);
}

#[test]
fn a_registrys_own_helper_comes_before_that_of_all() {
    let file = file::read(FILE).expect("readable");
    assert_eq!(file.helper("helped.example"), Some("own"));
    assert_eq!(file.helper("other.example"), Some("all"));
    assert_eq!(file::read("{}").expect("readable").helper("x"), None);
    let error = file::read("{\"auths\": {\"a\": {\"auth\": \"c2VjcmV0").expect_err("cut");
    assert!(error.contains("line 1") && !error.contains("c2VjcmV0"), "{error}");
}

fn config(folder: &Path) -> Config {
    Config { docker_config: Some(folder.join("config.json")), ..Config::default() }
}

#[tokio::test]
async fn the_projects_come_first_then_the_agents_own_then_dockers() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = config(folder.path());
    fs::write(folder.path().join("config.json"), r#"{"auths": {"r": {"auth": "YW5uYTpodWI="}}}"#)
        .expect("written");
    let user = |found: &Found| {
        found.credentials.as_ref().and_then(|shown| shown.username.clone()).unwrap_or_default()
    };
    assert_eq!(user(&of("r", None, &config).await), "anna");
    config.registries =
        vec![Login { registry: "r".to_owned(), username: "bot".to_owned(), password: "x".to_owned() }];
    assert_eq!(user(&of("r", None, &config).await), "bot");
    let login = RegistryLogin {
        host: "r".to_owned(),
        username: "lab".to_owned(),
        password: crate::secrets::Value::new("y"),
    };
    let found = of("r", Some(&login), &config).await;
    assert_eq!((user(&found).as_str(), found.story().as_str()), ("lab", "the project's credentials"));
    let none = of("elsewhere", None, &config).await;
    assert!(none.credentials.is_none() && none.story().starts_with("no credentials"), "{none:?}");
}

/// A helper of this name in `PATH`, for the life of the folder.
fn helper(folder: &Path, name: &str, script: &str) {
    let path = folder.join(format!("docker-credential-{name}"));
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made a program");
}

/// By its whole path: tests of one process share one PATH.
async fn asked(folder: &Path, name: &str) -> Result<Option<helper::Credentials>, helper::Error> {
    let path = folder.join(format!("docker-credential-{name}"));
    helper::run_program(path.as_os_str(), name, "registry.example", Duration::from_secs(2)).await
}

#[tokio::test]
async fn helpers_answer_have_nothing_fail_or_hang() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let good = r#"read server; [ "$1 $server" = "get registry.example" ] || exit 9
        echo '{"ServerURL":"x","Username":"anna","Secret":"hunter2"}'"#;
    helper(folder, "good", good);
    let found =
        asked(folder, "good").await.expect("answered").expect("there").into_docker("registry.example");
    assert_eq!((found.username.as_deref(), found.password.as_deref()), (Some("anna"), Some("hunter2")));
    helper(folder, "token", r#"echo '{"Username":"<token>","Secret":"t"}'"#);
    let found = asked(folder, "token").await.expect("answered").expect("there").into_docker("r");
    assert_eq!((found.username, found.identitytoken.as_deref()), (None, Some("t")));
    helper(folder, "none", "echo 'credentials not found in native keychain'; exit 1");
    assert!(asked(folder, "none").await.expect("answered").is_none());
    for (name, script, says) in [
        (
            "loud",
            "echo 'no session: log in' >&2; echo '{\"Secret\":\"hunter2\"}'; exit 1",
            "no session: log in",
        ),
        ("quiet", "exit 3", "says nothing"),
        ("odd", "echo hunter2", "no JSON"),
        ("endless", "yes hunter2", "did not answer within 2"),
        ("slow", "sleep 600", "did not answer within 2"),
    ] {
        helper(folder, name, script);
        let error = asked(folder, name).await.map(|_| ()).expect_err(name).to_string();
        assert!(error.contains(says) && !error.contains("hunter2"), "{name}: {error}");
    }
    assert!(matches!(asked(folder, "gone").await, Err(helper::Error::Run(..))));
    for name in ["../x", "a/b", "", ".x", "a b"] {
        let refused = helper::ask(name, "r", Duration::from_secs(1)).await;
        assert!(refused.is_err(), "{name}");
    }
}
