//! Images made for Kleinkram: each rule of its guides as a story named after it. Scaled: 64 MiB of memory.

mod keys;
mod limits;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use longshore_proto::v1::{GpuRequest, Job, JobSpec, Kleinkram, Stream, SubmitRequest};
use longshore_tests::env::{
    Client, Cluster, docker_output, embedded, fresh_dir, image_with, outcome, program, shell, until, words,
};
use std::{path::PathBuf, process::Command, sync::OnceLock};

const PROJECT: &str = "0190a8c2-0000-7000-8000-00000000000a";
const MISSION: &str = "0190a8c2-0000-7000-8000-00000000000b";
const API: &str = "https://api.kleinkram.example";
const S3: &str = "https://s3.kleinkram.example";

/// Where the sample minter of the shared cluster keeps its keys.
fn store() -> PathBuf {
    static STORE: OnceLock<PathBuf> = OnceLock::new();
    STORE.get_or_init(|| fresh_dir("minter").join("keys.db")).clone()
}

/// The controller's section for the sample minter.
fn minter(store: &std::path::Path, pause: &str) -> String {
    let (python, script) = (program(&["python3"], "python3"), sample());
    format!(
        "[minters.sample]\ncommand = [\"{}\", \"{}\", \"--store\", \"{}\", \"--pause\", \"{pause}\"]\n\
         [minters.broken]\ncommand = [\"/bin/sh\", \"-c\", \"echo no luck >&2; exit 3\"]\n",
        python.display(),
        script.display(),
        store.display()
    )
}

fn sample() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/minter/minter.py")
}

/// `run key mission access good|revoked`, one line for each key that was made.
fn minted(store: &std::path::Path) -> Vec<Vec<String>> {
    listed(store).into_iter().filter(|line| line[4] != "none").collect()
}

/// Runs without a key, too.
fn listed(store: &std::path::Path) -> Vec<Vec<String>> {
    let done = sample_minter(store).arg("--list").output().expect("run the minter");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

fn sample_minter(store: &std::path::Path) -> Command {
    let mut command = Command::new(program(&["python3"], "python3"));
    command.arg(sample()).arg("--store").arg(store);
    command
}

fn settle(cluster: &Cluster) {
    let set =
        ["projects", "set", "default", "--kleinkram-project-uuid", PROJECT, "--kleinkram-minter", "sample"];
    let endpoints = ["--kleinkram-api-endpoint", API, "--kleinkram-s3-endpoint", S3];
    cluster.cli().call(&[&set[..], &endpoints].concat()).expect(0);
}

fn cluster() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| {
        let cluster = embedded().controller(&minter(&store(), "0")).start();
        settle(&cluster);
        cluster
    })
}

/// Both samples of the guides, with a stub of the client.
fn image() -> String {
    image_with("kleinkram", &lines())
}

fn lines() -> String {
    let files = [
        ("/bin/bash", "#!/bin/sh\nexec /bin/busybox sh \"$@\"\n"),
        ("/bin/klein", include_str!("kleinkram/klein.sh")),
        ("/guide_000.sh", include_str!("kleinkram/guide_000.sh")),
        ("/guide_001.sh", include_str!("kleinkram/guide_001.sh")),
    ];
    let put = files
        .map(|(path, text)| format!("echo {} | base64 -d >{path} && chmod +x {path}", STANDARD.encode(text)));
    format!("RUN {}\nENTRYPOINT [\"/guide_001.sh\"]", put.join(" && "))
}

/// An action on the mission; everything else is the project's to say.
fn action(image: &str) -> JobSpec {
    let mut spec = JobSpec { entrypoint: None, command: None, ..shell(image, "") };
    spec.contract = "kleinkram".to_owned();
    spec.kleinkram = Some(Kleinkram { mission_uuid: MISSION.to_owned(), ..Kleinkram::default() });
    spec
}

/// One that runs a script of ours in the same image.
fn script(text: &str) -> JobSpec {
    let mut spec = action(&image());
    spec.entrypoint = Some(words(&["/bin/sh", "-c"]));
    spec.command = Some(words(&[text]));
    spec
}

async fn printed(client: &Client, job: &Job) -> String {
    String::from_utf8_lossy(&client.printed(&job.id, Stream::Stdout).await).into_owned()
}

#[tokio::test]
async fn the_sample_of_each_guide_runs_to_success_with_its_key_masked_and_its_emoji_intact() {
    let client = Client::connect(cluster()).await;
    for guide in ["/guide_000.sh", "/guide_001.sh"] {
        let mut spec = action(&image());
        if guide != "/guide_001.sh" {
            spec.entrypoint = Some(words(&[guide]));
        }
        let job = client.run(spec).await;
        let out = printed(&client, &job).await;
        assert_eq!(outcome(&job), "succeeded", "{guide}: {out}");
        for part in [
            "Get Started with Kleinkram Actions 🚀\n",
            &format!("Download data from mission with UUID {MISSION}\n"),
            "logged in with *** (***)\n",
            "run.bag",
        ] {
            assert!(out.contains(part), "{guide}: no `{part}` in {out}");
        }
    }
}

