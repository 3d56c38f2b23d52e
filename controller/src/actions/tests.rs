use super::*;
use crate::{
    jobs::{self, JobAction, NewJob, Order as NewOrder},
    store::{self, Store},
};
use longshore_common::{action::Parameter, job::JobSpec};
use std::collections::{BTreeMap, BTreeSet};

struct Bench {
    actions: Actions,
    jobs: Jobs,
    _folder: tempfile::TempDir,
}

async fn bench() -> Bench {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("controller.db");
    let store = Store::open(&store::Config { path, ..store::Config::default() }).await.expect("opens");
    let jobs = Jobs::start(store, jobs::Config::default()).await.expect("starts");
    Bench { actions: Actions::new(&jobs), jobs, _folder: folder }
}

fn asked(project: &str) -> Asked {
    Asked { project: project.to_owned(), request: None, by: "token anna".to_owned() }
}

fn once(id: &str, digest: u8) -> Asked {
    Asked { request: Some((id.to_owned(), vec![digest])), ..asked("lab") }
}

fn convert(image: &str) -> Action {
    let mut action = Action::new("convert", image);
    let level = Parameter { default: Some("low".into()), ..Parameter::default() };
    action.parameters.insert("LEVEL".into(), level);
    action
}

impl Bench {
    async fn apply(&self, image: &str) -> Applied {
        self.actions.apply(asked("lab"), convert(image), None).await.expect("applied")
    }
}

#[tokio::test]
async fn a_change_is_a_version_and_the_same_again_is_none() {
    let bench = bench().await;
    let first = bench.apply("a:1").await;
    assert_eq!((first.view.version, first.changed, first.changes.is_empty()), (1, true, false));
    let again = bench.apply("a:1").await;
    assert_eq!((again.view.version, again.changed, again.changes.len()), (1, false, 0));
    let dry = bench.actions.rehearse(&asked("lab"), convert("a:2"), None).await.expect("rehearsed");
    assert_eq!((dry.view.version, dry.changed), (2, true));
    assert_eq!(
        bench.actions.get("lab", "convert", 0).await.expect("there").version,
        1,
        "nothing was written"
    );
    let second = bench.apply("a:2").await;
    let paths: Vec<_> = second.changes.iter().map(|change| change.path.as_str()).collect();
    assert_eq!((second.view.version, paths), (2, vec!["image"]));
    let old = bench.actions.get("lab", "convert", 1).await.expect("it stays");
    assert_eq!((old.action.job.image.as_str(), old.latest), ("a:1", 2));
    let (from, to, changes) = bench.actions.diff("lab", "convert", (0, 0)).await.expect("compared");
    assert_eq!((from, to, changes.len()), (1, 2, 1));
    let error = bench.actions.get("lab", "convert", 7).await.expect_err("no such version").to_string();
    assert!(error.contains("no version 7: the latest is 2"), "{error}");
}

#[tokio::test]
async fn what_is_another_projects_is_not_there_and_a_slip_is_told() {
    let bench = bench().await;
    bench.apply("a:1").await;
    for (project, name, says) in
        [("other", "convert", "project `other` has no action"), ("lab", "convrt", "did you mean `convert`?")]
    {
        let error = bench.actions.get(project, name, 0).await.expect_err("not there").to_string();
        assert!(error.contains(says), "{error}");
        let error = bench.actions.archive(asked(project), name).await.expect_err("not there").to_string();
        assert!(error.contains(says), "{error}");
    }
    let other = bench.actions.apply(asked("other"), convert("b:1"), None).await.expect("applied");
    assert_eq!(other.view.version, 1, "each project counts for itself");
}

#[tokio::test]
async fn many_at_once_make_as_many_versions_and_none_twice() {
    let bench = bench().await;
    let all = (0..24).map(|n| {
        let actions = bench.actions.clone();
        async move { actions.apply(asked("lab"), convert(&format!("a:{n}")), None).await.expect("applied") }
    });
    let applied = futures::future::join_all(all).await;
    let versions: BTreeSet<_> = applied.iter().map(|applied| applied.view.version).collect();
    assert_eq!(versions, (1..=24).collect());
    for one in applied {
        let kept = bench.actions.get("lab", "convert", one.view.version).await.expect("kept");
        assert_eq!(kept.action, one.view.action);
    }
    let page = bench.actions.versions("lab", "convert", 10, "").await.expect("listed");
    assert_eq!(
        page.items.iter().map(|view| view.version).collect::<Vec<_>>(),
        (15..=24).rev().collect::<Vec<_>>()
    );
    let rest =
        bench.actions.versions("lab", "convert", 100, &page.next.expect("more")).await.expect("listed");
    assert_eq!((rest.items.len(), rest.next), (14, None));
}

