//! The processes of one exec session, found on the host: those in the container that have its mark in their
//! environment, what they have started, and what is in a session that one of these leads. Never touches a process of
//! another container.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
};

/// A variable that no other session has.
pub(super) fn mark() -> String {
    format!("{ANY}{}", hex::encode(rand::random::<[u8; 12]>()))
}

/// What every mark begins with: all sessions of a container.
pub(super) const ANY: &str = "LONGSHORE_EXEC=";

/// Kills what there is of it, and answers how much that was.
pub(super) fn kill(container: &str, mark: &str) -> usize {
    let found = of_session(&inside(container), mark);
    for pid in &found {
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            // It may just have ended.
            kill_process(pid, Signal::KILL).ok();
        }
    }
    found.len()
}

#[derive(Debug, Default)]
struct Seen {
    parent: u32,
    session: u32,
    environment: Vec<u8>,
}

/// Every process of the container that is no zombie.
fn inside(container: &str) -> HashMap<u32, Seen> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let folder = Path::new("/proc").join(pid.to_string());
        if !fs::read_to_string(folder.join("cgroup")).ok()?.contains(container) {
            return None;
        }
        let (parent, session) = stat(&fs::read_to_string(folder.join("stat")).ok()?)?;
        let environment = fs::read(folder.join("environ")).unwrap_or_default();
        Some((pid, Seen { parent, session, environment }))
    })
    .collect()
}

/// Parent and session; `None`: it has ended.
fn stat(text: &str) -> Option<(u32, u32)> {
    // The name may hold anything, a parenthesis too.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let (parent, session) = (fields.next()?.parse().ok()?, fields.nth(1)?.parse().ok()?);
    (!matches!(state, "Z" | "X")).then_some((parent, session))
}

fn of_session(all: &HashMap<u32, Seen>, mark: &str) -> HashSet<u32> {
    let marked = |seen: &Seen| {
        seen.environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(mark.as_bytes()))
    };
    let mut found: HashSet<u32> = all.iter().filter(|(_, seen)| marked(seen)).map(|(pid, _)| *pid).collect();
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|(pid, seen)| {
                !found.contains(pid) && (found.contains(&seen.parent) || found.contains(&seen.session))
            })
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(parent: u32, session: u32, environment: &[u8]) -> Seen {
        Seen { parent, session, environment: environment.to_vec() }
    }

    #[test]
    fn what_a_session_started_is_its_own_and_nothing_else_is() {
        let all = HashMap::from([
            (10, seen(1, 10, b"PATH=/bin\0")),
            (11, seen(10, 10, b"PATH=/bin\0")),
            (20, seen(1, 20, b"PATH=/bin\0LONGSHORE_EXEC=ab\0")),
            // Its environment is gone.
            (21, seen(20, 20, b"")),
            // Its parent is gone.
            (22, seen(10, 20, b"")),
            // A daemon.
            (23, seen(10, 23, b"LONGSHORE_EXEC=ab\0")),
            (30, seen(1, 30, b"LONGSHORE_EXEC=cd\0")),
        ]);
        let mut found: Vec<_> = of_session(&all, "LONGSHORE_EXEC=ab").into_iter().collect();
        found.sort_unstable();
        assert_eq!(found, [20, 21, 22, 23]);
        assert_eq!(of_session(&all, ANY).len(), 5);
    }

    #[test]
    fn a_name_with_a_parenthesis_is_read_over() {
        assert_eq!(stat("7 (a) b) S 3 7 5 0 -1"), Some((3, 5)));
        assert_eq!(stat("7 (a) Z 3 7 5 0 -1"), None);
    }
}
