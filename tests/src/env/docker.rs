//! The docker client, and an engine of one's own for tests that stop it.

use super::{PATIENCE, Server, fresh_dir, program};
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Runs `docker ARGUMENTS` and answers what it printed, trimmed. Panics when it fails.
pub fn docker(arguments: &[&str]) -> String {
    let output = docker_output(arguments);
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// `docker` that may fail.
pub fn docker_output(arguments: &[&str]) -> Output {
    Command::new(program(&["docker"], "docker.io")).args(arguments).output().expect("run docker")
}

/// A private Docker Engine: its own socket, data, and no part in the machine's network.
#[derive(Debug)]
pub struct Engine {
    dir: PathBuf,
    server: Option<Server>,
}

impl Engine {
    pub fn start() -> Self {
        let dir = fresh_dir("engine");
        let server = Some(start(&dir));
        Self { dir, server }
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        host(&self.dir)
    }

    /// Runs docker against this engine.
    pub fn docker(&self, arguments: &[&str]) -> String {
        docker(&[&["-H", &self.host()], arguments].concat())
    }

    /// Copies an image from the machine's engine.
    pub fn load(&self, image: &str) {
        let archive = self.dir.join("image.tar");
        let archive = archive.to_str().expect("test folders have plain names");
        docker(&["save", "-o", archive, image]);
        self.docker(&["load", "-q", "-i", archive]);
    }

    /// SIGTERM and the end of the daemon, which takes its containers along.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.terminate(PATIENCE);
        }
    }

    pub fn restart(&mut self) {
        self.stop();
        self.server = Some(start(&self.dir));
    }

    /// SIGKILL of the daemon alone: its containers stay.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Starts it after a kill, without waiting until it answers. With `live_restore` it keeps what runs.
    pub fn start_again(&mut self, live_restore: bool) {
        self.kill();
        // The numbers in them may be other processes' by now, or of some that nobody has reaped.
        for file in ["docker.pid", "exec/containerd/containerd.pid"] {
            drop(std::fs::remove_file(self.dir.join(file)));
        }
        self.server = Some(spawn(&self.dir, live_restore));
    }

    /// The daemon's process, if it was started.
    pub fn server(&mut self) -> Option<&mut Server> {
        self.server.as_mut()
    }

    /// The file with what its daemon printed.
    pub fn output(&self) -> PathBuf {
        self.dir.join("dockerd.out")
    }

    pub fn answers(&self) -> bool {
        answers(&self.dir)
    }

    /// Removes every container, whatever it does.
    pub fn clear(&self) {
        let all = self.docker(&["ps", "-aq"]);
        for id in all.lines() {
            drop(docker_output(&["-H", &self.host(), "rm", "-f", id]));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // By SIGTERM: killed, it would leave shims and mounts behind.
        self.stop();
    }
}

fn host(dir: &Path) -> String {
    format!("unix://{}", dir.join("docker.sock").display())
}

fn start(dir: &Path) -> Server {
    let mut server = spawn(dir, false);
    server.wait_ready(PATIENCE, || answers(dir));
    server
}

fn answers(dir: &Path) -> bool {
    docker_output(&["-H", &host(dir), "version"]).status.success()
}

fn spawn(dir: &Path, live_restore: bool) -> Server {
    // In a network of its own: an engine without a bridge removes `docker0`, even another engine's.
    let mut command = Command::new(program(&["unshare"], "util-linux"));
    command
        .arg("--net")
        .arg(program(&["dockerd"], "docker.io"))
        .args(["--bridge", "none", "--iptables=false", "--ip-forward=false", "--host", &host(dir)])
        .arg("--data-root")
        .arg(dir.join("data"))
        .arg("--exec-root")
        .arg(dir.join("exec"))
        .arg("--pidfile")
        .arg(dir.join("docker.pid"));
    if live_restore {
        command.arg("--live-restore");
    }
    Server::spawn("dockerd", &mut command, &dir.join("dockerd.out"))
}
