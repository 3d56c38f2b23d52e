//! The flags of `run`, named as Docker names them, into a spec. What Docker has and jobs do not is refused with the
//! line to type instead.

use super::contract::ContractArgs;
use super::words;
use crate::commands::{each::EachArgs, when};
use crate::failure::Failure;
use clap::{Args, ValueEnum};
use longshore_common::action::{ActionRef, Invocation};
use longshore_common::clock::Timestamp;
use longshore_common::fields::FieldErrors;
use longshore_common::job::file::Source;
use longshore_common::job::spec::SECRETS_FOLDER;
use longshore_common::job::{
    After, AgentRule, GpuRequest, JobSpec, LabelTest, NetworkMode, Outputs, PullPolicy, Security, check_name,
    validate,
};
use longshore_common::units::{ByteSize, Cores, HumanDuration};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

#[derive(Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// The image, and the command to run instead of its own; or an action, @NAME or @NAME@VERSION. Flags end here
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    pub(crate) words: Vec<String>,

    /// Print the job's id and leave
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Print the job as a job file, and when and where it would run; submit nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Fetch /out into this folder at the end
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// A read-only folder at /in/NAME: DIR, job:ID/path or https://…
    #[arg(long = "input", value_name = "NAME=SOURCE", value_parser = words::pair)]
    pub(crate) inputs: Vec<(String, String)>,

    /// A parameter of the action; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = words::pair)]
    pub(crate) set: Vec<(String, String)>,
    /// A variable; without a value it is copied from the shell
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// A file of variables
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// A variable that nobody sees: copied from the shell and encrypted, or the project's secret of this name
    #[arg(long, value_name = "NAME[=SECRET]")]
    pub(crate) secret_env: Vec<String>,
    /// A secret of the project as a file [default: /run/secrets/SECRET]
    #[arg(long = "secret", value_name = "SECRET[=PATH]")]
    pub(crate) secret_files: Vec<String>,
    /// A folder that the project's jobs keep between them on one machine
    #[arg(long = "cache", value_name = "NAME=PATH", value_parser = words::pair)]
    pub(crate) caches: Vec<(String, String)>,
    /// Folder in the container
    #[arg(short, long, value_name = "PATH")]
    pub(crate) workdir: Option<String>,
    /// User in the container
    #[arg(short, long, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,
    /// Program to run instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// bridge: the world outside, and nothing of the machine; internet: only its public addresses; none: nothing
    #[arg(long, value_enum)]
    pub(crate) network: Option<Network>,
    /// What the container may do to its kernel; restricted: no capability, also as root
    #[arg(long, value_enum)]
    pub(crate) security: Option<Profile>,
    /// When to ask the registry
    #[arg(long, value_enum)]
    pub(crate) pull: Option<Pull>,
    /// Run in every attempt the very image that the first one ran
    #[arg(long)]
    pub(crate) pin: bool,

    #[command(flatten)]
    pub(crate) contract: ContractArgs,

    /// The job's name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A label to filter by
    #[arg(short, long = "label", value_name = "NAME=VALUE", value_parser = words::pair)]
    pub(crate) labels: Vec<(String, String)>,
    /// Only agents with this label, NAME=VALUE; given twice for one name, either value. Also NAME!=VALUE, NAME, !NAME,
    /// NAME>N and NAME<N
    #[arg(long = "agent", value_name = "NAME=VALUE", value_parser = words::agent, allow_hyphen_values = true)]
    pub(crate) agents: Vec<AgentRule>,
    /// The set of agents that may run it
    #[arg(long)]
    pub(crate) pool: Option<String>,
    /// Larger runs first, -100 to 100
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) priority: Option<i32>,
    /// Begin only when this job has ended: `JOB` (well), `JOB:failed` or `JOB:finished`; again for several
    #[arg(long, value_name = "JOB")]
    pub(crate) after: Vec<After>,
    /// Begin at this time at the earliest: +2h, 18:00 or 2026-11-21T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = when::start)]
    pub(crate) not_before: Option<Timestamp>,
    #[command(flatten)]
    pub(crate) each: EachArgs,
    #[command(flatten)]
    pub(crate) retry: RetryFlags,
    #[command(flatten)]
    pub(crate) outputs: OutputArgs,
    /// The same id with the same flags submits once
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,

    /// Does nothing: containers are always removed
    #[arg(long, hide = true)]
    pub(crate) rm: bool,
    #[command(flatten)]
    pub(crate) refused: RefusedArgs,
}

