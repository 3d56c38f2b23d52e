use super::*;
use crate::job::{GpuRequest, Input, resources::GIB};
use std::time::Duration;

const FULL: &str = r#"
kind: job
name: finetune-pilot
image: registry.example/rsl/trainer:1.4
command: [python, train.py, --epochs, "20", 7]
env: {BATCH: "64", SEED: 3}
resources: {cpu: 8, memory: 64GiB, shm: 16GiB, scratch: 200GiB, gpu: {count: 2, memory: 40GiB, model: "A100*"}}
inputs:
  init: {job: k3m9q2xw, path: ckpt/}
  web: {url: "https://example.org/x"}
  scans: {dir: ./scans}
outputs: {exclude: ["*.tmp"], max_size: 50GiB}
disconnect_tolerance: 1h
deadlines: {queue: 24h, prepare: 30m, run: 12h, upload: 1h, stop_grace: 30s}
retry: {attempts: 3, backoff: 30s, on: [exit_code], outcomes: {oom_killed: {attempts: 2}, agent_lost: {backoff: 0s}}}
agents: {arch: amd64, site: [zurich, bern]}
"#;

fn errors(text: &str) -> Vec<String> {
    let error = parse(text, "job.yaml").expect_err(text);
    error.to_string().lines().map(ToOwned::to_owned).collect()
}

fn only_error(text: &str) -> String {
    let mut all = errors(text);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

#[test]
fn the_job_file_of_the_documentation_is_read() {
    let jobs = parse(FULL, "job.yaml").expect("good");
    let JobFile { spec, folders, .. } = &jobs[0];
    assert_eq!(
        spec.command.as_deref().map(|words| words.join(" ")).as_deref(),
        Some("python train.py --epochs 20 7")
    );
    assert_eq!((spec.env["BATCH"].as_str(), spec.env["SEED"].as_str()), ("64", "3"));
    assert_eq!((spec.resources.cpu_millis, spec.resources.memory_bytes), (8000, 64 * GIB));
    let gpu = GpuRequest { memory_bytes: 40 * GIB, model: vec!["A100*".into()], ..GpuRequest::of(2) };
    assert_eq!(spec.resources.gpu, Some(gpu));
    assert_eq!(spec.inputs["init"], Input::Job { job: "k3m9q2xw".into(), path: "ckpt/".into() });
    assert_eq!(folders["scans"], PathBuf::from("./scans"));
    assert_eq!(spec.deadlines.queue, Some(Duration::from_secs(86_400)));
    assert_eq!(spec.disconnect_tolerance, Some(Duration::from_secs(3600)));
    assert_eq!((spec.retry.attempts, spec.retry.backoff), (3, Duration::from_secs(30)));
    assert_eq!(spec.agents["arch"], ["amd64"]);
    assert_eq!(spec.agents["site"], ["zurich", "bern"]);
}

#[test]
fn json_and_several_documents_are_read() {
    let jobs =
        parse("{\"image\": \"alpine\"}\n---\nkind: job\nimage: alpine:3\nresources: {cpu: 500m}\n", "x");
    let jobs = jobs.expect("good");
    assert_eq!(jobs[0].spec, JobSpec::for_image("alpine"));
    assert_eq!(jobs[1].spec.resources.cpu_millis, 500);
}

#[test]
fn an_unknown_field_is_named_with_its_place_and_what_was_meant() {
    let text = "image: alpine\nresources:\n  cpu: 1\n  mem0ry: 2GiB\n";
    assert_eq!(
        only_error(text),
        "job.yaml:4: resources.mem0ry: is not a known field; did you mean `memory`?"
    );
}

#[test]
fn all_mistakes_of_all_documents_are_told() {
    let found =
        errors("image: alpine\nimgae: x\nresources: {memory: 64, cpu: -1}\n---\nkind: job\ncommand: [1.5]\n");
    assert_eq!(
        found,
        [
            "job.yaml:2: document 1: imgae: is not a known field; did you mean `image`?",
            "job.yaml:3: document 1: resources.memory: `64` has no unit: write 64GiB, 64MiB or 64GB",
            "job.yaml:3: document 1: resources.cpu: `-1` must be positive",
            "job.yaml:5: document 2: image: is empty: name an image, like `alpine:3.20`",
            "job.yaml:6: document 2: command[0]: is a bare 1.5: quote it as it should be read",
        ]
    );
}

#[test]
fn values_that_do_not_stay_what_was_typed_must_be_quoted() {
    for (value, says) in
        [("true", "quote it, \"true\""), ("1.10", "quote it"), ("", "write \"\""), ("[a]", "list")]
    {
        let error = only_error(&format!("image: alpine\nenv:\n  DEBUG: {value}\n"));
        assert!(error.starts_with("job.yaml:3: env.DEBUG: ") && error.contains(says), "{error}");
    }
}

#[test]
fn secrets_are_named_as_variables_and_as_files() {
    let text =
        "image: alpine\nenv: {A: b, HF_TOKEN: {secret: hf-token}}\nsecrets: {ssh: /run/secrets/id_rsa}\n";
    let spec = parse(text, "x").expect("good").remove(0).spec;
    assert_eq!((spec.env["A"].as_str(), spec.secret_env["HF_TOKEN"].as_str()), ("b", "hf-token"));
    assert_eq!(spec.secret_files["ssh"], "/run/secrets/id_rsa");
    let written = serde_json::to_string(&write(&spec)).expect("JSON");
    assert_eq!(parse(&written, "x").expect("reads back")[0].spec, spec);
    let short = parse("image: alpine\nsecrets: [ssh]\n", "x").expect("good").remove(0).spec;
    assert_eq!(short.secret_files["ssh"], "/run/secrets/ssh");
    let error = only_error("image: alpine\nenv: {A: {secrets: x}}\n");
    assert!(error.contains("secret is"), "{error}");
    let error = only_error("image: alpine\nsecrets: {ssh: /etc/shadow}\n");
    assert!(error.contains("secrets.ssh"), "{error}");
}

#[test]
fn a_command_that_is_a_text_gets_the_two_ways_to_write_it() {
    let error = only_error("image: alpine\ncommand: echo hello\n");
    assert!(error.contains("[echo, hello], or [sh, -c, \"echo hello\"]"), "{error}");
}

#[test]
fn fields_of_later_versions_say_so() {
    let found = errors("image: alpine\ninputs: {s: {s3: d}}\n");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found.iter().all(|line| line.ends_with("is not available in this version")), "{found:#?}");
    assert!(
        only_error("kind: workflow\nimage: alpine\n")
            .contains("kind: is not available in this version: job is")
    );
    assert!(only_error("kind: action\nimage: alpine\n").contains("longshore actions apply -f"));
}

