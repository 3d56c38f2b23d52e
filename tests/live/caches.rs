//! Folders that a project's jobs keep between them on a node: there for the next job, nobody else's, bounded, and never
//! a way out of the container.

use longshore_proto::v1::{Job, JobSpec, Stream, SubmitRequest};
use longshore_tests::env::{Client, Cluster, embedded, fresh_dir, image, outcome, shell, until};
use std::{fs, path::PathBuf};

/// A cluster with these settings of caches, and its agent's folder of them.
fn cluster(settings: &str) -> (Cluster, PathBuf) {
    let data = fresh_dir("caches");
    let config = format!("[caches]\nroom_bytes = 0\n{settings}");
    let cluster = embedded().agent(&config).agent_data(data.clone()).start();
    (cluster, data.join("agent-0/caches"))
}

fn with(script: &str, name: &str) -> JobSpec {
    let mut spec = shell(&image(), script);
    spec.caches.insert(name.to_owned(), "/root/kept".to_owned());
    spec
}

async fn run_in(client: &Client, project: &str, spec: JobSpec) -> Job {
    let request = SubmitRequest { project: project.to_owned(), spec: Some(spec), ..SubmitRequest::default() };
    let job = client.jobs.clone().submit(request).await.expect("submitted").into_inner().job.expect("a job");
    client.ended(&job.id).await
}

async fn until_gone(folder: &std::path::Path) {
    until(&format!("{} is gone", folder.display()), || async {
        if folder.exists() { Err("it is there") } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn the_next_job_finds_what_the_first_one_left_and_another_project_does_not() {
    let (cluster, folder) = cluster("");
    let client = Client::connect(&cluster).await;
    let cli = cluster.cli();
    cli.call(&["projects", "create", "other"]).expect(0);
    // Far more than its scratch: what is kept is not the job's own use.
    let fill = "id -u; dd if=/dev/zero of=/root/kept/model bs=1M count=300 2>/dev/null; sleep 3; echo done";
    let mut first = with(fill, "hf");
    first.user = "1000".to_owned();
    let job = client.run(first).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
    assert_eq!(client.printed(&job.id, Stream::Stdout).await, b"1000\ndone\n");

    let look = "ls /root/kept; touch /root/kept/mine";
    let job = client.run(with(look, "hf")).await;
    assert_eq!(client.printed(&job.id, Stream::Stdout).await, b"model\n", "{job:?}");
    let job = client.run(with(look, "other")).await;
    assert_eq!(client.printed(&job.id, Stream::Stdout).await, b"", "{job:?}");
    let job = run_in(&client, "other", with(look, "hf")).await;
    assert_eq!(
        (outcome(&job).as_str(), client.printed(&job.id, Stream::Stdout).await),
        ("succeeded", vec![])
    );
    assert!(folder.join("default/hf/data/model").exists() && folder.join("other/hf/data/mine").exists());

    let image = image();
    let flags = [
        "run",
        "-m",
        "64m",
        "--scratch",
        "256m",
        "--cache",
        "hf=/x",
        "--entrypoint",
        "/bin/ls",
        &image,
        "/x",
    ];
    let told = cli.call(&flags).expect(0);
    assert_eq!(told.stdout, b"mine\nmodel\n");
    assert!(told.stderr.contains("cache    hf  /x"), "{}", told.stderr);
    let told = cli
        .call(&["run", "--cache", "../x=/x", "--cache", "a=relative", "--cache", "b=/out/b", &image])
        .expect(2);
    for part in [
        "caches.../x: `../x`",
        "caches.a: `relative` is not an absolute path",
        "caches.b: `/out/b` and /out overlap",
    ] {
        assert!(told.stderr.contains(part), "{part}: {}", told.stderr);
    }
    let data = folder.parent().expect("the agent's").to_str().expect("plain");
    until("the agent tells its caches", || async {
        let told = cli.call(&["agent", "status", "--data-dir", data]).expect(0).text();
        let all = ["CACHE", "hf     default  300 MiB", "hf     other", "all caches: 300 MiB of"];
        if all.iter().all(|part| told.contains(part)) { Ok(()) } else { Err(told) }
    })
    .await;
}

#[tokio::test]
async fn what_is_too_large_goes_after_its_job_and_the_least_used_for_want_of_room() {
    let (cluster, folder) = cluster("max_bytes = 31457280\neach_bytes = 20971520\n");
    let client = Client::connect(&cluster).await;
    let fill = |mib: u32| format!("dd if=/dev/zero of=/root/kept/x bs=1M count={mib} 2>/dev/null; sleep 3");
    let job = client.run(with(&fill(25), "large")).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
    let told = String::from_utf8(client.printed(&job.id, Stream::System).await).expect("text");
    assert!(told.contains("cache    large has 25 MiB and may have 20 MiB here"), "{told}");
    until_gone(&folder.join("default/large")).await;
    for name in ["a", "b", "c"] {
        client.run(with(&fill(12), name)).await;
    }
    until_gone(&folder.join("default/a")).await;
    assert!(folder.join("default/b/data/x").exists() && folder.join("default/c/data/x").exists());
}

#[tokio::test]
async fn a_hostile_cache_leads_nowhere_and_an_agent_killed_meanwhile_knows_who_uses_it() {
    let (mut cluster, folder) = cluster("max_bytes = 10485760\neach_bytes = 10485760\n");
    let precious = fresh_dir("precious");
    fs::write(precious.join("file"), vec![1; 32 << 20]).expect("written");
    let client = Client::connect(&cluster).await;
    let script = format!(
        "cd /root/kept; ln -s {} out; ln -s / root; ln -s ../../.. up; mkdir -p a/b; ln -s / a/b/root; chmod 0 . ; \
         echo x >seen; echo begin; sleep 6; cat seen",
        precious.display()
    );
    let id = client.submit(with(&script, "hf")).await;
    client.prints(&id, "begin").await;
    cluster.kill_agent(0);
    // Cut short by an earlier kill.
    fs::create_dir_all(folder.join(".trash/left/data")).expect("made");
    cluster.start_agent(0);
    let client = Client::connect(&cluster).await;
    until_gone(&folder.join(".trash/left")).await;
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
    assert_eq!(client.printed(&id, Stream::Stdout).await, b"begin\nx\n");
    // Small: the links were not followed, so it stays; then another one takes its place.
    let job = client.run(with("cat seen /root/kept/seen; sleep 3", "hf")).await;
    assert!(client.printed(&job.id, Stream::Stdout).await.starts_with(b"x\n"), "{job:?}");
    client.run(with("dd if=/dev/zero of=/root/kept/x bs=1M count=9 2>/dev/null; sleep 3", "next")).await;
    client.run(with("dd if=/dev/zero of=/root/kept/x bs=1M count=4 2>/dev/null; sleep 3", "last")).await;
    until_gone(&folder.join("default/hf")).await;
    assert!(precious.join("file").exists());
}