/// Limits and deadlines; `retry` takes them too.
#[derive(Debug, Default, Args)]
pub(crate) struct LimitArgs {
    /// Cores: 4, 0.5 or 500m
    #[arg(long, value_name = "CORES", allow_hyphen_values = true)]
    pub(crate) cpus: Option<Cores>,
    /// Memory: 8g and 8GiB are the same
    #[arg(short, long, value_name = "SIZE", value_parser = ByteSize::from_docker, allow_hyphen_values = true)]
    pub(crate) memory: Option<ByteSize>,
    /// Size of /dev/shm, which counts in memory
    #[arg(long, value_name = "SIZE", value_parser = ByteSize::from_docker, allow_hyphen_values = true)]
    pub(crate) shm_size: Option<ByteSize>,
    /// Disk for the writable layer, /tmp_disk and /out together
    #[arg(long, value_name = "SIZE", value_parser = ByteSize::from_docker, allow_hyphen_values = true)]
    pub(crate) scratch: Option<ByteSize>,
    /// Processes and threads
    #[arg(long, value_name = "N", value_parser = words::count, allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<u32>,
    /// GPUs, as in 1,memory=24GiB,model=A100*; also model=!GLOB, capability=8.0, driver=535, cuda=12.2, mig=PROFILE,
    /// nvlink and shared
    #[arg(long, value_name = "N[,memory=SIZE][,…]", value_parser = words::gpus, allow_hyphen_values = true)]
    pub(crate) gpus: Option<GpuRequest>,
    /// Alone on its machine
    #[arg(long)]
    pub(crate) exclusive: bool,
    /// How long the container may run
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) run_deadline: Option<HumanDuration>,
    /// How long the job may wait for an agent
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) queue_deadline: Option<HumanDuration>,
    /// How long image and inputs may take
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) prepare_deadline: Option<HumanDuration>,
    /// How long storing /out may take
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) upload_deadline: Option<HumanDuration>,
    /// Between SIGTERM and SIGKILL; a bare number is seconds
    #[arg(long, value_name = "TIME", value_parser = words::seconds, allow_hyphen_values = true)]
    pub(crate) stop_timeout: Option<HumanDuration>,
}

/// When the job is tried again.
#[derive(Debug, Default, Args)]
pub(crate) struct RetryFlags {
    /// Attempts at most, the first included
    #[arg(long, value_name = "N", value_parser = words::count, allow_hyphen_values = true)]
    attempts: Option<u32>,
    /// Before the second attempt; doubles with each one
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    backoff: Option<HumanDuration>,
    /// Try again after this outcome, instead of after the platform's failures; may be given several times
    #[arg(long, value_name = "OUTCOME")]
    retry_on: Vec<String>,
    /// How long the agent may be out of touch before another one gets the job
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    disconnect_tolerance: Option<HumanDuration>,
}

/// Which files of /out are kept.
#[derive(Debug, Default, Args)]
pub(crate) struct OutputArgs {
    /// Keep only these files of /out; may be given several times
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Leave these files of /out behind; may be given several times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// More than this in /out fails the job
    #[arg(long, value_name = "SIZE", value_parser = ByteSize::from_docker, allow_hyphen_values = true)]
    max_size: Option<ByteSize>,
    /// More files than this in /out fail the job
    #[arg(long, value_name = "N", value_parser = words::long_count, allow_hyphen_values = true)]
    max_files: Option<u64>,
}

/// Docker's flags for what jobs do not have.
#[derive(Debug, Default, Args)]
pub(crate) struct RefusedArgs {
    #[arg(short = 'v', long = "volume", hide = true)]
    volume: Vec<String>,
    #[arg(long, hide = true)]
    mount: Vec<String>,
    #[arg(short = 'p', long = "publish", hide = true)]
    publish: Vec<String>,
    #[arg(short = 'i', long, hide = true)]
    interactive: bool,
    #[arg(short = 't', long, hide = true)]
    tty: bool,
    #[arg(long, hide = true)]
    privileged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    Bridge,
    Internet,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    Baseline,
    Restricted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pull {
    Auto,
    Always,
    Missing,
    Never,
}

/// What `run` is to do.
pub(crate) struct Plan {
    /// Valid, but for the inputs that are still local folders.
    pub(crate) spec: JobSpec,
    /// The action that it runs: then of the spec only what it says counts.
    pub(crate) action: Option<Invocation>,
    pub(crate) folders: BTreeMap<String, PathBuf>,
    /// Values for this job alone, by name.
    pub(crate) secrets: BTreeMap<String, String>,
}

/// Without the values.
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("spec", &self.spec)
            .field("action", &self.action)
            .field("folders", &self.folders)
            .finish_non_exhaustive()
    }
}

