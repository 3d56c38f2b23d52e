//! A whole Longshore: a controller and its agents as child processes of the built binary, data in a fresh folder,
//! on a free port.

use super::{PATIENCE, Registry, S3, Server, binary, cli::Cli, free_port, fresh_dir, registry, run_id};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// What differs from a controller and one agent with every default.
#[derive(Debug)]
pub struct Plan {
    head: String,
    controller: String,
    agent: String,
    agents: u32,
    data: Option<PathBuf>,
    agent_data: Option<PathBuf>,
    environment: Vec<(String, String)>,
    secured: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            head: String::new(),
            controller: String::new(),
            // What is free is declared, since the machine of the tests is busy with them.
            agent: "[capacity]\ncpu_millis = 16000\nscratch_bytes = 4398046511104\n".to_owned(),
            agents: 1,
            data: None,
            agent_data: None,
            environment: Vec::new(),
            secured: false,
        }
    }
}

impl Plan {
    /// Rings through this broker instead of the link.
    pub fn amqp(self, url: &str) -> Self {
        let prefix = unique();
        self.controller(&format!("[rabbitmq]\nurl = \"{url}\"\nprefix = \"{prefix}\"\n"))
    }

    /// Keeps bytes in this object store instead of a folder.
    pub fn s3(self, s3: &S3) -> Self {
        let S3 { endpoint, region, bucket, access_key, secret_key } = s3;
        let prefix = unique();
        self.controller(&format!(
            "[s3]\nendpoint = \"{endpoint}\"\nregion = \"{region}\"\nbucket = \"{bucket}\"\n\
             access_key = \"{access_key}\"\nsecret_key = \"{secret_key}\"\nprefix = \"{prefix}/\"\n"
        ))
    }

    /// Under TLS, of the controller's own authority.
    pub fn secured(self) -> Self {
        Self { secured: true, ..self }
    }

    pub fn agents(self, agents: u32) -> Self {
        Self { agents, ..self }
    }

    /// A line of the controller's configuration that belongs to no section.
    pub fn controller_setting(mut self, line: &str) -> Self {
        self.head.push_str(line);
        self.head.push('\n');
        self
    }

    /// Sections for the controller's configuration.
    pub fn controller(mut self, toml: &str) -> Self {
        self.controller.push_str(toml);
        self
    }

    /// A line of the agents' configuration that belongs to no section.
    pub fn agent_setting(mut self, line: &str) -> Self {
        self.agent.insert_str(0, &format!("{line}\n"));
        self
    }

    /// Sections for the agents' configuration. `{seat}` in them is the agent's number.
    pub fn agent(mut self, toml: &str) -> Self {
        self.agent.push_str(toml);
        self
    }

    /// All sections of the agents' configuration, in place of the usual ones. `{seat}` in them is the agent's number.
    pub fn agent_alone(self, toml: &str) -> Self {
        Self { agent: toml.to_owned(), ..self }
    }

    /// A login for the agents' pulls.
    pub fn login(self, registry: &Registry) -> Self {
        let (user, password) = registry.credentials();
        self.agent(&format!(
            "[[runtime.registries]]\nregistry = \"{}\"\nusername = \"{user}\"\npassword = \"{password}\"\n",
            registry.host()
        ))
    }

    /// The controller's data goes there.
    pub fn data(self, folder: PathBuf) -> Self {
        Self { data: Some(folder), ..self }
    }

    /// The agents' data goes there, each in a folder of its name.
    pub fn agent_data(self, folder: PathBuf) -> Self {
        Self { agent_data: Some(folder), ..self }
    }

    /// For the agents' processes. `{seat}` in the value is the agent's number.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it, and waits until every agent is online.
    pub fn start(self) -> Cluster {
        let dir = fresh_dir("cluster");
        let data = self.data.unwrap_or_else(|| dir.join("controller"));
        let port = free_port();
        let settings = dir.join("controller.toml");
        let head = format!("listen = \"127.0.0.1:{port}\"\ndata_dir = \"{}\"\n", data.display());
        let tls = if self.secured { "[tls]\nmode = \"on\"\n" } else { "" };
        fs::write(&settings, head + &self.head + tls + &self.controller)
            .expect("write the controller's configuration");
        let mut cluster = Cluster {
            dir,
            data,
            port,
            secured: self.secured,
            controller: None,
            agents: Vec::new(),
            environment: self.environment,
        };
        cluster.start_controller();
        for seat in 0..self.agents {
            cluster.write_agent(seat, self.agent_data.as_deref(), &self.agent);
            cluster.agents.push(None);
            cluster.start_agent(seat as usize);
        }
        cluster
    }
}

