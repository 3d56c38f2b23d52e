//! The sample actions of `examples/actions`: built without a registry, and run.

use longshore_tests::env::{Cluster, docker, fresh_dir, program, run_id};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// All of them, once; each under a name of this run, so that nobody's own are touched.
fn image(name: &str) -> String {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = Command::new(root().join("actions/build"));
        let busybox =
            std::env::var_os("BUSYBOX").unwrap_or_else(|| program(&["busybox"], "busybox-static").into());
        let done = build
            .env("BUSYBOX", busybox)
            .env("LABEL", format!("longshore.test={}", run_id()))
            .output()
            .expect("run the build");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        for name in String::from_utf8_lossy(&done.stdout).lines() {
            let short = name.trim_start_matches("longshore-examples/").trim_end_matches(":1");
            docker(&["tag", name, &format!("longshore-test/sample-{short}:{}", run_id())]);
        }
    });
    format!("longshore-test/sample-{name}:{}", run_id())
}

fn cluster() -> &'static Cluster {
    crate::shared::embedded()
}

/// What it printed, and the folder with what it left.
fn run(name: &str, flags: &[&str], code: i32) -> (String, PathBuf) {
    let (cli, image, out) = (cluster().cli(), image(name), fresh_dir("sample"));
    let folder = out.display().to_string();
    let common = ["run", "--cpus", "0.1", "-m", "64m", "--scratch", "256m", "--out", &folder];
    let done = cli.call(&[&common[..], flags, &[&image]].concat()).expect(code);
    (done.text(), out)
}

fn data() -> String {
    format!("data={}", root().join("data").display())
}

#[test]
fn hello_greets() {
    let (said, out) = run("hello", &["-e", "NAME=Zürich"], 0);
    assert_eq!(said, "Hello, Zürich 🚀\n");
    assert_eq!(fs::read_to_string(out.join("hello.txt")).expect("left"), said);
}

#[test]
fn checksum_report_holds_the_data_to_its_own_sums() {
    let (said, out) = run("checksum-report", &["--input", &data()], 0);
    assert!(said.contains("iris.csv: OK"), "{said}");
    assert!(fs::read_to_string(out.join("SHA256SUMS")).expect("left").contains("iris.csv"));
    let broken = fresh_dir("broken");
    fs::write(broken.join("a"), "a").expect("written");
    fs::write(broken.join("SHA256SUMS"), format!("{}  a\n", "0".repeat(64))).expect("written");
    let (said, _) = run("checksum-report", &["--input", &format!("data={}", broken.display())], 1);
    assert!(said.contains("a: FAILED"), "{said}");
}

#[test]
fn convert_format_writes_json_lines_and_tabs() {
    let (_, out) = run("convert-format", &["--input", &data()], 0);
    let lines = fs::read_to_string(out.join("iris.jsonl")).expect("left");
    let rows: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((rows.len(), &rows[0]["species"]), (150, &serde_json::json!("setosa")));
    let (_, out) = run("convert-format", &["--input", &data(), "-e", "FORMAT=tsv"], 0);
    assert!(fs::read_to_string(out.join("iris.tsv")).expect("left").lines().all(|line| line.contains('\t')));
}

#[test]
fn extract_metadata_describes_every_file() {
    let (_, out) = run("extract-metadata", &["--input", &data()], 0);
    let lines = fs::read_to_string(out.join("metadata.jsonl")).expect("left");
    let files: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(files.len(), fs::read_dir(root().join("data")).expect("there").count());
    assert!(files.iter().any(|file| file["name"] == "iris.csv" && file["kind"] == "text/plain"), "{lines}");
}

#[test]
fn gpu_info_tells_that_there_is_none() {
    let (said, out) = run("gpu-info", &[], 0);
    assert!(said.contains("granted  0") && said.contains("visible  void"), "{said}");
    assert_eq!(fs::read_to_string(out.join("gpus.txt")).expect("left"), said);
}