#[tokio::test]
async fn six_variables_and_their_five_deprecated_names_have_equal_values() {
    let client = Client::connect(cluster()).await;
    let pairs = "for p in API_KEY:APIKEY PROJECT_UUID:PROJECT_UUID MISSION_UUID:MISSION_UUID ACTION_UUID:ACTION_UUID \
                 API_ENDPOINT:ENDPOINT; do eval a=\\$KLEINKRAM_${p%%:*} b=\\$${p##*:}; \
                 [ -n \"$a\" ] && [ \"$a\" = \"$b\" ] && echo same ${p##*:}; done; \
                 echo $PROJECT_UUID $MISSION_UUID $ENDPOINT $KLEINKRAM_S3_ENDPOINT; echo $ACTION_UUID; env | grep -c S3_";
    let job = client.run(script(pairs)).await;
    let out = printed(&client, &job).await;
    assert_eq!(out.matches("same ").count(), 5, "{out}");
    assert!(out.contains(&format!("{PROJECT} {MISSION} {API} {S3}\n")), "{out}");
    assert!(
        out.contains(&format!("{}\n1\n", job.uuid)),
        "the job is the action, and S3 had no other name: {out}"
    );
}

#[tokio::test]
async fn a_non_zero_exit_fails_the_action() {
    let client = Client::connect(cluster()).await;
    let job = client.run(script("set -e; false; echo not here")).await;
    assert_eq!((outcome(&job).as_str(), job.outcome.expect("it ended").exit_code), ("exit_code", 1));
}

#[tokio::test]
async fn files_of_out_are_kept_after_success_and_after_failure() {
    let client = Client::connect(cluster()).await;
    for code in [0, 7] {
        let job = client.run(script(&format!("mkdir /out/sub; echo kept >/out/sub/file; exit {code}"))).await;
        let kept = client.artifacts(&job.id).await;
        assert_eq!(kept.len(), 1, "{job:?}");
        assert_eq!(&kept[0].path[..], b"sub/file");
    }
}

#[tokio::test]
async fn standard_output_and_standard_error_are_captured() {
    let client = Client::connect(cluster()).await;
    let job = client.run(script("echo out; echo err >&2; printf 'no end 🚀'")).await;
    assert_eq!(printed(&client, &job).await, "out\nno end 🚀");
    assert_eq!(client.printed(&job.id, Stream::Stderr).await, b"err\n");
}

#[tokio::test]
async fn a_run_has_a_link_to_its_files_whether_it_succeeded_or_failed() {
    let client = Client::connect(cluster()).await;
    for code in [0, 7] {
        let job = client.run(script(&format!("echo kept >/out/file; exit {code}"))).await;
        let link = client.get(&job.id).await.result.expect("it left a file");
        assert_eq!(crate::results::get(&format!("{}out/file", link.folder)).await.1, b"kept\n");
        let shown = cluster().cli().call(&["show", &job.id]).expect(0).text();
        assert!(shown.contains("/results/"), "{shown}");
    }
}

#[tokio::test]
async fn all_data_but_out_is_dropped_at_the_end() {
    let client = Client::connect(cluster()).await;
    // As long as the job lives, these words are on this machine; none of its commands has them as they are written.
    let write = "for f in /out/kept /tmp_disk/scratch /layer /volume/file; do echo drop-$((40 + 2))-me >$f; done; \
                 echo up; while [ ! -e /tmp_disk/go ]; do sleep 0.1; done";
    let mut spec = action(&image_with("kleinkram-volume", &format!("{}\nVOLUME /volume", lines())));
    spec.entrypoint = Some(words(&["/bin/sh", "-c"]));
    spec.command = Some(words(&[write]));
    let id = client.submit(spec).await;
    client.prints(&id, "up").await;
    let places = "{{range .Mounts}}{{println .Source}}{{end}}{{.GraphDriver.Data.UpperDir}}";
    let told = docker_output(&["inspect", "-f", places, &containers(&id)]);
    let places: Vec<_> = String::from_utf8_lossy(&told.stdout).lines().map(PathBuf::from).collect();
    let with_words = || places.iter().filter(|place| holds(place, b"drop-42-me\n")).count();
    assert_eq!(with_words(), 4, "{places:?}");
    let scratch = places.iter().find(|place| place.join("scratch").is_file()).expect("it is mounted");
    std::fs::write(scratch.join("go"), "").expect("written");
    let job = client.ended(&id).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
    until("nothing is left of it on the machine", || async {
        match (with_words(), containers(&id)) {
            (0, container) if container.is_empty() => Ok(()),
            left => Err(left),
        }
    })
    .await;
    let kept = client.artifacts(&id).await;
    assert_eq!(kept.iter().map(|file| &file.path[..]).collect::<Vec<_>>(), [b"kept"]);
}

