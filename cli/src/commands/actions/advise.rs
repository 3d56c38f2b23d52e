//! `longshore actions advise`: what to ask for next time, by what the jobs of an action used.

use super::super::show;
use crate::client::Client;
use crate::output::{FormatArgs, print, to_json};
use longshore_common::action::ActionRef;
use longshore_proto::v1;

pub(super) async fn run(client: &Client, action: ActionRef, format: FormatArgs) -> anyhow::Result<i32> {
    let request = v1::AdviseActionRequest {
        project: client.project().to_owned(),
        name: action.name.clone(),
        version: action.version.unwrap_or_default(),
    };
    let call = || {
        let (mut actions, request) = (client.actions(), request.clone());
        async move { actions.advise(request).await }
    };
    let answer = client.ask_again(call).await?;
    if !format.write(|| to_json("AdviseActionResponse", &answer))? {
        print(&text(&action.name, &answer))?;
    }
    Ok(0)
}

fn text(name: &str, answer: &v1::AdviseActionResponse) -> String {
    let sizing = answer.sizing.clone().unwrap_or_default();
    if sizing.rows.is_empty() {
        return format!("nothing is known yet of what {name} uses: run it, and ask again\n");
    }
    format!("{name}@{}:\n{}", answer.version, show::sizing::text(&sizing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_a_table_and_the_line_to_write() {
        let row = v1::SizingRow {
            resource: "memory".into(),
            asked: 8 << 30,
            used: 1 << 30,
            next: 2 << 30,
            ..Default::default()
        };
        let sizing =
            v1::Sizing { runs: 3, rows: vec![row], advice: "memory: 2GiB".into(), ..Default::default() };
        let shown = text("convert", &v1::AdviseActionResponse { version: 2, sizing: Some(sizing) });
        for says in ["convert@2:", "8 GiB", "2 GiB", "resources: {memory: 2GiB}"] {
            assert!(shown.contains(says), "{says}\n{shown}");
        }
        assert!(text("convert", &v1::AdviseActionResponse::default()).contains("nothing is known yet"));
    }
}
