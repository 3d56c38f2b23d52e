//! The built `longshore` binary, as people call it.

use super::{PATIENCE, base, fresh_dir};
use crate::token;
use longshore_controller::pki;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

/// `target/debug/longshore`, beside the test binary's own folder.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let tests = std::env::current_exe().expect("the test binary has a path");
        let profile = tests.ancestors().nth(2).expect("it is in target/<profile>/deps");
        let binary = profile.join("longshore");
        assert!(binary.is_file(), "{} is missing: cargo build -p longshore", binary.display());
        binary
    })
}

/// Calls the binary for one controller.
#[derive(Clone, Debug)]
pub struct Cli {
    url: String,
    /// Of the controller: its first token is there once it has started.
    data: PathBuf,
    folder: PathBuf,
}

/// How a call ended.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Finished {
    /// Panics with all that was said when the code is another one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Cli {
    pub fn new(url: &str, data: &Path) -> Self {
        base();
        Self { url: url.to_owned(), data: data.to_owned(), folder: fresh_dir("cli") }
    }

    /// A command that is ready to be changed or spawned. Its own folder is the working directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env("LONGSHORE_URL", &self.url)
            .env("LONGSHORE_TOKEN", token::text(&self.data).unwrap_or_default())
            .env("HOME", &self.folder)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        if self.url.starts_with("https:") {
            command.env("LONGSHORE_CA_FILE", self.authorities());
        }
        command
    }

    /// A file with what is to be trusted of a controller under TLS, once it has started.
    pub fn authorities(&self) -> PathBuf {
        let file = self.folder.join("ca.pem");
        // Asked for sooner, it would be made here.
        if self.data.join("pki/authority.json").exists() {
            let authority = pki::authority(&pki::Config::default(), &self.data).expect("it reads");
            fs::write(&file, authority.bundle()).expect("write what is trusted");
        }
        file
    }

    pub fn call(&self, arguments: &[&str]) -> Finished {
        self.command(arguments).output().expect("run longshore").into()
    }

    /// The working directory of its calls.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A new join token, good once. A controller that has just begun to listen may not have its first token yet.
    pub fn join_token(&self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let made = self.call(&["agents", "join-token"]);
            if made.code == 0 {
                return made.text().split_whitespace().last().expect("a command").to_owned();
            }
            assert!(Instant::now() < deadline, "no join token: {}", made.stderr);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn answers(&self) -> bool {
        // Any answer will do: a fresh controller without agents may call itself ill.
        self.call(&["ls", "-q"]).code == 0
    }

    pub(super) fn agent_online(&self, name: &str) -> bool {
        let shown = self.call(&["agents", "show", name, "-o", "json"]);
        shown.code == 0 && shown.text().contains("online")
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