#[tokio::test]
async fn whoever_expects_another_version_is_told_and_changes_nothing() {
    let bench = bench().await;
    let apply = |image: &str, version| bench.actions.apply(asked("lab"), convert(image), Some(version));
    assert!(apply("a:1", 1).await.is_err(), "there is none yet");
    apply("a:1", 0).await.expect("the first");
    apply("a:2", 1).await.expect("as expected");
    let error = apply("a:3", 1).await.expect_err("it is 2 by now");
    assert!(matches!(error, Error::Moved { asked: 1, latest: 2, .. }), "{error}");
    assert_eq!(bench.actions.get("lab", "convert", 0).await.expect("there").version, 2);
}

#[tokio::test]
async fn a_repeated_request_is_answered_as_before_whatever_came_after() {
    let bench = bench().await;
    let first = bench.actions.apply(once("r", 1), convert("a:1"), None).await.expect("applied");
    bench.apply("a:2").await;
    let again = bench.actions.apply(once("r", 1), convert("a:1"), None).await.expect("known");
    assert_eq!((again.view.version, again.changed), (first.view.version, true));
    assert_eq!(
        bench.actions.get("lab", "convert", 0).await.expect("there").version,
        2,
        "and makes no third one"
    );
    let other = bench.actions.apply(once("r", 2), convert("a:3"), None).await.expect_err("another body");
    assert!(matches!(other, Error::RequestReused { .. }), "{other}");
}

#[tokio::test]
async fn an_archived_action_takes_no_jobs_and_no_versions_until_it_is_restored() {
    let bench = bench().await;
    bench.apply("a:1").await;
    bench.apply("a:2").await;
    let archived = bench.actions.archive(asked("lab"), "convert").await.expect("archived");
    assert_eq!(archived.archived.expect("it is").by, "token anna");
    let listed = |archived| ListFilter { project: "lab".into(), archived, ..ListFilter::default() };
    assert_eq!(bench.actions.list(&listed(false), 10, "").await.expect("listed").items.len(), 0);
    assert_eq!(bench.actions.list(&listed(true), 10, "").await.expect("listed").items.len(), 1);
    let run = Invocation {
        action: "convert@1".parse().expect("a name"),
        set: BTreeMap::new(),
        said: BTreeSet::new(),
    };
    let said = JobSpec::for_image("");
    let refused = bench.actions.job("lab", &run, &said).await.expect_err("archived").to_string();
    assert!(refused.contains("`longshore actions restore convert`"), "{refused}");
    assert!(bench.actions.apply(asked("lab"), convert("a:3"), None).await.is_err());

    let back = bench.actions.restore(asked("lab"), "convert", 0).await.expect("restored");
    assert_eq!((back.view.version, back.changed, back.view.archived), (2, false, None));
    let (spec, view) = bench.actions.job("lab", &run, &said).await.expect("a job again");
    assert_eq!((spec.image.as_str(), spec.env["LEVEL"].as_str(), view.version), ("a:1", "low", 1));
    let old = bench.actions.restore(asked("lab"), "convert", 1).await.expect("restored");
    assert_eq!((old.view.version, old.changed, old.view.restored_from), (3, true, Some(1)));
    assert_eq!(old.view.action.job.image, "a:1");
    let again = bench.actions.restore(asked("lab"), "convert", 1).await.expect("it is so");
    assert_eq!((again.view.version, again.changed), (3, false));
    assert!(bench.actions.restore(asked("lab"), "convert", 9).await.is_err());
}

