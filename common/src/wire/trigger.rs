//! Triggers. Absent fields take their defaults; all wrong fields are told at once.

use super::{WireError, duration_from, duration_to, text};
use crate::{
    action::ActionRef,
    fields::FieldErrors,
    job::{JobSpec, Kleinkram},
    trigger::{
        Completion, Cron, MAX_DEPTH, Missed, Objects, Overlap, PER_HOUR, PER_MINUTE, RETRY_FOR, Run,
        SUCCEEDED, Setting, Signature, TriggerSpec, Webhook, When, validate,
    },
};
use longshore_proto::v1::{
    self,
    trigger_setting::From as Source,
    trigger_spec::{Run as RunMessage, When as WhenMessage},
};
use std::time::Duration;

/// A trigger as a client sent it: read and validated, with every mistake of both.
pub fn submitted_trigger(message: v1::TriggerSpec) -> Result<TriggerSpec, FieldErrors> {
    let mut errors = FieldErrors::new();
    let spec = read(message, &mut errors);
    if let Some(spec) = &spec
        && let Err(more) = validate(spec)
    {
        errors.merge(more);
    }
    match spec {
        Some(spec) => errors.into_result(spec),
        None => Err(errors),
    }
}

fn read(message: v1::TriggerSpec, errors: &mut FieldErrors) -> Option<TriggerSpec> {
    let when = match message.when {
        Some(when) => errors.take(read_when(when)),
        None => {
            errors.push("when", "is missing: cron, webhook, objects or completion");
            None
        }
    };
    let run = match message.run {
        Some(RunMessage::Job(job)) => match JobSpec::try_from(job) {
            Ok(job) => Some(Run::Job(Box::new(job))),
            Err(wrong) => {
                errors.merge(wrong.into_iter().map(|error| error.under("job")).collect());
                None
            }
        },
        Some(RunMessage::Action(v1::ActionTarget { name, version })) => {
            Some(Run::Action(ActionRef { name, version: (version != 0).then_some(version) }))
        }
        None => {
            errors.push("run", "is missing: job or action");
            None
        }
    };
    let overlap = errors.take(overlap(message.overlap)).flatten();
    let retry_for = errors.take(length("retry_for", message.retry_for.as_ref(), RETRY_FOR));
    let mut set = std::collections::BTreeMap::new();
    for (name, setting) in message.set {
        match setting.from {
            Some(Source::Value(value)) => drop(set.insert(name, Setting::Value(value))),
            Some(Source::Payload(pointer)) => drop(set.insert(name, Setting::Payload(pointer))),
            None => errors.push(format!("set.{name}"), "says not from where: value or payload"),
        }
    }
    let when = when?;
    Some(TriggerSpec {
        name: message.name,
        description: message.description,
        overlap: overlap.unwrap_or_else(|| when.overlap()),
        when,
        run: run?,
        set,
        retry_for: retry_for?,
        max_depth: if message.max_depth == 0 { MAX_DEPTH } else { message.max_depth },
        labels: message.labels.into_iter().collect(),
        kleinkram: message.kleinkram.map(Kleinkram::from),
    })
}

fn read_when(message: WhenMessage) -> Result<When, WireError> {
    Ok(match message {
        WhenMessage::Cron(v1::CronSource { schedule, time_zone, missed, jitter }) => When::Cron(Cron {
            schedule,
            time_zone: text(time_zone).unwrap_or_else(|| "UTC".to_owned()),
            missed: read_missed(missed)?,
            jitter: length("cron.jitter", jitter.as_ref(), Duration::ZERO)?,
        }),
        WhenMessage::Webhook(v1::WebhookSource { signature, per_minute }) => When::Webhook(Webhook {
            signature: match v1::WebhookSignature::try_from(signature) {
                Ok(v1::WebhookSignature::Unspecified | v1::WebhookSignature::Longshore) => {
                    Signature::Longshore
                }
                Ok(v1::WebhookSignature::Github) => Signature::Github,
                Err(_) => {
                    return Err(WireError::new("webhook.signature", format!("{signature} is no signature")));
                }
            },
            per_minute: if per_minute == 0 { PER_MINUTE } else { per_minute },
        }),
        WhenMessage::Objects(v1::ObjectSource {
            source,
            prefix,
            r#match,
            changed,
            existing,
            input,
            per_hour,
        }) => When::Objects(Objects {
            source,
            prefix,
            matching: r#match,
            changed,
            existing,
            input: text(input),
            per_hour: if per_hour == 0 { PER_HOUR } else { per_hour },
        }),
        WhenMessage::Completion(message) => {
            let v1::CompletionSource { action, job, labels, mut status, itself, input } = message;
            if status.is_empty() {
                status.push(SUCCEEDED.to_owned());
            }
            When::Completion(Completion {
                action: text(action),
                job: text(job),
                labels: labels.into_iter().collect(),
                status,
                itself,
                input: text(input),
            })
        }
    })
}

fn read_missed(number: i32) -> Result<Missed, WireError> {
    match v1::TriggerMissed::try_from(number) {
        Ok(v1::TriggerMissed::Skip) => Ok(Missed::Skip),
        Ok(v1::TriggerMissed::Unspecified | v1::TriggerMissed::Once) => Ok(Missed::Once),
        Ok(v1::TriggerMissed::All) => Ok(Missed::All),
        Err(_) => Err(WireError::new("cron.missed", format!("{number} is no policy"))),
    }
}

