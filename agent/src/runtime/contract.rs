//! What every runtime must do, as one suite that runs on each of them. A runtime's test gives a [`Subject`] and
//! calls [`all`]; a breach panics with what was seen.

use super::{
    ContainerSpec, Counts, Error, Exit, ImageId, ImageRequest, Output, Progress, Runtime, Scratch,
    SecretMounts,
};
use crate::shares::Pins;
use longshore_common::{
    ids::{AgentId, AttemptRef, ClusterId, Epoch, JobId, ShortId},
    job::{NetworkMode, Outcome, PullPolicy, Resources, Security},
    logs::Stream,
};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};
use tokio::sync::mpsc;

/// What a container is to do. A runtime's test turns it into a command or a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Writes to both streams, the last line without its end, then exits.
    Speak { stdout: &'static str, stderr: &'static str, exit: i32 },
    /// Says `ready` and a newline, runs until SIGTERM, exits with this code.
    RunUntilTerm(i32),
    /// Says `ready` and a newline, runs on whatever comes.
    IgnoreTerm,
    /// A file of this many bytes in `/out`.
    Write { name: &'static str, bytes: usize },
    /// Passes its memory limit.
    PassMemory,
}

/// A runtime under test.
pub trait Subject {
    fn runtime(&self) -> &dyn Runtime;
    /// The agent whose containers the runtime lists.
    fn agent(&self) -> AgentId;
    /// Where the attempt's folders may be made.
    fn scratch_root(&self) -> PathBuf;
    /// An image that is there, and one that no registry has.
    fn images(&self) -> (String, String);
    fn apply(&self, script: Script, spec: &mut ContainerSpec);
}

/// Runs the whole suite.
pub async fn all(subject: &dyn Subject) {
    exit_code_and_every_byte_come_back(subject).await;
    the_end_can_be_asked_for_again_and_by_several(subject).await;
    term_lets_the_container_choose_its_end(subject).await;
    what_ignores_term_is_killed_after_the_grace(subject).await;
    a_pass_of_the_memory_limit_shows_the_flag(subject).await;
    files_of_out_are_on_the_host(subject).await;
    a_second_create_of_the_attempt_adopts(subject).await;
    own_containers_are_listed_until_they_are_removed(subject).await;
    a_next_process_takes_over_what_runs_and_what_ended(subject).await;
    an_image_that_nobody_has_is_named(subject).await;
}

async fn exit_code_and_every_byte_come_back(subject: &dyn Subject) {
    let script = Script::Speak { stdout: "one\ntwo", stderr: "warn", exit: 3 };
    let run = run(subject, script).await;
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("one\ntwo", "warn"));
    assert_eq!((run.exit.code, run.exit.oom_flag, run.exit.engine_restarted), (3, false, false));
    assert!(run.exit.finished_at >= run.exit.started_at);
}

async fn the_end_can_be_asked_for_again_and_by_several(subject: &dyn Subject) {
    let spec = spec(subject, Script::Speak { stdout: "", stderr: "", exit: 7 });
    let runtime = subject.runtime();
    let container = runtime.create(&spec).await.expect("create");
    let output = runtime.start(&container).await.expect("start");
    let (first, second) = tokio::join!(runtime.wait(&container), runtime.wait(&container));
    assert_eq!(first.expect("wait"), second.expect("wait beside it"));
    assert_eq!(runtime.wait(&container).await.expect("wait again").code, 7);
    drop(output);
    runtime.remove(&container).await.expect("remove");
}

async fn term_lets_the_container_choose_its_end(subject: &dyn Subject) {
    let (runtime, started) = started(subject, Script::RunUntilTerm(9)).await;
    runtime.stop(&started.id, Duration::from_secs(30)).await.expect("stop");
    assert_eq!(runtime.wait(&started.id).await.expect("wait").code, 9);
    runtime.stop(&started.id, Duration::from_secs(30)).await.expect("stop what has ended");
    runtime.remove(&started.id).await.expect("remove");
}

async fn what_ignores_term_is_killed_after_the_grace(subject: &dyn Subject) {
    let (runtime, started) = started(subject, Script::IgnoreTerm).await;
    runtime.stop(&started.id, Duration::from_millis(200)).await.expect("stop");
    let exit = runtime.wait(&started.id).await.expect("wait");
    assert_eq!((exit.code, exit.oom_flag), (137, false));
    runtime.remove(&started.id).await.expect("remove");
}

async fn a_pass_of_the_memory_limit_shows_the_flag(subject: &dyn Subject) {
    let exit = run(subject, Script::PassMemory).await.exit;
    assert!(exit.oom_flag && exit.code != 0, "{exit:?}");
}

async fn files_of_out_are_on_the_host(subject: &dyn Subject) {
    let spec = spec(subject, Script::Write { name: "a.bin", bytes: 3_000_000 });
    let runtime = subject.runtime();
    let container = runtime.create(&spec).await.expect("create");
    let output = runtime.start(&container).await.expect("start");
    assert_eq!(runtime.wait(&container).await.expect("wait").code, 0);
    drop(output);
    let length = std::fs::metadata(spec.scratch.out.join("a.bin")).expect("the file is there").len();
    assert_eq!(length, 3_000_000);
    let sample = runtime.usage(&container).await.expect("usage of what has ended");
    assert!(sample.disk_bytes >= 3_000_000, "{sample:?}");
    runtime.remove(&container).await.expect("remove");
    assert!(!spec.scratch.out.exists(), "scratch goes with the container");
    runtime.remove(&container).await.expect("removing what is gone is fine");
}

