use super::*;
use crate::jobs::{self, Jobs, NewJob};
use longshore_common::job::JobSpec;
use sqlx::Row as _;

fn config(folder: &Path) -> Config {
    Config { path: folder.join("controller.db"), ..Config::default() }
}

async fn submit(jobs: &Jobs) -> Result<jobs::JobView, jobs::Error> {
    let new = NewJob {
        request_id: None,
        project: "default".into(),
        spec: JobSpec::for_image("x"),
        retry_of: None,
        own: Vec::new(),
        submitter: None,
    };
    let answer = jobs.submit(vec![new]).await?.pop().expect("one answer");
    Ok(answer.expect("taken").job)
}

#[tokio::test]
async fn a_second_controller_on_the_same_file_is_refused_by_name_and_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Store::open(&config(folder.path())).await.expect("opens");
    let error = Store::open(&config(folder.path())).await.expect_err("locked");
    assert_eq!(
        error.to_string(),
        format!(
            "{} is in use by another controller (process {}); stop it first",
            folder.path().join("controller.db").display(),
            std::process::id()
        )
    );
    first.close().await;
    drop(first);
    Store::open(&config(folder.path())).await.expect("the lock went with its holder");
}

#[tokio::test]
async fn contents_that_no_input_lists_are_garbage_and_count_until_then() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&config(folder.path())).await.expect("opens");
    let now = longshore_common::clock::Timestamp::now();
    let mut tx = store.begin().await.expect("begun");
    tx.open_contents("default", &[([1; 32], 10), ([2; 32], 20)].into(), now).await.expect("noted");
    let file = jobs::InputFile { path: b"a".to_vec(), size: 10, sha256: [1; 32], mode: 0o644 };
    let input = jobs::CreatedInput { id: "x".into(), files: 1, bytes: 10 };
    tx.put_input("default", &input, &[file], now).await.expect("listed");
    tx.commit().await.expect("committed");
    assert_eq!(store.stored_bytes("default").await.expect("read"), 30);
    let mut tx = store.begin().await.expect("begun");
    // Again: it is stored and listed, and no upload.
    tx.open_contents("default", &[([1; 32], 10)].into(), now).await.expect("noted");
    tx.forget_contents(now.plus(Duration::from_secs(1))).await.expect("done");
    tx.commit().await.expect("committed");
    let key = crate::blobs::content_key("default", &[2; 32]);
    assert_eq!(store.garbage("object", 10).await.expect("read"), [key]);
    assert_eq!(store.stored_bytes("default").await.expect("read"), 10);
}

#[tokio::test]
async fn a_caller_that_goes_away_while_a_transaction_begins_stops_nobody_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&config(folder.path())).await.expect("opens");
    for polls in 1..40 {
        let mut begin = Box::pin(store.begin());
        for _ in 0..polls {
            if futures::poll!(&mut begin).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(begin);
        let next = tokio::time::timeout(Duration::from_secs(20), store.begin());
        next.await.expect("the connection is free").expect("begun").commit().await.expect("committed");
    }
}

#[tokio::test]
async fn a_call_that_was_open_when_the_controller_died_is_one_line_of_the_audit_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = |id: u8, result: &str| AuditRow {
        id: [id; 16],
        at: longshore_common::clock::Timestamp::now(),
        actor: "token anna".into(),
        address: "192.0.2.7".into(),
        action: "longshore.v1.Jobs/Cancel".into(),
        project: "default".into(),
        targets: Vec::new(),
        target_count: 0,
        result: result.into(),
        message: String::new(),
    };
    let store = Store::open(&config(folder.path())).await.expect("opens");
    let mut tx = store.begin().await.expect("begun");
    for id in [1, 2] {
        tx.open_call(&line(id, "")).await.expect("noted");
    }
    tx.audit(&[line(1, "ok")]).await.expect("written");
    tx.commit().await.expect("committed");
    store.close().await;
    drop(store);
    for start in 1..=2 {
        let store = Store::open(&config(folder.path())).await.expect("opens");
        let lines = store.audit(&jobs::AuditFilter::default(), None, 10).await.expect("read");
        let told: Vec<_> = lines.iter().map(|line| (line.id[0], line.result.as_str())).collect();
        assert_eq!(told, [(2, "UNKNOWN"), (1, "ok")], "start {start}");
        store.close().await;
    }
}

