//! The Python client of `examples/python`, as its README says, against a running Longshore.

use longshore_tests::env::{Cluster, fresh_dir, image, program};
use longshore_tests::token;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

on_both! {
    the_python_client_runs_a_job_and_verifies_its_files
}

#[tokio::test]
async fn the_python_client_needs_only_the_protos_and_the_authority() {
    let cluster = longshore_tests::env::embedded().secured().start();
    the_python_client_runs_a_job_and_verifies_its_files(&cluster).await;
}

async fn the_python_client_runs_a_job_and_verifies_its_files(cluster: &Cluster) {
    let (python, stubs) = client();
    let result = fresh_dir("python-result");
    let script = "echo ahoy; echo aside >&2; echo data >/out/file; exit 3";
    let mut command = Command::new(python);
    command
        .env("PYTHONPATH", stubs)
        .env("LONGSHORE_TOKEN", token::text(&cluster.data()).expect("made at the first start"))
        .arg(root().join("examples/python/client.py"))
        .args(["--address", &cluster.address(), "--memory-mib", "64"])
        .args(cluster.url().starts_with("https").then(|| "--ca-file".to_owned()))
        .args(cluster.url().starts_with("https").then(|| cluster.cli().authorities()))
        .arg("--out")
        .arg(&result)
        .args([&image(), "/bin/sh", "-c", script]);
    let output = command.output().expect("run the client");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ahoy\n");
    assert!(said.contains("aside") && said.contains("exit_code"), "{said}");
    assert_eq!(fs::read_to_string(result.join("file")).expect("the file came"), "data\n");
}

/// The interpreter and the folder of stubs, made once.
fn client() -> &'static (PathBuf, PathBuf) {
    static CLIENT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let dir = fresh_dir("python");
        let (venv, stubs) = (dir.join("venv"), dir.join("stubs"));
        run(Command::new(program(&["python3"], "python3")).args(["-m", "venv"]).arg(&venv));
        let python = venv.join("bin/python");
        let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r"];
        run(Command::new(&python).args(pip).arg(root().join("examples/python/requirements.txt")));
        fs::create_dir(&stubs).expect("make the folder of stubs");
        let protos = root().join("proto");
        let mut generate = Command::new(&python);
        generate.args(["-m", "grpc_tools.protoc", "-I"]).arg(&protos);
        generate.arg("--python_out").arg(&stubs).arg("--grpc_python_out").arg(&stubs);
        for file in fs::read_dir(protos.join("longshore/v1")).expect("list the protos") {
            generate.arg(file.expect("an entry").path());
        }
        run(&mut generate);
        (python, stubs)
    })
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
