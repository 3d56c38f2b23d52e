//! What `/proc` says of a process by its pid. A process that has ended meanwhile is told with what is known.

use super::GpuProcess;
use std::{fs, path::Path};

/// Length of a container's id in hexadecimal.
const CONTAINER_ID: usize = 64;

pub(super) fn describe(pid: u32, memory_bytes: u64, graphics: bool) -> GpuProcess {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    GpuProcess {
        pid,
        name: read("comm").map(|comm| comm.trim_end().to_owned()).unwrap_or_default(),
        user: read("status").and_then(|status| uid(&status)).map(user).unwrap_or_default(),
        memory_bytes,
        graphics,
        container: read("cgroup").and_then(|cgroup| container(&cgroup)),
    }
}

fn uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn user(uid: u32) -> String {
    let passwd = fs::read_to_string(Path::new("/etc/passwd")).unwrap_or_default();
    name_of(uid, &passwd).unwrap_or_else(|| format!("uid {uid}"))
}

fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Docker, Podman and containerd all put the id into the cgroup's path: `/docker/<id>`, `docker-<id>.scope`.
fn container(cgroup: &str) -> Option<String> {
    let mut runs = cgroup.split(|c: char| !c.is_ascii_hexdigit());
    runs.rfind(|run| run.len() == CONTAINER_ID).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f2c9e0a7b6d5c4b3a291807f6e5d4c3b2a1908f7e6d5c4b3a29180716253443";

    #[test]
    fn containers_are_found_in_either_cgroup_version() {
        assert_eq!(
            container(&format!("11:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}")).as_deref(),
            Some(ID)
        );
        assert_eq!(container(&format!("0::/system.slice/docker-{ID}.scope\n")).as_deref(), Some(ID));
        assert_eq!(container("0::/user.slice/user-1000.slice/session-2.scope\n"), None);
    }

    #[test]
    fn users_have_names_where_the_machine_knows_them() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nanna:x:1001:1001::/home/anna:/bin/sh\n";
        assert_eq!(name_of(1001, passwd).as_deref(), Some("anna"));
        assert_eq!(name_of(1002, passwd), None);
        assert_eq!(uid("Name:\tpython\nUid:\t1001\t1001\t1001\t1001\n"), Some(1001));
    }

    #[test]
    fn this_very_process_is_described() {
        let process = describe(std::process::id(), 7, false);
        assert!(!process.name.is_empty() && !process.user.is_empty(), "{process:?}");
        assert_eq!(process.memory_bytes, 7);
    }

    #[test]
    fn a_process_that_has_ended_is_still_told() {
        let process = describe(u32::MAX, 7, true);
        assert_eq!(
            process,
            GpuProcess { pid: u32::MAX, memory_bytes: 7, graphics: true, ..GpuProcess::default() }
        );
    }
}