#[test]
fn a_job_can_wait_for_a_time() {
    let at = |text: &str| {
        let jobs = parse(&format!("image: alpine\nnot_before: {text}\n"), "job.yaml").expect("a job");
        jobs[0].spec.not_before.expect("a time")
    };
    assert_eq!(at("2030-01-01T01:00:00+01:00").to_rfc3339(), "2030-01-01T00:00:00Z");
    let soon = at("+2h").since(crate::clock::Timestamp::now()).as_secs();
    assert!((7190..=7200).contains(&soon), "{soon}");
    for text in ["tomorrow", "2h", "+soon", "2030-01-01"] {
        assert!(
            only_error(&format!("image: alpine\nnot_before: {text}\n")).contains("not_before: `"),
            "{text}"
        );
    }
}

#[test]
fn an_input_has_exactly_one_source() {
    let with = |source: &str| format!("image: alpine\ninputs: {{a: {source}}}\n");
    assert!(only_error(&with("{}")).contains("names no source"));
    assert!(only_error(&with("{dir: x, job: y}")).contains("more than one"));
    assert!(only_error(&with("{dir: x, path: y}")).contains("goes with `job`"));
    assert!(only_error(&with("{dir: x, writable: true}")).contains("goes with `share`"));
    let share = with("{share: datasets, path: study, writable: true}");
    assert_eq!(parse(&share, "job.yaml").expect("good").len(), 1);
    assert!(only_error(&with("{url: \"http://x\"}")).contains("only https://"));
    assert!(only_error("image: alpine\ninputs: {Scans: {dir: x}}\n").contains("inputs.Scans: `Scans`"));
}

#[test]
fn an_empty_file_and_a_broken_one_are_errors() {
    assert_eq!(only_error(""), "job.yaml: holds no job");
    assert!(only_error("image: [\n").starts_with("job.yaml:"));
    assert!(only_error("just text").contains("expected"));
}

#[test]
fn every_example_is_a_job() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("examples are there") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|end| end == "yaml") {
            let text = std::fs::read_to_string(&path).expect("readable");
            parse(&text, &path.display().to_string()).unwrap_or_else(|error| panic!("{error}"));
            seen += 1;
        }
    }
    assert!(seen > 0, "no example was found");
}

#[test]
fn the_schema_lists_and_describes_each_field() {
    let schema = schema();
    let fields = schema["properties"].as_object().expect("an object");
    let spec = serde_json::to_value(JobSpec::for_image("x")).expect("json");
    for field in spec.as_object().expect("an object").keys() {
        let described = fields.get(field).and_then(|field| field["description"].as_str());
        assert!(described.is_some_and(|text| !text.is_empty()), "{field} is not in the schema");
    }
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema["$defs"]["ResourcesDocument"]["properties"]["gpu"].is_object());
}

