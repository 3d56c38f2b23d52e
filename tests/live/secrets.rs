//! Secrets on their way: they reach the container, and are nowhere else. Private images serve the project that may
//! have them.

use longshore_proto::v1::{
    JobSpec, PullPolicy, SetRegistryRequest, SetSecretRequest, Stream, SubmitRequest,
    projects_client::ProjectsClient,
};
use longshore_tests::{
    env::{
        Client, Cluster, Plan, Registry, docker, docker_output, embedded, fresh_dir, image, image_with,
        outcome, shell, until,
    },
    token,
};
use std::{fs, io::Write as _, path::Path, process::Stdio};
use tonic::transport::Channel;

const TOKEN: &str = "hunter2-Zq8+/token value";
const KEY: &str =
    "-----BEGIN TEST KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END TEST KEY-----\n";

fn with_input(cluster: &Cluster, arguments: &[&str], input: &str) {
    let mut command = cluster.cli().command(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run longshore");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let done = child.wait_with_output().expect("it ends");
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    let said = [done.stdout, done.stderr].concat();
    assert!(!String::from_utf8_lossy(&said).contains(input.trim()), "{arguments:?} says the value");
}

/// Files below the folder that hold one of these texts.
fn holders(folder: &Path, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let kind = entry.file_type().expect("it has a type");
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let bytes = fs::read(&path).unwrap_or_default();
                let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
                if texts.iter().any(|text| holds(text)) {
                    found.push(path.display().to_string());
                }
            }
        }
    }
    found
}

