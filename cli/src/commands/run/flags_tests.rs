use super::flags::{Plan, RunArgs};
use crate::failure::Failure;
use clap::Parser;
use longshore_common::job::{Access, Input, NetworkMode, PullPolicy, Security};
use std::time::Duration;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    run: RunArgs,
}

fn parse(words: &[&str]) -> Result<RunArgs, clap::Error> {
    Line::try_parse_from(std::iter::once(&"run").chain(words)).map(|line| line.run)
}

fn plan(words: &[&str]) -> Plan {
    parse(words).expect("parses").plan(&|_| None).expect("valid")
}

fn refusal(words: &[&str]) -> Failure {
    parse(words).expect("parses").plan(&|_| None).expect_err("refused")
}

#[test]
fn flags_end_at_the_image() {
    let spec = plan(&["-e", "A=1", "alpine", "sh", "-c", "-e B=2", "--rm", "-v"]).spec;
    assert_eq!(spec.image, "alpine");
    assert_eq!(spec.command.unwrap_or_default(), ["sh", "-c", "-e B=2", "--rm", "-v"]);
    assert_eq!(spec.env.len(), 1);
    let spec = plan(&["alpine", "-d", "--gpus", "1"]).spec;
    assert_eq!(spec.command.unwrap_or_default(), ["-d", "--gpus", "1"]);
    assert!(spec.resources.gpu.is_none());
}

#[test]
fn words_of_kleinkram_make_its_contract() {
    let id = "0190a8c2-7b5e-7c3a-9f10-3d6f2a1b4c5d";
    let mission = format!("mission_uuid={id}");
    let flags = ["--kleinkram", &mission, "--kleinkram", "key=run-key", "--access", "write", "rslethz/a:1"];
    let spec = plan(&flags).spec;
    let said = spec.kleinkram.as_ref().expect("said");
    assert_eq!((said.mission_uuid.as_deref(), said.key.as_deref()), (Some(id), Some("run-key")));
    assert_eq!((spec.contract.as_str(), spec.access, spec.resources.pids), ("kleinkram", Access::Write, 256));
    assert_eq!(plan(&["--contract", "kleinkram", "--pids-limit", "9", "a"]).spec.resources.pids, 9);
    let wrong =
        refusal(&["--kleinkram", "mission=x", "--kleinkram", "s3_endpoint=x", "--contract", "plain", "a"]);
    let text = wrong.to_string();
    for says in ["--kleinkram mission: is not one of", "goes with `contract: kleinkram`"] {
        assert!(text.contains(says), "{says} is not in {text}");
    }
    assert!(parse(&["--access", "admin", "a"]).is_err());
}

#[test]
fn unknown_flags_before_the_image_are_errors() {
    assert!(parse(&["--no-such-flag", "alpine"]).is_err());
    assert!(parse(&[]).is_err());
}

