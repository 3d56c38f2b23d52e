use super::*;
use crate::{
    jobs::NewJob,
    store::{self, Store},
};

async fn jobs(folder: &Path) -> (Store, Jobs) {
    let path = folder.join("longshore.db");
    let store = Store::open(&store::Config { path, ..store::Config::default() }).await.expect("opened");
    let jobs = Jobs::start(store.clone(), crate::jobs::Config::default()).await.expect("started");
    (store, jobs)
}

fn uses(names: &[&str]) -> JobSpec {
    let mut spec = JobSpec::for_image("registry.example:5000/app:1");
    spec.secret_env = names.iter().map(|name| (name.to_uppercase(), (*name).to_owned())).collect();
    spec
}

fn holds(folder: &Path, text: &[u8]) -> bool {
    std::fs::read_dir(folder).expect("there").flatten().any(|file| {
        std::fs::read(file.path()).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text))
    })
}

#[tokio::test]
async fn a_value_comes_out_for_its_own_project_alone_and_is_nowhere_on_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, jobs) = jobs(folder.path()).await;
    let secrets = Secrets::start(&jobs, &Config::default(), folder.path()).await.expect("started");
    let job = JobId::new();
    secrets.set("lab", "token", b"correct-horse", "anna").await.expect("set");
    secrets
        .set_registry("lab", "registry.example:5000", ("bot", b"battery-staple"), "anna")
        .await
        .expect("set");
    let opened = secrets.open(job, "lab", &uses(&["token"])).await.expect("open");
    assert_eq!(&opened.values["token"][..], b"correct-horse");
    let (host, user, password) = opened.login.expect("there");
    assert_eq!(
        (host.as_str(), user.as_str(), &password[..]),
        ("registry.example:5000", "bot", &b"battery-staple"[..])
    );
    assert!(matches!(secrets.open(job, "other", &uses(&["token"])).await, Err(Error::NoSecret { .. })));
    assert!(secrets.open(job, "other", &uses(&[])).await.expect("nothing").login.is_none());
    let mut errors = FieldErrors::new();
    secrets.check("lab", &uses(&["token", "gone", "own"]), &["own"], &mut errors);
    assert_eq!(errors.to_string().matches("has no secret").count(), 1, "{errors}");
    assert!(errors.to_string().contains("env.GONE.secret"), "{errors}");
    let listed = format!("{:?} {secrets:?}", secrets.list("lab", SecretKind::Secret));
    assert!(listed.contains("token") && !listed.contains("correct-horse"));
    store.close().await;
    assert!(!holds(folder.path(), b"correct-horse") && !holds(folder.path(), b"battery-staple"));
    assert!(holds(folder.path(), b"registry.example:5000"), "the test looks where the rows are");
}

#[tokio::test]
async fn another_key_opens_nothing_and_a_rotation_opens_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, jobs) = jobs(folder.path()).await;
    let secrets = Secrets::start(&jobs, &Config::default(), folder.path()).await.expect("started");
    secrets.set("lab", "token", b"correct-horse", "anna").await.expect("set");
    let own = secrets.own("lab", [("mine".to_owned(), b"own-value".to_vec())]).await.expect("sealed");
    let new = NewJob {
        request_id: None,
        project: "lab".into(),
        spec: uses(&["mine"]),
        retry_of: None,
        own,
        submitter: None,
    };
    let job = jobs.submit(vec![new]).await.expect("stored").remove(0).expect("taken").job.id;
    let opened = secrets.open(job, "lab", &uses(&["mine"])).await.expect("open");
    assert_eq!(&opened.values["mine"][..], b"own-value");
    drop((secrets, jobs));
    store.close().await;

    let (store, jobs) = self::jobs(folder.path()).await;
    let other = Config { key_file: Some(folder.path().join("other.key")), ..Config::default() };
    let secrets = Secrets::start(&jobs, &other, folder.path()).await.expect("it starts");
    assert!(matches!(secrets.open(job, "lab", &uses(&["token"])).await, Err(Error::WrongKey)));
    drop((secrets, jobs));
    store.close().await;

    for (number, renew) in [(1, false), (2, true)] {
        let file = folder.path().join(format!("new-{number}.key"));
        let before = match number {
            1 => Config::default(),
            _ => Config { key_file: Some(folder.path().join("new-1.key")), ..Config::default() },
        };
        assert_eq!(rotate(&before, folder.path(), &file, renew).await.expect("rotated"), 2);
        let (store, jobs) = self::jobs(folder.path()).await;
        let after = Config { key_file: Some(file), ..Config::default() };
        let secrets = Secrets::start(&jobs, &after, folder.path()).await.expect("started");
        let opened = secrets.open(job, "lab", &uses(&["token", "mine"])).await.expect("open");
        assert_eq!(
            (&opened.values["token"][..], &opened.values["mine"][..]),
            (&b"correct-horse"[..], &b"own-value"[..])
        );
        drop((secrets, jobs));
        store.close().await;
        assert!(matches!(
            rotate(&before, folder.path(), &folder.path().join("x"), renew).await,
            Err(Error::WrongKey)
        ));
    }
}

#[test]
fn the_key_is_not_shown() {
    let config = Config { key: Some(SecretText::new("hunter2")), ..Config::default() };
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!serde_json::to_string(&config).expect("JSON").contains("hunter2"));
}