/// The script by itself: no machine that runs this has a GPU for sure.
#[test]
fn gpu_info_finds_what_it_was_given_and_fails_without_it() {
    let (root_of, out) = (fresh_dir("gpu-root"), fresh_dir("gpu-out"));
    let script = root().join("actions/gpu-info/gpu-info.sh");
    let look = || {
        let done = Command::new("sh").arg(&script).args([&out, &root_of]).env("LONGSHORE_GPUS", "1").output();
        let done = done.expect("run the script");
        (
            done.status.code(),
            format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)),
        )
    };
    let (code, said) = look();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("1 GPUs were granted, and /dev has 0"), "{said}");
    let gpu = root_of.join("proc/driver/nvidia/gpus/0000:01:00.0");
    fs::create_dir_all(&gpu).expect("made");
    fs::create_dir_all(root_of.join("dev")).expect("made");
    fs::write(root_of.join("dev/nvidia0"), "").expect("written");
    fs::write(gpu.join("information"), "Model: \t\t NVIDIA H100\nGPU UUID: \t GPU-1\n").expect("written");
    let (code, said) = look();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("model    NVIDIA H100") && said.contains("uuid     GPU-1"), "{said}");
    assert!(fs::read_to_string(out.join("gpus.txt")).expect("left").contains("dev/nvidia0"));
}

#[test]
fn their_action_files_are_applied_and_run_by_name() {
    let (cli, folder) = (cluster().cli(), fresh_dir("actions"));
    for name in ["hello", "checksum-report", "convert-format", "extract-metadata"] {
        let text = fs::read_to_string(root().join(format!("actions/{name}/action.yaml"))).expect("there");
        let text = text.replace(&format!("longshore-examples/{name}:1"), &image(name));
        let file = folder.join(name);
        fs::write(&file, text).expect("written");
        cli.call(&["actions", "apply", "-f", &file.display().to_string()]).expect(0);
    }
    let hello = cli.call(&["run", "--set", "NAME=Zürich", "@hello"]).expect(0).text();
    assert_eq!(hello, "Hello, Zürich 🚀\n");
    for (name, left) in [
        ("checksum-report", "SHA256SUMS"),
        ("convert-format", "iris.tsv"),
        ("extract-metadata", "metadata.jsonl"),
    ] {
        let out = fresh_dir("sample");
        let (run, data, folder) = (format!("@{name}"), data(), out.display().to_string());
        let set: &[&str] = if name == "convert-format" { &["--set", "FORMAT=tsv"] } else { &[] };
        cli.call(&[&["run", "--input", &data, "--out", &folder], set, &[&run]].concat()).expect(0);
        assert!(out.join(left).exists(), "{name}");
    }
    let wrong = cli.call(&["run", "--input", &data(), "--set", "FORMAT=xml", "@convert-format"]).expect(2);
    assert!(wrong.stderr.contains("`xml`") && wrong.stderr.contains("tsv"), "{}", wrong.stderr);
    let late = cli.call(&["run", "@hello", "--set", "NAME=Zürich"]).expect(2);
    assert!(late.stderr.contains("longshore run --set NAME=Zürich @hello"), "{}", late.stderr);
}

#[test]
fn their_action_files_name_what_is_built() {
    for entry in fs::read_dir(root().join("actions")).expect("there").flatten().filter(|e| e.path().is_dir())
    {
        let file = entry.path().join("action.yaml");
        let text = fs::read_to_string(&file).expect("an action file");
        let actions = longshore_common::job::file::parse_actions(&text, &file.display().to_string());
        let action = actions.unwrap_or_else(|error| panic!("{error}")).remove(0);
        let name = entry.file_name().to_string_lossy().into_owned();
        assert_eq!(
            (action.name.as_str(), action.job.image),
            (name.as_str(), format!("longshore-examples/{name}:1"))
        );
    }
}
