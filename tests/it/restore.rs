//! A backup is put back while what was granted after it still runs.

use longshore_agent::{host::fake::FakeHost, runtime::Known};
use longshore_controller::store;
use longshore_proto::v1::{JobState, Stream};
use longshore_tests::local::{Local, scripted};
use std::{sync::Arc, time::Duration};
use tokio::time::{interval, timeout};

/// Longer than a controller needs to come back, to hear of its agent and to be heard by it.
const RUNS: &str = "6s";
const HEARD: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_job_that_runs_while_an_older_backup_is_restored_is_fenced_and_runs_again() {
    let mut local = Local::start(&[]).await;
    let script = [("FAKE_RUN", RUNS), ("FAKE_STDOUT", "one\ntwo\n"), ("FAKE_FILES", "a.txt:11")];
    let job = local.submit(scripted(&script)).await;
    let database = local.database();
    let copy = database.with_extension("copy");
    store::backup(&database, &copy).await.expect("copied");
    local.join(&Arc::new(FakeHost::new())).await;
    local.running(&job.id).await;
    let engine = Arc::clone(&local.engines[0]);
    let containers = async || engine.list().await.expect("listed");
    let old = containers().await.remove(0).attempt;

    let local = local
        .while_down(async || {
            while let Err(error) = store::restore(&copy, &database, true).await {
                // The old writer is about to drop its handle.
                assert!(matches!(error, store::Error::Locked { .. }), "{error}");
                tokio::task::yield_now().await;
            }
            assert!(containers().await[0].running, "nobody has told the agent yet");
        })
        .await;
    assert_eq!(local.get(&job.id).await.job.expect("a job").attempts, 0, "the backup knows of no attempt");
    local.running(&job.id).await;
    let fenced = async {
        let mut tick = interval(Duration::from_millis(10));
        while containers().await.iter().any(|known: &Known| known.attempt == old) {
            tick.tick().await;
        }
    };
    timeout(HEARD, fenced).await.expect("the old container goes while the new one runs");
    let ended = local.finished(&job.id).await;
    assert_eq!((ended.state(), ended.attempts), (JobState::Succeeded, 1));
    let left = containers().await;
    assert!(
        !left.iter().any(|known: &Known| known.attempt == old),
        "the fenced one is still there: {left:?}"
    );

    let attempts = local.get(&job.id).await.attempts;
    let committed: Vec<_> = attempts.iter().map(|one| (one.number, one.artifact_count)).collect();
    assert_eq!(committed, [(1, 1)], "one attempt, with its file");
    let log = local.log(&job.id).await;
    let stdout = log.iter().filter(|record| record.stream() == Stream::Stdout);
    let stdout: Vec<u8> = stdout.flat_map(|record| record.data.to_vec()).collect();
    assert_eq!(stdout, b"one\ntwo\n", "nothing of the old attempt is mixed in");
    local.stop().await;
}