#[test]
fn every_flag_reaches_the_spec() {
    let Plan { spec, folders, .. } = plan(&[
        "--rm",
        "-w",
        "/work",
        "-u",
        "1000:1000",
        "-m",
        "8g",
        "-l",
        "team=rsl",
        "--cpus",
        "1.5",
        "--gpus",
        "1,memory=24GiB",
        "--entrypoint",
        "python",
        "--name",
        "n",
        "--shm-size",
        "1g",
        "--network",
        "none",
        "--pull",
        "never",
        "--input",
        "bags=/tmp",
        "--input",
        "ckpt=job:k3m9q2xw/a",
        "--security",
        "restricted",
        "--scratch",
        "50GiB",
        "--pids-limit",
        "100",
        "--run-deadline",
        "1h",
        "--queue-deadline",
        "2h",
        "--prepare-deadline",
        "3m",
        "--upload-deadline",
        "4m",
        "--stop-timeout",
        "30",
        "--attempts",
        "3",
        "--backoff",
        "10m",
        "--retry-on",
        "exit_code",
        "--disconnect-tolerance",
        "1h",
        "--include",
        "*.csv",
        "--exclude",
        "*.tmp",
        "--exclude",
        "ckpt/*",
        "--max-size",
        "5g",
        "--max-files",
        "100",
        "--priority",
        "-5",
        "--agent",
        "site=bern",
        "--agent",
        "site=zurich",
        "--pool",
        "big",
        "alpine",
    ]);
    assert_eq!((spec.workdir.as_deref(), spec.user.as_deref()), (Some("/work"), Some("1000:1000")));
    assert_eq!((spec.resources.cpu_millis, spec.resources.memory_bytes), (1500, 8 << 30));
    assert_eq!((spec.resources.shm_bytes, spec.resources.scratch_bytes), (1 << 30, 50 << 30));
    assert_eq!((spec.resources.pids, spec.resources.gpu_count()), (100, 1));
    assert_eq!(spec.entrypoint.unwrap_or_default(), ["python"]);
    assert_eq!((spec.network, spec.pull), (NetworkMode::None, PullPolicy::Never));
    assert_eq!(spec.security, Security::Restricted);
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    assert_eq!((spec.deadlines.queue, spec.deadlines.run), (Some(minutes(120)), minutes(60)));
    assert_eq!((spec.deadlines.prepare, spec.deadlines.upload), (minutes(3), minutes(4)));
    assert_eq!(spec.deadlines.stop_grace, Duration::from_secs(30));
    assert_eq!((spec.retry.attempts, spec.priority, spec.pool.as_str()), (3, -5, "big"));
    assert_eq!((spec.retry.backoff, spec.retry.on), (minutes(10), vec!["exit_code".to_owned()]));
    assert_eq!(spec.disconnect_tolerance, Some(minutes(60)));
    assert_eq!((spec.outputs.include, spec.outputs.exclude.len()), (vec!["*.csv".to_owned()], 2));
    assert_eq!((spec.outputs.max_size_bytes, spec.outputs.max_files), (5 << 30, 100));
    assert_eq!(spec.agents["site"], ["bern", "zurich"]);
    assert_eq!(spec.inputs["ckpt"], Input::Job { job: "k3m9q2xw".into(), path: "a".into() });
    assert!(folders.contains_key("bags") && !spec.inputs.contains_key("bags"));
}

#[test]
fn what_jobs_do_not_have_is_refused_with_the_line_to_type() {
    for (words, says) in [
        (&["-v", "./data:/data", "alpine"][..], "--input data=./data"),
        (&["-p", "80:80", "alpine"], "--out ./result alpine"),
        (&["-it", "alpine"], "longshore run alpine COMMAND"),
        (&["--privileged", "alpine"], "--gpus 1 alpine"),
    ] {
        let failure = refusal(words);
        assert!(failure.code == Some(2) && failure.message.contains(says), "{failure}");
    }
}

#[test]
fn wrong_values_are_usage_errors_told_together() {
    let failure = refusal(&["-m", "1m", "--pids-limit", "0", "--input", "BAD=/tmp", "Alpine"]);
    assert_eq!(failure.code, Some(2));
    for says in ["image: ", "resources.memory: ", "resources.pids: ", "--input BAD: "] {
        assert!(failure.message.contains(says), "{failure}");
    }
    assert!(parse(&["-m", "8", "alpine"]).is_err(), "a size needs its unit");
    assert!(parse(&["--cpus", "lots", "alpine"]).is_err());
}

#[test]
fn amounts_below_zero_are_told_so() {
    let flags = [
        "--cpus",
        "-m",
        "--shm-size",
        "--scratch",
        "--pids-limit",
        "--gpus",
        "--run-deadline",
        "--queue-deadline",
        "--prepare-deadline",
        "--upload-deadline",
        "--stop-timeout",
        "--attempts",
        "--backoff",
        "--max-size",
        "--max-files",
        "--disconnect-tolerance",
    ];
    for flag in flags {
        let error = parse(&[flag, "-1", "alpine"]).expect_err("negative").to_string();
        assert!(error.contains("must be positive"), "{flag}: {error}");
    }
}

