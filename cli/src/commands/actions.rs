//! `longshore actions`: named, versioned definitions, from the first file to the advice after a hundred runs.

mod advise;
mod init;
mod show;

use super::run::{self, RunArgs};
use super::{request_id, submit};
use crate::client::Client;
use crate::failure::{Failure, code};
use crate::output::{FormatArgs, Table, age, print, say, to_json};
use clap::{Args, Subcommand};
use longshore_common::action::ActionRef;
use longshore_common::job::file;
use longshore_proto::v1;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a first action into a folder: a file to apply, a Dockerfile and what it runs
    Init(init::InitArgs),
    /// Make the actions of a file, or their next versions; the same again changes nothing
    Apply(ApplyArgs),
    /// List actions
    Ls(LsArgs),
    /// One action: what it runs and what a run can say; -o yaml prints what apply takes
    Show(NameArgs),
    /// The versions of an action, newest first
    Versions(NameArgs),
    /// What differs between two versions
    Diff(DiffArgs),
    /// Let no new jobs be made of it; nothing is lost
    Archive(NameArgs),
    /// Bring an archived one back; NAME@V makes that version's definition the latest again
    Restore(NameArgs),
    /// Run an action and follow it to its end: the same as `longshore run @NAME`
    Run(Box<RunArgs>),
    /// What to ask for next time, by what its jobs used
    Advise(NameArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// An action file, YAML or JSON; - is stdin
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Say what would change; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Only if this is the latest version; 0: only if there is none
    #[arg(long, value_name = "V")]
    if_version: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Archived ones too
    #[arg(short, long)]
    all: bool,
    /// Only actions with this label
    #[arg(long, value_name = "NAME=VALUE", value_parser = run::pair)]
    label: Vec<(String, String)>,
    /// Names alone
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    #[arg(value_name = "NAME[@V]")]
    action: ActionRef,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[arg(value_name = "NAME")]
    action: ActionRef,
    /// [default: the one before TO]
    from: Option<u32>,
    /// [default: the latest]
    to: Option<u32>,
}

pub(crate) async fn run(client: &Client, command: Command, format: FormatArgs) -> anyhow::Result<i32> {
    match command {
        Command::Init(args) => init::run(&args),
        Command::Apply(args) => Box::pin(apply(client, args, format)).await,
        Command::Ls(args) => ls(client, args, format).await,
        Command::Show(args) => show::run(client, args.action, format).await,
        Command::Versions(args) => versions(client, args.action.name, format).await,
        Command::Diff(args) => diff(client, args, format).await,
        Command::Archive(args) => archive(client, args.action, format).await,
        Command::Restore(args) => restore(client, args.action, format).await,
        Command::Run(mut args) => {
            if let Some(name) = args.words.first_mut().filter(|name| !name.starts_with('@')) {
                name.insert(0, '@');
            }
            Box::pin(run::run(client, *args, format)).await
        }
        Command::Advise(args) => advise::run(client, args.action, format).await,
    }
}

/// One version, the latest if none is named.
async fn get(client: &Client, action: &ActionRef) -> Result<v1::Action, Failure> {
    let request = v1::GetActionRequest {
        project: client.project().to_owned(),
        name: action.name.clone(),
        version: action.version.unwrap_or_default(),
    };
    let call = || {
        let (mut actions, request) = (client.actions(), request.clone());
        async move { actions.get(request).await }
    };
    answered(client.ask_again(call).await?.action)
}

fn answered(action: Option<v1::Action>) -> Result<v1::Action, Failure> {
    action.ok_or_else(|| Failure::new("the controller answered without an action"))
}

async fn apply(client: &Client, args: ApplyArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let (text, _) = submit::read(&args.file)?;
    let source =
        if args.file == Path::new("-") { "stdin".to_owned() } else { args.file.display().to_string() };
    let actions = file::parse_actions(&text, &source).map_err(|error| Failure::usage(error.to_string()))?;
    if args.if_version.is_some() && actions.len() > 1 {
        return Err(Failure::usage("--if-version goes with a file of one action").into());
    }
    let (mut applied, mut refused) = (Vec::new(), Vec::new());
    for action in actions {
        let request = v1::ApplyActionRequest {
            request_id: request_id(),
            project: client.project().to_owned(),
            spec: Some((&action).into()),
            dry_run: args.dry_run,
            if_version: args.if_version,
        };
        let call = || {
            let (mut actions, request) = (client.actions(), request.clone());
            async move { actions.apply(request).await }
        };
        match Box::pin(client.ask_again(call)).await {
            Ok(answer) => applied.push(answer),
            Err(failure) => refused.push((action.name, failure)),
        }
    }
    if !format.write(|| applied.iter().map(|one| to_json("ApplyActionResponse", one)).collect())? {
        print(&applied.iter().map(|one| outcome(one, args.dry_run)).collect::<String>())?;
    }
    for (name, failure) in &refused {
        for line in failure.message.lines() {
            say(format!("longshore: {name}: {line}"));
        }
    }
    Ok(refused.first().map_or(0, |(_, failure)| failure.code.unwrap_or(code::FAILED)))
}

