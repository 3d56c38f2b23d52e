//! One trigger in words.

use super::{clock, name_of, project};
use crate::client::Client;
use crate::output::{FormatArgs, age, print, to_json};
use longshore_common::action::ActionRef;
use longshore_common::trigger::{Missed, Overlap, Run, Setting, Signature, TriggerSpec, When};
use longshore_common::units::HumanDuration;
use longshore_common::wire::{self, submitted_trigger};
use longshore_proto::v1;

pub(super) async fn show(client: &Client, name: &str, format: FormatArgs) -> anyhow::Result<i32> {
    let call = || {
        let request = v1::GetTriggerRequest { project: project(client), name: name.to_owned() };
        let mut api = client.triggers();
        async move { api.get(request).await }
    };
    let trigger = client.ask_again(call).await?.trigger.unwrap_or_default();
    if !format.write(|| to_json("Trigger", &trigger))? {
        print(&describe(&trigger))?;
    }
    Ok(0)
}

/// `on`, or why it does nothing.
pub(super) const fn state(trigger: &v1::Trigger) -> &'static str {
    if !trigger.enabled {
        "disabled"
    } else if !trigger.owner_problem.is_empty() {
        "no owner"
    } else if !trigger.problem.is_empty() {
        "ill"
    } else {
        "on"
    }
}

/// What became of a firing.
pub(super) fn result(firing: &v1::TriggerFiring) -> String {
    match firing.state() {
        v1::FiringState::Fired => format!("job {}", firing.job),
        v1::FiringState::Pending if firing.reason.is_empty() => "pending".to_owned(),
        v1::FiringState::Pending => format!("waits: {}", firing.reason),
        v1::FiringState::Skipped => format!("skipped: {}", firing.reason),
        v1::FiringState::Refused => format!("refused: {}", firing.reason),
        v1::FiringState::Unspecified => firing.reason.clone(),
    }
}

/// When it fires, in a column.
pub(super) fn when(when: &When) -> String {
    if let Some(clock) = clock(when) {
        return clock;
    }
    match when {
        When::Cron(_) => String::new(),
        When::Webhook(hook) => match hook.signature {
            Signature::Longshore => "webhook".to_owned(),
            Signature::Github => "webhook (github)".to_owned(),
        },
        When::Objects(objects) => format!("objects {}/{}", objects.source, objects.prefix),
        When::Completion(asked) => {
            let labels = asked.labels.iter().map(|(key, value)| format!("{key}={value}"));
            let names = asked.action.iter().chain(&asked.job).cloned().chain(labels);
            format!("{} {}", names.collect::<Vec<_>>().join(" "), asked.status.join("|"))
        }
    }
}

pub(super) fn starts(run: &Run) -> String {
    match run {
        Run::Job(job) => job.image.clone(),
        Run::Action(ActionRef { name, version: None }) => name.clone(),
        Run::Action(ActionRef { name, version: Some(version) }) => format!("{name}@{version}"),
    }
}

fn describe(trigger: &v1::Trigger) -> String {
    let mut text = String::new();
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("{name:<11} {value}\n"));
        }
    };
    add("trigger", name_of(trigger));
    add("project", &trigger.project);
    add("state", state(trigger));
    add("owner", &trigger.owner);
    add("no owner", &trigger.owner_problem);
    add("problem", &trigger.problem);
    if let Some(Ok(spec)) = trigger.spec.clone().map(submitted_trigger) {
        add("for", &spec.description);
        add("when", &when(&spec.when));
        details(&spec, &mut add);
        add("starts", &starts(&spec.run));
        for (name, setting) in &spec.set {
            let from = match setting {
                Setting::Value(value) => value.clone(),
                Setting::Payload(pointer) => format!("{{payload: {pointer}}}"),
            };
            add("set", &format!("{name}={from}"));
        }
        for (name, value) in &spec.labels {
            add("label", &format!("{name}={value}"));
        }
        if let Some(mission) = spec.kleinkram.as_ref().and_then(|said| said.mission_uuid.as_deref()) {
            add("mission", mission);
        }
        add(
            "overlap",
            match spec.overlap {
                Overlap::Allow => "allow",
                Overlap::Skip => "skip",
                Overlap::Queue => "queue",
                Overlap::Replace => "replace",
            },
        );
        add("retry for", &HumanDuration(spec.retry_for).to_string());
        add("max depth", &spec.max_depth.to_string());
    }
    if !trigger.hook_url.is_empty() {
        add("post to", &trigger.hook_url);
    }
    if let Some(next) = &trigger.next_at {
        add("next", &wire::timestamp_from(next).to_rfc3339());
    }
    if let Some(last) = &trigger.last {
        add("last", &format!("{} ago, {}: {}", age(last.at.as_ref()), last.cause, result(last)));
    }
    text
}

fn details(spec: &TriggerSpec, add: &mut impl FnMut(&str, &str)) {
    match &spec.when {
        When::Cron(cron) => {
            let missed = match cron.missed {
                Missed::Skip => "skip",
                Missed::Once => "once",
                Missed::All => "all",
            };
            add("missed", missed);
            if !cron.jitter.is_zero() {
                add("jitter", &HumanDuration(cron.jitter).to_string());
            }
        }
        When::Webhook(hook) => add("at most", &format!("{} deliveries a minute", hook.per_minute)),
        When::Objects(objects) => {
            add("match", &objects.matching.join("  "));
            add("input", objects.input.as_deref().unwrap_or_default());
            add("at most", &format!("{} objects an hour", objects.per_hour));
        }
        When::Completion(asked) => add("input", asked.input.as_deref().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_words() {
        let text = "
{kind: trigger, name: a, description: nightly, cron: {schedule: '0 3 * * *', jitter: 5m},
 job: {image: 'busybox:1', env: {X: '1'}}, set: {X: {payload: /due}}}
---
{kind: trigger, name: b, webhook: {signature: github}, action: convert@2}
---
{kind: trigger, name: c, objects: {source: lab, prefix: in/, match: ['*.bag'], input: bag}, job: {image: x}}
---
{kind: trigger, name: d, completion: {job: 'train-*', labels: {team: rsl}, status: [failed]}, job: {image: x}}
";
        let all = longshore_common::trigger::file::parse(text, "t").expect("good");
        let words: Vec<_> = all.iter().map(|spec| when(&spec.when)).collect();
        assert_eq!(
            words,
            ["0 3 * * * UTC", "webhook (github)", "objects lab/in/", "train-* team=rsl failed"]
        );
        assert_eq!(starts(&all[1].run), "convert@2");
        let trigger = v1::Trigger {
            spec: Some((&all[0]).into()),
            enabled: true,
            owner: "anna".into(),
            ..v1::Trigger::default()
        };
        let shown = describe(&trigger);
        for line in [
            "when        0 3 * * * UTC",
            "jitter      5m",
            "set         X={payload: /due}",
            "overlap     skip",
        ] {
            assert!(shown.contains(line), "{line}\n{shown}");
        }
        let gone = v1::Trigger { owner_problem: "token `anna` was revoked".into(), ..trigger };
        assert_eq!(state(&gone), "no owner");
    }
}
