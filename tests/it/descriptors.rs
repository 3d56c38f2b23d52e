//! The wire contract may grow, never change: what `proto/longshore.v1.binpb` holds must still be there, with its
//! number and its type. `make descriptors` writes the file anew once something was added.

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
};
use std::collections::BTreeMap;

#[test]
fn nothing_of_the_committed_contract_is_gone_or_changed() {
    let committed = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/longshore.v1.binpb"))
        .expect("read the committed descriptor set");
    let committed = FileDescriptorSet::decode(&*committed).expect("decode the committed descriptor set");
    assert!(committed.file.iter().any(|file| file.service.len() == 1), "the committed set has no service");
    let now =
        FileDescriptorSet::decode(longshore_proto::DESCRIPTOR_SET).expect("decode the built descriptor set");
    let broken = breaks(&committed, &now);
    assert!(broken.is_empty(), "clients in the field would break:\n{}", broken.join("\n"));
}

/// Every difference that a client built from `old` would notice.
fn breaks(old: &FileDescriptorSet, new: &FileDescriptorSet) -> Vec<String> {
    let (old, new) = (facts(old), facts(new));
    old.iter()
        .filter_map(|(name, was)| match new.get(name) {
            None => Some(format!("{name} is gone (was {was})")),
            Some(is) if is != was => Some(format!("{name} was {was}, is {is}")),
            Some(_) => None,
        })
        .collect()
}

/// Full name to what may never change about it.
fn facts(set: &FileDescriptorSet) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for file in &set.file {
        let package = file.package();
        file.message_type.iter().for_each(|message| add_message(&mut facts, package, message));
        file.enum_type.iter().for_each(|one| add_enum(&mut facts, package, one));
        for service in &file.service {
            for method in &service.method {
                facts.insert(format!("{package}.{}/{}", service.name(), method.name()), method_fact(method));
            }
        }
    }
    facts
}

fn add_message(facts: &mut BTreeMap<String, String>, parent: &str, message: &DescriptorProto) {
    let name = format!("{parent}.{}", message.name());
    for field in &message.field {
        facts.insert(format!("{name}.{}", field.name()), field_fact(message, field));
    }
    message.nested_type.iter().for_each(|nested| add_message(facts, &name, nested));
    message.enum_type.iter().for_each(|one| add_enum(facts, &name, one));
    facts.insert(name, "a message".to_owned());
}

fn add_enum(facts: &mut BTreeMap<String, String>, parent: &str, one: &EnumDescriptorProto) {
    let name = format!("{parent}.{}", one.name());
    for value in &one.value {
        facts.insert(format!("{name}.{}", value.name()), format!("value {}", value.number()));
    }
    facts.insert(name, "an enum".to_owned());
}

fn field_fact(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let oneof = field
        .oneof_index
        .and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?))
        .map_or("", |oneof| oneof.name());
    format!(
        "{} = {} ({:?}, {:?}, oneof `{oneof}`)",
        field.type_name(),
        field.number(),
        field.r#type(),
        field.label()
    )
}

fn method_fact(method: &MethodDescriptorProto) -> String {
    format!(
        "{}{} -> {}{}",
        method.input_type(),
        if method.client_streaming() { " stream" } else { "" },
        method.output_type(),
        if method.server_streaming() { " stream" } else { "" },
    )
}

#[cfg(test)]
mod the_check_itself {
    use super::*;
    use prost_types::{FileDescriptorProto, field_descriptor_proto::Type};

    type Field = (&'static str, i32, Type);

    fn contract(fields: &[Field]) -> FileDescriptorSet {
        let field = |&(name, number, kind): &Field| FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            r#type: Some(kind.into()),
            ..Default::default()
        };
        let message = DescriptorProto {
            name: Some("Job".to_owned()),
            field: fields.iter().map(field).collect(),
            ..Default::default()
        };
        let file = FileDescriptorProto {
            package: Some("test".to_owned()),
            message_type: vec![message],
            ..Default::default()
        };
        FileDescriptorSet { file: vec![file] }
    }

    #[test]
    fn growth_is_fine_and_every_change_is_named() {
        let old = contract(&[("id", 1, Type::String)]);
        let cases: [(&str, &[Field]); 5] = [
            ("", &[("id", 1, Type::String), ("name", 2, Type::String)]),
            ("test.Job.id is gone", &[]),
            ("test.Job.id is gone", &[("key", 1, Type::String)]),
            ("test.Job.id was", &[("id", 2, Type::String)]),
            ("test.Job.id was", &[("id", 1, Type::Bytes)]),
        ];
        for (expected, fields) in cases {
            let broken = breaks(&old, &contract(fields)).join("\n");
            assert_eq!(broken.is_empty(), expected.is_empty(), "{fields:?}: {broken}");
            assert!(broken.contains(expected), "{fields:?}: {broken}");
        }
    }
}
