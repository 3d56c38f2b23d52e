//! The socket: one JSON document to each that connects. Its mode says who may.

use super::Sources;
use longshore_common::shutdown::Shutdown;
use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{UnixListener, UnixStream},
    time::timeout,
};

/// In the agent's data directory.
pub const NAME: &str = "agent.sock";

/// One who connects and does not read keeps nobody else waiting for longer.
const PATIENCE: Duration = Duration::from_secs(1);

const GROUPS: &str = "/etc/group";

pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(NAME)
}

/// Until the agent leaves. An agent without its socket is an agent all the same.
pub(crate) async fn serve(
    path: PathBuf,
    making: PathBuf,
    group: Option<String>,
    sources: Sources,
    leave: Shutdown,
) {
    let listener = match bind(&path, &making, group.as_deref()) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "`longshore agent status` will find nothing here");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            () = leave.triggered() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => drop(timeout(PATIENCE, tell(stream, &sources)).await),
            // Out of descriptors, say: not so for ever.
            Err(_) => tokio::time::sleep(PATIENCE).await,
        }
    }
    drop(fs::remove_file(&path));
}

async fn tell(mut stream: UnixStream, sources: &Sources) -> io::Result<()> {
    let mut text = serde_json::to_vec(&sources.status()).map_err(io::Error::other)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    stream.shutdown().await
}

/// Made where nobody else may enter, so that it is never open to more than it is to be.
fn bind(path: &Path, making: &Path, group: Option<&str>) -> io::Result<UnixListener> {
    let new = making.join("new");
    for old in [&new, path] {
        match fs::remove_file(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let listener = UnixListener::bind(&new)?;
    let mode = match group.map(|group| gid(group).and_then(|gid| chown(&new, None, Some(gid)))) {
        None => 0o600,
        Some(Ok(())) => 0o660,
        Some(Err(error)) => {
            tracing::warn!(%error, group, "only root may ask for the agent's status");
            0o600
        }
    };
    fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
    fs::rename(&new, path)?;
    Ok(listener)
}

/// A number, or a name of this machine.
fn gid(group: &str) -> io::Result<u32> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    let known = fs::read_to_string(GROUPS)?;
    let found = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok())?
    });
    found.ok_or_else(|| io::Error::other(format!("{GROUPS} has no group `{group}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name_and_number() {
        assert_eq!(gid("root").expect("every machine has it"), 0);
        assert_eq!(gid("4711").expect("a number"), 4711);
        assert!(gid("no such group").is_err());
    }

    #[tokio::test]
    async fn only_its_owner_may_connect_and_what_was_left_behind_is_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, making) = (dir.path().join(NAME), dir.path().join("making"));
        fs::create_dir(&making).expect("made");
        for _ in 0..2 {
            drop(bind(&path, &making, None).expect("bound"));
            assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        }
    }
}
