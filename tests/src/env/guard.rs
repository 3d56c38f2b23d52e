//! Cleans up after this test process even when it is killed: a small shell that waits for the end of its input,
//! then ends the process groups it was told of, removes containers and images of this run, networks and firewall
//! rules of its agents, unmounts, and deletes the folder. Servers in statics are never dropped, so this is also
//! their ordinary end.

use super::run_id;
use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::{Mutex, OnceLock},
};

const SCRIPT: &str = r#"
run=$1 base=$2 groups=" "
while read -r word group; do
  case $word in
    add) groups="$groups$group " ;;
    drop) groups=$(printf '%s' "$groups" | sed "s/ $group / /") ;;
  esac
done
for group in $groups; do kill -s TERM -- "-$group"; done
for turn in 1 2 3 4 5 6 7 8 9 10; do
  left=no
  for group in $groups; do kill -s 0 -- "-$group" && left=yes; done
  [ $left = yes ] || break
  sleep 0.3
done
for group in $groups; do kill -s KILL -- "-$group"; done
# What an engine of the tests left that was killed: daemons and shims that name this folder.
for process in /proc/[0-9]*; do
  if tr '\0' ' ' <"$process/cmdline" | grep -q "^[^ ]*containerd.*$base/"; then kill -s KILL "${process#/proc/}"; fi
done
for id in $(docker ps -aq --filter "label=longshore.test=$run"); do docker rm -f "$id"; done
for id in $(docker images -q --filter "label=longshore.test=$run" | sort -u); do docker rmi -f "$id"; done
for file in $(find "$base" -name agent-id); do
  tail=$(tr -d '\n' <"$file" | tail -c 8)
  docker network rm "longshore-$tail"
  for from in INPUT DOCKER-USER FORWARD; do
    iptables -w 10 -D "$from" -i "ls-$tail" -j "LS-IN-$tail"
    iptables -w 10 -D "$from" -i "ls-$tail" -j "LS-FW-$tail"
  done
  for chain in "LS-IN-$tail" "LS-FW-$tail"; do iptables -w 10 -F "$chain"; iptables -w 10 -X "$chain"; done
done
awk -v base="$base/" 'index($2, base) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
  umount -l "$mount"
done
rm -rf "$base"
"#;

static PIPE: OnceLock<Mutex<ChildStdin>> = OnceLock::new();

/// Called once, by `base`.
#[expect(clippy::zombie_processes, reason = "it must outlive this process")]
pub(super) fn start(base: &Path) {
    let mut child = Command::new("sh")
        .args(["-c", SCRIPT, "guard", &run_id()])
        .arg(base)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("start the guard");
    let pipe = child.stdin.take().expect("the guard's input is piped");
    assert!(PIPE.set(Mutex::new(pipe)).is_ok(), "the guard is started once");
}

pub(super) fn add(group: u32) {
    tell("add", group);
}

pub(super) fn remove(group: u32) {
    tell("drop", group);
}

fn tell(word: &str, group: u32) {
    let pipe =
        PIPE.get().expect("a server's folder is made, and with it the guard, before the server starts");
    let mut pipe = pipe.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    writeln!(pipe, "{word} {group}").expect("speak to the guard");
}
