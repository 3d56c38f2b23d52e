//! The six parts as processes of their own, and proxies on every link between them that can be broken. Knows how to
//! kill, stop and start each; never waits for one that was killed.

use crate::{
    client,
    faults::{Link, PARTS, Part},
    timeline::Timeline,
};
use longshore_tests::env::{
    Broker, Cli, Engine, PATIENCE, Proxy, S3, Server, agent_name, binary, free_port, fresh_dir, image,
};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

const AGENTS: usize = 2;
/// What an agent holds at most: the rest waits in the queue, so that there is something to lose there too.
const PLACES: u32 = 7;

#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) dir: PathBuf,
    /// Of the controller, without a proxy.
    pub(crate) url: String,
    /// Parts that ended although nobody killed them.
    pub(crate) ended: Vec<String>,
    ports: Ports,
    controller: Option<Server>,
    agents: [Option<Server>; AGENTS],
    store: Option<Server>,
    broker: Broker,
    /// Started, and not killed by us since.
    up: Vec<Part>,
    proxies: Proxies,
    engine: Engine,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    controller: u16,
    store: u16,
}

#[derive(Debug)]
struct Proxies {
    agents: [Proxy; AGENTS],
    controller_broker: Proxy,
    agents_broker: Proxy,
    store: Proxy,
}

