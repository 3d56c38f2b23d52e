//! What is applied, and the actions it names.

use super::*;

#[tokio::test]
async fn an_apply_says_what_it_does_and_does_all_of_it_or_nothing() {
    let bench = Bench::new().await;
    let change = async |spec: TriggerSpec, dry_run| {
        let mut done =
            bench.triggers.apply("default", vec![spec], &bench.owner, dry_run).await.expect("taken");
        let one = done.pop().expect("one");
        (one.change, one.changed)
    };
    let spec = trigger("t", cron("0 3 * * *", "UTC", Missed::Once));
    assert_eq!(change(spec.clone(), true).await.0, "created");
    assert_eq!(
        bench.triggers.list("default", "", 500).await.expect("listed").items.len(),
        0,
        "a dry run does nothing"
    );
    assert_eq!(change(spec.clone(), false).await.0, "created");
    assert_eq!(change(spec.clone(), false).await.0, "unchanged");
    let mut other = spec.clone();
    other.overlap = Overlap::Queue;
    other.when = cron("0 4 * * *", "UTC", Missed::Once);
    assert_eq!(change(other, false).await, ("changed", vec!["cron".to_owned(), "overlap".to_owned()]));
    let mut secret = spec.clone();
    let Run::Job(job) = &mut secret.run else { unreachable!("made so above") };
    job.secret_env.insert("TOKEN".into(), "gone".into());
    secret.name = "u".into();
    let wrong = vec![trigger("v", hook(1)), secret, trigger("w", objects_of("nowhere"))];
    let error = bench.triggers.apply("default", wrong, &bench.owner, false).await.expect_err("wrong");
    let error = error.to_string();
    assert!(
        error.contains("triggers[1].job.env.TOKEN.secret") && error.contains("triggers[2].objects.source"),
        "{error}"
    );
    assert_eq!(bench.triggers.list("default", "", 500).await.expect("listed").items.len(), 1);
    assert!(bench.triggers.get("other", "t").await.is_err(), "another project's is not there");
}

