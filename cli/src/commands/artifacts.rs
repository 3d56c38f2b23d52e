//! `longshore artifacts`: the files a job left in `/out`.

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{FormatArgs, Table, print, say, size, to_json};
use crate::transfer::download::{self, Fetched};
use clap::{Args, Subcommand};
use globset::{Glob, GlobSetBuilder};
use longshore_common::{
    units::{HumanDuration, plural},
    wire,
};
use longshore_proto::v1;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List them
    Ls(LsArgs),
    /// Fetch them, verified, into a folder
    Get(GetArgs),
    /// Print a link that opens them in any browser, for a while
    Link(LinkArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    job: String,
    /// Only paths that begin so
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
    /// Of this attempt instead of the last one
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    attempt: u32,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    job: String,
    /// Only these: a path, a folder or a glob
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
    /// Into this folder
    #[arg(long, default_value = ".", value_name = "DIR")]
    out: PathBuf,
    /// All of them as one tar archive with the top folder out/
    #[arg(long, conflicts_with = "paths")]
    archive: bool,
    /// Of this attempt instead of the last one
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    attempt: u32,
}

#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    job: String,
    /// Links to these files instead of the folder
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
    /// How long it is good: at most 7d, and never longer than the job is kept
    #[arg(long, value_name = "TIME", default_value = "4h")]
    expires: HumanDuration,
    /// Of this attempt instead of the last one
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    attempt: u32,
}

pub(crate) async fn run(client: &Client, command: Command, format: FormatArgs) -> anyhow::Result<i32> {
    match command {
        Command::Ls(args) => ls(client, args, format).await,
        Command::Get(args) if args.archive => archive(client, args, format).await,
        Command::Get(args) => get(client, args, format).await,
        Command::Link(args) => link(client, args, format).await,
    }
}

async fn ls(client: &Client, args: LsArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let (artifacts, _) = download::list(client, &args.job, args.attempt, &args.prefix).await?;
    if format.write(|| artifacts.iter().map(|artifact| to_json("Artifact", artifact)).collect())? {
        return Ok(0);
    }
    let mut table = Table::new(&["SIZE", "SHA256", "PATH"], &["PATH"]);
    for artifact in &artifacts {
        let digest =
            if format.is_wide() { hex::encode(&artifact.sha256) } else { download::short_digest(artifact) };
        table.row(vec![size(artifact.size), digest, shown(artifact)]);
    }
    print(&table.render())?;
    Ok(0)
}

async fn linked(client: &Client, request: v1::LinkResultsRequest) -> anyhow::Result<v1::LinkResultsResponse> {
    let call = || {
        let (mut jobs, request) = (client.jobs(), request.clone());
        async move { jobs.link_results(request).await }
    };
    Ok(client.ask_again(call).await?)
}

async fn link(client: &Client, args: LinkArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let request = v1::LinkResultsRequest {
        job: args.job,
        attempt: args.attempt,
        valid: Some(wire::duration_to(args.expires.0)),
        paths: args.paths.into_iter().map(|path| path.into_bytes().into()).collect(),
    };
    let answer = linked(client, request).await?;
    if format.write(|| to_json("LinkResultsResponse", &answer))? {
        return Ok(0);
    }
    let link = answer.link.unwrap_or_default();
    let lines = if answer.files.is_empty() { vec![link.folder, link.archive] } else { answer.files };
    print(&(lines.join("\n") + "\n"))?;
    Ok(0)
}

async fn archive(client: &Client, args: GetArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let request =
        v1::LinkResultsRequest { job: args.job.clone(), attempt: args.attempt, ..Default::default() };
    let link = linked(client, request).await?.link.unwrap_or_default();
    let target = args.out.join(format!("{}.tar", args.job.replace('/', "_")));
    let bytes = download::archive(client, &link.archive, &target).await?;
    let value = || json!({ "job": args.job, "archive": target.display().to_string(), "bytes": bytes });
    if !format.write(value)? {
        say(format!("{} → {}", size(bytes), target.display()));
    }
    Ok(0)
}