impl RunArgs {
    /// `shell` looks a variable up where the command was typed.
    pub(crate) fn plan(&self, shell: &dyn Fn(&str) -> Option<String>) -> Result<Plan, Failure> {
        let (image, command) = self.words.split_first().ok_or_else(|| Failure::usage("name an image"))?;
        self.refused.check(image)?;
        let action = self.invocation(image, command)?;
        let mut spec = JobSpec::for_image(if action.is_some() { "action" } else { image });
        let mut folders = BTreeMap::new();
        let mut errors = FieldErrors::new();
        spec.command = (!command.is_empty()).then(|| command.to_vec());
        spec.entrypoint = self.entrypoint.as_ref().map(|program| match program.as_str() {
            "" => Vec::new(),
            program => vec![program.to_owned()],
        });
        spec.name.clone_from(&self.name);
        spec.workdir.clone_from(&self.workdir);
        spec.user.clone_from(&self.user);
        spec.env = words::environment(&self.env_file, &self.env, shell)?;
        let secrets = self.secrets(&mut spec, shell)?;
        spec.labels = self.labels.iter().cloned().collect();
        for rule in &self.agents {
            match &rule.test {
                LabelTest::In(any) => {
                    spec.agents.entry(rule.label.clone()).or_default().extend(any.iter().cloned());
                }
                _ => spec.agent_rules.push(rule.clone()),
            }
        }
        if let Some(pool) = &self.pool {
            spec.pool.clone_from(pool);
        }
        spec.priority = self.priority.unwrap_or_default();
        spec.after.clone_from(&self.after);
        spec.not_before = self.not_before;
        self.retry.apply(&mut spec);
        self.outputs.apply(&mut spec.outputs);
        match self.network {
            Some(Network::None) => spec.network = NetworkMode::None,
            Some(Network::Internet) => spec.network = NetworkMode::Internet,
            Some(Network::Bridge) | None => {}
        }
        if self.security == Some(Profile::Restricted) {
            spec.security = Security::Restricted;
        }
        spec.pull = self.pull.map_or(PullPolicy::Auto, Pull::policy);
        spec.pin = self.pin;
        self.limits.apply(&mut spec);
        self.contract.apply(&mut spec, self.limits.pids_limit.is_some(), &mut errors);
        for (name, source) in &self.inputs {
            errors.take(check_name(&format!("--input {name}"), name));
            if spec.inputs.contains_key(name) || folders.contains_key(name) {
                errors.push(format!("--input {name}"), "is given twice: each input has a name of its own");
                continue;
            }
            match words::source(source)? {
                Source::Ready(input) => drop(spec.inputs.insert(name.clone(), input)),
                Source::Folder(folder) => drop(folders.insert(name.clone(), folder)),
            }
        }
        for (name, path) in &self.caches {
            if spec.caches.insert(name.clone(), path.clone()).is_some() {
                errors.push(format!("--cache {name}"), "is given twice: each cache has a name of its own");
            }
        }
        if let Err(more) = validate(&spec) {
            errors.merge(more);
        }
        if action.is_some() {
            spec.image.clear();
        }
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        if lines.is_empty() {
            Ok(Plan { spec, action, folders, secrets })
        } else {
            Err(Failure::usage(lines.join("\n")))
        }
    }
}

impl RunArgs {
    /// What is said of an action, if it is one: `@NAME`, which no image's name begins with.
    fn invocation(&self, word: &str, command: &[String]) -> Result<Option<Invocation>, Failure> {
        if !word.starts_with('@') {
            return match self.set.first() {
                Some((name, value)) => Err(Failure::usage(format!(
                    "--set {name}={value}: goes with an action, @NAME; a variable of an image is -e {name}={value}"
                ))),
                None => Ok(None),
            };
        }
        let action = word.parse::<ActionRef>().map_err(|error| Failure::usage(error.to_string()))?;
        if let [flag, value, ..] = command
            && flag == "--set"
        {
            return Err(Failure::usage(format!(
                "--set: stands behind {word}, where the container's command is; write longshore run --set {value} {word}"
            )));
        }
        let mut set = BTreeMap::new();
        for (name, value) in &self.set {
            if set.insert(name.clone(), value.clone()).is_some() {
                return Err(Failure::usage(format!("--set {name}: is given twice")));
            }
        }
        Ok(Some(Invocation { action, set, said: self.said(!command.is_empty()) }))
    }

