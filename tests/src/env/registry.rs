//! A private image registry that asks for a password.

use super::{PATIENCE, Server, free_port, fresh_dir, program};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The registry all tests of this process share.
pub fn registry() -> &'static Registry {
    static SHARED: OnceLock<Registry> = OnceLock::new();
    SHARED.get_or_init(Registry::start)
}

/// A registry of one's own, for tests that stop it.
#[derive(Debug)]
pub struct Registry {
    dir: PathBuf,
    port: u16,
    server: Option<Server>,
}

const USER: &str = "longshore";
const PASSWORD: &str = "registry-password";

/// Of `PASSWORD`, with few rounds: it is asked at every call.
const HASH: &str = "$2b$04$Ip4bhlSk1sfqjoHFSBi9/u5hYc39JPDL5D2RYHKNAfaxuiW86bJZS";

impl Registry {
    pub fn start() -> Self {
        let dir = fresh_dir("registry");
        let port = free_port();
        fs::write(dir.join("htpasswd"), format!("{USER}:{HASH}\n")).expect("write the registry's users");
        fs::write(dir.join("config.yml"), configuration(&dir, port))
            .expect("write the registry's configuration");
        fs::create_dir_all(dir.join("login")).expect("make the login folder");
        fs::write(dir.join("login/config.json"), login(port)).expect("write the registry's login");
        let server = Some(spawn(&dir, port));
        Self { dir, port, server }
    }

    /// `127.0.0.1:port`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// User and password.
    pub const fn credentials(&self) -> (&'static str, &'static str) {
        (USER, PASSWORD)
    }

    /// A folder for `DOCKER_CONFIG` with a login to this registry.
    pub fn login_dir(&self) -> PathBuf {
        self.dir.join("login")
    }

    /// Connections are refused from now on.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts it again with its data, on the same port.
    pub fn restart(&mut self) {
        self.stop();
        self.server = Some(spawn(&self.dir, self.port));
    }

    /// It takes connections and says nothing, until `resume`.
    pub fn pause(&self) {
        self.running().pause();
    }

    pub fn resume(&self) {
        self.running().resume();
    }

    fn running(&self) -> &Server {
        self.server.as_ref().expect("it was not stopped")
    }

    /// Puts a local image there under `name`, and answers the full reference.
    pub fn push(&self, local: &str, name: &str) -> String {
        let reference = format!("{}/{name}", self.host());
        super::docker(&["tag", local, &reference]);
        let output = Command::new("docker")
            .env("DOCKER_CONFIG", self.login_dir())
            .args(["push", "-q", &reference])
            .output()
            .expect("run docker push");
        assert!(output.status.success(), "push {reference}: {}", String::from_utf8_lossy(&output.stderr));
        reference
    }
}

fn configuration(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {dir}/data}}, delete: {{enabled: true}}}}\n\
         http: {{addr: 127.0.0.1:{port}}}\nauth: {{htpasswd: {{realm: longshore, path: {dir}/htpasswd}}}}\n"
    )
}

fn login(port: u16) -> String {
    let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    format!("{{\"auths\": {{\"127.0.0.1:{port}\": {{\"auth\": \"{auth}\"}}}}}}\n")
}

fn spawn(dir: &Path, port: u16) -> Server {
    let mut command = Command::new(program(&["docker-registry", "registry"], "docker-registry"));
    command.arg("serve").arg(dir.join("config.yml"));
    let mut server = Server::spawn("docker-registry", &mut command, &dir.join("registry.out"));
    server.wait_ready(PATIENCE, || asks_for_password(port));
    server
}

/// It must refuse strangers, or the tests of passwords would prove nothing.
fn asks_for_password(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut answer = String::new();
    stream.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n").is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.lines().next().is_some_and(|line| line.contains(" 401 "))
}
