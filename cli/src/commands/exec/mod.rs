//! `longshore exec`: another process in a running job's container, as `docker exec` has it. Whoever ends this command
//! ends the process.

mod terminal;

use crate::client::{Client, is_lost};
use crate::failure::{Failure, code};
use crate::output::say;
use bytes::Bytes;
use clap::Args;
use longshore_common::{exec::PIECE, tasks};
use longshore_proto::v1::{self, exec_request::Message as Asked, exec_response::Message as Told};
use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use terminal::{Raw, size};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Messages on their way.
const WAITING: usize = 16;

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Pass stdin on; without it the process has none
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal, of this one's size
    #[arg(short, long)]
    tty: bool,
    /// A variable; `-e NAME` copies it from here
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Where it starts; the container's own folder unless said
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Who it runs as; the container's own user unless said
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    #[arg(value_name = "JOB")]
    job: String,
    /// What to start
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) async fn run(client: &Client, args: ExecArgs) -> anyhow::Result<i32> {
    let ExecArgs { interactive, tty, env, workdir, user, job, command } = args;
    if tty && interactive && !terminal::is_one() {
        return Err(Failure::usage(
            "-t: stdin is no terminal; leave -t away to pass on what comes from a pipe",
        )
        .into());
    }
    let start = v1::ExecStart {
        job,
        command,
        env: variables(&env, |name| std::env::var(name).ok())?,
        workdir: workdir.unwrap_or_default(),
        user: user.unwrap_or_default(),
        stdin: interactive,
        tty,
        size: if tty { size() } else { None },
        by: String::new(),
    };
    let (asks, asked) = mpsc::channel(WAITING);
    asks.send(ask(Asked::Start(start))).await?;
    let mut told = client.ask(client.jobs().exec(ReceiverStream::new(asked))).await?;
    let mut raw = None;
    if tty && interactive {
        raw = Some(Raw::enter()?);
    }
    if tty {
        drop(tasks::spawn("window", resizes(asks.clone())));
    }
    if interactive {
        let asks = asks.clone();
        drop(tokio::task::spawn_blocking(move || input(&asks)));
    }
    // Its end would be the end of what is typed.
    let _held = asks;
    let end = output(client, &mut told).await;
    drop(raw.take());
    let v1::ExecEnd { exit_code, reason } = end?;
    if !reason.is_empty() {
        say(format!("longshore: {reason}"));
    }
    Ok(exit_code)
}

fn ask(message: Asked) -> v1::ExecRequest {
    v1::ExecRequest { message: Some(message) }
}

/// `A=b`, or `A` as it is here.
fn variables(
    given: &[String],
    here: impl Fn(&str) -> Option<String>,
) -> Result<HashMap<String, String>, Failure> {
    let one = |text: &String| match text.split_once('=') {
        Some(("", _)) => Err(Failure::usage(format!("-e {text}: begins with `=`; write NAME=VALUE"))),
        Some((name, value)) => Ok(Some((name.to_owned(), value.to_owned()))),
        // As docker does: what is not set here is not set there.
        None => Ok(here(text).map(|value| (text.clone(), value))),
    };
    let all: Result<Vec<_>, _> = given.iter().map(one).collect();
    Ok(all?.into_iter().flatten().collect())
}

/// On a thread of its own: a read of a terminal ends when the person types.
fn input(asks: &mpsc::Sender<v1::ExecRequest>) {
    let mut stdin = std::io::stdin().lock();
    let mut piece = vec![0; PIECE / 2];
    loop {
        let message = match stdin.read(&mut piece) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => Asked::StdinEnd(v1::ExecStdinEnd {}),
            Ok(read) => Asked::Stdin(Bytes::copy_from_slice(&piece[..read])),
        };
        let last = matches!(message, Asked::StdinEnd(_));
        if asks.blocking_send(ask(message)).is_err() || last {
            return;
        }
    }
}

async fn resizes(asks: mpsc::Sender<v1::ExecRequest>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    while changes.recv().await.is_some() {
        if let Some(size) = size()
            && asks.send(ask(Asked::Resize(size))).await.is_err()
        {
            return;
        }
    }
}

/// Everything it says, to its end.
async fn output(
    client: &Client,
    told: &mut tonic::Streaming<v1::ExecResponse>,
) -> anyhow::Result<v1::ExecEnd> {
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    loop {
        let message = match told.message().await {
            Ok(Some(message)) => message.message,
            Ok(None) => return Err(lost().into()),
            Err(status) if is_lost(&status) => return Err(lost().into()),
            Err(status) => return Err(client.failure(&status).into()),
        };
        match message {
            Some(Told::Stdout(data)) => {
                stdout.write_all(&data)?;
                stdout.flush()?;
            }
            Some(Told::Stderr(data)) => {
                stderr.write_all(&data)?;
                stderr.flush()?;
            }
            Some(Told::End(end)) => return Ok(end),
            Some(Told::Started(_)) | None => {}
        }
    }
}

fn lost() -> Failure {
    Failure::with_code(
        code::PLATFORM,
        "the link to the controller broke; what was started has been ended with it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        exec: ExecArgs,
    }

    #[test]
    fn flags_end_at_the_command() {
        let line = |text: &str| Line::try_parse_from(text.split(' ')).map(|line| line.exec);
        let exec = line("x -it -e A=b -u 0 -w /tmp k3m9 sh -c ls").expect("parses");
        assert!(exec.interactive && exec.tty);
        assert_eq!(
            (exec.job.as_str(), exec.command),
            ("k3m9", ["sh", "-c", "ls"].map(str::to_owned).to_vec())
        );
        let exec = line("x k3m9 -- ls -t").expect("parses");
        assert_eq!((exec.tty, exec.command), (false, ["ls", "-t"].map(str::to_owned).to_vec()));
        assert!(line("x k3m9").is_err(), "nothing to start");
    }

    #[test]
    fn variables_are_given_or_copied() {
        let here = |name: &str| (name == "HERE").then(|| "1".to_owned());
        let read = variables(&["A=b=c".into(), "HERE".into(), "NOT".into()], here).expect("fine");
        let mut read: Vec<_> = read.into_iter().collect();
        read.sort();
        assert_eq!(read, [("A".into(), "b=c".into()), ("HERE".into(), "1".into())]);
        assert_eq!(variables(&["=x".into()], here).expect_err("no name").code, Some(code::USAGE));
    }
}
