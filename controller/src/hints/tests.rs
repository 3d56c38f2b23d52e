//! The rules on ends as they really look.

use super::{Facts, assess, rules::RULES};
use longshore_common::job::{GpuRequest, JobSpec, KLEINKRAM, Outcome, Security};

fn named(outcome: &Outcome, detail: &str, spec: &JobSpec, log: &str) -> Vec<&'static str> {
    let lines: Vec<_> = log.lines().map(str::to_owned).collect();
    told(outcome, (detail, &[]), spec, &lines)
}

fn told(
    outcome: &Outcome,
    (detail, notes): (&str, &[String]),
    spec: &JobSpec,
    lines: &[String],
) -> Vec<&'static str> {
    let facts = Facts { outcome, detail, spec, notes, lines };
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
        assert_eq!(named(&failed, "exited with 1", &spec, log), wanted, "{log}");
    }
    let quiet = "100 files done\nsome other trouble";
    assert_eq!(named(&failed, "exited with 1", &plain(), quiet), Vec::<&str>::new());
}

#[test]
fn outcomes_bring_theirs_and_both_wordings_of_a_missing_image_are_known() {
    let missing = Outcome::ImageNotFound;
    for detail in [
        "failed to resolve reference \"docker.io/rslethz/x:1\": docker.io/rslethz/x:1: not found",
        "manifest for rslethz/x:1 not found: manifest unknown: manifest unknown",
        "pull access denied for rslethz/x, repository does not exist or may require 'docker login'",
    ] {
        assert_eq!(named(&missing, detail, &plain(), ""), ["image_not_found"], "{detail}");
    }
    assert_eq!(named(&Outcome::OomKilled, "", &plain(), ""), ["memory"]);
    assert_eq!(named(&Outcome::DiskLimit, "", &plain(), ""), ["disk"]);
    assert_eq!(named(&Outcome::FilesOverMemory, "", &action(), ""), ["files_in_memory"]);
    let bar = " 45%|████▌     | 1.20G/2.67G [00:12<00:14, 101MB/s]";
    assert_eq!(
        named(&Outcome::FilesOverMemory, "", &action(), bar),
        ["download_to_tmp_disk", "files_in_memory"]
    );
    assert_eq!(named(&Outcome::OomKilled, "", &action(), bar), ["download_to_tmp_disk", "memory"]);
}

#[test]
fn a_kill_counts_as_one_for_memory_only_if_its_agent_saw_its_processes_hold_all_of_it() {
    let (killed, lines) = (Outcome::ExitCode(137), ["Killed".to_owned()]);
    let with = |note: &str| told(&killed, ("exited with 137", &[note.to_owned()]), &plain(), &lines);
    assert_eq!(with("memory_full: its processes held 63 MiB of 64 MiB"), ["memory"]);
    // A peak that page cache is a part of says nothing.
    assert_eq!(with("oom_event: a child process was killed for memory"), Vec::<&str>::new());
    let failed = Outcome::ExitCode(1);
    let note = "memory_full: its processes held 63 MiB of 64 MiB".to_owned();
    assert_eq!(told(&failed, ("exited with 1", &[note]), &plain(), &lines), Vec::<&str>::new());
}

#[test]
fn rules_name_outcomes_that_there_are() {
    let real: Vec<_> = Outcome::ALL.iter().map(Outcome::name).collect();
    for rule in RULES {
        for name in rule.outcomes {
            assert!(real.contains(name), "{}: {name}", rule.name);
        }
    }
}

#[test]
fn what_went_well_or_was_cancelled_needs_no_advice() {
    let log = "MemoryError: caught, going on with less";
    for outcome in [Outcome::Succeeded, Outcome::Cancelled] {
        assert_eq!(named(&outcome, "", &plain(), log), Vec::<&str>::new());
    }
    let mut spec = plain();
    spec.security = Security::Baseline;
    assert_eq!(
        named(&Outcome::ExitCode(1), "", &spec, "chown: x: Operation not permitted"),
        Vec::<&str>::new()
    );
}

#[test]
fn advice_names_the_line_it_is_about() {
    let lines = ["first", "MemoryError", "last"].map(str::to_owned);
    let (outcome, spec) = (Outcome::ExitCode(1), plain());
    let facts = Facts { outcome: &outcome, detail: "", spec: &spec, notes: &[], lines: &lines };
    assert_eq!(assess(&facts)[0].line.as_deref(), Some("MemoryError"));
}