    /// The fields of the job that the flags say.
    fn said(&self, command: bool) -> BTreeSet<String> {
        let Self { limits, retry, outputs, .. } = self;
        let env =
            [&self.env, &self.secret_env].iter().any(|list| !list.is_empty()) || !self.env_file.is_empty();
        let fields = [
            ("command", command),
            ("caches", !self.caches.is_empty()),
            ("name", self.name.is_some()),
            ("labels", !self.labels.is_empty()),
            ("entrypoint", self.entrypoint.is_some()),
            ("workdir", self.workdir.is_some()),
            ("user", self.user.is_some()),
            ("env", env),
            ("secrets", !self.secret_files.is_empty()),
            ("network", self.network.is_some()),
            ("security", self.security.is_some()),
            ("pull", self.pull.is_some()),
            ("pin", self.pin),
            ("agents", !self.agents.is_empty()),
            ("pool", self.pool.is_some()),
            ("priority", self.priority.is_some()),
            ("after", !self.after.is_empty()),
            ("not_before", self.not_before.is_some()),
            ("retry", retry.attempts.is_some() || retry.backoff.is_some() || !retry.retry_on.is_empty()),
            ("disconnect_tolerance", retry.disconnect_tolerance.is_some()),
            ("outputs", outputs.says_any()),
            ("resources.cpu", limits.cpus.is_some()),
            ("resources.memory", limits.memory.is_some()),
            ("resources.shm", limits.shm_size.is_some()),
            ("resources.scratch", limits.scratch.is_some()),
            ("resources.pids", limits.pids_limit.is_some()),
            ("resources.gpu", limits.gpus.is_some()),
            ("resources.exclusive", limits.exclusive),
            ("deadlines.queue", limits.queue_deadline.is_some()),
            ("deadlines.prepare", limits.prepare_deadline.is_some()),
            ("deadlines.run", limits.run_deadline.is_some()),
            ("deadlines.upload", limits.upload_deadline.is_some()),
            ("deadlines.stop_grace", limits.stop_timeout.is_some()),
        ];
        fields.into_iter().filter(|(_, said)| *said).map(|(path, _)| path.to_owned()).collect()
    }

    /// Names them in the spec; answers the values that come from the shell.
    fn secrets(
        &self,
        spec: &mut JobSpec,
        shell: &dyn Fn(&str) -> Option<String>,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let mut values = BTreeMap::new();
        for text in &self.secret_env {
            match text.split_once('=') {
                Some((variable, secret)) => {
                    spec.secret_env.insert(variable.to_owned(), secret.to_owned());
                }
                None => {
                    let value = shell(text).filter(|value| !value.is_empty()).ok_or_else(|| {
                        let message = format!(
                            "--secret-env {text}: the shell has no value for it; export one, or name one of the \
                             project's with --secret-env {text}=SECRET"
                        );
                        Failure::usage(message)
                    })?;
                    spec.secret_env.insert(text.clone(), text.clone());
                    values.insert(text.clone(), value);
                }
            }
        }
        for text in &self.secret_files {
            let (secret, path) = match text.split_once('=') {
                Some((secret, path)) => (secret, path.to_owned()),
                None => (text.as_str(), format!("{SECRETS_FOLDER}/{text}")),
            };
            spec.secret_files.insert(secret.to_owned(), path);
        }
        Ok(values)
    }
}

impl LimitArgs {
    pub(crate) fn apply(&self, spec: &mut JobSpec) {
        let resources = &mut spec.resources;
        set(&mut resources.cpu_millis, self.cpus.map(|cores| cores.0));
        set(&mut resources.memory_bytes, self.memory.map(|size| size.0));
        set(&mut resources.shm_bytes, self.shm_size.map(|size| size.0));
        set(&mut resources.scratch_bytes, self.scratch.map(|size| size.0));
        set(&mut resources.pids, self.pids_limit);
        if self.gpus.is_some() {
            resources.gpu.clone_from(&self.gpus);
        }
        resources.exclusive |= self.exclusive;
        let deadlines = &mut spec.deadlines;
        if let Some(queue) = self.queue_deadline {
            deadlines.queue = Some(queue.0);
        }
        set(&mut deadlines.prepare, self.prepare_deadline.map(|length| length.0));
        set(&mut deadlines.run, self.run_deadline.map(|length| length.0));
        set(&mut deadlines.upload, self.upload_deadline.map(|length| length.0));
        set(&mut deadlines.stop_grace, self.stop_timeout.map(|length| length.0));
    }
}