fn overlap(number: i32) -> Result<Option<Overlap>, WireError> {
    match v1::TriggerOverlap::try_from(number) {
        Ok(v1::TriggerOverlap::Unspecified) => Ok(None),
        Ok(v1::TriggerOverlap::Allow) => Ok(Some(Overlap::Allow)),
        Ok(v1::TriggerOverlap::Skip) => Ok(Some(Overlap::Skip)),
        Ok(v1::TriggerOverlap::Queue) => Ok(Some(Overlap::Queue)),
        Ok(v1::TriggerOverlap::Replace) => Ok(Some(Overlap::Replace)),
        Err(_) => Err(WireError::new("overlap", format!("{number} is no policy"))),
    }
}

fn length(
    path: &str,
    value: Option<&prost_types::Duration>,
    default: Duration,
) -> Result<Duration, WireError> {
    value.map_or(Ok(default), |value| duration_from(path, value))
}

impl From<&TriggerSpec> for v1::TriggerSpec {
    fn from(spec: &TriggerSpec) -> Self {
        let setting = |setting: &Setting| v1::TriggerSetting {
            from: Some(match setting {
                Setting::Value(value) => Source::Value(value.clone()),
                Setting::Payload(pointer) => Source::Payload(pointer.clone()),
            }),
        };
        Self {
            name: spec.name.clone(),
            description: spec.description.clone(),
            when: Some((&spec.when).into()),
            run: Some(match &spec.run {
                Run::Job(job) => RunMessage::Job((&**job).into()),
                Run::Action(ActionRef { name, version }) => RunMessage::Action(v1::ActionTarget {
                    name: name.clone(),
                    version: version.unwrap_or_default(),
                }),
            }),
            set: spec.set.iter().map(|(name, from)| (name.clone(), setting(from))).collect(),
            overlap: match spec.overlap {
                Overlap::Allow => v1::TriggerOverlap::Allow,
                Overlap::Skip => v1::TriggerOverlap::Skip,
                Overlap::Queue => v1::TriggerOverlap::Queue,
                Overlap::Replace => v1::TriggerOverlap::Replace,
            } as i32,
            retry_for: Some(duration_to(spec.retry_for)),
            max_depth: spec.max_depth,
            labels: spec.labels.clone().into_iter().collect(),
            kleinkram: spec.kleinkram.as_ref().map(v1::Kleinkram::from),
        }
    }
}

impl From<&When> for WhenMessage {
    fn from(when: &When) -> Self {
        match when {
            When::Cron(cron) => Self::Cron(v1::CronSource {
                schedule: cron.schedule.clone(),
                time_zone: cron.time_zone.clone(),
                missed: match cron.missed {
                    Missed::Skip => v1::TriggerMissed::Skip,
                    Missed::Once => v1::TriggerMissed::Once,
                    Missed::All => v1::TriggerMissed::All,
                } as i32,
                jitter: Some(duration_to(cron.jitter)),
            }),
            When::Webhook(hook) => Self::Webhook(v1::WebhookSource {
                signature: match hook.signature {
                    Signature::Longshore => v1::WebhookSignature::Longshore,
                    Signature::Github => v1::WebhookSignature::Github,
                } as i32,
                per_minute: hook.per_minute,
            }),
            When::Objects(objects) => Self::Objects(v1::ObjectSource {
                source: objects.source.clone(),
                prefix: objects.prefix.clone(),
                r#match: objects.matching.clone(),
                changed: objects.changed,
                existing: objects.existing,
                input: objects.input.clone().unwrap_or_default(),
                per_hour: objects.per_hour,
            }),
            When::Completion(completion) => Self::Completion(v1::CompletionSource {
                action: completion.action.clone().unwrap_or_default(),
                job: completion.job.clone().unwrap_or_default(),
                labels: completion.labels.clone().into_iter().collect(),
                status: completion.status.clone(),
                itself: completion.itself,
                input: completion.input.clone().unwrap_or_default(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back() {
        let job = || Run::Job(Box::new(JobSpec::for_image("alpine:3")));
        let cron = Cron {
            schedule: "0 3 * * *".into(),
            time_zone: "Europe/Zurich".into(),
            missed: Missed::All,
            jitter: Duration::from_secs(60),
        };
        let objects = Objects {
            source: "lab".into(),
            prefix: "in/".into(),
            matching: vec!["*.bag".into()],
            changed: true,
            existing: true,
            input: Some("bag".into()),
            per_hour: 7,
        };
        let completion = Completion {
            action: Some("convert".into()),
            job: Some("a*".into()),
            labels: [("team".to_owned(), "rsl".to_owned())].into(),
            status: vec!["failed".into()],
            itself: true,
            input: None,
        };
        for when in [
            When::Cron(cron),
            When::Webhook(Webhook { signature: Signature::Github, per_minute: 7 }),
            When::Objects(objects),
            When::Completion(completion),
        ] {
            let mut spec = TriggerSpec::new("t", when, job());
            spec.overlap = Overlap::Replace;
            spec.description = "what for".into();
            spec.max_depth = 3;
            spec.retry_for = Duration::from_secs(5);
            assert_eq!(submitted_trigger((&spec).into()), Ok(spec.clone()));
            spec.run = Run::Action(ActionRef { name: "convert".into(), version: Some(2) });
            spec.labels.insert("team".into(), "rsl".into());
            let mission = "1b671a64-40d5-491e-99b0-da01ff1f3341".to_owned();
            spec.kleinkram = Some(Kleinkram { mission_uuid: Some(mission), ..Kleinkram::default() });
            spec.set.insert("A".into(), Setting::Payload("/a".into()));
            spec.set.insert("B".into(), Setting::Value("1".into()));
            assert_eq!(submitted_trigger((&spec).into()), Ok(spec));
        }
    }

    #[test]
    fn what_is_missing_is_told_at_once() {
        let errors = submitted_trigger(v1::TriggerSpec { overlap: 9, ..v1::TriggerSpec::default() });
        let errors = errors.expect_err("nothing in it");
        let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["when", "run", "overlap"]);
    }
}
