//! `longshore triggers`: what starts jobs by itself.

use crate::client::Client;
use crate::commands::request_id;
use crate::failure::Failure;
use crate::output::{FormatArgs, Table, age, print, say, to_json};
use clap::{Args, Subcommand};
use longshore_common::trigger::{self, When};
use longshore_common::{wire, wire::submitted_trigger};
use longshore_proto::v1;
use std::io::Read as _;
use std::path::{Path, PathBuf};

mod show;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the triggers of a file, or change those of the same name
    Apply(ApplyArgs),
    /// List them
    Ls,
    /// Everything about one
    Show(NameArgs),
    /// What became of each time one fired
    History(HistoryArgs),
    /// Let one fire; it goes on from now
    Enable(NameArgs),
    /// Let one fire no more
    Disable(NameArgs),
    /// Fire one by hand
    Fire(FireArgs),
    /// Let one fire in your name
    Adopt(NameArgs),
    /// The secret of a webhook
    Secret(SecretArgs),
    /// Remove some; their jobs stay
    Rm(RemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// A file with documents of `kind: trigger`, YAML or JSON; - is stdin
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    name: String,
    /// The latest so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    lines: u32,
}

#[derive(Debug, Args)]
pub(crate) struct FireArgs {
    name: String,
    /// What happened, as JSON; @FILE reads a file
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// The same id again is the same firing
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SecretArgs {
    name: String,
    /// Make a new one; the former is refused from now on
    #[arg(long, required = true)]
    rotate: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[arg(required = true)]
    names: Vec<String>,
}

pub(crate) async fn run(client: &Client, command: Command, format: FormatArgs) -> anyhow::Result<i32> {
    match command {
        Command::Apply(args) => apply(client, args, format).await,
        Command::Ls => ls(client, format).await,
        Command::Show(args) => show::show(client, &args.name, format).await,
        Command::History(args) => history(client, args, format).await,
        Command::Enable(args) => switch(client, args, true, format).await,
        Command::Disable(args) => switch(client, args, false, format).await,
        Command::Fire(args) => fire(client, args, format).await,
        Command::Adopt(NameArgs { name }) => {
            let request = v1::AdoptTriggerRequest { project: project(client), name };
            let answer = client.ask(client.triggers().adopt(request)).await?;
            changed(answer.trigger, format, |trigger| {
                format!("trigger {} fires in the name of token {}", name_of(trigger), trigger.owner)
            })
        }
        Command::Secret(args) => rotate(client, args, format).await,
        Command::Rm(args) => {
            for name in args.names {
                let request = v1::RemoveTriggerRequest { project: project(client), name: name.clone() };
                client.ask(client.triggers().remove(request)).await?;
                say(format!("trigger {name} is removed"));
            }
            Ok(0)
        }
    }
}

fn project(client: &Client) -> String {
    client.project().to_owned()
}

fn name_of(trigger: &v1::Trigger) -> &str {
    trigger.spec.as_ref().map_or("", |spec| &spec.name)
}

async fn apply(client: &Client, args: ApplyArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let (text, source) = read(&args.file)?;
    let specs = trigger::file::parse(&text, &source).map_err(|error| Failure::usage(error.to_string()))?;
    let request = v1::ApplyTriggersRequest {
        project: project(client),
        triggers: specs.iter().map(v1::TriggerSpec::from).collect(),
        dry_run: args.dry_run,
    };
    let applied = client.ask(client.triggers().apply(request)).await?.triggers;
    if format.write(|| applied.iter().map(|one| to_json("AppliedTrigger", one)).collect())? {
        return Ok(0);
    }
    for one in &applied {
        let trigger = one.trigger.clone().unwrap_or_default();
        let fields =
            if one.changed.is_empty() { String::new() } else { format!(": {}", one.changed.join(", ")) };
        let would = if args.dry_run { "would be " } else { "" };
        say(format!("trigger {} {would}{}{fields}", name_of(&trigger), one.change));
        if !args.dry_run && !trigger.enabled {
            say(format!("  it is disabled: longshore triggers enable {}", name_of(&trigger)));
        }
        if !one.secret.is_empty() {
            say(format!("  POST {}", trigger.hook_url));
            say("  its secret, shown this once:");
            print(&format!("{}\n", one.secret))?;
        }
    }
    Ok(0)
}

async fn ls(client: &Client, format: FormatArgs) -> anyhow::Result<i32> {
    let mut request = v1::ListTriggersRequest { project: project(client), ..Default::default() };
    let mut all = Vec::new();
    loop {
        let call = || {
            let (mut api, request) = (client.triggers(), request.clone());
            async move { api.list(request).await }
        };
        let page = client.ask_again(call).await?;
        all.extend(page.triggers);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if format.write(|| all.iter().map(|trigger| to_json("Trigger", trigger)).collect())? {
        return Ok(0);
    }
    let header = &["NAME", "WHEN", "STARTS", "STATE", "LAST", "RESULT", "OWNER"];
    let mut table = Table::new(header, &["RESULT", "WHEN", "STARTS"]).spare(&["OWNER", "STARTS"]);
    for trigger in &all {
        let spec = trigger.spec.clone().map(submitted_trigger);
        let (when, starts) = match &spec {
            Some(Ok(spec)) => (show::when(&spec.when), show::starts(&spec.run)),
            _ => (String::new(), String::new()),
        };
        let last = trigger.last.as_ref();
        table.row(vec![
            name_of(trigger).to_owned(),
            when,
            starts,
            show::state(trigger).to_owned(),
            last.map_or_else(|| "-".to_owned(), |last| format!("{} ago", age(last.at.as_ref()))),
            last.map_or_else(String::new, show::result),
            trigger.owner.clone(),
        ]);
    }
    print(&table.render())?;
    Ok(0)
}

async fn history(client: &Client, args: HistoryArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let mut firings = Vec::new();
    let mut page_token = String::new();
    loop {
        let left = args.lines.saturating_sub(u32::try_from(firings.len()).unwrap_or(u32::MAX));
        let request = v1::ListFiringsRequest {
            project: project(client),
            name: args.name.clone(),
            page_size: left.clamp(1, 500),
            page_token,
        };
        let call = || {
            let (mut api, request) = (client.triggers(), request.clone());
            async move { api.list_firings(request).await }
        };
        let answer = client.ask_again(call).await?;
        firings.extend(answer.firings);
        page_token = answer.next_page_token;
        if page_token.is_empty() || firings.len() >= args.lines as usize {
            break;
        }
    }
    if format.write(|| firings.iter().map(|firing| to_json("TriggerFiring", firing)).collect())? {
        return Ok(0);
    }
    let mut table = Table::new(&["AT", "KIND", "CAUSE", "RESULT"], &["RESULT", "CAUSE"]);
    for firing in &firings {
        let at = firing.at.as_ref().map(|at| wire::timestamp_from(at).to_rfc3339()).unwrap_or_default();
        table.row(vec![at, firing.kind.clone(), firing.cause.clone(), show::result(firing)]);
    }
    print(&table.render())?;
    Ok(0)
}

async fn switch(client: &Client, args: NameArgs, enabled: bool, format: FormatArgs) -> anyhow::Result<i32> {
    let request = v1::SetTriggerEnabledRequest { project: project(client), name: args.name, enabled };
    let answer = client.ask(client.triggers().set_enabled(request)).await?;
    let word = if enabled { "enabled" } else { "disabled" };
    changed(answer.trigger, format, |trigger| format!("trigger {} is {word}", name_of(trigger)))
}

fn changed(
    trigger: Option<v1::Trigger>,
    format: FormatArgs,
    line: impl FnOnce(&v1::Trigger) -> String,
) -> anyhow::Result<i32> {
    let trigger = trigger.unwrap_or_default();
    if !format.write(|| to_json("Trigger", &trigger))? {
        say(line(&trigger));
        if !trigger.owner_problem.is_empty() {
            say(format!("  it does not fire: {}", trigger.owner_problem));
        }
    }
    Ok(0)
}

async fn fire(client: &Client, args: FireArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let payload = match args.payload.as_deref().map(|text| (text, text.strip_prefix('@'))) {
        None => String::new(),
        Some((_, Some(file))) => read(Path::new(file))?.0,
        Some((text, None)) => text.to_owned(),
    };
    let request = v1::FireTriggerRequest {
        project: project(client),
        name: args.name,
        payload,
        request_id: args.request_id.unwrap_or_else(request_id),
    };
    let call = || {
        let (mut api, request) = (client.triggers(), request.clone());
        async move { api.fire(request).await }
    };
    let firing = client.ask_again(call).await?.firing.unwrap_or_default();
    if format.write(|| to_json("TriggerFiring", &firing))? {
        return Ok(0);
    }
    match firing.state() {
        v1::FiringState::Fired => print(&format!("{}\n", firing.job))?,
        v1::FiringState::Pending => say(format!("it waits: {}", firing.reason)),
        _ => return Err(Failure::new(show::result(&firing)).into()),
    }
    Ok(0)
}

async fn rotate(client: &Client, args: SecretArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let request = v1::RotateTriggerSecretRequest { project: project(client), name: args.name };
    let answer = client.ask(client.triggers().rotate_secret(request)).await?;
    if !format.write(|| to_json("RotateTriggerSecretResponse", &answer))? {
        let trigger = answer.trigger.unwrap_or_default();
        say(format!(
            "the new secret of {}, shown this once; the former is refused from now on:",
            name_of(&trigger)
        ));
        print(&format!("{}\n", answer.secret))?;
    }
    Ok(0)
}

fn read(file: &Path) -> Result<(String, String), Failure> {
    let unreadable = |error: std::io::Error| Failure::usage(format!("{}: {error}", file.display()));
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(unreadable)?;
        return Ok((text, "stdin".to_owned()));
    }
    Ok((std::fs::read_to_string(file).map_err(unreadable)?, file.display().to_string()))
}

/// What a schedule says in a column.
fn clock(when: &When) -> Option<String> {
    match when {
        When::Cron(cron) => Some(format!("{} {}", cron.schedule, cron.time_zone)),
        _ => None,
    }
}