impl RetryFlags {
    fn apply(&self, spec: &mut JobSpec) {
        set(&mut spec.retry.attempts, self.attempts);
        set(&mut spec.retry.backoff, self.backoff.map(|length| length.0));
        // A longer first wait is no mistake: it is the longest one then.
        spec.retry.max_backoff = spec.retry.max_backoff.max(spec.retry.backoff);
        spec.retry.on.clone_from(&self.retry_on);
        if let Some(length) = self.disconnect_tolerance {
            spec.disconnect_tolerance = Some(length.0);
        }
    }
}

impl OutputArgs {
    const fn says_any(&self) -> bool {
        !self.include.is_empty()
            || !self.exclude.is_empty()
            || self.max_size.is_some()
            || self.max_files.is_some()
    }

    fn apply(&self, outputs: &mut Outputs) {
        outputs.include.clone_from(&self.include);
        outputs.exclude.clone_from(&self.exclude);
        set(&mut outputs.max_size_bytes, self.max_size.map(|size| size.0));
        set(&mut outputs.max_files, self.max_files);
    }
}

impl Pull {
    const fn policy(self) -> PullPolicy {
        match self {
            Self::Auto => PullPolicy::Auto,
            Self::Always => PullPolicy::Always,
            Self::Missing => PullPolicy::Missing,
            Self::Never => PullPolicy::Never,
        }
    }
}

impl RefusedArgs {
    fn check(&self, image: &str) -> Result<(), Failure> {
        let refuse = |text: String| Err(Failure::usage(text));
        if let Some(volume) = self.volume.first().or(self.mount.first()) {
            let folder = volume.split(':').next().unwrap_or_default();
            let name = words::input_name(folder);
            return refuse(format!(
                "-v {volume}: a job mounts no folder of its machine. Type instead:\n  \
                 longshore run --input {name}={folder} --out ./result {image} …\n\
                 The files are at /in/{name}, read-only; what the container writes to /out comes to ./result"
            ));
        }
        if let Some(port) = self.publish.first() {
            return refuse(format!(
                "-p {port}: a job serves no ports; it runs to its end. Type instead:\n  \
                 longshore run --out ./result {image} …"
            ));
        }
        if self.interactive || self.tty {
            return refuse(format!(
                "-it: a job has no terminal; its output comes as it is written. Type instead:\n  \
                 longshore run {image} COMMAND"
            ));
        }
        if self.privileged {
            return refuse(format!(
                "--privileged: jobs never run privileged; GPUs need no privilege. Type instead:\n  \
                 longshore run --gpus 1 {image} …"
            ));
        }
        Ok(())
    }
}

/// What holds if a flag is not given, by the flag's name; out of the spec's own defaults.
pub(crate) fn defaults() -> Vec<(&'static str, String)> {
    let JobSpec { resources, deadlines, retry, outputs, pool, priority, .. } = JobSpec::for_image("");
    let size = |bytes| ByteSize(bytes).to_string();
    let length = |length| HumanDuration(length).to_string();
    let queue = deadlines.queue.map_or_else(|| "none".to_owned(), length);
    vec![
        ("cpus", Cores(resources.cpu_millis).to_string()),
        ("memory", size(resources.memory_bytes)),
        ("shm_size", size(resources.shm_bytes)),
        ("scratch", size(resources.scratch_bytes)),
        ("pids_limit", resources.pids.to_string()),
        ("gpus", "none".to_owned()),
        ("run_deadline", length(deadlines.run)),
        ("queue_deadline", queue),
        ("prepare_deadline", length(deadlines.prepare)),
        ("upload_deadline", length(deadlines.upload)),
        ("stop_timeout", length(deadlines.stop_grace)),
        ("network", "bridge".to_owned()),
        ("security", "baseline".to_owned()),
        ("pull", "auto".to_owned()),
        ("pool", pool),
        ("priority", priority.to_string()),
        ("attempts", retry.attempts.to_string()),
        ("backoff", length(retry.backoff)),
        ("disconnect_tolerance", "the controller's".to_owned()),
        ("max_size", size(outputs.max_size_bytes)),
        ("max_files", outputs.max_files.to_string()),
    ]
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}
