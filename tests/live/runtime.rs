//! The Docker runtime on a real engine.

mod images;
mod network;
mod output;
mod sweep;
mod trouble;
mod versions;

use longshore_agent::runtime::{
    Config, ContainerSpec, Exit, ImageId, Output, Runtime, Scratch,
    contract::{self, Script, Subject, sample_spec},
    docker::Docker,
};
use longshore_common::{ids::AgentId, logs::Stream};
use longshore_tests::env::{docker as docker_cli, fresh_dir, image};
use std::path::PathBuf;

/// A runtime of an agent of its own; its containers go when it is dropped.
pub(crate) struct Node {
    pub(crate) docker: Docker,
    pub(crate) agent: AgentId,
    folder: PathBuf,
    image: ImageId,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let agent = AgentId::new();
        let image = ImageId(docker_cli(&["image", "inspect", "-f", "{{.Id}}", &image()]));
        Self { docker: Docker::new(config, agent), agent, folder: fresh_dir("node"), image }
    }

    /// The runtime of the same agent in a new process.
    pub(crate) fn restarted(&self) -> Docker {
        Docker::new(Config::default(), self.agent)
    }

    pub(crate) fn spec(&self) -> ContainerSpec {
        let mut spec = sample_spec();
        spec.agent = self.agent;
        spec.image = self.image.clone();
        spec.scratch = Scratch::of(&self.folder, spec.attempt, []);
        spec.resources.memory_bytes = 64 << 20;
        spec
    }

    pub(crate) fn shell(&self, script: &str) -> ContainerSpec {
        let mut spec = self.spec();
        spec.command = Some(["sh", "-c", script].map(str::to_owned).to_vec());
        spec
    }

    /// Runs to the end and removes it.
    pub(crate) async fn run(&self, spec: &ContainerSpec) -> Ran {
        let id = self.docker.create(spec).await.expect("create");
        let output = self.docker.start(&id).await.expect("start");
        let (output, exit) = tokio::join!(read(output), self.docker.wait(&id));
        self.docker.remove(&id).await.expect("remove");
        Ran { exit: exit.expect("wait"), stdout: output.0, stderr: output.1 }
    }
}

pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

pub(crate) async fn read(mut output: Output) -> (Vec<u8>, Vec<u8>) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(chunk) = output.0.recv().await {
        match chunk.stream {
            Stream::Stdout => stdout.extend_from_slice(&chunk.data),
            Stream::Stderr => stderr.extend_from_slice(&chunk.data),
            Stream::System => panic!("{}", String::from_utf8_lossy(&chunk.data)),
        }
    }
    (stdout, stderr)
}

impl Subject for Node {
    fn runtime(&self) -> &dyn Runtime {
        &self.docker
    }

    fn agent(&self) -> AgentId {
        self.agent
    }

    fn scratch_root(&self) -> PathBuf {
        self.folder.clone()
    }

    fn images(&self) -> (String, String) {
        (image(), "longshore-test/nobody-has-this:1".to_owned())
    }

    fn apply(&self, script: Script, spec: &mut ContainerSpec) {
        let shell = match script {
            Script::Speak { stdout, stderr, exit } => {
                format!("printf '{stdout}'; printf '{stderr}' >&2; exit {exit}")
            }
            Script::RunUntilTerm(code) => {
                format!("trap 'exit {code}' TERM; echo ready; while :; do sleep 0.05; done")
            }
            Script::IgnoreTerm => "trap '' TERM; echo ready; while :; do sleep 0.05; done".to_owned(),
            Script::Write { name, bytes } => format!("head -c {bytes} /dev/zero >/out/{name}"),
            Script::PassMemory => "exec tail /dev/zero".to_owned(),
        };
        let runnable = self.shell(&shell);
        spec.image = runnable.image;
        spec.command = runnable.command;
        spec.resources = runnable.resources;
    }
}

#[tokio::test]
async fn docker_keeps_the_contract() {
    contract::all(&Node::new()).await;
}

#[tokio::test]
async fn the_engine_says_what_it_is() {
    let info = Node::new().docker.describe().await.expect("it answers");
    assert!(info.name.starts_with("docker ") && info.name.contains("API 1."), "{info:?}");
    assert!(["amd64", "arm64"].contains(&info.arch.as_str()) && info.data_root.is_dir(), "{info:?}");
}