#[tokio::test]
async fn secrets_reach_the_container_and_are_nowhere_else() {
    let agents = fresh_dir("secret-agents");
    let cluster = embedded().agent_data(agents.clone()).start();
    with_input(&cluster, &["secrets", "set", "hf-token"], &format!("{TOKEN}\n"));
    with_input(&cluster, &["secrets", "set", "ssh.key"], KEY);
    let client = Client::connect(&cluster).await;
    let script = "echo at-work; printf 'raw %s end\\n' \"$HF_TOKEN\" | tee /dev/stderr; printf %s \"$HF_TOKEN\" | base64; \
         printf %s \"user:$HF_TOKEN\" | base64; printf %s \"$HF_TOKEN\" | hexdump -v -e '/1 \"%02x\"'; echo; \
         printf hunter2-; sleep 0.3; printf 'Zq8+/token value\\n'; cat /run/secrets/id; \
         printf %s \"$HF_TOKEN\" | md5sum; md5sum </run/secrets/id; stat -c '%a %u' /run/secrets/id; \
         touch /run/secrets/x 2>/dev/null && echo WRITABLE; printf %s \"$OWN\" | md5sum; sleep 5";
    let mut spec = shell(&image(), script);
    spec.secret_env =
        [("HF_TOKEN", "hf-token"), ("OWN", "OWN")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    spec.secret_files = [("ssh.key".to_owned(), "/run/secrets/id".to_owned())].into();
    let request = SubmitRequest {
        spec: Some(spec),
        secrets: [("OWN".to_owned(), b"own-secret-of-the-job".to_vec().into())].into(),
        ..SubmitRequest::default()
    };
    let job = client.jobs.clone().submit(request).await.expect("submitted").into_inner().job.expect("a job");
    client.prints(&job.id, "at-work").await;
    let container = docker(&["ps", "-q", "--filter", &format!("name=longshore-{}-", job.id)]);
    let labels = docker(&["inspect", "-f", "{{json .Config.Labels}}", &container]);
    let all = [TOKEN, "hunter2-Zq8", "MIIEvQIBADANBgkqhkiG9w0B", "own-secret-of-the-job"];
    for text in all {
        assert!(!labels.contains(text), "{labels}");
    }
    assert_eq!(holders(&agents, &all), Vec::<String>::new(), "while it runs");
    let ended = client.ended(&job.id).await;
    assert_eq!(outcome(&ended), "succeeded", "{ended:?}");
    let out = String::from_utf8_lossy(&client.printed(&job.id, Stream::Stdout).await).into_owned();
    assert!(out.contains("raw *** end"), "{out}");
    for secret in all.iter().chain(&["aHVudGVyMi1acTgrL3Rva2VuIHZhbHVl", "68756e746572322d5a71382b2f"]) {
        assert!(!out.contains(secret), "{secret} is in {out}");
    }
    assert!(out.contains("400 0") && !out.contains("WRITABLE"), "{out}");
    for (value, what) in
        [(TOKEN, "the variable"), (KEY, "the file"), ("own-secret-of-the-job", "the job's own")]
    {
        assert!(out.contains(&md5(value)), "{what} is another: {out}");
    }
    let err = client.printed(&job.id, Stream::Stderr).await;
    assert_eq!(String::from_utf8_lossy(&err), "raw *** end\n");

    let cli = cluster.cli();
    let mut told = format!("{:?}", client.get(&job.id).await);
    for arguments in [
        &["show", &job.id][..],
        &["show", &job.id, "-o", "json"],
        &["secrets", "ls", "-o", "json"],
        &["audit", "-o", "json"],
        &["logs", &job.id],
    ] {
        let done = cli.call(arguments).expect(0);
        told.push_str(&done.text());
        told.push_str(&done.stderr);
    }
    for text in all {
        assert!(!told.contains(text), "{text} is told");
    }
    assert!(told.contains("HF_TOKEN={secret: hf-token}") && told.contains("SetSecret"), "{told}");
    assert_eq!(holders(&agents, &all), Vec::<String>::new(), "after its end");
    assert_eq!(holders(&cluster.data(), &all), Vec::<String>::new(), "at the controller");
    assert!(!cluster.outputs().contains("hunter2"), "in the output of the processes");
    until("the files go with the attempt", || async {
        let left: Vec<_> = ["/run/longshore", "/dev/shm/longshore"]
            .iter()
            .flat_map(|at| holders(Path::new(at), &all))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

fn md5(text: &str) -> String {
    let file = fresh_dir("md5").join("value");
    fs::write(&file, text).expect("written");
    let done = std::process::Command::new("md5sum").arg(&file).output().expect("run md5sum");
    String::from_utf8_lossy(&done.stdout).split(' ').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_agent_that_is_killed_masks_again_from_the_very_byte() {
    let mut cluster = embedded().start();
    with_input(&cluster, &["secrets", "set", "token"], "correct-horse-battery-staple");
    let client = Client::connect(&cluster).await;
    let script = "i=0; while [ $i -lt 40 ]; do echo \"$i [$TOKEN] $i\"; i=$((i + 1)); sleep 0.25; done";
    let mut spec = shell(&image(), script);
    spec.secret_env = [("TOKEN".to_owned(), "token".to_owned())].into();
    let id = client.submit(spec).await;
    client.prints(&id, "3 [").await;
    cluster.kill_agent(0);
    cluster.start_agent(0);
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
    let out = String::from_utf8_lossy(&client.printed(&id, Stream::Stdout).await).into_owned();
    let wanted: String = (0..40).map(|i| format!("{i} [***] {i}\n")).collect();
    assert_eq!(out, wanted);
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_refused_at_submit_with_all_that_is_wrong() {
    let client = Client::connect(crate::shared::embedded()).await;
    let mut spec = shell(&image(), "true");
    spec.secret_env = [("A".to_owned(), "no-such".to_owned())].into();
    spec.secret_files = [("nor-this".to_owned(), "/run/secrets/x".to_owned())].into();
    spec.priority = 1000;
    let refusal = client.try_submit(spec).await.expect_err("refused");
    let text = format!("{} {}", refusal.message(), String::from_utf8_lossy(refusal.details()));
    for field in ["env.A.secret", "secrets.nor-this", "priority"] {
        assert!(text.contains(field), "{field}: {text}");
    }
}

#[tokio::test]
async fn a_value_of_the_shell_goes_with_its_job_alone() {
    let cluster = crate::shared::embedded();
    let image = image();
    let run = [
        "run",
        "--cpus",
        "0.1",
        "-m",
        "64m",
        "--scratch",
        "256m",
        "--secret-env",
        "MINE",
        "--entrypoint",
        "/bin/sh",
    ];
    let arguments = [&run[..], &[&image, "-c", "echo $MINE; printf %s $MINE | md5sum"]].concat();
    let done =
        cluster.cli().command(&arguments).env("MINE", "only-of-the-shell").output().expect("run longshore");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.starts_with("***\n") && text.contains(&md5("only-of-the-shell")), "{text}");
    let listed = cluster.cli().call(&["secrets", "ls"]).expect(0);
    assert!(!listed.text().contains("MINE"), "{}", listed.text());
    let missing = cluster.cli().call(&arguments);
    assert!(missing.code == 2 && missing.stderr.contains("--secret-env MINE"), "{}", missing.stderr);
}

fn projects(cluster: &Cluster) -> ProjectsClient<token::Authorized> {
    let channel = Channel::from_shared(cluster.url()).expect("an address").connect_lazy();
    ProjectsClient::new(token::authorized(channel, &cluster.data()))
}

async fn run_in(client: &Client, project: &str, spec: JobSpec) -> (String, String) {
    let request = SubmitRequest { project: project.to_owned(), spec: Some(spec), ..SubmitRequest::default() };
    let job = client.jobs.clone().submit(request).await.expect("submitted").into_inner().job.expect("a job");
    let job = client.ended(&job.id).await;
    (outcome(&job), job.outcome.map(|outcome| outcome.detail).unwrap_or_default())
}

#[tokio::test]
async fn a_private_image_serves_only_the_project_that_its_registry_gives_it_to() {
    let registry = Registry::start();
    let (user, password) = registry.credentials();
    let local = image_with("private", "ENV PRIVATE=yes");
    let reference = registry.push(&local, "private:1");
    // It is brought by nobody but the project's own credentials.
    docker(&["rmi", &reference, &local]);
    let cluster = Plan::default().start();
    let client = Client::connect(&cluster).await;
    let cli = cluster.cli();
    for project in ["lab", "other", "wrong"] {
        cli.call(&["projects", "create", project]).expect(0);
    }
    let set = |project: &str, password: &str| SetRegistryRequest {
        project: project.to_owned(),
        host: registry.host(),
        username: user.to_owned(),
        password: password.as_bytes().to_vec().into(),
    };
    projects(&cluster).set_registry(set("lab", password)).await.expect("set");
    projects(&cluster).set_registry(set("wrong", "not-the-password")).await.expect("set");
    let spec = || shell(&reference, "echo $PRIVATE");

    let (ended, detail) = run_in(&client, "other", spec()).await;
    assert_eq!(ended, "registry_auth", "{detail}");
    assert!(detail.contains(&registry.host()), "{detail}");
    assert_eq!(run_in(&client, "lab", spec()).await.0, "succeeded");
    assert_eq!(run_in(&client, "lab", spec()).await.0, "succeeded", "from the cache");
    let by_id = docker(&["inspect", "-f", "{{.Id}}", &reference]);
    for project in ["other", "wrong"] {
        for image in [&reference, &by_id] {
            let mut spec = shell(image, "echo $PRIVATE");
            spec.pull = PullPolicy::Missing.into();
            let (ended, detail) = run_in(&client, project, spec).await;
            assert_ne!(ended, "succeeded", "{project} got {image} from the cache");
            assert!(!detail.contains("not-the-password"), "{detail}");
        }
        let (ended, detail) = run_in(&client, project, spec()).await;
        assert!(ended == "registry_auth" && detail.contains(&registry.host()), "{project}: {ended} {detail}");
    }
    projects(&cluster).set_registry(set("other", password)).await.expect("set");
    assert_eq!(run_in(&client, "other", spec()).await.0, "succeeded", "its own check lets it");
    assert_eq!(holders(&cluster.data(), &[password]), Vec::<String>::new());
    drop(docker_output(&["rmi", "-f", &reference]));
    let set = SetSecretRequest { project: "nobody".into(), name: "x".into(), value: b"y".to_vec().into() };
    assert!(projects(&cluster).set_secret(set).await.is_err(), "there is no such project");
}

#[tokio::test]
async fn a_credential_helper_of_the_node_serves_and_what_it_complains_is_told() {
    use std::{fs, os::unix::fs::PermissionsExt as _};
    let registry = Registry::start();
    let (user, password) = registry.credentials();
    let reference = registry.push(&image_with("helped", "ENV HELPED=yes"), "helped:1");
    docker(&["rmi", &reference]);
    let folder = longshore_tests::env::fresh_dir("helper");
    let helper = folder.join("docker-credential-story");
    let says = |script: &str| {
        fs::write(&helper, format!("#!/bin/sh\n{script}\n")).expect("write a helper");
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("make it a program");
    };
    fs::write(
        folder.join("config.json"),
        format!("{{\"credHelpers\": {{\"{}\": \"story\"}}}}", registry.host()),
    )
    .expect("write Docker's settings");
    says("echo 'the session is over: log in' >&2; exit 1");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let cluster = Plan::default().environment("PATH", &path);
    let settings = format!("[runtime]\ndocker_config = \"{}\"\n", folder.join("config.json").display());
    let cluster = cluster.agent(&settings).start();
    let client = Client::connect(&cluster).await;
    let job = client.run(shell(&reference, "true")).await;
    let detail = job.outcome.clone().expect("it ended").detail;
    assert_eq!(outcome(&job), "registry_auth", "{detail}");
    for part in [registry.host().as_str(), "docker-credential-story failed", "the session is over: log in"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    assert!(job.outcome.expect("it ended").hint.contains("longshore registries"));
    says(&format!("cat >/dev/null; echo '{{\"Username\": \"{user}\", \"Secret\": \"{password}\"}}'"));
    assert_eq!(outcome(&client.run(shell(&reference, "true")).await), "succeeded");
    drop(docker_output(&["rmi", "-f", &reference]));
}
