//! Whether this process can make file systems of a given size that the container engine sees, and what is missing
//! if not. Probes what is there; never asks which distribution it is.

use super::{make, release, run};
use std::{
    fmt,
    fs::{self, OpenOptions},
    io,
    path::Path,
    process::Command,
};

/// Something that is not there, and how to mend that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub what: String,
    pub mend: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.mend)
    }
}

impl Missing {
    pub(crate) fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mend: mend.into() }
    }
}

/// What can be said without changing anything. `engine`: the process at the other end of its socket, if known.
pub(crate) fn missing(engine: Option<i32>) -> Vec<Missing> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push(Missing::new("the agent is not root", "run it as root"));
    }
    for (tool, package) in [("mkfs.ext4", "e2fsprogs"), ("mount", "mount")] {
        if let Err(error) = run(Command::new(tool).arg("-V")) {
            let mend = format!("apt-get install {package}");
            missing.push(Missing::new(format!("{tool} does not run ({error})"), mend));
        }
    }
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/loop-control") {
        let mend = "modprobe loop; in a container, give it /dev and the right to mount";
        missing.push(Missing::new(format!("no loop devices (/dev/loop-control: {error})"), mend));
    }
    if engine.is_some_and(|engine| !sees_our_mounts(engine)) {
        let mend = "run the agent outside of a container and without PrivateTmp=, PrivateMounts= or \
                    ProtectSystem= in its unit";
        missing.push(Missing::new("the engine does not see what the agent mounts", mend));
    }
    missing
}

/// Makes one in `dir` and takes it off again.
pub(crate) fn try_out(dir: &Path) -> Result<(), Missing> {
    let home = dir.join("trial");
    let tried = release(&home.join("disk")).and_then(|()| {
        let made = make(&home.join("disk"), 0);
        made.and(release(&home.join("disk"))).and_then(|()| fs::remove_dir_all(&home))
    });
    tried.map_err(|error| {
        Missing::new(
            format!("a file system in a file cannot be mounted ({error})"),
            "see dmesg for the reason",
        )
    })
}

/// Whether both are in one mount namespace. What cannot be read is not held against it: the trial comes after.
pub(crate) fn sees_our_mounts(engine: i32) -> bool {
    let namespace = |pid: &str| -> io::Result<_> { fs::read_link(format!("/proc/{pid}/ns/mnt")) };
    match (namespace("self"), namespace(&engine.to_string())) {
        (Ok(own), Ok(engines)) => own == engines,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_ability_is_said_with_what_to_do() {
        let own = i32::try_from(std::process::id()).expect("a process id");
        assert!(sees_our_mounts(own) && sees_our_mounts(0));
        let missing = missing(Some(own));
        assert!(missing.iter().all(|missing| !missing.what.is_empty() && !missing.mend.is_empty()));
        let root = rustix::process::geteuid().is_root();
        assert_eq!(missing.iter().any(|missing| missing.what.contains("not root")), !root);
    }

    #[test]
    fn a_trial_that_fails_says_why() {
        let error = try_out(Path::new("/proc")).expect_err("nothing can be made there");
        assert!(error.to_string().contains("cannot be mounted (") && error.mend.contains("dmesg"), "{error}");
    }
}
