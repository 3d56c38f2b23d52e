//! `longshore check`: what is missing on this machine to run an agent, and how to mend it. Changes nothing.

mod engine;
mod gpus;
mod machine;

use crate::client::{Client, DEFAULT_URL};
use crate::contexts::{Contexts, TargetArgs};
use crate::daemon::{ConfigArgs, flag};
use crate::failure::{Failure, code};
use crate::output::{FormatArgs, print};
use clap::Args;
use longshore_agent::AgentConfig;
use longshore_proto::v1;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where the agent would keep its things
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Only compare what is read of the GPUs with what nvidia-smi says, field by field
    #[arg(long)]
    gpus: bool,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    name: &'static str,
    verdict: Verdict,
    /// What it is, or what is wrong with it.
    detail: String,
    /// What to type or to do, one line each.
    mend: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Works, and somebody should know.
    Note,
    Bad,
}

impl Finding {
    fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Good, detail: detail.into(), mend: Vec::new() }
    }

    fn note(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Note, detail: detail.into(), mend: Vec::new() }
    }

    fn bad(name: &'static str, detail: impl Into<String>, mend: &[&str]) -> Self {
        let mend = mend.iter().map(|line| (*line).to_owned()).collect();
        Self { name, verdict: Verdict::Bad, detail: detail.into(), mend }
    }
}

pub(crate) async fn run(client: &Client, args: CheckArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let flags = flag("--data-dir", "data_dir", args.data_dir.as_ref()).into_iter().collect();
    let Some(config) =
        args.config.load::<AgentConfig>(super::agent::FILE, flags, &super::agent::example())?
    else {
        return Ok(0);
    };
    if args.gpus {
        return tokio::task::spawn_blocking(move || gpus::run(&config, format)).await?;
    }
    let mut findings = engine::check(&config).await;
    let has_driver = machine::check(&config, &mut findings);
    if has_driver {
        findings.extend(engine::check_gpus(&config).await);
    }
    findings.push(controller(client, &config).await);
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count();
    if !format.write(|| findings.iter().map(as_json).collect())? {
        print(&text(&findings))?;
    }
    Ok(if bad > 0 { code::FAILED } else { 0 })
}

fn client_of(url: &str) -> Result<Client, Failure> {
    let args = TargetArgs { url: Some(url.to_owned()), ..TargetArgs::default() };
    Client::new(&Contexts::load()?.target(&args)?)
}

async fn controller(client: &Client, config: &AgentConfig) -> Finding {
    let name = "controller";
    // The agent's own settings win over this command's default, for it is the agent that will call.
    let other = if config.controller == DEFAULT_URL { None } else { client_of(&config.controller).ok() };
    let client = other.as_ref().unwrap_or(client);
    match client.cluster().status(v1::StatusRequest {}).await {
        Ok(status) => {
            let status = status.into_inner();
            let ill: Vec<_> =
                status.parts.iter().filter(|part| !part.healthy).map(|part| part.name.as_str()).collect();
            if ill.is_empty() {
                Finding::good(name, format!("longshore {} at {}", status.version, client.url()))
            } else {
                Finding::bad(
                    name,
                    format!("{} is ill: {}", client.url(), ill.join(", ")),
                    &["longshore status"],
                )
            }
        }
        Err(status) if status.code() == tonic::Code::Unauthenticated => {
            Finding::good(name, format!("answers at {}; log in to see how it is", client.url()))
        }
        Err(status) => {
            let mend = [
                "start one with `longshore controller` or `longshore dev`",
                "or name it with --url or LONGSHORE_URL",
            ];
            Finding::bad(name, format!("{} does not answer: {}", client.url(), status.message()), &mend)
        }
    }
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Good => "✓",
            Verdict::Note => "!",
            Verdict::Bad => "✗",
        };
        text.push_str(&format!("{mark} {:<11} {}\n", finding.name, finding.detail));
        for line in &finding.mend {
            text.push_str(&format!("    → {line}\n"));
        }
    }
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count();
    let last = if bad == 0 { "ready".to_owned() } else { format!("{bad} to mend") };
    text.push_str(&format!("{last}\n"));
    text
}

fn as_json(finding: &Finding) -> serde_json::Value {
    json!({
        "name": finding.name,
        "ok": finding.verdict != Verdict::Bad,
        "detail": finding.detail,
        "mend": finding.mend,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_comes_with_what_to_do() {
        let findings = [
            Finding::good("docker", "20.10"),
            Finding::note("gpu", "none"),
            Finding::bad("firewall", "no iptables", &["apt-get install iptables"]),
        ];
        assert_eq!(
            text(&findings),
            "✓ docker      20.10\n! gpu         none\n✗ firewall    no iptables\n    → apt-get install iptables\n1 to mend\n"
        );
        assert_eq!(as_json(&findings[2])["ok"], false);
    }
}
