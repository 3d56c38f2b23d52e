//! `longshore explain`: for every agent the first reason why it does not run the job.

use crate::client::Client;
use crate::output::{FormatArgs, Table, print, span, to_json};
use clap::Args;
use longshore_common::{action::Invocation, clock::Timestamp, job::JobSpec, wire};
use longshore_proto::v1;
use std::time::Duration;

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
    let explanation = Box::pin(client.ask_again(call)).await?.explanation.unwrap_or_default();
    if !format.write(|| to_json("JobExplanation", &explanation))? {
        print(&text(&explanation))?;
    }
    Ok(0)
}

/// What a controller says of a job that is not submitted, and of a run of an action the whole job that it would be.
pub(crate) async fn ask(
    client: &Client,
    spec: &JobSpec,
    action: Option<&Invocation>,
) -> Result<(v1::JobExplanation, Option<v1::JobSpec>), tonic::Status> {
    let said = action.map(|action| wire::said_of(spec, &action.said));
    let request = v1::ExplainJobRequest {
        spec: Some(said.unwrap_or_else(|| spec.into())),
        action: action.map(v1::ActionRun::from),
        project: client.project().to_owned(),
        ..v1::ExplainJobRequest::default()
    };
    let answer = client.jobs().explain(request).await?.into_inner();
    Ok((answer.explanation.unwrap_or_default(), answer.spec))
}

/// Nothing that any agent frees would let it run.
pub(crate) fn is_hopeless(explanation: &v1::JobExplanation) -> bool {
    !explanation.agents.is_empty() && explanation.agents.iter().all(|agent| agent.permanent)
}

/// The summary, a table of agents, and what else is known.
pub(crate) fn text(explanation: &v1::JobExplanation) -> String {
    let mut text = format!("{}\n", explanation.summary);
    if let Some(estimate) = explanation.estimate.as_ref().filter(|_| explanation.place > 0) {
        let begins = match until(estimate) {
            Some(length) => format!("begins within {}", span(length)),
            None => "begins at once".to_owned(),
        };
        text.push_str(&format!("{begins}, if nothing comes before it\n"));
    }
    for change in &explanation.changes {
        text.push_str(&format!("to run at all: {change}\n"));
    }
    if !explanation.agents.is_empty() {
        let mut table = Table::new(&["AGENT", "WHY NOT", "FREE WITHIN", "FOR GOOD"], &["WHY NOT"]).spare(&[
            "FREE WITHIN",
            "FOR GOOD",
            "WHY NOT",
        ]);
        for agent in &explanation.agents {
            let free = agent.until.as_ref().and_then(until).map_or_else(String::new, span);
            let good = if agent.permanent { "yes" } else { "" };
            table.row(vec![agent.agent.clone(), agent.reason.clone(), free, good.to_owned()]);
        }
        text.push_str(&table.render());
    }
    text
}

/// How far away a time is; `None`: it is here.
fn until(time: &prost_types::Timestamp) -> Option<Duration> {
    let length = wire::timestamp_from(time).since(Timestamp::now());
    (length >= Duration::from_secs(1)).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_says_when_at_the_latest_and_what_to_change() {
        let in_an_hour = Timestamp::now().plus(Duration::from_secs(3605));
        let agent = v1::AgentReason {
            agent: "gpu-04".into(),
            reason: "needs 2 GPUs, 0 free".into(),
            until: Some(wire::timestamp_to(in_an_hour)),
            ..Default::default()
        };
        let mut told = v1::JobExplanation {
            place: 1,
            summary: "next in line".into(),
            estimate: agent.until,
            agents: vec![agent],
            ..Default::default()
        };
        let shown = text(&told);
        assert!(shown.contains("begins within 1h00m, if nothing comes before it\n"), "{shown}");
        assert!(shown.contains("needs 2 GPUs, 0 free  1h00m"), "{shown}");
        assert!(!is_hopeless(&told));
        told.agents[0].permanent = true;
        told.changes = vec!["resources.gpu.count: 1 at most (gpu-04)".into()];
        assert!(is_hopeless(&told) && text(&told).contains("to run at all: resources.gpu.count: 1 at most"));
    }
}