#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    data: PathBuf,
    port: u16,
    secured: bool,
    controller: Option<Server>,
    agents: Vec<Option<Server>>,
    environment: Vec<(String, String)>,
}

impl Cluster {
    /// `http://127.0.0.1:port`, or `https://` under TLS.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.secured { "https" } else { "http" }, self.address())
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The controller's data directory.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    pub fn cli(&self) -> Cli {
        Cli::new(&self.url(), &self.data)
    }

    /// The controller's process.
    pub fn controller(&mut self) -> &mut Server {
        self.controller.as_mut().expect("the controller runs")
    }

    /// An agent's process.
    pub fn agent(&mut self, seat: usize) -> &mut Server {
        self.agents[seat].as_mut().expect("the agent runs")
    }

    pub fn agent_pid(&self, seat: usize) -> u32 {
        self.agents[seat].as_ref().expect("the agent runs").pid()
    }

    pub fn kill_controller(&mut self) {
        self.controller = None;
    }

    pub fn kill_agent(&mut self, seat: usize) {
        self.agents[seat] = None;
    }

    /// Starts the controller (again), with its data, on the same port.
    pub fn start_controller(&mut self) {
        self.controller = None;
        let mut command = Command::new(binary());
        command.arg("controller").arg("--config").arg(self.dir.join("controller.toml"));
        let mut server = Server::spawn("controller", &mut command, &self.dir.join("controller.out"));
        let cli = self.cli();
        server.wait_ready(PATIENCE, || cli.answers());
        self.controller = Some(server);
    }

    /// Starts an agent (again), with its data.
    pub fn start_agent(&mut self, seat: usize) {
        self.agents[seat] = None;
        self.join(seat);
        let mut command = Command::new(binary());
        command.arg("agent").arg("--config").arg(self.agent_dir(seat).join("agent.toml"));
        let of_seat = |value: &String| value.replace("{seat}", &seat.to_string());
        command.envs(self.environment.iter().map(|(name, value)| (name, of_seat(value))));
        let mut server = Server::spawn("agent", &mut command, &self.agent_dir(seat).join("agent.out"));
        let (cli, name) = (self.cli(), agent_name(seat));
        // It first makes sure of its network, from a container: slow on a machine that runs many tests at once.
        server.wait_ready(PATIENCE, || cli.agent_online(&name));
        self.agents[seat] = Some(server);
    }

    /// What controller and agents have printed, for messages.
    pub fn outputs(&self) -> String {
        let agents = self.agents.iter().flatten();
        self.controller.iter().chain(agents).map(|server| server.tail() + "\n").collect()
    }

    /// Gives an agent that has none a token to join with.
    fn join(&self, seat: usize) {
        let file = self.agent_dir(seat).join("agent.toml");
        let settings = fs::read_to_string(&file).expect("read the agent's configuration");
        if !settings.starts_with("join_token") {
            let line = format!("join_token = \"{}\"\n", self.cli().join_token());
            fs::write(&file, line + &settings).expect("write the agent's configuration");
        }
    }

    fn agent_dir(&self, seat: usize) -> PathBuf {
        self.dir.join(agent_name(seat))
    }

    fn write_agent(&self, seat: u32, data: Option<&Path>, sections: &str) {
        let dir = self.agent_dir(seat as usize);
        let data = data.map_or_else(|| dir.join("data"), |data| data.join(agent_name(seat as usize)));
        fs::create_dir_all(&dir).expect("make the agent's folder");
        let head = format!(
            "controller = \"{}\"\nname = \"{}\"\ndata_dir = \"{}\"\nlabels = {{ seat = \"{seat}\" }}\n",
            self.url(),
            agent_name(seat as usize),
            data.display()
        );
        let sections = sections.replace("{seat}", &seat.to_string());
        fs::write(dir.join("agent.toml"), head + &sections).expect("write the agent's configuration");
    }
}

/// The name of the agent in this seat.
pub fn agent_name(seat: usize) -> String {
    format!("agent-{seat}")
}

/// For names in servers that several clusters share.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", run_id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Everything embedded: rings over the link, bytes in a folder.
pub fn embedded() -> Plan {
    Plan::default().login(registry())
}

/// Everything on servers: rings through RabbitMQ, bytes in S3.
pub fn on_servers() -> Plan {
    Plan::default().amqp(&super::broker().url()).s3(super::s3()).login(registry())
}
