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
    assert_eq!(bench.triggers.list("default").await.expect("listed").len(), 0, "a dry run does nothing");
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
    assert_eq!(bench.triggers.list("default").await.expect("listed").len(), 1);
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