#[tokio::test]
async fn use_is_counted_by_version_and_outlasts_the_jobs() {
    let bench = bench().await;
    bench.apply("a:1").await;
    bench.apply("a:2").await;
    let order = |version| {
        let spec = JobSpec::for_image("a:1");
        let new = NewJob {
            request_id: None,
            project: "lab".into(),
            spec,
            retry_of: None,
            own: Vec::new(),
            submitter: None,
        };
        NewOrder::of_action(new, JobAction { name: "convert".into(), version }, Vec::new())
    };
    let made = bench.jobs.submit(vec![order(1), order(1), order(2)]).await.expect("stored");
    let ids: Vec<_> = made.into_iter().map(|one| one.expect("taken").job.id).collect();
    let job = bench.jobs.get(ids[0]).await.expect("there");
    assert_eq!(job.action, Some(JobAction { name: "convert".into(), version: 1 }));
    bench.jobs.cancel(ids.clone(), "anna", "").await.expect("cancelled");
    bench.jobs.cancel(ids.clone(), "anna", "twice").await.expect("so it is");
    let filter = jobs::JobFilter {
        action: Some("convert".into()),
        action_version: Some(1),
        ..jobs::JobFilter::default()
    };
    assert_eq!(bench.jobs.list(&filter, 10, "").await.expect("listed").items.len(), 2);
    let again = bench.jobs.retry(ids[0], None, None, None).await.expect("stored").expect("taken");
    assert_eq!(again.job.action, job.action, "a retry is of the same version");
    bench.jobs.remove(ids).await.expect("removed");
    let usage = |view: &ActionView| (view.usage.jobs, view.usage.cancelled, view.usage.used_at.is_some());
    let one = bench.actions.get("lab", "convert", 1).await.expect("there");
    assert_eq!(usage(&one), (3, 2, true));
    assert_eq!(usage(&bench.actions.get("lab", "convert", 2).await.expect("there")), (1, 1, true));
    let filter = ListFilter { project: "lab".into(), ..ListFilter::default() };
    let all = bench.actions.list(&filter, 10, "").await.expect("listed").items;
    assert_eq!((all.len(), usage(&all[0])), (1, (4, 3, true)));
}

#[tokio::test]
async fn lists_are_by_name_and_label_page_by_page() {
    let bench = bench().await;
    for name in ["c", "a", "b"] {
        let mut action = Action::new(name, "x");
        action.job.labels.insert("team".into(), if name == "b" { "rsl" } else { "asl" }.into());
        bench.actions.apply(asked("lab"), action, None).await.expect("applied");
    }
    let names =
        |page: &Page<ActionView>| page.items.iter().map(|view| view.action.name.clone()).collect::<Vec<_>>();
    let mut filter = ListFilter { project: "lab".into(), ..ListFilter::default() };
    let first = bench.actions.list(&filter, 2, "").await.expect("listed");
    assert_eq!(names(&first), ["a", "b"]);
    let token = first.next.expect("there is more");
    assert_eq!(names(&bench.actions.list(&filter, 2, &token).await.expect("listed")), ["c"]);
    filter.labels.insert("team".into(), "asl".into());
    assert!(bench.actions.list(&filter, 2, &token).await.is_err(), "a token of another list");
    assert_eq!(names(&bench.actions.list(&filter, 2, "").await.expect("listed")), ["a", "c"]);
}

#[tokio::test]
async fn lists_of_large_actions_are_cut_before_they_pass_the_limit_of_a_message() {
    let bench = bench().await;
    let large = |name: &str, image: &str| {
        let mut action = Action::new(name, image);
        action.description = "x".repeat(1 << 20);
        action
    };
    for name in ["a", "b", "c", "d", "e"] {
        bench.actions.apply(asked("lab"), large(name, "a:1"), None).await.expect("applied");
        bench.actions.apply(asked("lab"), large("a", &format!("a:{name}")), None).await.expect("applied");
    }
    let filter = ListFilter { project: "lab".into(), ..ListFilter::default() };
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let page = bench.actions.list(&filter, 500, &token).await.expect("listed");
        assert!((1..=3).contains(&page.items.len()), "{}", page.items.len());
        names.extend(page.items.iter().map(|view| view.action.name.clone()));
        let Some(next) = page.next else { break };
        token = next;
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let page = bench.actions.versions("lab", "a", 500, "").await.expect("listed");
    let versions: Vec<_> = page.items.iter().map(|view| view.version).collect();
    assert_eq!((versions, page.next.is_some()), (vec![6, 5], true));
}
