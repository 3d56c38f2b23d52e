use super::*;
use crate::job::Input;
use proptest::prelude::*;

const FULL: &str = r#"
kind: action
name: convert
description: |
  Turns bags into films.
  One film per camera.
image: registry.example/rsl/convert:2
entrypoint: [python, /app/convert.py]
command: [--all, "20"]
env:
  LOG: debug
  HF_TOKEN: {secret: hf-token}
  EPOCHS: {type: int, default: 20, min: 1, max: 500, description: how often}
  RATE: {type: number, default: 0.1, max: 1}
  FAST: {type: bool, default: false}
  FORMAT: {type: choice, choices: [mp4, mkv], required: true}
  LEVEL: {choices: [low, high], default: low, adjustable: false}
  NAME: {pattern: "[a-z]+"}
inputs:
  bags: {required: true, description: what is converted}
  weights: {share: models, path: v3, adjustable: false}
resources: {cpu: 4, memory: 8GiB, gpu: {count: 1}}
deadlines: {run: 2h}
retry: {attempts: 2}
labels: {team: rsl}
adjustable: [resources.memory, deadlines]
"#;

fn errors(text: &str) -> Vec<String> {
    let error = parse_actions(text, "action.yaml").expect_err(text);
    error.to_string().lines().map(ToOwned::to_owned).collect()
}

#[test]
fn everything_an_author_can_say_is_read_and_written_as_the_same() {
    let action = parse_actions(FULL, "x").expect("good").remove(0);
    assert_eq!((action.name.as_str(), action.summary()), ("convert", "Turns bags into films."));
    assert_eq!(action.job.env.keys().collect::<Vec<_>>(), ["LOG"]);
    assert_eq!(action.job.secret_env["HF_TOKEN"], "hf-token");
    assert_eq!(action.job.name, None);
    let of = |name: &str| &action.parameters[name];
    assert_eq!((of("EPOCHS").kind, of("EPOCHS").default.as_deref()), (Kind::Int, Some("20")));
    assert_eq!((of("RATE").kind, of("RATE").default.as_deref()), (Kind::Number, Some("0.1")));
    assert_eq!((of("FAST").kind, of("FAST").default.as_deref()), (Kind::Bool, Some("false")));
    assert_eq!((of("LEVEL").kind, of("LEVEL").adjustable), (Kind::Choice, false));
    assert_eq!((of("NAME").kind, of("NAME").default.as_deref()), (Kind::String, None));
    assert!(of("FORMAT").required && of("FORMAT").adjustable);
    assert!(matches!(&action.inputs["weights"].source, Some(Input::Share(share)) if share.share == "models"));
    assert!(action.inputs["bags"].required && action.inputs["bags"].source.is_none());
    let written = write_action(&action);
    assert_eq!(written["env"]["EPOCHS"]["default"], 20);
    assert_eq!(parse_actions(&written.to_string(), "x").expect("its own writing"), [action]);
}

#[test]
fn all_mistakes_of_all_documents_are_told_with_their_lines() {
    let text = "kind: action\nname: Convert\nimgae: alpine\nenv:\n  A: {type: int, default: many}\n  B: true\n  C: {typ: int}\n\
                inputs:\n  x: {dir: ./x}\n---\nkind: job\nimage: alpine\n---\nkind: action\nname: b\nimage: alpine\n\
                action: other\nadjustable: [resources.memry]\n---\nkind: action\nname: c\nimage: x\nenv: {D: {default: true}}\n";
    assert_eq!(
        errors(text),
        [
            "action.yaml:1: document 1: image: is empty: name an image, like `alpine:3.20`",
            "action.yaml:2: document 1: name: `Convert`: a name is 1 to 63 of a-z, 0-9, `_`, `.`, `-`, and starts with a letter or digit",
            "action.yaml:3: document 1: imgae: is not a known field; did you mean `image`?",
            "action.yaml:5: document 1: env.A.default: `many` is not a whole number",
            "action.yaml:6: document 1: env.B: is a bare true: quote it, \"true\"",
            "action.yaml:7: document 1: env.C.typ: is not a known field; did you mean `type`?",
            "action.yaml:9: document 1: inputs.x.dir: is not a known field; known are description, required, adjustable, uploaded, job, share, path, writable, url",
            "action.yaml:11: document 2: kind: is job: `longshore submit -f` takes those",
            "action.yaml:17: document 3: action: is said by a run, not by an action",
            "action.yaml:18: document 3: adjustable: `resources.memry` is no field that a run can say; did you mean `resources.memory`?",
            "action.yaml:23: document 4: env.D.default: is a bare true: quote it, \"true\"",
        ]
    );
}

