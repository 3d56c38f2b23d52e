//! One version of an action, for people; as YAML the document that `apply` takes.

use super::super::show::{Lines, describe_input, describe_spec};
use super::label;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Format, FormatArgs, Table, age, print, to_json};
use longshore_common::action::{Action, ActionRef};
use longshore_common::job::file::write_action;
use longshore_common::wire;
use longshore_proto::v1;

pub(super) async fn run(client: &Client, action: ActionRef, format: FormatArgs) -> anyhow::Result<i32> {
    let view = super::get(client, &action).await?;
    if format.output == Format::Json {
        format.write(|| to_json("Action", &view))?;
        return Ok(0);
    }
    let spec = view.spec.clone().unwrap_or_default();
    let action = wire::submitted_action(spec).map_err(|error| {
        Failure::new(format!(
            "the controller's action says what this version of longshore does not know: {error}"
        ))
    })?;
    if !format.write(|| write_action(&action))? {
        print(&describe(&view, &action))?;
    }
    Ok(0)
}

fn describe(view: &v1::Action, action: &Action) -> String {
    let usage = view.usage.unwrap_or_default();
    let latest = match view.latest {
        latest if latest == view.version => "the latest".to_owned(),
        latest => format!("the latest is {latest}"),
    };
    let used = usage.used_at.as_ref().map_or_else(String::new, |at| format!(", last {} ago", age(Some(at))));
    let mut lines = Lines::default();
    lines.add("action", format!("{}, {latest}", label(view)));
    lines.add("about", &action.description);
    lines.add("made", format!("{} ago by {}", age(view.created_at.as_ref()), view.created_by));
    if view.archived_at.is_some() {
        lines.add("archived", format!("{} ago by {}", age(view.archived_at.as_ref()), view.archived_by));
    }
    if view.restored_from > 0 {
        lines.add("repeats", format!("version {}", view.restored_from));
    }
    let v1::ActionUsage { jobs, succeeded, failed, cancelled, .. } = usage;
    lines.add("jobs", format!("{jobs}: {succeeded} succeeded, {failed} failed, {cancelled} cancelled{used}"));
    describe_spec(&action.job, &mut lines);
    let adjustable: Vec<_> = action.adjustable.iter().map(String::as_str).collect();
    lines.add("adjustable", adjustable.join(", "));
    format!("{}{}{}", lines.0, parameters(action), inputs(action))
}

fn parameters(action: &Action) -> String {
    if action.parameters.is_empty() {
        return String::new();
    }
    let mut table =
        Table::new(&["PARAMETER", "TYPE", "DEFAULT", "TAKES", "ABOUT"], &["ABOUT", "TAKES", "DEFAULT"])
            .spare(&["TYPE", "ABOUT"]);
    for (name, one) in &action.parameters {
        let default = match &one.default {
            Some(default) => default.clone(),
            None if one.required => "(required)".to_owned(),
            None => String::new(),
        };
        let takes = if one.adjustable { one.takes() } else { "(fixed)".to_owned() };
        let about = one.description.lines().next().unwrap_or_default().to_owned();
        table.row(vec![name.clone(), one.kind.to_string(), default, takes, about]);
    }
    format!("\n{}", table.render())
}

fn inputs(action: &Action) -> String {
    if action.inputs.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["INPUT", "SOURCE", "ABOUT"], &["ABOUT", "SOURCE"]);
    for (name, one) in &action.inputs {
        let source = match &one.source {
            Some(source) => describe_input(source),
            None if one.required => "(required)".to_owned(),
            None => "(may be named)".to_owned(),
        };
        let about = one.description.lines().next().unwrap_or_default().to_owned();
        table.row(vec![name.clone(), source, about]);
    }
    format!("\n{}", table.render())
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::job::file::parse_actions;

    #[test]
    fn a_person_sees_what_can_be_set() {
        let text = "kind: action\nname: convert\ndescription: |\n  Converts.\n  Slowly.\nimage: a:1\nresources: {memory: 8GiB}\n\
                    env: {LOG: debug, EPOCHS: {type: int, default: 20, min: 1, description: how often}, F: {choices: [a, b], required: true}}\n\
                    inputs: {bags: {required: true, description: what is converted}}\nadjustable: [deadlines]\n";
        let action = parse_actions(text, "x").expect("good").remove(0);
        let view = v1::Action { spec: Some((&action).into()), version: 2, latest: 3, ..Default::default() };
        let shown = describe(&view, &action);
        for line in [
            "action      convert@2, the latest is 3",
            "about       Converts.",
            "            Slowly.",
            "image       a:1",
            "memory      8GiB",
            "env         LOG=debug",
            "adjustable  deadlines",
            "EPOCHS     int     20",
            "a whole number 1 or more  how often",
            "bags   (required)  what is converted",
        ] {
            assert!(shown.contains(line), "{line}\n{shown}");
        }
    }
}
