//! `longshore login`, `logout`, `contexts` and `whoami`: which controllers this person knows, and as whom.

use crate::client::Client;
use crate::contexts::{Context, Contexts, Target, TargetArgs, read_ca};
use crate::failure::Failure;
use crate::output::{FormatArgs, Table, print, say, to_json};
use anyhow::Context as _;
use clap::Args;
use longshore_proto::v1;
use std::io::Read as _;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The controller's address [default: as for every command]
    #[arg(value_name = "URL")]
    address: Option<String>,
    /// Read the token from here [default: asked for, or read from stdin]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// What to call it [default: the address's host]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// The context to forget [default: the current one]
    name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ContextsArgs {
    /// Make this one current
    #[arg(long = "use", value_name = "NAME")]
    current: Option<String>,
}

pub(crate) async fn login(args: LoginArgs, target: &TargetArgs) -> anyhow::Result<i32> {
    let mut contexts = Contexts::load()?;
    let known =
        contexts.target(&TargetArgs { url: args.address.or(target.url.clone()), ..target.clone() })?;
    let url = known.url.trim_end_matches('/').to_owned();
    let parsed = url::Url::parse(&url).ok().and_then(|url| Some(url.host_str()?.to_owned()));
    let name = args.name.or(target.context.clone()).or(parsed).unwrap_or_else(|| url.clone());
    let token = match (&target.token, &args.token_file) {
        (Some(token), _) if !token.is_empty() => token.clone(),
        (_, Some(file)) => {
            let text = std::fs::read_to_string(file);
            text.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?
        }
        _ => ask(&url)?,
    };
    let context = Context {
        token: token.trim().to_owned(),
        project: target.project.clone().unwrap_or_default(),
        ca: target.ca_file.as_deref().map(read_ca).transpose()?.or(known.ca),
        plain_text: known.plain_text,
        url,
    };
    let Context { url, token, project, ca, plain_text } = context.clone();
    let who = whoami_of(&Client::new(&Target { url, token, project, ca, plain_text })?).await?;
    contexts.contexts.insert(name.clone(), context);
    contexts.current = Some(name.clone());
    let path = contexts.save()?;
    say(format!("logged in as {} ({}); kept as `{name}` in {}", who.name, describe(&who), path.display()));
    Ok(0)
}

pub(crate) fn logout(args: LogoutArgs) -> anyhow::Result<i32> {
    let mut contexts = Contexts::load()?;
    let name = args.name.or(contexts.current.clone());
    let name = name.ok_or_else(|| Failure::usage("no context is current; name one"))?;
    if contexts.contexts.remove(&name).is_none() {
        return Err(Failure::usage(format!("no context `{name}`; `longshore contexts` lists all")).into());
    }
    contexts.current = contexts.current.filter(|current| *current != name);
    contexts.save()?;
    say(format!("forgot `{name}`; its token still works: `longshore tokens revoke` ends it"));
    Ok(0)
}

pub(crate) fn contexts(args: ContextsArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let mut contexts = Contexts::load()?;
    if let Some(name) = args.current {
        if !contexts.contexts.contains_key(&name) {
            let message = format!("no context `{name}`; `longshore contexts` lists all");
            return Err(Failure::usage(message).into());
        }
        contexts.current = Some(name);
        contexts.save()?;
    }
    let is_current = |name: &str| contexts.current.as_deref() == Some(name);
    let json = || {
        let one = |(name, context): (&String, &Context)| {
            let (url, project) = (&context.url, &context.project);
            serde_json::json!({"name": name, "url": url, "project": project, "current": is_current(name)})
        };
        contexts.contexts.iter().map(one).collect()
    };
    if !format.write(json)? {
        let mut table = Table::new(&["CURRENT", "NAME", "URL", "PROJECT"], &["URL"]);
        for (name, context) in &contexts.contexts {
            let mark = if is_current(name) { "*" } else { "" };
            table.row(vec![mark.to_owned(), name.clone(), context.url.clone(), context.project.clone()]);
        }
        print(&table.render())?;
    }
    Ok(0)
}

pub(crate) async fn whoami(client: &Client, format: FormatArgs) -> anyhow::Result<i32> {
    let who = whoami_of(client).await?;
    if !format.write(|| to_json("Token", &who))? {
        print(&format!("{} ({}) at {}\n", who.name, describe(&who), client.url()))?;
    }
    Ok(0)
}

async fn whoami_of(client: &Client) -> Result<v1::Token, Failure> {
    let call = || {
        let mut api = client.access();
        async move { api.who_am_i(v1::WhoAmIRequest {}).await }
    };
    let token = client.ask_again(call).await?.token;
    token.ok_or_else(|| Failure::new("the controller does not say who this is"))
}

fn describe(token: &v1::Token) -> String {
    let project = if token.project.is_empty() { "all projects" } else { &token.project };
    format!("{}, {project}", super::tokens::role_name(token.role))
}

/// Without an echo on a terminal; else stdin's first line.
fn ask(url: &str) -> anyhow::Result<String> {
    let terminal = console::Term::stderr();
    if terminal.is_term() {
        terminal.write_str(&format!("token for {url}: "))?;
        return terminal.read_secure_line().context("the token cannot be read");
    }
    let mut text = String::new();
    std::io::stdin().take(4096).read_to_string(&mut text).context("the token cannot be read from stdin")?;
    if text.trim().is_empty() {
        let message = "no token: give it on stdin, with --token-file, or as LONGSHORE_TOKEN";
        return Err(Failure::usage(message).into());
    }
    Ok(text)
}
