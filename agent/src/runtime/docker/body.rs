//! What the engine is told about one attempt's container: a pure function of the spec. Every limit and every
//! refusal of privilege stands here.

use super::{gpus::Way, labels};
use crate::runtime::{ContainerSpec, Device, Error, HostMount, try_name};
use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};
use longshore_common::{
    job::{NetworkMode, Outcome, Resources, Security, spec::SECRETS_FOLDER},
    trigger::TRIGGER_FOLDER,
};
use std::{collections::HashMap, path::Path};

/// What depends on the node, not on the job.
#[derive(Debug)]
pub(super) struct Node<'a> {
    /// The agent's bridge for this container's mode.
    pub(super) network: &'a str,
    pub(super) engine_log_bytes: u64,
    pub(super) layer_quota: bool,
    /// The most files a process may open here: an engine confined like the agent cannot grant more.
    pub(super) open_files: u64,
    /// What the operator gives to every container.
    pub(super) oci_runtime: Option<&'a str>,
    pub(super) gpus: Way,
    pub(super) devices: &'a [Device],
    pub(super) mounts: &'a [HostMount],
}

/// Docker's own defaults less these: raw packets, device nodes and audit records are no job's business.
const DROPPED_CAPABILITIES: [&str; 3] = ["NET_RAW", "MKNOD", "AUDIT_WRITE"];
/// Data loaders open a lot; this is the kernel's own default ceiling.
pub(super) const OPEN_FILES: u64 = 1_048_576;
/// Rotated files of the engine's log. The oldest goes first, so one is slack.
const LOG_FILES: u64 = 5;

pub(super) fn name(spec: &ContainerSpec) -> String {
    let (attempt, cluster) = (try_name(&spec.attempt), spec.cluster.to_string());
    format!("longshore-{}-{attempt}-{}", spec.short_id, labels::tail(&cluster))
}

pub(super) fn body(spec: &ContainerSpec, node: &Node<'_>) -> Result<ContainerCreateBody, Error> {
    Ok(ContainerCreateBody {
        image: Some(spec.image.0.clone()),
        hostname: Some(spec.short_id.to_string()),
        entrypoint: spec.entrypoint.clone(),
        cmd: command(spec),
        working_dir: spec.workdir.clone(),
        user: spec.user.clone(),
        env: Some(environment(spec, node)),
        labels: Some(labels::of(spec)),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        host_config: Some(host_config(spec, node)?),
        ..Default::default()
    })
}

/// An entrypoint of the job's own makes the engine drop the image's command, as `docker run --entrypoint` does.
fn command(spec: &ContainerSpec) -> Option<Vec<String>> {
    match (&spec.entrypoint, &spec.command) {
        (Some(_), None) => Some(Vec::new()),
        (_, command) => command.clone(),
    }
}

fn environment(spec: &ContainerSpec, node: &Node<'_>) -> Vec<String> {
    let plain = spec.env.iter().filter(|(key, _)| !spec.secrets.env.contains_key(*key));
    let mut env: Vec<_> = plain.map(|(key, value)| format!("{key}={value}")).collect();
    for (key, value) in &spec.secrets.env {
        env.push(format!("{key}={}", String::from_utf8_lossy(value.bytes())));
    }
    node.gpus.visible(spec, &mut env);
    env
}

fn host_config(spec: &ContainerSpec, node: &Node<'_>) -> Result<HostConfig, Error> {
    let resources = &spec.resources;
    let memory = signed(resources.memory_bytes);
    Ok(HostConfig {
        memory: Some(memory),
        // Memory and swap together: equal means no swap.
        memory_swap: Some(memory),
        nano_cpus: Some(i64::from(resources.cpu_millis) * 1_000_000),
        pids_limit: Some(i64::from(resources.pids)),
        shm_size: Some(signed(resources.shm_bytes)),
        ulimits: Some(vec![ulimit("nofile", node.open_files.min(OPEN_FILES)), ulimit("core", 0)]),
        init: Some(true),
        privileged: Some(false),
        cap_drop: Some(match spec.security {
            Security::Baseline => DROPPED_CAPABILITIES.map(str::to_owned).to_vec(),
            Security::Restricted => vec!["ALL".to_owned()],
        }),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        network_mode: Some(match spec.network {
            NetworkMode::Bridge | NetworkMode::Internet => node.network.to_owned(),
            NetworkMode::None => "none".to_owned(),
        }),
        mounts: Some(mounts(spec, node.mounts)?),
        devices: devices(node.devices)?,
        runtime: node.oci_runtime.map(str::to_owned),
        log_config: Some(log_config(node.engine_log_bytes)),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        device_requests: node.gpus.request(spec),
        storage_opt: node
            .layer_quota
            .then(|| HashMap::from([("size".to_owned(), layer_limit(spec).to_string())])),
        ..Default::default()
    })
}

