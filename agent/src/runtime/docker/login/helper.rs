//! Programs that Docker asks for credentials: `docker-credential-NAME get`, the registry on its stdin, JSON on its
//! stdout. They are the operator's, and may hang: each has a time and a size.

use bollard::auth::DockerCredentials;
use serde::Deserialize;
use std::{ffi::OsStr, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};
use zeroize::Zeroizing;

/// A helper that asks a cloud over a slow line; one that waits for a person never ends.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Of stdout: tokens have a few KiB.
const MOST: u64 = 64 << 10;
/// Of what it complains.
const COMPLAINT: usize = 300;
/// What a helper says that has nothing for this registry.
const NOT_FOUND: &str = "credentials not found";
/// In place of a user: the secret is a token.
const TOKEN: &str = "<token>";

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("`{0}` is no name of a credential helper")]
    Name(String),
    #[error("docker-credential-{0} cannot be run: {1}")]
    Run(String, std::io::Error),
    #[error("docker-credential-{name} did not answer within {} s and was ended", patience.as_secs())]
    Slow { name: String, patience: Duration },
    #[error("docker-credential-{0} failed: {1}")]
    Failed(String, String),
    #[error("docker-credential-{0} answered what is no JSON of credentials")]
    Answer(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Credentials {
    username: String,
    secret: String,
}

impl Credentials {
    pub(super) fn into_docker(self, registry: &str) -> DockerCredentials {
        let serveraddress = Some(registry.to_owned());
        let secret = Some(self.secret);
        if self.username == TOKEN {
            return DockerCredentials { identitytoken: secret, serveraddress, ..Default::default() };
        }
        let username = Some(self.username);
        DockerCredentials { username, password: secret, serveraddress, ..Default::default() }
    }
}

/// `None`: it has none for this registry.
pub(super) async fn ask(
    name: &str,
    registry: &str,
    patience: Duration,
) -> Result<Option<Credentials>, Error> {
    // A name, found in PATH; never a path.
    if name.is_empty()
        || name.starts_with('.')
        || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    {
        return Err(Error::Name(name.chars().take(40).collect()));
    }
    run_program(OsStr::new(&format!("docker-credential-{name}")), name, registry, patience).await
}

pub(super) async fn run_program(
    program: &OsStr,
    name: &str,
    registry: &str,
    patience: Duration,
) -> Result<Option<Credentials>, Error> {
    match tokio::time::timeout(patience, run(program, name, registry)).await {
        Ok(answer) => answer,
        // Dropped with its future, and killed by that.
        Err(_) => Err(Error::Slow { name: name.to_owned(), patience }),
    }
}

async fn run(program: &OsStr, name: &str, registry: &str) -> Result<Option<Credentials>, Error> {
    let broken = |error| Error::Run(name.to_owned(), error);
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(broken)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let asking = async {
        if let Some(mut stdin) = stdin {
            // One that does not read knows the answer already, or fails.
            drop(stdin.write_all(format!("{registry}\n").as_bytes()).await);
        }
    };
    let ((), answer, complaint, status) = tokio::join!(asking, read(stdout), read(stderr), child.wait());
    let (answer, complaint) = (answer.map_err(broken)?, complaint.map_err(broken)?);
    if status.map_err(broken)?.success() {
        let read = serde_json::from_slice(&answer);
        return read.map(Some).map_err(|_| Error::Answer(name.to_owned()));
    }
    let said = complaint_of(&answer, &complaint);
    if said.contains(NOT_FOUND) { Ok(None) } else { Err(Error::Failed(name.to_owned(), said)) }
}

/// To its end, and kept as far as it is of use.
async fn read(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut kept = Zeroizing::new(Vec::new());
    if let Some(mut from) = from {
        (&mut from).take(MOST).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

/// Helpers complain on either; what looks like credentials is none.
fn complaint_of(stdout: &[u8], stderr: &[u8]) -> String {
    let text = [stderr, stdout].into_iter().map(String::from_utf8_lossy).find_map(|text| {
        let text = text.trim().to_owned();
        (!text.is_empty() && !text.starts_with('{')).then_some(text)
    });
    text.unwrap_or_else(|| "it says nothing".to_owned()).chars().take(COMPLAINT).collect()
}
