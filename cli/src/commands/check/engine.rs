//! The container engine: whether it answers, and whether it can limit what jobs may use.

use super::Finding;
use crate::output::size;
use longshore_agent::AgentConfig;
use longshore_agent::runtime::DiskLimit;
use longshore_agent::runtime::docker::{Standing, of_node};
use serde::Deserialize;
use std::{collections::BTreeMap, io, path::Path, time::Duration};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const PATIENCE: Duration = Duration::from_secs(10);
/// Docker 20.10.
const OLDEST_API: (u32, u32) = (1, 41);
/// An image and a job's scratch; less fills up at once.
const LEAST_DISK: u64 = 10 << 30;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Version {
    version: String,
    api_version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Info {
    #[serde(rename = "OSType")]
    os_type: String,
    memory_limit: bool,
    pids_limit: bool,
    cpu_cfs_quota: bool,
    cgroup_version: String,
    driver: String,
    docker_root_dir: String,
    runtimes: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(rename = "CDISpecDirs")]
    cdi_spec_dirs: Option<Vec<String>>,
}

pub(super) async fn check(config: &AgentConfig) -> Vec<Finding> {
    let socket = match socket(config) {
        Ok(socket) => socket,
        Err(finding) => return vec![finding],
    };
    let (version, info) = match ask(&socket).await {
        Ok(found) => found,
        Err(error) => return vec![unreachable(&socket, &error)],
    };
    let mode = config.runtime.disk_limit;
    let standing = of_node(mode, &info.driver, Path::new(&info.docker_root_dir), pid(&socket).await);
    let mut findings = vec![answers(&version), limits(&info), disk_limit(mode, &standing)];
    findings.extend(disk(&info));
    findings
}

/// Whether containers can have the GPUs that the driver sees.
pub(super) async fn check_gpus(config: &AgentConfig) -> Option<Finding> {
    let (_, info) = ask(&socket(config).ok()?).await.ok()?;
    let nvidia = info.runtimes.as_ref().is_some_and(|runtimes| runtimes.contains_key("nvidia"));
    let cdi = info.cdi_spec_dirs.is_some_and(|dirs| !dirs.is_empty());
    let hook = ["/usr/bin/nvidia-container-runtime-hook", "/usr/bin/nvidia-container-cli"];
    if nvidia || cdi || hook.iter().any(|path| Path::new(path).exists()) {
        return Some(Finding::good("gpu engine", "containers can have the GPUs"));
    }
    let mend = ["install nvidia-container-toolkit, then: nvidia-ctk runtime configure --runtime=docker"];
    Some(Finding::bad("gpu engine", "the engine cannot give GPUs to containers", &mend))
}

fn socket(config: &AgentConfig) -> Result<String, Finding> {
    let host = config.runtime.host.clone().or_else(|| std::env::var("DOCKER_HOST").ok());
    let host = host.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
    match host.strip_prefix("unix://") {
        Some(path) => Ok(path.to_owned()),
        None => {
            Err(Finding::bad("docker", format!("{host} is not on this machine"), &["name a unix:// socket"]))
        }
    }
}

fn unreachable(socket: &str, error: &io::Error) -> Finding {
    let detail = format!("{socket}: {error}");
    match error.kind() {
        io::ErrorKind::NotFound => {
            Finding::bad("docker", detail, &["apt-get install docker.io", "systemctl start docker"])
        }
        io::ErrorKind::PermissionDenied => {
            Finding::bad("docker", detail, &["run as root, or: usermod -aG docker $USER, and log in again"])
        }
        _ => Finding::bad("docker", detail, &["systemctl start docker", "journalctl -u docker"]),
    }
}

fn answers(version: &Version) -> Finding {
    let detail = format!("docker {}, API {}", version.version, version.api_version);
    let number = version.api_version.split_once('.');
    let number = number.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    match number {
        Some(number) if number >= OLDEST_API => Finding::good("docker", detail),
        _ => Finding::bad(
            "docker",
            format!("{detail} is too old"),
            &["Docker Engine 20.10 (API 1.41) or newer"],
        ),
    }
}

fn limits(info: &Info) -> Finding {
    if info.os_type != "linux" {
        return Finding::bad(
            "limits",
            format!("the engine runs {} containers", info.os_type),
            &["use Linux"],
        );
    }
    let missing: Vec<_> =
        [("memory", info.memory_limit), ("pids", info.pids_limit), ("cpu", info.cpu_cfs_quota)]
            .into_iter()
            .filter(|(_, there)| !there)
            .map(|(name, _)| name)
            .collect();
    if missing.is_empty() {
        let detail = format!("memory, pids, cpu (cgroup v{})", info.cgroup_version);
        return Finding::good("limits", detail);
    }
    let mend = [
        "boot with: cgroup_enable=memory swapaccount=1, or with cgroup v2: systemd.unified_cgroup_hierarchy=1",
    ];
    Finding::bad("limits", format!("the engine cannot limit {}", missing.join(", ")), &mend)
}