async fn a_second_create_of_the_attempt_adopts(subject: &dyn Subject) {
    let spec = spec(subject, Script::Speak { stdout: "once", stderr: "", exit: 0 });
    let runtime = subject.runtime();
    let first = runtime.create(&spec).await.expect("create");
    assert_eq!(runtime.create(&spec).await.expect("create again"), first);
    let mut stranger = spec.clone();
    stranger.agent = AgentId::new();
    assert!(runtime.create(&stranger).await.is_err(), "another agent's container is not ours to take");
    let output = runtime.start(&first).await.expect("start");
    assert_eq!(read(output).await.0, "once");
    runtime.remove(&first).await.expect("remove");
}

async fn own_containers_are_listed_until_they_are_removed(subject: &dyn Subject) {
    let (runtime, started) = started(subject, Script::IgnoreTerm).await;
    let ours = || async {
        let known = runtime.list().await.expect("list");
        known.into_iter().find(|known| known.container == started.id)
    };
    let known = ours().await.expect("listed");
    let spec = &started.spec;
    assert_eq!((known.attempt, known.cluster, known.running), (spec.attempt, spec.cluster, true));
    runtime.remove(&started.id).await.expect("remove what runs");
    assert_eq!(ours().await, None);
}

async fn a_next_process_takes_over_what_runs_and_what_ended(subject: &dyn Subject) {
    let seen = Counts { stdout: 4, stderr: 0 };
    let spec = spec(subject, Script::Speak { stdout: "one\ntwo\n", stderr: "warn\n", exit: 3 });
    let runtime = subject.runtime();
    let container = runtime.create(&spec).await.expect("create");
    let attached =
        runtime.attach(&container, Counts::default(), None).await.expect("attach starts what never was");
    assert_eq!(read(attached.output).await, ("one\ntwo\n".to_owned(), "warn\n".to_owned()));
    let exit = runtime.wait(&container).await.expect("wait");
    let again = runtime.attach(&container, seen, None).await.expect("attach to what has ended");
    assert_eq!(read(again.output).await, ("two\n".to_owned(), "warn\n".to_owned()));
    assert!(again.started_at <= exit.finished_at);
    assert_eq!(runtime.wait(&container).await.expect("wait again").code, 3);
    runtime.remove(&container).await.expect("remove");
}

async fn an_image_that_nobody_has_is_named(subject: &dyn Subject) {
    let (there, missing) = subject.images();
    let (sender, _lines) = mpsc::channel(64);
    let progress = Progress::new(sender);
    let ask = |image, policy| {
        let progress = progress.clone();
        let request = ImageRequest { image, policy, project: "default".to_owned(), login: None };
        async move { subject.runtime().ensure_image(&request, &progress).await }
    };
    ask(there, PullPolicy::Missing).await.expect("it is there");
    match ask(missing, PullPolicy::Never).await {
        Err(Error::Ends { outcome: Outcome::ImageNotFound, .. }) => {}
        other => panic!("image_not_found expected: {other:?}"),
    }
}

/// A container that has said it is ready.
struct Started {
    spec: ContainerSpec,
    id: super::ContainerId,
    /// Dropping it may stop the engine from delivering more.
    _output: Output,
}

/// How a run to the end went.
struct Run {
    exit: Exit,
    stdout: String,
    stderr: String,
}

async fn run(subject: &dyn Subject, script: Script) -> Run {
    let runtime = subject.runtime();
    let container = runtime.create(&spec(subject, script)).await.expect("create");
    let output = runtime.start(&container).await.expect("start");
    let ((stdout, stderr), exit) = tokio::join!(read(output), runtime.wait(&container));
    runtime.remove(&container).await.expect("remove");
    Run { exit: exit.expect("wait"), stdout, stderr }
}

async fn started(subject: &dyn Subject, script: Script) -> (&dyn Runtime, Started) {
    let runtime = subject.runtime();
    let spec = spec(subject, script);
    let id = runtime.create(&spec).await.expect("create");
    let mut output = runtime.start(&id).await.expect("start");
    let first = output.0.recv().await.expect("it says that it is ready");
    assert_eq!(&first.data[..], b"ready\n");
    (runtime, Started { spec, id, _output: output })
}

/// Everything on stdout and on stderr.
async fn read(mut output: Output) -> (String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(chunk) = output.0.recv().await {
        match chunk.stream {
            Stream::Stdout => stdout.extend_from_slice(&chunk.data),
            Stream::Stderr => stderr.extend_from_slice(&chunk.data),
            Stream::System => panic!("unexpected: {}", String::from_utf8_lossy(&chunk.data)),
        }
    }
    let text = |bytes| String::from_utf8(bytes).expect("the scripts speak UTF-8");
    (text(stdout), text(stderr))
}

fn spec(subject: &dyn Subject, script: Script) -> ContainerSpec {
    let mut spec = sample_spec();
    spec.agent = subject.agent();
    spec.scratch = Scratch::of(&subject.scratch_root(), spec.attempt, []);
    subject.apply(script, &mut spec);
    spec
}

/// A spec with nothing asked for.
pub fn sample_spec() -> ContainerSpec {
    let attempt = AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) };
    ContainerSpec {
        attempt,
        short_id: ShortId::random(),
        cluster: ClusterId::new(),
        agent: AgentId::new(),
        image: ImageId("sha256:3f9c01d2".to_owned()),
        image_name: "app:2".to_owned(),
        entrypoint: None,
        command: None,
        workdir: None,
        user: None,
        env: BTreeMap::new(),
        resources: Resources::default(),
        gpus: Vec::new(),
        network: NetworkMode::None,
        security: Security::Baseline,
        stop_grace: Duration::from_secs(10),
        scratch: Scratch::of("/tmp/longshore".as_ref(), attempt, []),
        secrets: SecretMounts::default(),
        shares: Pins::new(),
        caches: BTreeMap::new(),
        files_in_memory: false,
    }
}
