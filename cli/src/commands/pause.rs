//! `longshore pause` and `resume`: nothing new begins, anywhere or in one project.

use super::{projects, request_id};
use crate::client::Client;
use crate::output::{FormatArgs, say, to_json};
use clap::Args;
use longshore_proto::v1;

#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// Why, for everybody who waits
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

#[derive(Debug, Args)]
pub(crate) struct PauseProjectArgs {
    name: String,
    #[command(flatten)]
    pause: PauseArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeProjectArgs {
    name: String,
}

pub(crate) async fn all(client: &Client, args: PauseArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let request = v1::PauseRequest { note: args.note, request_id: request_id() };
    let paused = client.ask(client.cluster().pause(request)).await?.paused.unwrap_or_default();
    if !format.write(|| to_json("Pause", &paused))? {
        say(
            "all projects are paused: jobs are taken and wait, what runs goes on; `longshore resume` ends it",
        );
    }
    Ok(0)
}

pub(crate) async fn resume_all(client: &Client) -> anyhow::Result<i32> {
    client.ask(client.cluster().resume(v1::ResumeRequest { request_id: request_id() })).await?;
    say("jobs begin again, but for those of projects that are paused themselves");
    Ok(0)
}

pub(super) async fn project(
    client: &Client,
    args: PauseProjectArgs,
    format: FormatArgs,
) -> anyhow::Result<i32> {
    let request =
        v1::PauseProjectRequest { project: args.name, note: args.pause.note, request_id: request_id() };
    let project = client.ask(client.projects().pause(request)).await?.project.unwrap_or_default();
    projects::show(&project, format)
}

pub(super) async fn resume_project(
    client: &Client,
    args: ResumeProjectArgs,
    format: FormatArgs,
) -> anyhow::Result<i32> {
    let request = v1::ResumeProjectRequest { project: args.name, request_id: request_id() };
    let project = client.ask(client.projects().resume(request)).await?.project.unwrap_or_default();
    projects::show(&project, format)
}
