//! What a job file asks of machines: resources, GPUs and labels of agents.

use super::words::{Choices, Word, Words};
use crate::job::{AgentRule, GpuRequest, JobSpec, LabelTest, Resources, Version};
use crate::units::{ByteSize, Cores};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor, value};
use std::{borrow::Cow, collections::BTreeMap, fmt};

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ResourcesDocument {
    /// Cores. Default 1.
    cpu: Option<Cores>,
    /// Memory, without extra swap. Default 2GiB.
    memory: Option<ByteSize>,
    /// Size of `/dev/shm`, which counts in memory. Default 64MiB.
    shm: Option<ByteSize>,
    /// Disk for the writable layer, `/tmp_disk` and `/out` together. Default 20GiB.
    scratch: Option<ByteSize>,
    /// Processes and threads. Default 4096.
    pids: Option<u32>,
    /// Graphics cards. Default none.
    gpu: Option<GpuDocument>,
    /// The job has its machine to itself. Default false.
    exclusive: bool,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct GpuDocument {
    /// How many. Default 1.
    count: Option<u32>,
    /// The least memory each must have; of a shared one, the part that is asked for.
    memory: Option<ByteSize>,
    /// Globs over the card's product name, like `A100*`: one or a list, any of which will do. `!` excludes: `!*PCIe*`.
    model: Option<Choices>,
    /// The least compute capability, like `"8.0"`.
    capability: Option<Version>,
    /// The least version of the driver, like `535.104`.
    driver: Option<Version>,
    /// The least version of CUDA that the driver runs, like `"12.2"`.
    cuda: Option<Version>,
    /// MIG instances of this profile, like `1g.10gb`, instead of whole cards.
    mig: Option<String>,
    /// All of them joined by NVLink. Default false.
    nvlink: bool,
    /// A part of one card, of the size `memory`, beside other jobs. Default false.
    shared: bool,
}

/// The values of an agent's label that will do, or rules for it.
#[derive(Debug)]
pub(super) enum LabelDocument {
    Any(Choices),
    Rules(RulesDocument),
}

/// What holds of an agent's label; all that are given.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RulesDocument {
    /// One of these.
    r#in: Option<Choices>,
    /// None of these.
    not_in: Option<Choices>,
    /// Whether there is such a label at all.
    exists: Option<bool>,
    /// A whole number above this one.
    gt: Option<i64>,
    /// A whole number below this one.
    lt: Option<i64>,
}

impl ResourcesDocument {
    pub(super) const fn says_pids(&self) -> bool {
        self.pids.is_some()
    }

    pub(super) fn resources(self) -> Resources {
        let usual = Resources::default();
        Resources {
            cpu_millis: self.cpu.map_or(usual.cpu_millis, |cores| cores.0),
            memory_bytes: self.memory.map_or(usual.memory_bytes, |size| size.0),
            shm_bytes: self.shm.map_or(usual.shm_bytes, |size| size.0),
            scratch_bytes: self.scratch.map_or(usual.scratch_bytes, |size| size.0),
            pids: self.pids.unwrap_or(usual.pids),
            gpu: self.gpu.map(GpuDocument::request),
            exclusive: self.exclusive,
        }
    }
}

impl GpuDocument {
    fn request(self) -> GpuRequest {
        GpuRequest {
            count: self.count.unwrap_or(1),
            memory_bytes: self.memory.map_or(0, |size| size.0),
            model: self.model.map(strings).unwrap_or_default(),
            capability: self.capability,
            driver: self.driver,
            cuda: self.cuda,
            mig: self.mig,
            nvlink: self.nvlink,
            shared: self.shared,
        }
    }
}

/// Into the spec, label by label.
pub(super) fn select(agents: BTreeMap<String, LabelDocument>, spec: &mut JobSpec) {
    for (label, document) in agents {
        match document {
            LabelDocument::Any(any) => drop(spec.agents.insert(label, strings(any))),
            LabelDocument::Rules(rules) => {
                let tests = rules.tests().into_iter();
                spec.agent_rules.extend(tests.map(|test| AgentRule::new(label.clone(), test)));
            }
        }
    }
}

impl RulesDocument {
    fn tests(self) -> Vec<LabelTest> {
        let exists = self.exists.map(|is| if is { LabelTest::Exists } else { LabelTest::DoesNotExist });
        let all = [
            self.r#in.map(|any| LabelTest::In(strings(any))),
            self.not_in.map(|none| LabelTest::NotIn(strings(none))),
            exists,
            self.gt.map(LabelTest::Gt),
            self.lt.map(LabelTest::Lt),
        ];
        all.into_iter().flatten().collect()
    }
}

fn strings(choices: Choices) -> Vec<String> {
    Words(choices.0).into_strings()
}

struct LabelVisitor;

impl<'de> Visitor<'de> for LabelVisitor {
    type Value = LabelDocument;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list of values or rules as in {not_in: [a, b]}")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LabelDocument, A::Error> {
        RulesDocument::deserialize(value::MapAccessDeserializer::new(map)).map(LabelDocument::Rules)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<LabelDocument, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = list.next_element::<Word>()? {
            words.push(word);
        }
        Ok(LabelDocument::Any(Choices(words)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<LabelDocument, E> {
        Ok(LabelDocument::Any(Choices(vec![Word(text.to_owned())])))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<LabelDocument, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<LabelDocument, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<LabelDocument, E> {
        Err(E::custom(format_args!("is a bare {truth}: quote it, \"{truth}\", or write {{exists: {truth}}}")))
    }
}

impl<'de> Deserialize<'de> for LabelDocument {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(LabelVisitor)
    }
}

impl JsonSchema for LabelDocument {
    fn schema_name() -> Cow<'static, str> {
        "AgentLabel".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let values = generator.subschema_for::<Choices>();
        let rules = generator.subschema_for::<RulesDocument>();
        json_schema!({ "anyOf": [values, rules] })
    }
}
