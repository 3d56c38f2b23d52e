//! A child process of the tests: in a group of its own, output in a file, killed when dropped.

use super::guard;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// A running server. Dropping it kills its whole process group.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    output: PathBuf,
    ended: bool,
}

impl Server {
    /// Starts `command` with its output appended to `output`.
    pub fn spawn(name: &str, command: &mut Command, output: &Path) -> Self {
        let file =
            fs::File::options().create(true).append(true).open(output).expect("make a server's output file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("share the output file"))
            .stderr(file)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("start {name} ({}): {error}", command.get_program().display()));
        guard::add(child.id());
        Self { name: name.to_owned(), child, output: output.to_owned(), ended: false }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// The last lines of it, for messages.
    pub fn tail(&self) -> String {
        format!("{}:\n{}", self.name, tail(&self.output()))
    }

    /// Waits until `ready` says so. Panics with the output when the server ends first or the time is over.
    pub fn wait_ready(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + limit;
        while !ready() {
            if let Some(status) = self.child.try_wait().expect("ask for a child's status") {
                panic!("{} ended with {status} before it was ready:\n{}", self.name, tail(&self.output()));
            }
            assert!(
                Instant::now() < deadline,
                "{} was not ready after {limit:?}:\n{}",
                self.name,
                tail(&self.output())
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// SIGTERM, and nothing more.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGTERM, then waits for the end.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.ask_to_end();
        self.ends(limit)
    }

    /// Waits for the end of one that was asked to.
    pub fn ends(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} did not end {limit:?} after SIGTERM:\n{}",
                self.name,
                tail(&self.output())
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL to the whole group.
    pub fn kill(&mut self) {
        if self.ended {
            return;
        }
        self.signal(Signal::KILL);
        self.child.wait().expect("reap a killed child");
        self.forget();
    }

    /// SIGSTOP to the whole group.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT to the whole group.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Its exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("ask for a child's status");
        if status.is_some() && !self.ended {
            // Others of the group may still be there.
            self.signal(Signal::KILL);
            self.forget();
        }
        status
    }

    fn signal(&self, signal: Signal) {
        let group = Pid::from_child(&self.child);
        if test_kill_process_group(group).is_ok() {
            kill_process_group(group, signal).unwrap_or_else(|error| panic!("signal {}: {error}", self.name));
        }
    }

    fn forget(&mut self) {
        self.ended = true;
        guard::remove(self.child.id());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port nobody listens on at this moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind a loopback port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// The first of these programs that exists. Panics with what to install.
pub fn program(candidates: &[&str], package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    candidates
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{} is missing: apt-get install {package} (or: make test)", candidates[0]))
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
