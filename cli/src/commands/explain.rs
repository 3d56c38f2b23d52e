//! `longshore explain`: for every agent the first reason why it does not run the job.

use crate::client::Client;
use crate::output::{FormatArgs, Table, print, to_json};
use clap::Args;
use longshore_proto::v1;

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    job: String,
}

pub(crate) async fn run(client: &Client, args: ExplainArgs, format: FormatArgs) -> anyhow::Result<i32> {
    let call = || {
        let (mut jobs, request) =
            (client.jobs(), v1::ExplainJobRequest { job: args.job.clone(), ..Default::default() });
        async move { jobs.explain(request).await }
    };
    let explanation = client.ask_again(call).await?.explanation.unwrap_or_default();
    if !format.write(|| to_json("JobExplanation", &explanation))? {
        print(&text(&explanation))?;
    }
    Ok(0)
}

/// The summary, and a table of agents.
pub(crate) fn text(explanation: &v1::JobExplanation) -> String {
    let mut text = format!("{}\n", explanation.summary);
    if !explanation.agents.is_empty() {
        let mut table = Table::new(&["AGENT", "WHY NOT", "FOR GOOD"], &["WHY NOT"]);
        for agent in &explanation.agents {
            let good = if agent.permanent { "yes" } else { "" };
            table.row(vec![agent.agent.clone(), agent.reason.clone(), good.to_owned()]);
        }
        text.push_str(&table.render());
    }
    text
}