/// Of the container's own files, where the engine can hold them to it.
fn layer_limit(spec: &ContainerSpec) -> u64 {
    let Resources { memory_bytes, scratch_bytes, .. } = spec.resources;
    if spec.files_in_memory { scratch_bytes.min(memory_bytes) } else { scratch_bytes }
}

fn devices(extra: &[Device]) -> Result<Option<Vec<DeviceMapping>>, Error> {
    let mapping = |device: &Device| {
        let path = Some(text(&device.path)?);
        Ok(DeviceMapping {
            path_on_host: path.clone(),
            path_in_container: path,
            cgroup_permissions: Some(device.permissions.clone()),
        })
    };
    let devices = extra.iter().map(mapping).collect::<Result<Vec<_>, Error>>()?;
    Ok((!devices.is_empty()).then_some(devices))
}

fn mounts(spec: &ContainerSpec, extra: &[HostMount]) -> Result<Vec<Mount>, Error> {
    let mut mounts =
        vec![bind(&spec.scratch.out, "/out", false)?, bind(&spec.scratch.tmp, "/tmp_disk", false)?];
    if let Some(folder) = &spec.secrets.folder {
        mounts.push(bind(folder, SECRETS_FOLDER, true)?);
    }
    if let Some(folder) = &spec.secrets.told {
        mounts.push(bind(folder, TRIGGER_FOLDER, true)?);
    }
    for (name, folder) in &spec.scratch.inputs {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            let detail = format!("input `{name}` cannot be the name of a folder");
            return Err(Error::ends(Outcome::InputFailed, detail));
        }
        mounts.push(bind(folder, &format!("/in/{name}"), true)?);
    }
    for (name, share) in &spec.shares {
        mounts.push(bind(&share.folder, &format!("/in/{name}"), !share.writable)?);
    }
    for (path, folder) in &spec.caches {
        mounts.push(bind(folder, path, false)?);
    }
    for mount in extra {
        mounts.push(bind(&mount.host, &text(&mount.container)?, !mount.writable)?);
    }
    Ok(mounts)
}

fn bind(source: &Path, target: &str, read_only: bool) -> Result<Mount, Error> {
    Ok(Mount {
        typ: Some(MountType::BIND),
        source: Some(text(source)?),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Default::default()
    })
}

/// The engine takes paths as text.
fn text(path: &Path) -> Result<String, Error> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let detail = format!("the path {} is not UTF-8: move it", path.display());
        Error::ends(Outcome::RuntimeError, detail)
    })
}