/// Names may hold anything; a terminal gets no control characters.
fn shown(artifact: &v1::Artifact) -> String {
    let name = String::from_utf8_lossy(&artifact.path);
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

async fn get(client: &Client, args: GetArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let request = v1::GetJobRequest { job: args.job.clone() };
    let call = || {
        let (mut jobs, request) = (client.jobs(), request.clone());
        async move { jobs.get(request).await }
    };
    let answer = client.ask_again(call).await?;
    if let Some(message) = not_stored_yet(&answer, args.attempt) {
        return Err(Failure::new(message).into());
    }
    let (mut artifacts, attempt) = download::list(client, &args.job, args.attempt, "").await?;
    if !args.paths.is_empty() {
        let wanted = matcher(&args.paths)?;
        artifacts.retain(|artifact| wanted(&artifact.path));
        if artifacts.is_empty() {
            let message = format!("{}: no artifact matches {}", args.job, args.paths.join(", "));
            return Err(Failure::usage(message).into());
        }
    }
    let fetched = download::all(client, &args.job, attempt, artifacts, &args.out).await?;
    let job = answer.job.unwrap_or_default().id;
    let value = || {
        json!({
            "job": job,
            "attempt": attempt,
            "out": args.out.display().to_string(),
            "files": fetched.files,
            "bytes": fetched.bytes,
            "already_here": fetched.kept,
        })
    };
    if !format.write(value)? {
        say(told(&job, fetched, &args.out));
    }
    Ok(0)
}

fn told(job: &str, fetched: Fetched, out: &Path) -> String {
    if fetched.files == 0 {
        return format!("job {job} left no files");
    }
    let files = plural(fetched.files, "file", "files");
    let kept = if fetched.kept > 0 { format!("  ({} already here)", fetched.kept) } else { String::new() };
    format!("{files} {} → {}  sha256 ok{kept}", size(fetched.bytes), out.display())
}

/// Why there can be no files yet: they are stored at an attempt's end.
fn not_stored_yet(answer: &v1::GetJobResponse, attempt: u32) -> Option<String> {
    let job = answer.job.as_ref()?;
    let (what, number) = match attempt {
        0 => (job.state, None),
        number => (answer.attempts.iter().find(|attempt| attempt.number == number)?.state, Some(number)),
    };
    let state = wire::job_state("state", what).ok().filter(|state| !state.is_terminal())?;
    let of = number.map_or_else(String::new, |number| format!("attempt {number} of "));
    let earlier = if attempt == 0 && job.attempts > 1 { "; --attempt N for an earlier one's" } else { "" };
    let id = &job.id;
    Some(format!(
        "{of}job {id} has not ended ({state}) and its files are stored at its end; longshore wait {id}{earlier}"
    ))
}

/// A path itself, all below a folder, or a glob.
fn matcher(paths: &[String]) -> anyhow::Result<impl Fn(&[u8]) -> bool + use<>> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut globs = GlobSetBuilder::new();
    for path in paths {
        globs.add(Glob::new(path).map_err(|error| Failure::usage(format!("`{path}`: {}", error.kind())))?);
    }
    let globs = globs.build()?;
    let plain: Vec<_> = paths.iter().map(|path| path.trim_end_matches('/').as_bytes().to_vec()).collect();
    Ok(move |name: &[u8]| {
        let below = |folder: &Vec<u8>| {
            name.strip_prefix(folder.as_slice()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        plain.iter().any(below) || globs.is_match(std::ffi::OsStr::from_bytes(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::job::JobState;

    #[test]
    fn files_of_what_has_not_ended_are_refused() {
        let job = |state| v1::Job {
            id: "k3m9q2xw".into(),
            state: v1::JobState::from(state) as i32,
            attempts: 2,
            ..v1::Job::default()
        };
        let attempt = |number, state| v1::Attempt {
            number,
            state: v1::JobState::from(state) as i32,
            ..v1::Attempt::default()
        };
        let running = v1::GetJobResponse {
            job: Some(job(JobState::Running)),
            attempts: vec![attempt(1, JobState::Failed), attempt(2, JobState::Running)],
            ..v1::GetJobResponse::default()
        };
        let message = not_stored_yet(&running, 0).expect("refused");
        assert!(
            message.contains("job k3m9q2xw has not ended (running)") && message.contains("--attempt"),
            "{message}"
        );
        assert!(not_stored_yet(&running, 2).is_some());
        assert_eq!(not_stored_yet(&running, 1), None);
        let ended = v1::GetJobResponse { job: Some(job(JobState::Failed)), ..v1::GetJobResponse::default() };
        assert_eq!(not_stored_yet(&ended, 0), None);
        assert_eq!(told("k3m9q2xw", Fetched::default(), Path::new(".")), "job k3m9q2xw left no files");
    }

    #[test]
    fn paths_folders_and_globs_select() {
        let wanted = matcher(&["a/b.txt".into(), "ckpt/".into(), "*.csv".into()]).expect("good globs");
        for yes in [&b"a/b.txt"[..], b"ckpt/1/x", b"x.csv", b"deep/x.csv"] {
            assert!(wanted(yes), "{}", String::from_utf8_lossy(yes));
        }
        for no in [&b"a/b.txt2"[..], b"ckpt2/x", b"x.json"] {
            assert!(!wanted(no), "{}", String::from_utf8_lossy(no));
        }
        assert!(matcher(&["[".into()]).is_err());
    }
}