/// Who has the engine's socket: both must see one another's mounts.
async fn pid(socket: &str) -> Option<i32> {
    UnixStream::connect(socket).await.ok()?.peer_cred().ok()?.pid()
}

fn disk_limit(mode: DiskLimit, standing: &Standing) -> Finding {
    let name = "disk limit";
    let missing: Vec<_> = standing.missing.iter().map(ToString::to_string).collect();
    let missing: Vec<_> = missing.iter().map(String::as_str).collect();
    match mode {
        DiskLimit::Hard if !missing.is_empty() => {
            let detail = format!("{}, and runtime.disk_limit asks for hard", standing.name());
            Finding::bad(name, detail, &missing)
        }
        DiskLimit::Auto if !missing.is_empty() => {
            let mend = missing.into_iter().map(|line| format!("for a hard one, {line}")).collect();
            Finding { mend, ..Finding::note(name, standing.name()) }
        }
        _ => Finding::good(name, standing.name()),
    }
}

fn disk(info: &Info) -> Option<Finding> {
    let free = super::machine::free_bytes(Path::new(&info.docker_root_dir))?;
    let detail = format!("{} free under {} ({})", size(free), info.docker_root_dir, info.driver);
    if free >= LEAST_DISK {
        return Some(Finding::good("images", detail));
    }
    Some(Finding::bad("images", detail, &["docker system prune, or a larger disk"]))
}

async fn ask(socket: &str) -> io::Result<(Version, Info)> {
    let version = get(socket, "/version").await?;
    let info = get(socket, "/info").await?;
    Ok((serde_json::from_slice(&version)?, serde_json::from_slice(&info)?))
}

/// HTTP/1.0 is answered in one piece and ends with the connection.
async fn get(socket: &str, path: &str) -> io::Result<Vec<u8>> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or_else(|| io::Error::other("the answer is no HTTP"))?;
        Ok(answer.split_off(end + 4))
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn info(text: &str) -> Info {
        serde_json::from_str(text).expect("json")
    }

    #[test]
    fn an_engine_without_limits_is_named() {
        let good = info(
            r#"{"OSType":"linux","MemoryLimit":true,"PidsLimit":true,"CpuCfsQuota":true,"CgroupVersion":"2","Warnings":null}"#,
        );
        assert_eq!(limits(&good).detail, "memory, pids, cpu (cgroup v2)");
        let weak = limits(&info(r#"{"OSType":"linux","PidsLimit":true,"CpuCfsQuota":true}"#));
        assert!(weak.verdict == Verdict::Bad && weak.detail.ends_with("memory"), "{weak:?}");
    }

    #[test]
    fn a_hard_disk_limit_that_cannot_be_had_comes_with_what_it_takes() {
        let data_root = Path::new("/nowhere/docker");
        let hard = disk_limit(DiskLimit::Hard, &of_node(DiskLimit::Hard, "overlay2", data_root, None));
        assert_eq!(hard.verdict, Verdict::Bad);
        assert!(hard.mend.iter().any(|line| line.contains("/nowhere/docker") && line.contains("prjquota")));
        let auto = disk_limit(DiskLimit::Auto, &of_node(DiskLimit::Auto, "overlay2", data_root, None));
        assert!(auto.verdict == Verdict::Note && auto.detail == "sampled" && !auto.mend.is_empty());
        let sampled = disk_limit(DiskLimit::Sampled, &Standing::default());
        assert_eq!((sampled.verdict, sampled.mend.len()), (Verdict::Good, 0));
    }

    #[test]
    fn an_old_engine_is_refused() {
        let version = |api: &str| Version { version: "x".into(), api_version: api.into() };
        assert_eq!(answers(&version("1.41")).verdict, Verdict::Good);
        assert_eq!(answers(&version("1.52")).verdict, Verdict::Good);
        for old in ["1.40", "1.9", "", "x.y"] {
            assert_eq!(answers(&version(old)).verdict, Verdict::Bad, "{old}");
        }
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_says_what_to_install() {
        let error = get("/no/such/socket", "/info").await.expect_err("not there");
        assert!(unreachable("/no/such/socket", &error).mend[0].contains("docker.io"));
    }

    #[tokio::test]
    async fn an_answer_is_read_to_its_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&path).expect("bound");
        longshore_common::tasks::spawn("test engine", async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = [0; 64];
            let read = stream.read(&mut request).await.expect("asked");
            assert!(request[..read].starts_with(b"GET /info HTTP/1.0\r\n"));
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"OSType\":").await.expect("sent");
            stream.write_all(b"\"linux\"}").await.expect("sent");
        });
        let body = get(path.to_str().expect("text"), "/info").await.expect("answered");
        assert_eq!(body, b"{\"OSType\":\"linux\"}");
    }
}
