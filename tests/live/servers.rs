//! The servers themselves: what the other stories lean on must be there, and must refuse what it should.

use longshore_tests::env::{Engine, Registry, broker, docker, docker_output, image, registry};

#[test]
fn the_broker_answers_and_is_ours_alone() {
    let nodes = broker().ctl(&["cluster_status", "--formatter", "json"]);
    assert!(nodes.contains(&format!("ls{}", std::process::id())), "{nodes}");
    assert!(broker().ctl(&["list_users"]).contains("longshore"));
}

#[test]
fn the_registry_keeps_images_and_refuses_strangers() {
    let reference = registry().push(&image(), "kept:1");
    docker(&["rmi", &reference]);
    let stranger = docker_output(&["pull", &reference]);
    assert!(!stranger.status.success());
    assert!(String::from_utf8_lossy(&stranger.stderr).contains("no basic auth credentials"), "{stranger:?}");
    docker(&["--config", registry().login_dir().to_str().expect("plain"), "pull", "-q", &reference]);
}

#[test]
fn a_stopped_registry_comes_back_with_its_images() {
    let mut registry = Registry::start();
    let reference = registry.push(&image(), "kept:1");
    registry.stop();
    let login = registry.login_dir();
    let login = login.to_str().expect("plain");
    assert!(!docker_output(&["--config", login, "pull", "-q", &reference]).status.success());
    registry.restart();
    docker(&["--config", login, "pull", "-q", &reference]);
}

#[test]
fn a_private_engine_runs_containers_and_restarts() {
    let mut engine = Engine::start();
    engine.load(&image());
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &image(), "echo", "ahoy"]), "ahoy");
    engine.restart();
    assert_eq!(engine.docker(&["ps", "-aq"]), "");
}
