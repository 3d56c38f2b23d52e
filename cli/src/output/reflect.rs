//! Any message as JSON for scripts: field names as in the protos, enums as lower-case words, times as RFC 3339,
//! lengths of time as text, digests as hex.

use longshore_common::{units::HumanDuration, wire};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, MapKey, ReflectMessage as _,
    Value as Field,
};
use serde_json::{Map, Value};
use std::sync::OnceLock;

/// `name` is the message's, without its package: `Job`.
pub(crate) fn to_json<M: Message>(name: &str, message: &M) -> Value {
    let full = format!("longshore.v1.{name}");
    let descriptor = pool().get_message_by_name(&full).expect("the name is a message of our own protos");
    let bytes = message.encode_to_vec();
    let message = DynamicMessage::decode(descriptor, bytes.as_slice()).expect("it was encoded a line above");
    object(&message)
}

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        DescriptorPool::decode(longshore_proto::DESCRIPTOR_SET).expect("the build made it of our own protos")
    })
}

fn object(message: &DynamicMessage) -> Value {
    match message.descriptor().full_name() {
        "google.protobuf.Timestamp" => return timestamp(message),
        "google.protobuf.Duration" => return duration(message),
        _ => {}
    }
    let mut fields = Map::new();
    for field in message.descriptor().fields() {
        // What can be absent and is, says nothing; a plain zero is an answer.
        if field.supports_presence() && !message.has_field(&field) {
            continue;
        }
        fields.insert(field.name().to_owned(), value(&message.get_field(&field), &field));
    }
    Value::Object(fields)
}

fn value(field: &Field, descriptor: &FieldDescriptor) -> Value {
    match field {
        Field::Bool(truth) => (*truth).into(),
        Field::I32(number) => (*number).into(),
        Field::I64(number) => (*number).into(),
        Field::U32(number) => (*number).into(),
        Field::U64(number) => (*number).into(),
        Field::F32(number) => (*number).into(),
        Field::F64(number) => (*number).into(),
        Field::String(text) => text.clone().into(),
        Field::Bytes(bytes) if descriptor.name().starts_with("path") => {
            String::from_utf8_lossy(bytes).into_owned().into()
        }
        Field::Bytes(bytes) => hex::encode(bytes).into(),
        Field::EnumNumber(number) => word(descriptor, *number),
        Field::Message(message) => object(message),
        Field::List(items) => items.iter().map(|item| value(item, descriptor)).collect(),
        Field::Map(entries) => {
            let kind = descriptor.kind();
            let entry = kind.as_message().expect("a map's entries are messages").map_entry_value_field();
            let mut sorted: Vec<_> =
                entries.iter().map(|(key, item)| (map_key(key), value(item, &entry))).collect();
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(sorted.into_iter().collect())
        }
    }
}

fn map_key(key: &MapKey) -> String {
    match key {
        MapKey::String(text) => text.clone(),
        MapKey::Bool(truth) => truth.to_string(),
        MapKey::I32(number) => number.to_string(),
        MapKey::I64(number) => number.to_string(),
        MapKey::U32(number) => number.to_string(),
        MapKey::U64(number) => number.to_string(),
    }
}

/// `JOB_STATE_QUEUED` of the enum `JobState` is `queued`.
fn word(field: &FieldDescriptor, number: i32) -> Value {
    let kind = field.kind();
    let Some(known) = kind.as_enum() else { return number.into() };
    let Some(name) = known.get_value(number) else { return number.into() };
    name.name().strip_prefix(&prefix(known)).unwrap_or(name.name()).to_ascii_lowercase().into()
}

/// What all names of an enum begin with: that of its zero without `UNSPECIFIED`.
fn prefix(known: &EnumDescriptor) -> String {
    known.default_value().name().strip_suffix("UNSPECIFIED").unwrap_or_default().to_owned()
}

fn timestamp(message: &DynamicMessage) -> Value {
    message.transcode_to::<prost_types::Timestamp>().map_or(Value::Null, |time| time.to_string().into())
}

fn duration(message: &DynamicMessage) -> Value {
    let length = message.transcode_to::<prost_types::Duration>().ok();
    let length = length.and_then(|length| wire::duration_from("", &length).ok());
    length.map_or(Value::Null, |length| HumanDuration(length).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::job::{JobSpec, Outcome};
    use longshore_proto::v1;

    #[test]
    fn a_job_is_readable_by_scripts() {
        let job = v1::Job {
            id: "k3m9q2xw".into(),
            spec: Some(v1::JobSpec::from(&JobSpec::for_image("alpine"))),
            state: v1::JobState::TimedOut as i32,
            outcome: Some(wire::outcome(&Outcome::Succeeded, "", "k3m9q2xw")),
            created_at: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            ..v1::Job::default()
        };
        let json = to_json("Job", &job);
        assert_eq!(json["state"], "timed_out");
        assert_eq!(json["outcome"]["exit_code"], 0);
        assert_eq!(json["outcome"]["blame"], "none");
        assert_eq!(json["created_at"], "1970-01-01T00:00:01Z");
        assert_eq!(json["spec"]["deadlines"]["run"], "24h");
        assert_eq!(json["spec"]["resources"]["memory_bytes"], 2_147_483_648_u64);
        assert!(json["spec"]["env"].is_object());
        assert_eq!(json.get("started_at"), None);
    }

    #[test]
    fn paths_are_text_and_digests_are_hex() {
        let artifact =
            v1::Artifact { path: "a/b".into(), sha256: vec![0xab; 32].into(), ..v1::Artifact::default() };
        let json = to_json("Artifact", &artifact);
        assert_eq!(
            (json["path"].as_str(), json["sha256"].as_str()),
            (Some("a/b"), Some("ab".repeat(32).as_str()))
        );
    }
}
