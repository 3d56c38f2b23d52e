//! An object store that is killed while files wait to be put there: it is waited for, and what could not be stored in
//! time is named and kept on its node.

use longshore_proto::v1::{CancelJobsRequest, JobState, Stream};
use longshore_tests::env::{
    Client, Cluster, PATIENCE, Plan, S3, Server, agent_name, docker, free_port, fresh_dir, image, outcome,
    registry, seconds, shell, until,
};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime},
};

/// A store in a process of its own.
struct Store {
    dir: PathBuf,
    port: u16,
    server: Option<Server>,
}

impl Store {
    fn start() -> Self {
        let mut store = Self { dir: fresh_dir("store"), port: free_port(), server: None };
        store.start_again();
        store
    }

    fn reached(&self) -> S3 {
        S3::at(&self.dir.join("objects"), ([127, 0, 0, 1], self.port).into())
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.server = None;
    }

    fn start_again(&mut self) {
        fs::create_dir_all(self.dir.join("objects")).expect("make its folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_object_store"));
        command.arg(self.dir.join("objects")).arg(self.port.to_string());
        let mut server = Server::spawn("object store", &mut command, &self.dir.join("out"));
        server.wait_ready(PATIENCE, || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
        self.server = Some(server);
    }
}

/// A cluster over this store, and where its agent's data is.
fn cluster(store: &Store, artifacts: &str) -> (Cluster, PathBuf) {
    let data = fresh_dir("agents");
    let plan = Plan::default().s3(&store.reached()).login(registry()).agent_data(data.clone());
    (plan.agent(artifacts).start(), data.join(agent_name(0)))
}

/// Where what the job left is, as long as it is there.
fn out_of(data: &Path, job: &str) -> PathBuf {
    data.join("attempts").join(format!("{job}.1")).join("disk/out")
}

async fn is_gone(what: &str, path: &Path) {
    until(what, || async { if path.exists() { Err(path.to_owned()) } else { Ok(()) } }).await;
}

async fn stays_collecting(client: &Client, job: &str) {
    client.prints(job, "trying again until the upload deadline").await;
    client.reaches(job, JobState::Collecting).await;
    assert_eq!(client.get(job).await.job.expect("a job").state(), JobState::Collecting);
}

#[tokio::test]
async fn files_that_waited_for_a_killed_store_are_all_there_when_it_is_back() {
    let mut store = Store::start();
    let (cluster, data) = cluster(&store, "");
    let client = Client::connect(&cluster).await;
    store.kill();
    let script =
        "head -c 20000000 /dev/urandom | tee /out/big | sha256sum; mkdir /out/d; echo small >/out/d/a";
    let id = client.submit(shell(&image(), script)).await;
    stays_collecting(&client, &id).await;
    store.start_again();
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
    let files = client.artifacts(&id).await;
    let names: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
    assert_eq!(names, [&b"big"[..], b"d/a"]);
    let printed = String::from_utf8_lossy(&client.printed(&id, Stream::Stdout).await).into_owned();
    assert_eq!(printed.split_whitespace().next(), Some(hex::encode(&files[0].sha256).as_str()));
    let cli = cluster.cli();
    cli.call(&["artifacts", "get", &id, "--out", "result"]).expect(0);
    let got = fs::read(cli.folder().join("result/big")).expect("it came back");
    assert_eq!(Sha256::digest(got).to_vec(), files[0].sha256);
    is_gone("nothing is kept", &out_of(&data, &id)).await;
}

#[tokio::test]
async fn files_that_no_store_took_stay_for_their_time_also_when_the_agent_is_killed_and_no_longer() {
    let mut store = Store::start();
    let keep = Duration::from_secs(20);
    let (mut cluster, data) = cluster(&store, &format!("[artifacts]\nkeep_seconds = {}\n", keep.as_secs()));
    let client = Client::connect(&cluster).await;
    store.kill();
    let mut spec = shell(&image(), "echo kept >/out/a");
    spec.deadlines.get_or_insert_default().upload = seconds(4);
    let id = client.submit(spec).await;
    stays_collecting(&client, &id).await;
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("artifact_upload_failed", 1), "{job:?}");
    assert_eq!(client.artifacts(&id).await, []);
    let kept_at = until("the journal says since when they are kept", || async { kept_since(&data) }).await;
    cluster.kill_agent(0);
    cluster.start_agent(0);
    let file = out_of(&data, &id).join("a");
    let seen = until("they are gone", || async {
        let asked = SystemTime::now();
        if file.exists() { Err(asked) } else { Ok(asked) }
    })
    .await;
    let kept = seen.duration_since(kept_at).expect("after it");
    assert!((keep..keep + Duration::from_secs(60)).contains(&kept), "{kept:?}");
    is_gone("the folder goes too", &data.join("attempts").join(format!("{id}.1"))).await;
    until("and the container", || async {
        let left = docker(&["ps", "-aq", "--filter", &format!("label=longshore.job={}", job.uuid)]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

/// Of the one entry of the journal.
fn kept_since(data: &Path) -> Result<SystemTime, String> {
    let entries = fs::read_dir(data.join("journal")).map_err(|error| error.to_string())?;
    let mut entries = entries.filter_map(Result::ok).map(|entry| entry.path());
    let entry = entries.find(|path| path.extension().is_some_and(|end| end == "json"));
    let text = fs::read(entry.ok_or("no entry")?).map_err(|error| error.to_string())?;
    let entry: serde_json::Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let kept = entry["kept"].as_u64().ok_or_else(|| entry.to_string())?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_micros(kept))
}

#[tokio::test]
async fn a_cancel_while_files_wait_for_a_killed_store_ends_the_job_within_five_seconds() {
    let mut store = Store::start();
    let (cluster, data) = cluster(&store, "");
    let client = Client::connect(&cluster).await;
    store.kill();
    // A machine that many tests share may hold up one of them.
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        let took = cancelled_while_collecting(&client, &data).await;
        if took < Duration::from_secs(5) {
            return;
        }
        slowest = slowest.max(took);
    }
    panic!("three cancels took up to {slowest:?}");
}

/// How long the cancel of a job took that waits for its files to be stored.
async fn cancelled_while_collecting(client: &Client, data: &Path) -> Duration {
    let id = client.submit(shell(&image(), "echo lost >/out/a")).await;
    stays_collecting(client, &id).await;
    let request = CancelJobsRequest { jobs: vec![id.clone()], ..CancelJobsRequest::default() };
    let asked = Instant::now();
    client.jobs.clone().cancel(request).await.expect("cancel");
    let job = client.ended(&id).await;
    let took = asked.elapsed();
    assert_eq!(outcome(&job), "cancelled", "{job:?}");
    // Its program had ended: there is no grace.
    is_gone("its files go", &out_of(data, &id)).await;
    took
}
