//! Whether a container's control group lets it open GPUs. Where the group was written anew behind the engine's back
//! (`systemctl daemon-reload` does so where systemd manages the groups), it does not any more. Only the first version
//! of control groups shows that; in the second it is a program in the kernel.

use super::usage::names;
use std::{fs, path::Path};

/// Of `/dev/nvidia0` and its like, and of `/dev/nvidiactl`.
const MAJOR: &str = "195";

/// `None`: it is not to be seen.
pub(super) fn opens_gpus(root: &Path, id: &str) -> Option<bool> {
    let list = |name: &String| fs::read_to_string(root.join("devices").join(name).join("devices.list")).ok();
    let list = names(id).iter().find_map(list)?;
    Some(list.lines().any(opens))
}

/// `c 195:255 rw`
fn opens(rule: &str) -> bool {
    let mut words = rule.split_whitespace();
    let (Some(kind), Some(device), Some(access)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    let major = device.split(':').next().unwrap_or_default();
    matches!(kind, "a" | "c") && matches!(major, "*" | MAJOR) && access.contains('r') && access.contains('w')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every container has.
    const PLAIN: &str = "c 1:3 rwm\nc 1:5 rwm\nc 5:2 rwm\nc 136:* rwm\nc *:* m\nb *:* m\n";

    #[test]
    fn a_group_that_was_written_anew_without_its_gpus_is_seen_in_either_driver() {
        for group in ["devices/docker/c1", "devices/system.slice/docker-c1.scope"] {
            let root = tempfile::tempdir().expect("a folder");
            let (root, group) = (root.path(), root.path().join(group));
            assert_eq!(opens_gpus(root, "c1"), None, "no such group");
            fs::create_dir_all(&group).expect("made");
            let seen = |list: &str| {
                fs::write(group.join("devices.list"), list).expect("written");
                opens_gpus(root, "c1")
            };
            assert_eq!(seen(&format!("{PLAIN}c 195:255 rw\nc 195:0 rw\nc 511:0 rw\n")), Some(true));
            // As after a reload: to make a node for every device is allowed to all, to open it is not.
            assert_eq!(seen(PLAIN), Some(false));
            assert_eq!(seen("a *:* rwm\n"), Some(true));
        }
    }

    #[test]
    fn groups_of_the_second_version_do_not_say() {
        let root = tempfile::tempdir().expect("a folder");
        let group = root.path().join("system.slice/docker-c1.scope");
        fs::create_dir_all(&group).expect("made");
        fs::write(group.join("memory.current"), "1").expect("written");
        assert_eq!(opens_gpus(root.path(), "c1"), None);
    }
}
