//! Folders of the node that jobs mount by name: read-only unless both sides say otherwise, never anything beside them,
//! and never a mount or a lost file afterwards.

use longshore_proto::v1::{Input, JobSpec, ShareInput, Stream, input::Source};
use longshore_tests::env::{Client, Cluster, embedded, fresh_dir, image, outcome, shell, until};
use std::{fs, os::unix::fs::symlink, path::PathBuf};

/// A cluster whose node offers `data` (read-only) and `results` (writable), and their folder.
fn cluster() -> (Cluster, PathBuf) {
    let root = fresh_dir("shares");
    for folder in ["data/study-12", "results", "secret"] {
        fs::create_dir_all(root.join(folder)).expect("made");
    }
    fs::write(root.join("data/study-12/scan"), "precious\n").expect("written");
    fs::write(root.join("secret/key"), "not yours\n").expect("written");
    symlink("../secret", root.join("data/up")).expect("linked");
    let share = |name: &str, writable: bool| {
        let path = root.join(name);
        format!("[[shares]]\nname = \"{name}\"\npath = \"{}\"\nwritable = {writable}\n", path.display())
    };
    let config = format!("{}{}", share("data", false), share("results", true));
    (embedded().agent(&config).start(), root)
}

fn with(script: &str, share: &str, path: &str, writable: bool) -> JobSpec {
    let mut spec = shell(&image(), script);
    let share = ShareInput { share: share.to_owned(), path: path.to_owned(), writable };
    spec.inputs.insert("s".to_owned(), Input { source: Some(Source::Share(share)) });
    spec
}

async fn is_unmounted(job: &str) {
    until("no share is mounted for the job", || async {
        let mounts = fs::read_to_string("/proc/mounts").expect("there are mounts");
        let left: Vec<_> = mounts.lines().filter(|line| line.contains(job)).map(str::to_owned).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test]
async fn a_share_is_read_where_it_is_and_written_only_where_both_sides_say_so() {
    let (cluster, root) = cluster();
    let client = Client::connect(&cluster).await;
    let script = "cat /in/s/scan; echo x >/in/s/new && echo written; rm -f /in/s/scan && echo removed; true";
    let job = client.run(with(script, "data", "study-12", false)).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
    assert_eq!(client.printed(&job.id, Stream::Stdout).await, b"precious\n");
    is_unmounted(&job.id).await;

    let job = client.run(with("echo 42 >/in/s/answer", "results", "", true)).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
    assert_eq!(fs::read_to_string(root.join("results/answer")).expect("written"), "42\n");
    is_unmounted(&job.id).await;

    let cli = cluster.cli();
    let image = image();
    let read = ["run", "-m", "64m", "--scratch", "256m", "--input", "s=share:data/study-12", "--entrypoint"];
    let told = cli.call(&[&read[..], &["/bin/cat", &image, "/in/s/scan"]].concat()).expect(0);
    assert_eq!(told.stdout, b"precious\n");
    assert!(told.stderr.contains("share    s  data/study-12  read-only"), "{}", told.stderr);
    assert_eq!(fs::read_to_string(root.join("data/study-12/scan")).expect("untouched"), "precious\n");
}

#[tokio::test]
async fn nothing_beside_a_share_is_mounted() {
    let (cluster, root) = cluster();
    let client = Client::connect(&cluster).await;
    for (path, says) in [("up", "`up` leads out of it"), ("none", "`none` is not there")] {
        let job = client.run(with("cat /in/s/key", "data", path, false)).await;
        assert_eq!(outcome(&job), "input_failed", "{job:?}");
        let detail = job.outcome.clone().expect("it ended").detail;
        assert!(detail.contains("input `s`: share `data`") && detail.contains(says), "{detail}");
        is_unmounted(&job.id).await;
    }
    assert!(root.join("secret/key").exists());
    for (share, writable, says) in
        [("data", true, "has the share `data` read-only"), ("nowhere", false, "has no share `nowhere`")]
    {
        let id = client.submit(with("true", share, "", writable)).await;
        let explained = cluster.cli().call(&["explain", &id]).expect(0).text();
        assert!(explained.contains(says), "{explained}");
        cluster.cli().call(&["cancel", &id]).expect(0);
    }
}

#[tokio::test]
async fn an_agent_killed_under_a_job_leaves_no_mount_and_every_file() {
    let (mut cluster, root) = cluster();
    let client = Client::connect(&cluster).await;
    let id = client.submit(with("echo begin; sleep 3; cat /in/s/scan", "data", "study-12", false)).await;
    client.prints(&id, "begin").await;
    cluster.kill_agent(0);
    cluster.start_agent(0);
    let client = Client::connect(&cluster).await;
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
    assert_eq!(client.printed(&id, Stream::Stdout).await, b"begin\nprecious\n");
    is_unmounted(&id).await;
    assert!(root.join("data/study-12/scan").exists());
}