#[test]
fn an_input_given_twice_is_a_mistake_and_a_variable_given_twice_is_not() {
    let failure = refusal(&["--input", "a=/tmp", "--input", "a=job:k3m9q2xw", "alpine"]);
    assert!(failure.message.contains("--input a: is given twice"), "{failure}");
    let spec = plan(&["-e", "A=1", "-e", "A=2", "-l", "x=1", "-l", "x=2", "alpine"]).spec;
    assert_eq!(
        (spec.env["A"].as_str(), spec.labels["x"].as_str()),
        ("2", "2"),
        "the last one wins, as with Docker"
    );
}

#[test]
fn secrets_are_named_in_the_spec_and_values_of_the_shell_are_beside_it() {
    let shell = |name: &str| (name == "MINE").then(|| "hunter2".to_owned());
    let run = |words: &[&str]| parse(words).expect("parses").plan(&shell);
    let words = ["--secret-env", "MINE", "--secret-env", "HF=hf-token", "--secret", "key", "alpine"];
    let Plan { spec, secrets, .. } = run(&words).expect("valid");
    assert_eq!((spec.secret_env["MINE"].as_str(), spec.secret_env["HF"].as_str()), ("MINE", "hf-token"));
    assert_eq!(spec.secret_files["key"], "/run/secrets/key");
    assert_eq!(secrets.into_iter().collect::<Vec<_>>(), [("MINE".to_owned(), "hunter2".to_owned())]);
    assert!(!format!("{spec:?}").contains("hunter2"));
    let missing = run(&["--secret-env", "THEIRS", "alpine"]).expect_err("the shell has none");
    assert!(missing.message.contains("THEIRS=SECRET"), "{missing}");
}

#[test]
fn an_action_is_run_by_its_name_and_only_what_is_said_of_it_goes_out() {
    let Plan { spec, action, folders, .. } = plan(&[
        "--set",
        "EPOCHS=3",
        "--set",
        "FORMAT=mp4=x",
        "-m",
        "8g",
        "-l",
        "a=b",
        "--input",
        "bags=/tmp",
        "@convert@3",
    ]);
    let said = action.expect("an action");
    assert_eq!((said.action.to_string().as_str(), spec.image.as_str()), ("convert@3", ""));
    assert_eq!((said.set["EPOCHS"].as_str(), said.set["FORMAT"].as_str()), ("3", "mp4=x"));
    assert_eq!(said.said.iter().map(String::as_str).collect::<Vec<_>>(), ["labels", "resources.memory"]);
    assert!(folders.contains_key("bags"));
    let with_command = plan(&["@convert", "-x"]).action.expect("an action");
    assert!(with_command.said.contains("command"), "whether it may is the action's to say");
    for (words, says) in [
        (&["--set", "A=b", "alpine"][..], "a variable of an image is -e A=b"),
        (&["@Convert It"], "names no action"),
        (&["--set", "A=b", "--set", "A=c", "@convert"], "given twice"),
        (&["-m", "1k", "@convert"], "resources.memory"),
    ] {
        let refused = refusal(words);
        assert!(refused.code == Some(2) && refused.message.contains(says), "{refused:?}");
    }
}

#[test]
fn a_run_of_an_action_says_what_it_waits_for() {
    let plan = plan(&["--after", "k3m9q2xw:finished", "--not-before", "+2h", "@convert"]);
    let said = plan.action.expect("a run").said;
    assert!(said.contains("after") && said.contains("not_before"), "{said:?}");
    let soon = plan.spec.not_before.expect("a time").since(longshore_common::clock::Timestamp::now());
    assert!((7_190..=7_200).contains(&soon.as_secs()), "{soon:?}");
    assert!(parse(&["--max-parallel", "4", "alpine"]).is_err(), "of what?");
    assert!(parse(&["--each", "a.csv", "--max-parallel", "0", "alpine"]).is_err());
}