fn outcome(applied: &v1::ApplyActionResponse, dry: bool) -> String {
    let action = applied.action.clone().unwrap_or_default();
    let name = label(&action);
    let what = match (applied.changed, dry) {
        (false, _) => "unchanged",
        (true, true) => "would be made",
        (true, false) => "made",
    };
    let mut text = format!("{name} {what}\n");
    if dry || action.version > 1 {
        text.push_str(&changes(&applied.changes));
    }
    text
}

/// A line for each field.
fn changes(changes: &[v1::ActionChange]) -> String {
    let shown = |value: &Option<String>| match value {
        Some(value) => value.trim_end().replace('\n', "\\n"),
        None => "(not said)".to_owned(),
    };
    let line = |change: &v1::ActionChange| {
        format!("  {}: {} → {}\n", change.path, shown(&change.old), shown(&change.new))
    };
    changes.iter().map(line).collect()
}

fn label(action: &v1::Action) -> String {
    let name = action.spec.as_ref().map_or("", |spec| spec.name.as_str());
    format!("{name}@{}", action.version)
}

async fn ls(client: &Client, args: LsArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let mut request = v1::ListActionsRequest {
        project: client.project().to_owned(),
        archived: args.all,
        labels: args.label.into_iter().collect(),
        ..v1::ListActionsRequest::default()
    };
    let mut actions = Vec::new();
    loop {
        let call = || {
            let (mut api, request) = (client.actions(), request.clone());
            async move { api.list(request).await }
        };
        let page = client.ask_again(call).await?;
        actions.extend(page.actions);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let name = |action: &v1::Action| action.spec.as_ref().map_or_else(String::new, |spec| spec.name.clone());
    if args.quiet {
        if !format.write(|| actions.iter().map(name).collect())? {
            print(&actions.iter().map(|action| format!("{}\n", name(action))).collect::<String>())?;
        }
        return Ok(0);
    }
    if format.write(|| actions.iter().map(|action| to_json("Action", action)).collect())? {
        return Ok(0);
    }
    let header = ["NAME", "VERSION", "IMAGE", "JOBS", "SUCCEEDED", "FAILED", "USED", "BY", "ABOUT"];
    let mut table = Table::new(&header, &["ABOUT", "IMAGE", "NAME", "BY"]).spare(&[
        "BY",
        "FAILED",
        "SUCCEEDED",
        "USED",
        "JOBS",
        "IMAGE",
        "ABOUT",
    ]);
    for action in &actions {
        let spec = action.spec.clone().unwrap_or_default();
        let archived = if action.archived_at.is_some() { "(archived) " } else { "" };
        let about = format!("{archived}{}", spec.description.lines().next().unwrap_or_default());
        let mut row = vec![spec.name.clone(), action.version.to_string(), image(action)];
        row.extend(usage(action));
        row.extend([action.created_by.clone(), about]);
        table.row(row);
    }
    print(&table.render())?;
    Ok(0)
}

fn image(action: &v1::Action) -> String {
    let job = action.spec.as_ref().and_then(|spec| spec.job.as_ref());
    job.map_or_else(String::new, |job| job.image.clone())
}

/// Jobs, how they ended, and when the last one was made.
fn usage(action: &v1::Action) -> [String; 4] {
    let usage = action.usage.unwrap_or_default();
    let used = usage.used_at.as_ref().map_or_else(String::new, |at| format!("{} ago", age(Some(at))));
    [usage.jobs.to_string(), usage.succeeded.to_string(), usage.failed.to_string(), used]
}

async fn versions(client: &Client, name: String, format: FormatArgs) -> anyhow::Result<i32> {
    let mut request = v1::ListActionVersionsRequest {
        project: client.project().to_owned(),
        name,
        ..v1::ListActionVersionsRequest::default()
    };
    let mut versions = Vec::new();
    loop {
        let call = || {
            let (mut api, request) = (client.actions(), request.clone());
            async move { api.list_versions(request).await }
        };
        let page = client.ask_again(call).await?;
        versions.extend(page.versions);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if format.write(|| versions.iter().map(|version| to_json("Action", version)).collect())? {
        return Ok(0);
    }
    let header = ["VERSION", "AGE", "BY", "IMAGE", "JOBS", "SUCCEEDED", "FAILED", "USED", "NOTE"];
    let mut table =
        Table::new(&header, &["NOTE", "IMAGE", "BY"]).spare(&["BY", "FAILED", "SUCCEEDED", "USED"]);
    for version in &versions {
        let age = age(version.created_at.as_ref());
        let mut row = vec![version.version.to_string(), age, version.created_by.clone(), image(version)];
        row.extend(usage(version));
        row.push(note(version));
        table.row(row);
    }
    print(&table.render())?;
    Ok(0)
}

fn note(version: &v1::Action) -> String {
    let mut notes = Vec::new();
    if version.version == version.latest {
        notes.push(if version.archived_at.is_some() { "latest, archived" } else { "latest" }.to_owned());
    }
    if version.restored_from > 0 {
        notes.push(format!("as {} was", version.restored_from));
    }
    notes.join(", ")
}

async fn diff(client: &Client, args: DiffArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let request = v1::DiffActionRequest {
        project: client.project().to_owned(),
        to: args.to.or(args.action.version).unwrap_or_default(),
        name: args.action.name,
        from: args.from.unwrap_or_default(),
    };
    let name = request.name.clone();
    let call = || {
        let (mut api, request) = (client.actions(), request.clone());
        async move { api.diff(request).await }
    };
    let diff = client.ask_again(call).await?;
    if !format.write(|| to_json("DiffActionResponse", &diff))? {
        say(format!("{name}: from version {} to {}", diff.from, diff.to));
        print(&changes(&diff.changes))?;
    }
    Ok(0)
}

async fn archive(client: &Client, action: ActionRef, format: FormatArgs) -> anyhow::Result<i32> {
    if action.version.is_some() {
        let name = &action.name;
        return Err(
            Failure::usage(format!("an action is archived with all its versions: archive {name}")).into()
        );
    }
    let request = v1::ArchiveActionRequest {
        request_id: request_id(),
        project: client.project().to_owned(),
        name: action.name,
    };
    let call = || {
        let (mut api, request) = (client.actions(), request.clone());
        async move { api.archive(request).await }
    };
    let archived = answered(client.ask_again(call).await?.action)?;
    if !format.write(|| to_json("Action", &archived))? {
        let spec = archived.spec.unwrap_or_default();
        say(format!("{0} is archived; `longshore actions restore {0}` brings it back", spec.name));
    }
    Ok(0)
}

async fn restore(client: &Client, action: ActionRef, format: FormatArgs) -> anyhow::Result<i32> {
    let request = v1::RestoreActionRequest {
        request_id: request_id(),
        project: client.project().to_owned(),
        name: action.name,
        version: action.version.unwrap_or_default(),
    };
    let call = || {
        let (mut api, request) = (client.actions(), request.clone());
        async move { api.restore(request).await }
    };
    let answer = client.ask_again(call).await?;
    if !format.write(|| to_json("RestoreActionResponse", &answer))? {
        let restored = answered(answer.action)?;
        let what = if answer.changed { "is the latest now" } else { "is the latest, as it was" };
        say(format!("{} {what}", label(&restored)));
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_apply_did_is_one_line_and_its_changes() {
        let change = |path: &str, old: Option<&str>, new: Option<&str>| v1::ActionChange {
            path: path.into(),
            old: old.map(Into::into),
            new: new.map(Into::into),
        };
        let action = v1::Action {
            spec: Some(v1::ActionSpec { name: "convert".into(), ..Default::default() }),
            version: 2,
            ..Default::default()
        };
        let mut applied = v1::ApplyActionResponse {
            action: Some(action),
            changed: true,
            changes: vec![change("image", Some("a:1"), Some("a:2")), change("pool", None, Some("big"))],
        };
        assert_eq!(
            outcome(&applied, false),
            "convert@2 made\n  image: a:1 → a:2\n  pool: (not said) → big\n"
        );
        assert!(outcome(&applied, true).starts_with("convert@2 would be made\n"));
        applied.changed = false;
        applied.changes.clear();
        assert_eq!(outcome(&applied, false), "convert@2 unchanged\n");
    }
}