#[test]
fn an_action_of_kleinkram_reads_back() {
    let text = "image: rslethz/a:1\ncontract: kleinkram\naccess: write\nkleinkram: {mission_uuid: \
                0190a8c2-7b5e-7c3a-9f10-3d6f2a1b4c5d, key: {secret: run-key}, files_in_memory: false}\n";
    let spec = parse(text, "x").expect("good").remove(0).spec;
    let said = spec.kleinkram.as_ref().expect("said");
    assert_eq!((said.key.as_deref(), spec.files_in_memory()), (Some("run-key"), false));
    assert!(spec.secrets().contains("run-key"));
    assert_eq!(parse(&write(&spec).to_string(), "x").expect("good")[0].spec, spec);
    for rest in ["", "resources: {pids: 4096}\n"] {
        let text = format!("image: rslethz/a:1\ncontract: kleinkram\n{rest}");
        let spec = parse(&text, "x").expect("the project may say the rest").remove(0).spec;
        assert_eq!(spec.resources.pids, if rest.is_empty() { 256 } else { 4096 });
        assert_eq!(parse(&write(&spec).to_string(), "x").expect("good")[0].spec, spec);
    }
    let error = only_error("image: a\ncontract: kleinkram\nkleinkram: {key: 0190a8c2}\n");
    assert!(error.contains("{secret: NAME}") && !error.contains("0190a8c2"), "{error}");
    assert!(only_error("image: a\naccess: read_write\ncontract: kleinkram\n").contains("access"));
}

#[test]
fn what_is_written_reads_back() {
    let example = include_str!("../../../../examples/finetune.yaml");
    for (job, least) in parse(example, "x").expect("good").into_iter().zip([15, 3]) {
        let document = write(&job.spec);
        assert!(document.as_object().is_some_and(|fields| fields.len() >= least), "{document}");
        let text = serde_json::to_string(&document).expect("json");
        assert_eq!(parse(&text, "x").expect("good")[0].spec, job.spec);
    }
}

/// Looking through all keys for each of them took minutes.
#[test]
fn a_great_many_variables_are_read_in_no_time() {
    let mut text = String::from("kind: job\nimage: alpine\nenv:\n");
    for number in 0..50_000 {
        text.push_str(&format!("  V{number}: x\n"));
    }
    let began = std::time::Instant::now();
    assert_eq!(parse(&text, "x").expect("good")[0].spec.env.len(), 50_000);
    assert!(began.elapsed() < std::time::Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn everything_that_can_be_asked_of_a_machine_reads_back() {
    let text = r#"
image: trainer
resources:
  exclusive: true
  gpu: {count: 4, memory: 40GiB, model: ["A100*", "!*PCIe*"], capability: "8.0", driver: 535, cuda: ">=12.2", nvlink: true}
agents: {arch: amd64, site: {in: [bern, zurich], not_in: [basel]}, ssd: {exists: true}, rack: {gt: 3, lt: 9}}
"#;
    let spec = parse(text, "x").expect("good").remove(0).spec;
    let gpu = spec.resources.gpu.as_ref().expect("asked for");
    assert_eq!((gpu.model.len(), gpu.nvlink, spec.resources.exclusive), (2, true, true));
    let versions = [&gpu.capability, &gpu.driver, &gpu.cuda].map(|v| v.as_ref().expect("said").to_string());
    assert_eq!(versions, ["8.0", "535", "12.2"]);
    let rules: Vec<_> = spec.agent_rules.iter().map(ToString::to_string).collect();
    assert_eq!(rules, ["rack>3", "rack<9", "site=bern|zurich", "site!=basel", "ssd"]);
    let again = parse(&write(&spec).to_string(), "x").expect("its own writing").remove(0).spec;
    assert_eq!(again, spec);
    let part = "image: x\nresources: {gpu: {mig: 1g.10gb}}\n---\nimage: x\nresources: {gpu: {shared: true, memory: 8GiB}}";
    for job in parse(part, "x").expect("good") {
        assert_eq!(parse(&write(&job.spec).to_string(), "x").expect("good").remove(0).spec, job.spec);
    }
}

#[test]
fn wrong_words_about_a_machine_are_told_at_once() {
    let text = "image: x\nresources:\n  gpu:\n    capability: 8.0\n    cuda: newest\n    model: [A100*, 'A[']\n\
                agents:\n  ssd: true\n  rack: {above: 3}\n  site: {not_in: []}\n";
    let error = parse(text, "job.yaml").expect_err("wrong in six places").to_string();
    for says in [
        "job.yaml:4: resources.gpu.capability: is a bare 8.0: quote it",
        "job.yaml:5: resources.gpu.cuda: `newest` is not a version",
        "job.yaml:6: resources.gpu.model[1]: `A[`",
        "job.yaml:8: agents.ssd: is a bare true",
        "job.yaml:9: agents.rack.above: is not a known field",
        "job.yaml:10: agents.site: names no value",
    ] {
        assert!(error.contains(says), "{says} is not in\n{error}");
    }
}