/// The driver `local` keeps bytes as they are, and can repeat them after the stream broke.
fn log_config(bytes: u64) -> HostConfigLogConfig {
    let options = [("max-size", bytes.div_ceil(LOG_FILES - 1)), ("max-file", LOG_FILES)]
        .map(|(k, v)| (k, v.to_string()));
    HostConfigLogConfig {
        typ: Some("local".to_owned()),
        config: Some(options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
    }
}

fn ulimit(name: &str, value: u64) -> ResourcesUlimits {
    let value = signed(value);
    ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{runtime::contract::sample_spec, shares::Pinned};

    const NODE: Node<'static> = Node {
        network: "longshore-x",
        engine_log_bytes: 320 << 20,
        layer_quota: false,
        open_files: 1024,
        oci_runtime: None,
        gpus: Way::Nvidia,
        devices: &[],
        mounts: &[],
    };

    fn host(spec: &ContainerSpec) -> HostConfig {
        body(spec, &NODE).expect("valid").host_config.expect("always there")
    }

    #[test]
    fn an_attempt_counted_again_after_a_restored_backup_has_names_of_its_own() {
        let mut spec = sample_spec();
        let (first, folder) = (name(&spec), try_name(&spec.attempt));
        assert!(first.starts_with(&format!("longshore-{}-1-", spec.short_id)), "{first}");
        spec.attempt.epoch.0 += 1;
        assert!(name(&spec) != first && try_name(&spec.attempt) != folder);
    }

    #[test]
    fn what_the_operator_opens_is_open_and_nothing_else() {
        let spec = sample_spec();
        let closed = host(&spec);
        assert!(closed.devices.is_none() && closed.runtime.is_none());
        let device = Device { path: "/dev/fuse".into(), permissions: "rw".into() };
        let mount = HostMount { host: "/data".into(), container: "/mnt/data".into(), writable: false };
        let node = Node { oci_runtime: Some("runsc"), devices: &[device], mounts: &[mount], ..NODE };
        let open = body(&spec, &node).expect("valid").host_config.expect("always there");
        assert_eq!(open.runtime.as_deref(), Some("runsc"));
        let devices = open.devices.expect("set");
        assert_eq!(devices[0].path_in_container.as_deref(), Some("/dev/fuse"));
        let mounts = open.mounts.expect("set");
        let given =
            mounts.iter().find(|mount| mount.target.as_deref() == Some("/mnt/data")).expect("mounted");
        assert_eq!((given.source.as_deref(), given.read_only), (Some("/data"), Some(true)));
        assert_eq!(mounts.len(), closed.mounts.expect("set").len() + 1);
    }

    #[test]
    fn a_container_gets_no_swap_no_privilege_and_its_limits() {
        let mut spec = sample_spec();
        spec.resources.cpu_millis = 1500;
        let host = host(&spec);
        assert_eq!(host.memory, host.memory_swap);
        assert_eq!(host.nano_cpus, Some(1_500_000_000));
        assert_eq!(host.privileged, Some(false));
        assert_eq!(host.security_opt.as_deref(), Some(&["no-new-privileges".to_owned()][..]));
        assert!(host.cap_drop.expect("set").contains(&"NET_RAW".to_owned()));
        assert_eq!(host.cap_add, None);
        assert_eq!(host.binds, None);

        spec.security = Security::Restricted;
        assert_eq!(self::host(&spec).cap_drop.expect("set"), ["ALL"]);
    }

    #[test]
    fn without_a_grant_no_gpu_is_visible_whatever_the_job_says() {
        let mut spec = sample_spec();
        spec.env.insert("NVIDIA_VISIBLE_DEVICES".to_owned(), "all".to_owned());
        let env = body(&spec, &NODE).expect("valid").env.expect("set");
        let visible: Vec<_> = env.iter().filter(|entry| entry.starts_with("NVIDIA_VISIBLE")).collect();
        assert_eq!(visible, ["NVIDIA_VISIBLE_DEVICES=void"]);

        spec.gpus = vec!["GPU-1".to_owned()];
        let request = host(&spec).device_requests.expect("asked for");
        assert_eq!(request[0].device_ids, Some(vec!["GPU-1".to_owned()]));
    }

    #[test]
    fn only_the_attempts_own_folders_are_mounted() {
        let mut spec = sample_spec();
        spec.scratch.inputs.insert("scans".to_owned(), "/data/in".into());
        let mounts = host(&spec).mounts.expect("set");
        let seen: Vec<_> =
            mounts.iter().map(|m| (m.target.as_deref().expect("set"), m.read_only.expect("set"))).collect();
        assert_eq!(seen, [("/out", false), ("/tmp_disk", false), ("/in/scans", true)]);

        spec.secrets.folder = Some("/dev/shm/longshore/x".into());
        spec.secrets.told = Some("/var/lib/longshore/x/told".into());
        let mounts = self::host(&spec).mounts.expect("set");
        let secrets = mounts.iter().find(|mount| mount.target.as_deref() == Some("/run/secrets"));
        assert_eq!(secrets.expect("mounted").read_only, Some(true));
        let told = mounts.iter().find(|mount| mount.target.as_deref() == Some("/run/longshore"));
        assert_eq!(told.expect("mounted").read_only, Some(true));

        let shared = Pinned { folder: "/srv/data".into(), writable: true };
        spec.shares.insert("ckpt".to_owned(), shared);
        let mounts = self::host(&spec).mounts.expect("set");
        let share = mounts.iter().find(|mount| mount.target.as_deref() == Some("/in/ckpt"));
        assert_eq!(share.expect("mounted").read_only, Some(false));

        spec.caches.insert("/root/.cache".to_owned(), "/var/caches/lab/hf/data".into());
        let mounts = self::host(&spec).mounts.expect("set");
        let cache = mounts.iter().find(|mount| mount.target.as_deref() == Some("/root/.cache"));
        assert_eq!(cache.expect("mounted").read_only, Some(false));

        spec.scratch.inputs.insert("../etc".to_owned(), "/data/in".into());
        assert!(body(&spec, &NODE).is_err());
    }

    #[test]
    fn the_engines_log_holds_more_than_a_jobs_cap_after_a_rotation() {
        let options = host(&sample_spec()).log_config.expect("set").config.expect("set");
        let size: u64 = options["max-size"].parse().expect("bytes");
        let files: u64 = options["max-file"].parse().expect("a number");
        assert!(size * (files - 1) >= NODE.engine_log_bytes);
    }
}
