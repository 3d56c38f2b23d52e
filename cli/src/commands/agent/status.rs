//! `longshore agent status`: what this machine does, asked on the machine itself.

use crate::daemon::{ConfigArgs, flag};
use crate::failure::Failure;
use crate::output::{FormatArgs, Table, print, size};
use clap::Args;
use longshore_agent::{AgentConfig, status, status::Status};
use longshore_common::units::Cores;
use std::io::{ErrorKind, Read as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// An agent answers at once; one that does not is stuck.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where the agent keeps its things
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

pub(super) fn run(args: &StatusArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let flags = flag("--data-dir", "data_dir", args.data_dir.as_ref()).into_iter().collect();
    let Some(config) = args.config.load::<AgentConfig>(super::FILE, flags, &super::example())? else {
        return Ok(0);
    };
    let status = ask(&status::path(&config.data_dir))?;
    let value = serde_json::to_value(&status)?;
    if !format.write(|| value)? {
        print(&text(&status))?;
    }
    Ok(0)
}

fn ask(socket: &Path) -> Result<Status, Failure> {
    let shown = socket.display();
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::new(format!(
            "no agent runs here: nobody listens at {shown}. See `systemctl status longshore-agent`, or name its \
             folder with --data-dir"
        )),
        ErrorKind::PermissionDenied => Failure::new(format!(
            "{shown} is not yours to open: ask as root, or name a group with `status_group` in agent.toml"
        )),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::new(format!(
            "the agent at {shown} does not answer; `journalctl -u longshore-agent` says more"
        )),
        _ => Failure::new(format!("{shown}: {error}")),
    };
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).map_err(failed)?;
    serde_json::from_slice(&text).map_err(|error| {
        Failure::new(format!("the agent at {shown} answers in another way: {error}; upgrade both"))
    })
}

fn text(status: &Status) -> String {
    let link = match (&status.link.up, status.link.last_error.is_empty()) {
        (true, _) => format!("✓ {} since {}", status.controller, status.link.since),
        (false, true) => format!("✗ {} not reached yet", status.controller),
        (false, false) => format!("✗ {} down since {}", status.controller, status.link.since),
    };
    let error = match &*status.link.last_error {
        "" => String::new(),
        reason => format!("{}  {reason}", status.link.last_error_at),
    };
    let amounts = |of: &longshore_common::agent::Capacity| {
        let (memory, disk) = (size(of.memory_bytes), size(of.scratch_bytes));
        format!("cpu {}, memory {memory}, disk {disk}, {} GPUs", Cores(of.cpu_millis), of.gpus)
    };
    let lines = [
        (
            "agent",
            format!("{} {}, version {}, up since {}", status.name, status.id, status.version, status.since),
        ),
        ("link", link),
        ("last error", error),
        ("cordon", status.cordon.clone()),
        ("note", status.note.clone()),
        ("for jobs", amounts(&status.for_jobs)),
        ("free", amounts(&status.free)),
    ];
    let mut text = String::new();
    for (name, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name:<11} {value}\n"));
    }
    if !status.gpus.is_empty() {
        let mut table = Table::new(
            &["GPU", "MODEL", "FREE", "JOB", "PROJECT", "WHY NOT FREE"],
            &["WHY NOT FREE", "MODEL"],
        );
        for gpu in &status.gpus {
            let why = [&gpu.cordon, &gpu.health, &gpu.busy].into_iter().filter(|why| !why.is_empty());
            let why = why.cloned().collect::<Vec<_>>().join("; ");
            let free = format!("{} of {}", size(gpu.memory_free_bytes), size(gpu.memory_bytes));
            let (job, project) = (gpu.job.clone(), gpu.project.clone());
            table.row(vec![gpu.index.to_string(), gpu.model.clone(), free, job, project, why]);
        }
        text.push_str(&format!("\n{}", table.render()));
    }
    if !status.jobs.is_empty() {
        let mut table = Table::new(&["JOB", "PROJECT", "ATTEMPT", "PHASE", "STARTED", "GPUS"], &[]);
        for job in &status.jobs {
            let index = |uuid: &String| {
                let known = status.gpus.iter().find(|gpu| gpu.uuid == *uuid);
                known.map_or_else(|| uuid.clone(), |gpu| gpu.index.to_string())
            };
            table.row(vec![
                job.job.clone(),
                job.project.clone(),
                job.attempt.to_string(),
                job.phase.clone(),
                job.started.clone(),
                job.gpus.iter().map(index).collect::<Vec<_>>().join(","),
            ]);
        }
        text.push_str(&format!("\n{}", table.render()));
    }
    text + &caches(status)
}

fn caches(status: &Status) -> String {
    if status.caches.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["CACHE", "PROJECT", "SIZE", "LAST USED", "JOBS"], &[]);
    let mut sum = 0_u64;
    for cache in &status.caches {
        sum = sum.saturating_add(cache.bytes);
        table.row(vec![
            cache.name.clone(),
            cache.project.clone(),
            size(cache.bytes),
            cache.last_used.clone(),
            cache.users.to_string(),
        ]);
    }
    format!("\n{}all caches: {} of {}\n", table.render(), size(sum), size(status.caches_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_shown_with_its_job_and_whose_that_is_or_why_it_is_not_free() {
        let gpu = |index, job: &str, cordon: &str| status::Gpu {
            index,
            uuid: format!("GPU-{index}"),
            model: "A100".into(),
            job: job.into(),
            project: if job.is_empty() { String::new() } else { "lab".into() },
            cordon: cordon.into(),
            ..status::Gpu::default()
        };
        let job = status::Job {
            job: "k3m9q2xw".into(),
            project: "lab".into(),
            attempt: 2,
            phase: "running".into(),
            gpus: vec!["GPU-0".into()],
            ..status::Job::default()
        };
        let link = status::Link { last_error: "refused".into(), ..status::Link::default() };
        let status = Status {
            name: "gpu-04".into(),
            controller: "https://ship:7420".into(),
            link,
            gpus: vec![gpu(0, "k3m9q2xw", ""), gpu(1, "", "cordoned by anna: booked")],
            jobs: vec![job],
            caches: vec![status::Cache {
                project: "lab".into(),
                name: "hf".into(),
                bytes: 3 << 30,
                ..status::Cache::default()
            }],
            caches_bytes: 9 << 30,
            ..Status::default()
        };
        let text = text(&status);
        for line in [
            "✗ https://ship:7420 down since",
            "refused",
            "k3m9q2xw  lab",
            "cordoned by anna: booked",
            "hf     lab      3 GiB",
            "all caches: 3 GiB of 9 GiB",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(text.contains("k3m9q2xw  lab      2        running"), "{text}");
    }

    #[test]
    fn where_no_agent_runs_it_says_so_and_what_to_do() {
        let dir = tempfile::tempdir().expect("a folder");
        let failure = ask(&status::path(dir.path())).expect_err("nobody is there");
        assert!(failure.message.contains("no agent runs here") && failure.message.contains("--data-dir"));
    }
}
