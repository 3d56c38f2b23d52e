//! A private RabbitMQ node: its own name, ports, data, and its own port mapper. `LONGSHORE_TEST_RABBITMQ` names the
//! folder of another `rabbitmq-server` and `rabbitmqctl`.

use super::{PATIENCE, Server, free_port, fresh_dir, program};
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The broker all tests of this process share.
pub fn broker() -> &'static Broker {
    static SHARED: OnceLock<Broker> = OnceLock::new();
    SHARED.get_or_init(Broker::start)
}

/// A broker of one's own, for tests that stop it.
#[derive(Debug)]
pub struct Broker {
    settings: Settings,
    server: Server,
    _mapper: Server,
}

#[derive(Debug)]
struct Settings {
    dir: PathBuf,
    node: String,
    port: u16,
    distribution: u16,
    mapper: u16,
    /// Of the management plugin.
    management: Option<u16>,
}

const USER: &str = "longshore";
const PASSWORD: &str = "broker-password";

impl Broker {
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// With its management plugin.
    pub fn start_managed() -> Self {
        Self::start_with(Some(free_port()))
    }

    fn start_with(management: Option<u16>) -> Self {
        let dir = fresh_dir("broker");
        let mapper = free_port();
        let settings = Settings {
            node: format!("ls{}p{mapper}@localhost", std::process::id()),
            port: free_port(),
            distribution: free_port(),
            mapper,
            management,
            dir,
        };
        fs::write(settings.dir.join("rabbitmq.conf"), settings.file())
            .expect("write the broker's configuration");
        fs::write(settings.dir.join("enabled_plugins"), settings.plugins())
            .expect("write the broker's plugins");
        let _mapper = settings.start_mapper();
        let server = settings.start_node();
        Self { settings, server, _mapper }
    }

    /// `amqp://user:password@127.0.0.1:port/%2f`
    pub fn url(&self) -> String {
        self.url_through(self.settings.port)
    }

    /// `http://user:password@127.0.0.1:port`, of one that was started managed.
    pub fn management_url(&self) -> String {
        let port = self.settings.management.expect("it was started with the management plugin");
        format!("http://{USER}:{PASSWORD}@127.0.0.1:{port}")
    }

    /// SIGKILL: what was confirmed must still be there after `restart`.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts the node again, with its data, on the same port.
    pub fn restart(&mut self) {
        self.server.kill();
        self.server = self.settings.start_node();
    }

    /// As `restart`, with nothing of what it held.
    pub fn restart_empty(&mut self) {
        self.server.kill();
        fs::remove_dir_all(self.settings.dir.join("data")).expect("remove the broker's data");
        self.server = self.settings.start_node();
    }

    /// As `restart`, without waiting until it answers.
    pub fn start_again(&mut self) {
        self.server.kill();
        self.server = self.settings.spawn_node();
    }

    /// Whether it takes connections, which is the last thing it does when it starts.
    pub fn answers(&self) -> bool {
        answers(self.settings.port)
    }

    /// The node's process.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// `amqp://user:password@127.0.0.1:port/%2f`, of a proxy in front of it.
    pub fn url_through(&self, port: u16) -> String {
        format!("amqp://{USER}:{PASSWORD}@127.0.0.1:{port}/%2f")
    }

    pub fn port(&self) -> u16 {
        self.settings.port
    }

    /// The file with what its process printed.
    pub fn output(&self) -> PathBuf {
        self.settings.dir.join("broker.out")
    }

    /// `rabbitmqctl`; answers what it printed.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(rabbit_program("rabbitmqctl"));
        command.args(["-q", "-n", &self.settings.node]).args(arguments);
        self.settings.environment(&mut command);
        let output = command.output().expect("run rabbitmqctl");
        assert!(
            output.status.success(),
            "rabbitmqctl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

const PACKAGE: &str = "rabbitmq-server";

impl Settings {
    fn file(&self) -> String {
        format!(
            "listeners.tcp.1 = 127.0.0.1:{}\ndefault_user = {USER}\ndefault_pass = {PASSWORD}\n\
             loopback_users = none\nlog.console = true\nlog.console.level = warning\nlog.file = false\n\
             disk_free_limit.absolute = 50MB\n{}",
            self.port,
            self.management
                .map(|port| format!("management.tcp.port = {port}\nmanagement.tcp.ip = 127.0.0.1\n"))
                .unwrap_or_default()
        )
    }

    fn plugins(&self) -> &'static str {
        if self.management.is_some() { "[rabbitmq_management].\n" } else { "[].\n" }
    }

    fn environment(&self, command: &mut Command) {
        let dir = |name: &str| self.dir.join(name);
        command
            .current_dir(&self.dir)
            .env("HOME", &self.dir)
            .env("RABBITMQ_NODENAME", &self.node)
            .env("RABBITMQ_CONF_ENV_FILE", dir("none"))
            .env("RABBITMQ_CONFIG_FILE", dir("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", dir("data"))
            .env("RABBITMQ_LOG_BASE", dir("log"))
            .env("RABBITMQ_PID_FILE", dir("pid"))
            .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
            // One scheduler is enough, and keeps the machine for the tests.
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none")
            .env("ERL_EPMD_PORT", self.mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1");
    }

    fn start_mapper(&self) -> Server {
        let mut command = Command::new(program(&["epmd"], "erlang-base"));
        command.args(["-port", &self.mapper.to_string(), "-address", "127.0.0.1"]);
        let mut server = Server::spawn("epmd", &mut command, &self.dir.join("epmd.out"));
        server.wait_ready(PATIENCE, || answers(self.mapper));
        server
    }

    fn start_node(&self) -> Server {
        let mut server = self.spawn_node();
        server.wait_ready(PATIENCE, || answers(self.port) && self.management.is_none_or(answers));
        server
    }

    fn spawn_node(&self) -> Server {
        let mut command = raised_files(&rabbit_program("rabbitmq-server"));
        self.environment(&mut command);
        Server::spawn("rabbitmq-server", &mut command, &self.dir.join("broker.out"))
    }
}

/// The wrapper in /usr/sbin changes user and writes to /var/log: takes the program behind it.
fn rabbit_program(name: &str) -> PathBuf {
    let folder =
        std::env::var("LONGSHORE_TEST_RABBITMQ").unwrap_or_else(|_| "/usr/lib/rabbitmq/bin".to_owned());
    program(&[&format!("{folder}/{name}"), name], PACKAGE)
}

/// A queue takes three descriptors: the limit goes up to what is allowed before the broker starts.
fn raised_files(node: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 65536 2>/dev/null || ulimit -n \"$(ulimit -Hn)\"; exec \"$0\""]).arg(node);
    command
}

fn answers(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
