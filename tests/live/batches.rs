//! Batches through the command line: 500 rows over RabbitMQ on two machines whose containers are played, and a few in
//! real ones.

use longshore_tests::env::{Cli, Finished, PATIENCE, Plan, broker, image};
use serde_json::Value;
use std::{
    fs,
    time::{Duration, Instant},
};

const ROWS: u32 = 500;
const AT_ONCE: u64 = 40;
/// The row that would run for ever.
const LONG: u32 = 77;

fn json(finished: &Finished) -> Value {
    serde_json::from_slice(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.text()))
}

/// The batch's counts, within its bound.
fn counts(cli: &Cli, id: &str) -> Value {
    let counts = json(&cli.call(&["batches", "show", id, "-o", "json"]).expect(0))["counts"].clone();
    let number = |name: &str| counts[name].as_u64().expect("a count");
    assert!(number("queued") + number("running") <= AT_ONCE, "{counts}");
    counts
}

fn until(cli: &Cli, id: &str, what: &str, done: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let counts = counts(cli, id);
        if done(&counts) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {counts}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn a_batch_of_500_over_rabbitmq_with_one_cancel_and_a_controller_that_is_killed() {
    let plan = Plan::default().amqp(&broker().url()).agents(2).agent("[runtime]\nkind = \"null\"\n");
    let mut cluster = plan.start();
    let cli = cluster.cli();
    let row = |row: u32| format!("{row},{}\n", if row == LONG { "forever" } else { "200ms" });
    let table: String = (1..=ROWS).map(row).collect();
    fs::write(cli.folder().join("rows.csv"), format!("env.ROW,env.FAKE_RUN\n{table}"))
        .expect("write a table");
    let submit = || {
        let limits = ["--cpus", "100m", "-m", "32m", "--scratch", "64m", "--max-parallel", "40"];
        let line =
            [&["run", "-d", "--each", "rows.csv", "--request-id", "once"][..], &limits, &["scripted:1"]];
        cli.call(&line.concat()).expect(0).text().trim().to_owned()
    };
    let id = submit();
    until(&cli, &id, "a hundred succeed", |counts| counts["succeeded"].as_u64() >= Some(100));
    cluster.kill_controller();
    cluster.start_controller();
    assert_eq!(submit(), id, "the same request");
    let left = |counts: &Value| counts["waiting"] == 0 && counts["queued"] == 0 && counts["running"] == 1;
    until(&cli, &id, "all but one end", left);
    let running = cli.call(&["ls", "--batch", &id, "-q"]).expect(0).text();
    let asked = Instant::now();
    cli.call(&["cancel", running.trim()]).expect(0);
    let ended = cli.call(&["batches", "wait", &id]).expect(130).text();
    assert_eq!(ended, format!("{id} 499 of 500 succeeded · 1 cancelled 130\n"));
    assert!(asked.elapsed() < PATIENCE);
    let jobs = json(&cli.call(&["ls", "-a", "--batch", &id, "-o", "json"]).expect(0));
    let jobs = jobs.as_array().expect("a list");
    assert_eq!(jobs.len(), ROWS as usize);
    for job in jobs {
        let row = job["batch_row"].as_u64().expect("a row");
        assert_eq!(
            (&job["attempts"], &job["spec"]["env"]["ROW"]),
            (&1.into(), &row.to_string().into()),
            "{job}"
        );
    }
}

#[tokio::test]
async fn a_table_in_real_containers_exits_as_its_first_bad_row_and_its_retry_runs_that_alone() {
    let cli = crate::shared::embedded().cli();
    let table = "env.CODE,env.WORD\n0,one\n3,\"two, and\nmore\"\n0,three\n4,four\n";
    fs::write(cli.folder().join("codes.csv"), table).expect("write a table");
    let flags = [
        "run",
        "--each",
        "codes.csv",
        "--max-parallel",
        "2",
        "--cpus",
        "100m",
        "-m",
        "64m",
        "--scratch",
        "256m",
    ];
    let script = ["--entrypoint", "/bin/sh", image().leak(), "-c", "echo \"$WORD\"; exit $CODE"];
    let ended = cli.call(&[&flags[..], &script].concat()).expect(3);
    assert!(ended.stdout.is_empty(), "{}", ended.text());
    for says in ["ended: 2 of 4 succeeded · 2 failed", "row 2 (", "row 4 (", "longshore batches retry"] {
        assert!(ended.stderr.contains(says), "{says}: {}", ended.stderr);
    }
    let id = ended.stderr.split("batch ").nth(1).and_then(|rest| rest.split(' ').next()).expect("an id");
    let jobs = json(&cli.call(&["ls", "-a", "--batch", id, "-o", "json"]).expect(0));
    let second = jobs.as_array().expect("a list").iter().find(|job| job["batch_row"] == 2).expect("there");
    let log = cli.call(&["logs", second["id"].as_str().expect("an id")]).expect(0).text();
    assert_eq!(log, "two, and\nmore\n");
    let again = cli.call(&["batches", "retry", id]).expect(0).text();
    let ended = cli.call(&["batches", "wait", again.trim()]).expect(3).text();
    assert!(ended.contains("0 of 2 succeeded · 2 failed"), "{ended}");
    let refused = cli.call(&["run", "--each", "codes.csv", "--out", "x", "scripted:1"]).expect(2);
    assert!(refused.stderr.contains("artifacts get"), "{}", refused.stderr);
}
