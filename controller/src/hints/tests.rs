//! The rules on ends as they really look.

use super::{Facts, assess};
use longshore_common::{
    agent::Usage,
    job::{GpuRequest, JobSpec, KLEINKRAM, Outcome, Security},
};

fn named(outcome: &Outcome, detail: &str, spec: &JobSpec, peak: u64, log: &str) -> Vec<&'static str> {
    let lines: Vec<_> = log.lines().map(str::to_owned).collect();
    let usage = Usage { memory_peak_bytes: peak, ..Usage::default() };
    let facts = Facts { outcome, detail, spec, usage: &usage, lines: &lines };
    assess(&facts).into_iter().map(|hint| hint.name).collect()
}

fn plain() -> JobSpec {
    JobSpec::for_image("a")
}

fn action() -> JobSpec {
    let mut spec = plain();
    spec.contract = KLEINKRAM.into();
    spec.settle(false);
    spec
}

#[test]
fn real_last_lines_bring_the_advice_that_helps() {
    let failed = Outcome::ExitCode(1);
    let mut gpu = plain();
    gpu.resources.gpu = Some(GpuRequest::of(1));
    let no_driver = "Traceback (most recent call last):\n  File \"/app/train.py\", line 3, in <module>\n\
        RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU";
    let table: [(JobSpec, &str, &[&str]); 17] = [
        (
            action(),
            "CLI version 0.50.2 is outdated. Please update your CLI: pip install --upgrade kleinkram",
            &["client_outdated"],
        ),
        (
            action(),
            "httpx.HTTPStatusError: Client error '426 Upgrade Required' for url 'https://api/x'",
            &["client_outdated"],
        ),
        (
            plain(),
            "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 7.45 GiB for an array with shape (1000000000,)",
            &["memory"],
        ),
        (plain(), "terminate called after throwing an instance of 'std::bad_alloc'", &["memory"]),
        (
            gpu.clone(),
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB",
            &["gpu_memory"],
        ),
        (plain(), "OSError: [Errno 28] No space left on device: '/tmp_disk/a'", &["disk"]),
        (plain(), "cp: error writing '/out/x': Disk quota exceeded", &["disk"]),
        (plain(), no_driver, &["gpu_not_requested"]),
        (gpu.clone(), no_driver, &["gpu_missing"]),
        (gpu, "AssertionError: Torch not compiled with CUDA enabled", &["gpu_missing"]),
        (plain(), "sh: nvidia-smi: not found", &["gpu_not_requested"]),
        (plain(), "PermissionError: [Errno 13] Permission denied: '/out/report.json'", &["out_not_writable"]),
        (plain(), "mkdir: can't create directory '/out/a/b': Permission denied", &["out_not_writable"]),
        (action(), "chown: changing ownership of '/data': Operation not permitted", &["privilege_missing"]),
        (
            plain(),
            "standard_init_linux.go:228: exec user process caused: exec format error",
            &["wrong_processor"],
        ),
        (plain(), "curl: (6) Could not resolve host: api.example.org", &["name_not_resolved"]),
        (plain(), "RuntimeError: can't start new thread", &["too_many_processes"]),
    ];
    for (spec, log, wanted) in table {
        assert_eq!(named(&failed, "exited with 1", &spec, 0, log), wanted, "{log}");
    }
    let quiet = "100 files done\nsome other trouble";
    assert_eq!(named(&failed, "exited with 1", &plain(), 0, quiet), Vec::<&str>::new());
}

#[test]
fn outcomes_bring_theirs_and_both_wordings_of_a_missing_image_are_known() {
    let missing = Outcome::ImageNotFound;
    for detail in [
        "failed to resolve reference \"docker.io/rslethz/x:1\": docker.io/rslethz/x:1: not found",
        "manifest for rslethz/x:1 not found: manifest unknown: manifest unknown",
        "pull access denied for rslethz/x, repository does not exist or may require 'docker login'",
    ] {
        assert_eq!(named(&missing, detail, &plain(), 0, ""), ["image_not_found"], "{detail}");
    }
    assert_eq!(named(&Outcome::OomKilled, "", &plain(), 0, ""), ["memory"]);
    assert_eq!(named(&Outcome::DiskLimit, "", &plain(), 0, ""), ["disk"]);
    assert_eq!(named(&Outcome::FilesOverMemory, "", &action(), 0, ""), ["files_in_memory"]);
    let bar = " 45%|████▌     | 1.20G/2.67G [00:12<00:14, 101MB/s]";
    assert_eq!(
        named(&Outcome::FilesOverMemory, "", &action(), 0, bar),
        ["download_to_tmp_disk", "files_in_memory"]
    );
    assert_eq!(named(&Outcome::OomKilled, "", &action(), 0, bar), ["download_to_tmp_disk", "memory"]);
}

#[test]
fn a_kill_counts_as_one_for_memory_only_if_memory_was_full() {
    let killed = Outcome::ExitCode(137);
    let limit = plain().resources.memory_bytes;
    assert_eq!(named(&killed, "exited with 137", &plain(), limit, "Killed"), ["memory"]);
    assert_eq!(named(&killed, "exited with 137", &plain(), limit / 2, "Killed"), Vec::<&str>::new());
}

#[test]
fn what_went_well_or_was_cancelled_needs_no_advice() {
    let log = "MemoryError: caught, going on with less";
    for outcome in [Outcome::Succeeded, Outcome::Cancelled] {
        assert_eq!(named(&outcome, "", &plain(), u64::MAX, log), Vec::<&str>::new());
    }
    let mut spec = plain();
    spec.security = Security::Baseline;
    assert_eq!(
        named(&Outcome::ExitCode(1), "", &spec, 0, "chown: x: Operation not permitted"),
        Vec::<&str>::new()
    );
}

#[test]
fn advice_names_the_line_it_is_about() {
    let lines = ["first", "MemoryError", "last"].map(str::to_owned);
    let (outcome, usage, spec) = (Outcome::ExitCode(1), Usage::default(), plain());
    let facts = Facts { outcome: &outcome, detail: "", spec: &spec, usage: &usage, lines: &lines };
    assert_eq!(assess(&facts)[0].line.as_deref(), Some("MemoryError"));
}