impl Stack {
    /// The controller's.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("controller")
    }

    /// Everything up, and both agents online.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let dir = fresh_dir("chaos");
        let (broker, engine) = (Broker::start(), Engine::start());
        engine.load(&image());
        let ports = Ports { controller: free_port(), store: free_port() };
        let proxies = Proxies {
            agents: [Proxy::start(ports.controller).await, Proxy::start(ports.controller).await],
            controller_broker: Proxy::start(broker.port()).await,
            agents_broker: Proxy::start(broker.port()).await,
            store: Proxy::start(ports.store).await,
        };
        let mut stack = Self {
            url: format!("http://127.0.0.1:{}", ports.controller),
            dir,
            ended: Vec::new(),
            ports,
            controller: None,
            agents: [None, None],
            store: None,
            broker,
            up: Vec::new(),
            proxies,
            engine,
        };
        stack.write_settings();
        stack.up = vec![Part::Broker, Part::Engine];
        for part in [Part::Store, Part::Controller, Part::Agent(0), Part::Agent(1)] {
            stack.start_again(part, false);
            stack.wait_for(part);
        }
        client::online(&stack.url, &stack.data(), AGENTS).await?;
        Ok(stack)
    }

    pub(crate) fn kill(&mut self, part: Part) {
        self.up.retain(|up| *up != part);
        match part {
            Part::Controller => self.controller = None,
            Part::Agent(seat) => self.agents[seat] = None,
            Part::Store => self.store = None,
            Part::Broker => self.broker.kill(),
            Part::Engine => self.engine.kill(),
        }
    }

    /// With its data, on the same port.
    pub(crate) fn start_again(&mut self, part: Part, live_restore: bool) {
        self.up.push(part);
        match part {
            Part::Controller => self.controller = Some(self.longshore("controller")),
            Part::Agent(seat) => self.agents[seat] = Some(self.longshore(&agent_name(seat))),
            Part::Store => self.store = Some(self.object_store()),
            Part::Broker => self.broker.start_again(),
            Part::Engine => self.engine.start_again(live_restore),
        }
    }

    pub(crate) fn pause(&mut self, part: Part) {
        if let Some(server) = self.server(part) {
            server.pause();
        }
    }

    pub(crate) fn resume(&mut self, part: Part) {
        if let Some(server) = self.server(part) {
            server.resume();
        }
    }

    pub(crate) const fn link(&self, link: Link) -> &Proxy {
        match link {
            Link::Agent(seat) => &self.proxies.agents[seat],
            Link::ControllerBroker => &self.proxies.controller_broker,
            Link::AgentsBroker => &self.proxies.agents_broker,
            Link::Store => &self.proxies.store,
        }
    }

    /// Notes what ended by itself, and starts it again as an operator's supervisor would.
    pub(crate) fn supervise(&mut self, timeline: &Timeline) {
        for part in PARTS {
            if !self.up.contains(&part) {
                continue;
            }
            let Some(status) = self.server(part).and_then(Server::exited) else { continue };
            let seen = format!("{part} ended by itself at {:.1} s: {status}", timeline.now().as_secs_f64());
            timeline.note(&seen);
            // Servers that are not ours may refuse to start beside what their last life left behind.
            if matches!(part, Part::Controller | Part::Agent(_)) {
                self.ended.push(seen);
            }
            self.kill(part);
            self.start_again(part, false);
        }
    }

    /// Whether all that others connect to takes connections.
    pub(crate) fn answers(&self) -> bool {
        [self.ports.controller, self.ports.store].into_iter().all(listens)
            && self.broker.answers()
            && self.engine.answers()
    }

    pub(crate) const fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) const fn broker(&self) -> &Broker {
        &self.broker
    }

    /// For clients of the engine's API.
    pub(crate) fn engine_socket(&self) -> String {
        self.engine.host()
    }

    /// Where an agent keeps what it has under way.
    pub(crate) fn agent_data(&self, seat: usize) -> PathBuf {
        self.dir.join(agent_name(seat))
    }

    /// Files with what each process printed.
    pub(crate) fn outputs(&self) -> Vec<PathBuf> {
        let ours = fs::read_dir(&self.dir).expect("the run's folder is there");
        let ours = ours.filter_map(|entry| Some(entry.ok()?.path()));
        let ours: Vec<_> = ours.filter(|path| path.extension().is_some_and(|end| end == "out")).collect();
        [ours, vec![self.engine.output(), self.broker.output()]].concat()
    }

    fn server(&mut self, part: Part) -> Option<&mut Server> {
        match part {
            Part::Controller => self.controller.as_mut(),
            Part::Agent(seat) => self.agents[seat].as_mut(),
            Part::Store => self.store.as_mut(),
            Part::Broker => Some(self.broker.server()),
            Part::Engine => self.engine.server(),
        }
    }

    /// An agent that has no token to join with gets one.
    fn join(&self, name: &str) {
        let file = self.dir.join(format!("{name}.toml"));
        let settings = fs::read_to_string(&file).expect("read an agent's settings");
        if !settings.starts_with("join_token") {
            let line = format!(
                "join_token = \"{}\"\n",
                Cli::new(&self.url, &self.dir.join("controller")).join_token()
            );
            fs::write(&file, line + &settings).expect("write an agent's settings");
        }
    }

    fn longshore(&self, name: &str) -> Server {
        let role = if name == "controller" { "controller" } else { "agent" };
        if role == "agent" {
            self.join(name);
        }
        let mut command = Command::new(binary());
        command.arg(role).arg("--config").arg(self.dir.join(format!("{name}.toml")));
        command.env("DOCKER_HOST", self.engine.host());
        Server::spawn(name, &mut command, &self.output(name))
    }

    fn object_store(&self) -> Server {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command.arg("--serve-s3").arg(self.dir.join("store")).arg(self.ports.store.to_string());
        Server::spawn("store", &mut command, &self.output("store"))
    }

    fn output(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.out"))
    }

    fn wait_for(&mut self, part: Part) {
        let port = match part {
            Part::Store => self.ports.store,
            Part::Controller => self.ports.controller,
            Part::Agent(_) | Part::Broker | Part::Engine => return,
        };
        let server = self.server(part).expect("it was started");
        server.wait_ready(PATIENCE, || listens(port));
    }

    fn write_settings(&self) {
        let Self { dir, proxies, broker, .. } = self;
        let store = S3::at(&dir.join("store"), SocketAddr::from(([127, 0, 0, 1], proxies.store.port())));
        let controller = controller_settings(dir, self.ports.controller, &store)
            + &format!(
                "[rabbitmq]\nurl = \"{}\"\nagent_url = \"{}\"\n",
                broker.url_through(proxies.controller_broker.port()),
                broker.url_through(proxies.agents_broker.port())
            );
        fs::write(dir.join("controller.toml"), controller).expect("write the controller's settings");
        for (seat, proxy) in proxies.agents.iter().enumerate() {
            let name = agent_name(seat);
            let text = agent_settings(&name, &self.agent_data(seat), proxy.port());
            fs::write(dir.join(format!("{name}.toml")), text).expect("write an agent's settings");
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for part in [Part::Agent(0), Part::Agent(1), Part::Controller] {
            self.kill(part);
        }
        self.resume(Part::Engine);
        // With live-restore they would outlive the engine.
        if self.engine.answers() {
            self.engine.clear();
        }
    }
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// A lease short enough that it runs out within a run, long enough for a link to be made anew.
fn controller_settings(dir: &Path, port: u16, store: &S3) -> String {
    format!(
        "listen = \"127.0.0.1:{port}\"\ndata_dir = \"{}\"\n\
         [jobs]\ndisconnect_tolerance = \"20s\"\n[reconcile]\nlease_grace = \"3s\"\n[api]\nheartbeat_every = \"2s\"\n\
         [s3]\nendpoint = \"{}\"\nbucket = \"{}\"\naccess_key = \"{}\"\nsecret_key = \"{}\"\n",
        dir.join("controller").display(),
        store.endpoint,
        store.bucket,
        store.access_key,
        store.secret_key
    )
}

fn agent_settings(name: &str, data: &Path, controller: u16) -> String {
    format!(
        "controller = \"http://127.0.0.1:{controller}\"\nname = \"{name}\"\ndata_dir = \"{}\"\nmax_attempts = {PLACES}\n\
         [capacity]\ncpu_millis = 16000\nmemory_bytes = 8589934592\nscratch_bytes = 4398046511104\n\
         others = {{ count = false }}\n[runtime.network]\nfirewall = \"best-effort\"\n",
        data.display()
    )
}