#[test]
fn a_name_is_there_once() {
    let one = "kind: action\nname: a\nimage: alpine\n";
    assert_eq!(
        errors(&format!("{one}---\n{one}")),
        ["action.yaml:6: document 2: name: `a` is there twice in this file"]
    );
    assert_eq!(errors(""), ["action.yaml: holds no action"]);
    assert_eq!(errors("image: alpine\n"), ["action.yaml:1: kind: is missing: write `kind: action`"]);
}

#[test]
fn the_schema_describes_what_is_the_actions_own_and_what_is_a_jobs() {
    let schema = action_schema();
    for field in ["name", "description", "env", "inputs", "adjustable", "image", "resources", "retry"] {
        let described = schema["properties"][field]["description"].as_str();
        assert!(described.is_some_and(|text| !text.is_empty()), "{field}");
    }
    assert!(schema["properties"].get("set").is_none(), "a run says that");
    assert!(schema["$defs"]["ParameterDocument"]["properties"]["pattern"].is_object());
    assert_eq!(
        schema["properties"]["env"]["additionalProperties"]["anyOf"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn a_job_names_an_action_and_what_it_says_of_it() {
    let text = "kind: job\naction: convert@3\nset: {FAST: true, RATE: 0.5, N: 3, NOTE: x}\nname: n\n\
                labels: {a: b}\nresources: {memory: 4GiB}\ndeadlines: {run: 1h}\ninputs: {bags: {dir: ./bags}}\n";
    let job = super::super::parse(text, "x").expect("good").remove(0);
    let said = job.action.expect("an action");
    assert_eq!(said.action.to_string(), "convert@3");
    let set: Vec<_> = said.set.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(set, ["FAST=true", "N=3", "NOTE=x", "RATE=0.5"]);
    let paths: Vec<_> = said.said.iter().map(String::as_str).collect();
    assert_eq!(paths, ["deadlines.run", "labels", "name", "resources.memory"]);
    assert_eq!((job.spec.image.as_str(), job.spec.resources.memory_bytes), ("", 4 << 30));
    assert!(job.folders.contains_key("bags"));
    for (text, says) in [
        ("action: convert\nimage: alpine\n", "image: belongs to the action"),
        ("action: Convert It\n", "action: `Convert It` names no action"),
        ("image: alpine\nset: {A: b}\n", "set: goes with `action: NAME`"),
        ("action: convert\nresources: {memory: 4}\n", "resources.memory: `4` has no unit"),
    ] {
        let error = super::super::parse(text, "x").expect_err(text).to_string();
        assert!(error.contains(says) && error.lines().count() == 1, "{error}");
    }
}

fn parameters() -> impl Strategy<Value = Parameter> {
    let words = prop::sample::subsequence(vec!["a", "true", "1", "x y", "ü: #", "- z", ""], 1..4);
    let int = (any::<i64>(), any::<bool>()).prop_map(|(n, required)| Parameter {
        kind: Kind::Int,
        required,
        default: (!required).then(|| n.to_string()),
        max: Some(n.max(7).to_string()),
        ..Parameter::default()
    });
    let number = any::<f32>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| Parameter {
        kind: Kind::Number,
        default: Some(n.to_string()),
        ..Parameter::default()
    });
    let truth = any::<bool>().prop_map(|t| Parameter {
        kind: Kind::Bool,
        default: Some(t.to_string()),
        adjustable: t,
        ..Parameter::default()
    });
    let choice = words.prop_map(|words| {
        let choices: Vec<_> = words.into_iter().map(str::to_owned).collect();
        Parameter { kind: Kind::Choice, default: choices.first().cloned(), choices, ..Parameter::default() }
    });
    let text = ("\\PC{0,12}", "\\PC{0,20}").prop_map(|(default, description)| Parameter {
        default: Some(default),
        description: description.trim_end().to_owned(),
        ..Parameter::default()
    });
    prop_oneof![int, number, truth, choice, text]
}

proptest! {
    /// What `show -o yaml` prints is taken back as the same version.
    #[test]
    fn what_is_written_is_the_same_action(
        parameters in prop::collection::btree_map("[A-Z_]{1,8}", parameters(), 0..6),
        description in "\\PC{0,40}",
        memory in 8u64..4096,
        marked in prop::sample::subsequence(crate::action::ADJUSTABLE.to_vec(), 0..4),
    ) {
        let mut action = Action::new("a", "alpine:3");
        action.parameters = parameters;
        action.description = description.trim_end().to_owned();
        action.job.resources.memory_bytes = memory << 20;
        action.adjustable = marked.into_iter().map(str::to_owned).collect();
        prop_assume!(validate(&action).is_ok());
        let text = write_action(&action).to_string();
        prop_assert_eq!(parse_actions(&text, "x").expect("its own writing"), vec![action]);
    }
}