#[tokio::test]
async fn the_file_is_durable_and_can_shrink_from_its_first_table_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&config(folder.path())).await.expect("opens");
    for (pragma, expected) in
        [("PRAGMA auto_vacuum", "2"), ("PRAGMA journal_mode", "wal"), ("PRAGMA synchronous", "2")]
    {
        let row = sqlx::query(pragma).fetch_one(&store.write).await.expect("answered");
        let value =
            row.try_get::<i64, _>(0).map_or_else(|_| row.get::<String, _>(0), |number| number.to_string());
        assert_eq!(value, expected, "{pragma}");
    }
}

#[tokio::test]
async fn every_read_of_work_goes_by_an_index() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&config(folder.path())).await.expect("opens");
    for (sql, index) in [
        (write::CANDIDATES, "USING INDEX jobs_claim"),
        (write::PROJECTS_IN, "COVERING INDEX jobs_claim"),
        (read::LIST_UNFINISHED, "USING INDEX jobs_open"),
        (read::LIST_NAMED, "USING INDEX jobs_name"),
        (
            "SELECT id, not_before FROM jobs WHERE not_before IS NOT NULL AND blocked = 0 ORDER BY not_before",
            "jobs_not_before",
        ),
        (read::LIST_OF_BATCH, "USING INDEX jobs_batch"),
        (write::GOING, "COVERING INDEX jobs_turns"),
        (write::NEXT, "COVERING INDEX jobs_turns"),
        (read::EXPIRED, "jobs_expires_at"),
        (read::EXPIRED, "job_sources_name"),
        (
            "SELECT state, COUNT(*) FROM jobs WHERE finished_at IS NULL GROUP BY state",
            "COVERING INDEX jobs_unfinished",
        ),
        (read::COUNTS, "COVERING INDEX jobs_batch"),
        ("SELECT 1 FROM jobs WHERE state = 'queued' AND lane = 'x' LIMIT 9", "COVERING INDEX jobs_claim"),
        ("SELECT id FROM jobs WHERE name = 'x' ORDER BY id DESC LIMIT 1", "COVERING INDEX jobs_name"),
    ] {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let rows = sqlx::query(explain).fetch_all(&store.write).await.expect("planned");
        let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        assert!(plan.iter().any(|line| line.contains(index)), "{sql}: {plan:?}");
        let sorts = plan.iter().any(|line| line.contains("TEMP B-TREE"));
        assert!(!sorts || sql == read::COUNTS, "{sql}: {plan:?}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&config(folder.path())).await.expect("opens");
    let jobs = Jobs::start(store.clone(), jobs::Config::default()).await.expect("starts");
    let kept = submit(&jobs).await.expect("room");
    let row = sqlx::query("PRAGMA page_count").fetch_one(&store.write).await.expect("answered");
    let pages: i64 = row.get(0);
    let limit = |pages: i64| sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::query(limit(pages)).fetch_all(&store.write).await.expect("limited");
    let mut taken = vec![kept.id];
    let error = loop {
        match submit(&jobs).await {
            Ok(job) => taken.push(job.id),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, jobs::Error::Store(Error::Full)), "{error:?}");
    assert!(error.is_transient() && error.to_string().contains("free some space"));
    assert_eq!(jobs.get_many(&taken).await.expect("reads go on").len(), taken.len());
    sqlx::query(limit(1 << 20)).fetch_all(&store.write).await.expect("room again");
    submit(&jobs).await.expect("goes on by itself");
}

#[tokio::test]
async fn a_backup_is_taken_while_the_controller_runs_and_its_restore_begins_an_epoch() {
    let folder = tempfile::tempdir().expect("a folder");
    let (database, copy) = (folder.path().join("controller.db"), folder.path().join("copy.db"));
    let store = Store::open(&config(folder.path())).await.expect("opens");
    let jobs = Jobs::start(store.clone(), jobs::Config::default()).await.expect("starts");
    let kept = submit(&jobs).await.expect("taken");
    backup(&database, &copy).await.expect("copied");
    assert!(matches!(backup(&database, &copy).await, Err(Error::Exists { .. })));
    let lost = submit(&jobs).await.expect("taken");
    let (cluster, epoch) = jobs.cluster();

    assert!(matches!(restore(&copy, &database, true).await, Err(Error::Locked { .. })));
    let read = jobs.get(lost.id).await.expect("untouched");
    assert_eq!(read.id, lost.id);
    store.close().await;
    drop((store, jobs));
    loop {
        match restore(&copy, &database, false).await {
            Err(Error::Exists { .. }) => break,
            // The writer is about to drop its handle.
            Err(Error::Locked { .. }) => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(restore(&copy, &database, true).await.expect("restored"), epoch.0 + 1);
    assert_eq!(restore(&copy, &database, true).await.expect("restored"), epoch.0 + 2, "never an epoch twice");

    let store = Store::open(&config(folder.path())).await.expect("opens");
    let jobs = Jobs::start(store, jobs::Config::default()).await.expect("starts");
    assert_eq!(jobs.cluster(), (cluster, Epoch(epoch.0 + 2)));
    assert!(jobs.get(kept.id).await.is_ok());
    assert!(matches!(jobs.get(lost.id).await, Err(jobs::Error::NotFound { .. })));
}

#[tokio::test]
async fn what_is_no_backup_replaces_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (database, copy) = (folder.path().join("controller.db"), folder.path().join("copy.db"));
    std::fs::write(&copy, "not a database at all").expect("written");
    assert!(restore(&copy, &database, false).await.is_err());
    assert!(!database.exists());
    assert!(backup(&database, &folder.path().join("other.db")).await.is_err());
}

#[tokio::test]
async fn a_row_of_another_hand_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&config(folder.path())).await.expect("opens");
    let jobs = Jobs::start(store.clone(), jobs::Config::default()).await.expect("starts");
    let job = submit(&jobs).await.expect("taken");
    sqlx::query("UPDATE jobs SET state = 'dancing'").execute(&store.write).await.expect("spoiled");
    let error = jobs.get(job.id).await.expect_err("unreadable");
    assert!(error.to_string().contains("`dancing` is not a job state"), "{error}");
}

