//! The systemd units start what there is, as it is meant to be started.

use crate::commands::Cli;
use clap::Parser as _;
use std::{collections::BTreeMap, fs, path::Path, process::Command};

const UNITS: [&str; 2] = ["longshore-agent.service", "longshore-controller.service"];

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Settings of `[Service]`; the last one of a name.
fn service(text: &str) -> BTreeMap<&str, &str> {
    let inside = text.split("[Service]").nth(1).and_then(|rest| rest.split("\n[").next()).expect("a service");
    let lines = inside.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).collect()
}

#[test]
fn units_start_commands_that_there_are_and_are_walled_in() {
    for name in UNITS {
        let text = unit(name);
        let service = service(&text);
        let start =
            service["ExecStart"].strip_prefix("/usr/local/bin/").expect("where `make install` puts it");
        Cli::try_parse_from(start.split(' ')).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (setting, value) in [("Restart", "always"), ("NoNewPrivileges", "yes")] {
            assert_eq!(service.get(setting), Some(&value), "{name}: {setting}");
        }
        let state = service["StateDirectory"];
        assert!(text.contains("/etc/longshore/") && state.starts_with("longshore/"), "{name}: {state}");
    }
    let controller = unit(UNITS[1]);
    for (setting, value) in
        [("ProtectSystem", "strict"), ("ProtectHome", "yes"), ("CapabilityBoundingSet", "")]
    {
        assert_eq!(service(&controller).get(setting), Some(&value), "{setting}");
    }
    let agent = unit(UNITS[0]);
    let agent = service(&agent);
    assert_eq!(agent.get("KillMode"), Some(&"process"), "containers outlive it");
    // With a mount namespace of its own the engine would not see its sized disks; some of these hide GPUs too.
    let hides = |setting: &&&str| {
        ["Protect", "Private", "ReadOnly", "DeviceAllow"].iter().any(|word| setting.starts_with(word))
    };
    assert_eq!(agent.keys().find(hides), None);
}

#[test]
fn systemd_finds_nothing_wrong_where_there_is_one() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in UNITS {
        let path = dir.path().join(name);
        // The binary need not be installed to test its unit.
        fs::write(&path, unit(name).replace("/usr/local/bin/longshore", "/bin/true")).expect("written");
        let Ok(checked) = Command::new("systemd-analyze").arg("verify").arg(&path).output() else {
            return;
        };
        let said = String::from_utf8_lossy(&checked.stderr);
        let about: Vec<_> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(about.is_empty(), "{name}: {said}");
    }
}