/// Whether a file right in this folder is these bytes.
fn holds(folder: &std::path::Path, bytes: &[u8]) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .map(|file| file.path())
        .any(|path| path.is_file() && std::fs::read(path).is_ok_and(|read| read == bytes))
}

#[tokio::test]
async fn an_image_whose_user_is_1000_writes_out_and_tmp_disk() {
    let client = Client::connect(cluster()).await;
    let mut spec = action(&image_with("kleinkram-user", &format!("{}\nUSER 1000", lines())));
    spec.entrypoint = Some(words(&["/bin/sh", "-c"]));
    spec.command = Some(words(&["id -u; echo mine >/out/mine && echo scratch >/tmp_disk/scratch"]));
    let job = client.run(spec).await;
    assert_eq!((outcome(&job).as_str(), printed(&client, &job).await.as_str()), ("succeeded", "1000\n"));
    assert_eq!(client.artifacts(&job.id).await.len(), 1);
}

#[tokio::test]
async fn an_action_has_no_capability_no_new_privilege_and_256_processes() {
    let client = Client::connect(cluster()).await;
    let look = "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; \
                cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null";
    let job = client.run(script(look)).await;
    let out = printed(&client, &job).await;
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "256"] {
        assert!(out.lines().any(|printed| printed == line), "{line}: {out}");
    }
}

#[tokio::test]
async fn a_gpu_is_requested_on_submission_and_waited_for() {
    let client = Client::connect(cluster()).await;
    let mut spec = script("true");
    spec.resources.get_or_insert_default().gpu = Some(GpuRequest { count: 1, ..GpuRequest::default() });
    let id = client.submit(spec).await;
    let waiting = client.get(&id).await.waiting.expect("this machine has none");
    assert!(format!("{waiting:?}").contains("GPU"), "{waiting:?}");
    cluster().cli().call(&["cancel", &id]).expect(0);
}

#[tokio::test]
async fn only_images_of_the_namespace_are_taken_and_one_that_begins_alike_is_not() {
    let cluster = cluster();
    cluster.cli().call(&["projects", "create", "namespace", "--allow-images", "rslethz/*"]).expect(0);
    let client = Client::connect(cluster).await;
    let submit = |image: &str| {
        let mut spec = action(image);
        spec.kleinkram = Some(Kleinkram {
            mission_uuid: MISSION.to_owned(),
            project_uuid: PROJECT.to_owned(),
            api_endpoint: API.to_owned(),
            s3_endpoint: S3.to_owned(),
            key_secret: "key".to_owned(),
            ..Kleinkram::default()
        });
        let secrets = [("key".to_owned(), b"0190a8c2-key".to_vec().into())].into();
        let project = "namespace".to_owned();
        let request = SubmitRequest { project, spec: Some(spec), secrets, ..SubmitRequest::default() };
        let mut jobs = client.jobs.clone();
        async move { jobs.submit(request).await }
    };
    let refused = submit("rslethz-evil/x:1").await.expect_err("another namespace");
    assert!(refused.message().contains("rslethz-evil/x"), "{refused}");
    let taken = submit("rslethz/x:1").await.expect("taken").into_inner().job.expect("a job");
    cluster.cli().call(&["cancel", &taken.id]).expect(0);
}

#[tokio::test]
async fn what_is_missing_or_misshapen_is_told_at_once_with_where_to_set_it() {
    let cluster = cluster();
    cluster.cli().call(&["projects", "create", "bare"]).expect(0);
    let run = ["--project", "bare", "run", "--kleinkram", "mission_uuid=7", "--kleinkram", "project=x", "a"];
    let told = cluster.cli().call(&run).expect(2).stderr;
    for part in ["kleinkram.mission_uuid: `7` is not a UUID", "--kleinkram project: is not one of"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let told = cluster.cli().call(&["--project", "bare", "run", "--contract", "kleinkram", "a"]).stderr;
    for part in ["kleinkram.mission_uuid", "projects set bare --kleinkram-api-endpoint URL", "kleinkram.key"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let told = cluster.cli().call(&["projects", "set", "bare", "--kleinkram-minter", "smaple"]);
    assert!(told.code != 0 && told.stderr.contains("has broken, sample"), "{}", told.stderr);
}

/// Containers of this job, ended ones too.
fn containers(job: &str) -> String {
    let done = docker_output(&["ps", "-aq", "--filter", &format!("name=longshore-{job}-")]);
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}