#[tokio::test]
async fn an_action_is_started_by_its_name_with_the_parameters_that_it_lets_be_set() {
    let bench = Bench::new().await;
    let actions = Actions::new(&bench.jobs);
    let put = async |default: &str| {
        let mut action = Action::new("convert", "busybox:1");
        let file = Parameter { required: true, ..Parameter::default() };
        let quality = Parameter { default: Some(default.to_owned()), ..Parameter::default() };
        let seed = Parameter { default: Some("7".to_owned()), adjustable: false, ..Parameter::default() };
        action.inputs.insert("model".into(), ActionInput::default());
        action.parameters = [("FILE", file), ("QUALITY", quality), ("SEED", seed)]
            .map(|(name, parameter)| (name.to_owned(), parameter))
            .into();
        let asked = Asked { project: "default".into(), request: None, by: "anna".into() };
        actions.apply(asked, action, None).await.expect("applied")
    };
    put("80").await;
    let target = |version| Run::Action(ActionRef { name: "convert".into(), version });
    let with = |name: &str, version, set: &[(&str, &str)]| {
        let mut spec = TriggerSpec::new(name, hook(60), target(version));
        let setting =
            |(name, pointer): &(&str, &str)| ((*name).to_owned(), Setting::Payload((*pointer).to_owned()));
        spec.set = set.iter().map(setting).collect();
        spec
    };
    bench.apply(with("newest", None, &[("FILE", "/key")])).await;
    bench.apply(with("pinned", Some(1), &[("FILE", "/key")])).await;
    put("95").await;
    for (name, version, quality) in [("newest", 2, "95"), ("pinned", 1, "80")] {
        let evil = json!({"key": "a.bag", "SEED": "8", "image": "evil"});
        let fired = bench.triggers.fire(("default", name), evil, "test", None).await.expect("fired");
        let made = bench.job_of(&fired).await;
        let action = made.action.clone().expect("a run of an action");
        assert_eq!((action.name.as_str(), action.version), ("convert", version));
        let env: Vec<_> = made.spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(env, ["FILE=a.bag".to_owned(), format!("QUALITY={quality}"), "SEED=7".to_owned()]);
        assert_eq!((made.spec.image.as_str(), made.name.as_str()), ("busybox:1", "convert"));
    }
    let refused =
        bench.triggers.fire(("default", "newest"), json!({}), "test", None).await.expect("answered");
    assert!(refused.reason.contains("set.FILE: is missing"), "{refused:?}");
    let wrong = [
        with("a", None, &[]),
        with("b", None, &[("FILE", "/key"), ("SEED", "/seed"), ("HOME", "/home")]),
        with("c", Some(9), &[]),
    ];
    let error = bench.triggers.apply("default", wrong.into(), &bench.owner, false).await.expect_err("wrong");
    for says in [
        "triggers[0].set.FILE: is missing",
        "triggers[1].set.SEED: is fixed by convert",
        "triggers[1].set.HOME: is no parameter",
        "triggers[2].action: action convert has no version 9",
    ] {
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}

#[tokio::test]
async fn one_that_could_never_fire_is_not_applied() {
    let bench = Bench::new().await;
    let actions = Actions::new(&bench.jobs);
    let asked = || Asked { project: "default".into(), request: None, by: "anna".into() };
    let mut action = Action::new("convert", "busybox:1");
    action.inputs.insert("bag".into(), ActionInput { required: true, ..ActionInput::default() });
    action.inputs.insert("model".into(), ActionInput { adjustable: false, ..ActionInput::default() });
    actions.apply(asked(), action, None).await.expect("applied");
    let run = || Run::Action(ActionRef { name: "convert".into(), version: None });
    let with = |input: Option<&str>| {
        let When::Objects(mut asked) = objects_of("lab") else { unreachable!("it is of objects") };
        asked.input = input.map(str::to_owned);
        TriggerSpec::new("t", When::Objects(asked), run())
    };
    let tell = async |spec| {
        let told = bench.triggers.apply("default", vec![spec], &bench.owner, true).await;
        told.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let needs = "convert needs the input `bag`, and this trigger gives it none";
    assert!(tell(TriggerSpec::new("t", hook(60), run())).await.contains(needs));
    assert!(tell(with(Some("bug"))).await.contains("`bug` is no input of convert"));
    assert!(tell(with(Some("model"))).await.contains("`model` is fixed by convert"));
    actions.archive(asked(), "convert").await.expect("archived");
    assert!(tell(with(Some("bag"))).await.contains("actions restore convert"));
}

#[tokio::test]
async fn a_run_of_an_action_says_which_mission_and_its_labels() {
    let bench = Bench::new().await;
    let actions = Actions::new(&bench.jobs);
    let mut action = Action::new("check", "rslethz/check:1");
    action.job.contract = "kleinkram".into();
    action.job.labels.insert("kind".into(), "check".into());
    let asked = Asked { project: "default".into(), request: None, by: "anna".into() };
    actions.apply(asked, action, None).await.expect("applied");
    let mut spec =
        TriggerSpec::new("t", hook(60), Run::Action(ActionRef { name: "check".into(), version: None }));
    spec.labels.insert("team".into(), "rsl".into());
    let mission = "1b671a64-40d5-491e-99b0-da01ff1f3341";
    spec.kleinkram = Some(Kleinkram {
        mission_uuid: Some(mission.into()),
        project_uuid: Some(mission.into()),
        api_endpoint: Some("https://api.example.org".into()),
        s3_endpoint: Some("https://s3.example.org".into()),
        key: Some("RUN_KEY".into()),
        ..Kleinkram::default()
    });
    bench.apply(spec).await;
    let evil = json!({"kleinkram": {"mission_uuid": "other"}, "labels": {"team": "x"}});
    let row = bench.triggers.row("default", "t").expect("there");
    let make::Made::Run(invocation, said) = make::made(&row, &evil).expect("made") else {
        panic!("it is a run of an action")
    };
    let job = actions.job("default", &invocation, &said).await.expect("resolved").0;
    assert_eq!(job.kleinkram.expect("said").mission_uuid.as_deref(), Some(mission));
    let labels: Vec<_> = job.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(labels, ["kind=check", "team=rsl"]);
}

#[tokio::test]
async fn a_list_comes_in_pages_that_messages_hold() {
    let bench = Bench::new().await;
    let specs = (0..7).map(|n| {
        let mut job = job();
        job.env.insert("BULK".into(), "x".repeat(800_000));
        TriggerSpec::new(format!("t{n}"), hook(60), Run::Job(Box::new(job)))
    });
    bench.triggers.apply("default", specs.collect(), &bench.owner, false).await.expect("applied");
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let page = bench.triggers.list("default", &after, 500).await.expect("listed");
        assert!(page.items.len() <= 3, "{}", page.items.len());
        names.extend(page.items.into_iter().map(|view| view.spec.name));
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(names, (0..7).map(|n| format!("t{n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_fire_with_a_used_request_and_another_payload_is_told() {
    let bench = Bench::new().await;
    bench.apply(trigger("t", hook(60))).await;
    let fire = async |payload| bench.triggers.fire(("default", "t"), payload, "test", Some("r1")).await;
    let first = fire(json!({"a": 1})).await.expect("fired");
    assert_eq!(fire(json!({"a": 1})).await.expect("the same").id, first.id);
    let other = fire(json!({"a": 2})).await.expect_err("another");
    assert!(other.to_string().contains("`r1` was used"), "{other}");
}