#[test]
fn codes_of_a_full_disk_are_known() {
    use dialect::{Class, class};
    // FULL, IOERR_WRITE, IOERR_FSYNC; BUSY, BUSY_SNAPSHOT, LOCKED; IOERR_READ, CONSTRAINT_UNIQUE.
    assert!([13, 778, 1034].map(class).iter().all(|c| *c == Class::Full));
    assert!([5, 517, 6].map(class).iter().all(|c| *c == Class::Busy));
    assert!([266, 2067].map(class).iter().all(|c| *c == Class::Other));
}

#[tokio::test]
async fn queued_jobs_that_share_a_gpu_move_to_their_lane_at_an_upgrade() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&config(folder.path())).await.expect("opens");
    let jobs = Jobs::start(store.clone(), jobs::Config::default()).await.expect("starts");
    let gpu = |shared| longshore_common::job::GpuRequest {
        shared,
        memory_bytes: 1 << 30,
        ..longshore_common::job::GpuRequest::of(1)
    };
    let mut ids = Vec::new();
    for gpu in [Some(gpu(true)), Some(gpu(false)), None] {
        let mut spec = JobSpec::for_image("x");
        spec.resources.gpu = gpu;
        let new = NewJob {
            request_id: None,
            project: "default".into(),
            spec,
            retry_of: None,
            own: Vec::new(),
            submitter: None,
        };
        let answer = jobs.submit(vec![new]).await.expect("stored").pop().expect("one answer");
        ids.push(answer.expect("taken").job.id);
    }
    // As the version before wrote it.
    let before = "UPDATE jobs SET lane = 'default.gpu' WHERE lane = 'default.gpu-shared'";
    let done = sqlx::query(before).execute(&store.write).await.expect("set back");
    assert_eq!(done.rows_affected(), 1);
    let step = include_str!("../../migrations/sqlite/0013_shared_lanes.sql");
    for _ in 0..2 {
        sqlx::query(step).execute(&store.write).await.expect("moved");
    }
    let lanes: Vec<_> =
        jobs.get_many(&ids).await.expect("read").into_iter().map(|job| job.lane.to_string()).collect();
    assert_eq!(lanes, ["default.gpu-shared", "default.gpu", "default.cpu"]);
}
