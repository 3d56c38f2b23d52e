//! Triggers over real servers: what a container is told, the signed call of the guide, and objects of a bucket over a
//! killed controller.

use longshore_tests::env::{Cluster, PATIENCE, S3, embedded, fresh_dir, image, program};
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

fn apply(cluster: &Cluster, text: &str) -> Value {
    let file = cluster.cli().folder().join("triggers.yaml");
    fs::write(&file, text).expect("write the triggers");
    let path = file.display().to_string();
    let done = cluster.cli().call(&["triggers", "apply", "-f", &path, "-o", "json"]).expect(0);
    serde_json::from_str(&done.text()).expect("JSON")
}

#[tokio::test]
async fn the_signed_call_of_the_guide_starts_a_container_that_reads_what_happened() {
    let cluster = embedded().start();
    let applied = apply(
        &cluster,
        &format!(
            "kind: trigger\nname: pushed\nwebhook: {{}}\nset: {{FILE: {{payload: /object/key}}}}\njob:\n  image: {}\n  \
             user: '1000'\n  env: {{FILE: none}}\n  command: [sh, -c, \"cat $LONGSHORE_TRIGGER_FILE; echo; echo $FILE \
             $LONGSHORE_TRIGGER $LONGSHORE_TRIGGER_KIND; touch /run/longshore/x || echo read-only\"]\n  \
             resources: {{cpu: 100m, memory: 64MiB, scratch: 256MiB}}\n",
            image()
        ),
    );
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/integrator.md"));
    let guide = guide.expect("read the guide");
    let script = guide.split("```bash\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a script");
    let hook = applied[0]["trigger"]["hookPath"].as_str().or(applied[0]["trigger"]["hook_path"].as_str());
    let call = || {
        let output = Command::new(program(&["bash"], "bash"))
            .args(["-euc", script])
            .env("HOOK", format!("{}{}", cluster.url(), hook.expect("a hook")))
            .env("SECRET", applied[0]["secret"].as_str().expect("a secret"))
            .env("no_proxy", "*")
            .output()
            .expect("run the script");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };
    let (first, again) = (call(), call());
    assert_eq!((&first["state"], &again["again"]), (&"fired".into(), &true.into()), "{first} {again}");
    assert_eq!(first["job"], again["job"]);
    let job = first["job"].as_str().expect("a job");
    cluster.cli().call(&["wait", job]).expect(0);
    let log = cluster.cli().call(&["logs", job]).expect(0).text();
    let lines: Vec<_> = log.lines().collect();
    let told: Value = serde_json::from_str(lines[0]).expect("JSON");
    assert_eq!(told["payload"]["object"]["key"], "incoming/a.bag");
    assert_eq!(lines[1], "incoming/a.bag pushed webhook");
    assert_eq!(lines.last(), Some(&"read-only"));
    let shown = cluster.cli().call(&["show", job]).expect(0).text();
    assert!(shown.contains("trigger     pushed (webhook)"), "{shown}");
}

#[tokio::test]
async fn objects_of_a_bucket_fire_once_each_over_a_killed_controller() {
    const OBJECTS: usize = 1_000;
    // Once for the process; another story may have done it.
    drop(rustls::crypto::ring::default_provider().install_default());
    let s3 = S3::start();
    let key = fresh_dir("trigger-key").join("key");
    fs::write(&key, &s3.secret_key).expect("write the key");
    let source = format!(
        "[triggers]\nlist_every = \"200ms\"\nbatch = 100\n[[object_sources]]\nname = \"bags\"\nendpoint = \"{}\"\nbucket = \
         \"{}\"\naccess_key = \"{}\"\nsecret_key_file = \"{}\"\n",
        s3.endpoint,
        s3.bucket,
        s3.access_key,
        key.display()
    );
    let mut cluster = embedded().controller(&source).start();
    let put = async |name: &str| {
        let endpoint = s3.endpoint.parse().expect("an address");
        let bucket =
            Bucket::new(endpoint, UrlStyle::Path, s3.bucket.clone(), s3.region.clone()).expect("a bucket");
        let keys = Credentials::new(s3.access_key.clone(), s3.secret_key.clone());
        let url = bucket.put_object(Some(&keys), name).sign(Duration::from_secs(60));
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let answer = client.put(url).body(format!("in {name}")).send().await.expect("sent");
        assert!(answer.status().is_success(), "{answer:?}");
    };
    put("in/old.bag").await;
    apply(
        &cluster,
        &format!(
            "kind: trigger\nname: bags\nobjects: {{source: bags, prefix: in/, match: ['*.bag'], input: bag}}\njob:\n  \
             image: {}\n  command: [sh, -c, 'cat /in/bag/*']\n  \
             resources: {{cpu: 100m, memory: 32MiB, scratch: 64MiB}}\n",
            image()
        ),
    );
    // A thousand containers would tell nothing more.
    cluster.cli().call(&["pause", "--note", "objects come"]).expect(0);
    for n in 0..OBJECTS {
        put(&format!("in/{n:04}.bag")).await;
        if n == OBJECTS / 2 {
            cluster.kill_controller();
            cluster.start_controller();
        }
    }
    put("in/readme.txt").await;
    let deadline = Instant::now() + 4 * PATIENCE;
    loop {
        let jobs = cluster.cli().call(&["ls", "-aq"]).expect(0).text().lines().count();
        if jobs >= OBJECTS {
            break;
        }
        assert!(Instant::now() < deadline, "{jobs} of {OBJECTS}: {}", cluster.outputs());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let history = cluster.cli().call(&["triggers", "history", "bags", "-n", "2000", "-o", "json"]).expect(0);
    let history: Vec<Value> = serde_json::from_str(&history.text()).expect("JSON");
    let mut causes: Vec<_> =
        history.iter().map(|firing| firing["cause"].as_str().unwrap_or_default()).collect();
    causes.sort_unstable();
    causes.dedup();
    assert_eq!((history.len(), causes.len()), (OBJECTS, OBJECTS));
    let jobs = cluster.cli().call(&["ls", "-aq"]).expect(0).text();
    assert_eq!(jobs.lines().count(), OBJECTS, "a job for each");
    cluster.cli().call(&["resume"]).expect(0);
    let last = history.iter().find(|firing| firing["cause"] == "in/0007.bag").expect("the seventh");
    let job = last["job"].as_str().expect("a job");
    cluster.cli().call(&["wait", job]).expect(0);
    assert_eq!(cluster.cli().call(&["logs", job]).expect(0).text().trim(), "in in/0007.bag");
}
