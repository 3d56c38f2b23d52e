//! Agents: what they are, have and offer.

use super::{WireError, id, lane_answer, required, text};
use crate::agent::{AgentIdentity, Capacity, Gpu, Holdings, Inventory, Keeper, LaneAnswer, Offer};
use crate::ids::{AgentId, SessionId};
use crate::queue::Lane;
use longshore_proto::v1;
use std::collections::{BTreeMap, HashMap};

impl From<Capacity> for v1::Capacity {
    fn from(capacity: Capacity) -> Self {
        let Capacity { cpu_millis, memory_bytes, scratch_bytes, gpus } = capacity;
        Self { cpu_millis, memory_bytes, scratch_bytes, gpus }
    }
}

impl From<v1::Capacity> for Capacity {
    fn from(message: v1::Capacity) -> Self {
        let v1::Capacity { cpu_millis, memory_bytes, scratch_bytes, gpus } = message;
        Self { cpu_millis, memory_bytes, scratch_bytes, gpus }
    }
}

/// An absent message is nothing at all.
fn capacity(message: Option<v1::Capacity>) -> Capacity {
    message.map(Capacity::from).unwrap_or_default()
}

impl From<&Gpu> for v1::Gpu {
    fn from(gpu: &Gpu) -> Self {
        Self {
            index: gpu.index,
            uuid: gpu.uuid.clone(),
            model: gpu.model.clone(),
            memory_bytes: gpu.memory_bytes,
            memory_free_bytes: gpu.memory_free_bytes,
            utilisation_percent: gpu.utilisation_percent,
            job: gpu.job.clone().unwrap_or_default(),
            busy: gpu.busy.clone().unwrap_or_default(),
            capability: gpu.capability.map(|(major, minor)| format!("{major}.{minor}")).unwrap_or_default(),
            mig: gpu.mig.clone().unwrap_or_default(),
            parent: gpu.parent.clone().unwrap_or_default(),
            nvlink: gpu.nvlink,
            pci: gpu.pci.clone(),
            numa: gpu.numa,
            ecc: gpu.ecc,
            temperature_c: gpu.temperature_c,
            power_watts: gpu.power_watts,
            power_limit_watts: gpu.power_limit_watts,
            throttled: gpu.throttled.clone(),
            health: gpu.health.clone().unwrap_or_default(),
            keeper: keeper_to(gpu.keeper) as i32,
        }
    }
}

impl From<v1::Gpu> for Gpu {
    fn from(message: v1::Gpu) -> Self {
        Self {
            index: message.index,
            uuid: message.uuid,
            model: message.model,
            memory_bytes: message.memory_bytes,
            memory_free_bytes: message.memory_free_bytes,
            utilisation_percent: message.utilisation_percent,
            job: text(message.job),
            busy: text(message.busy),
            capability: capability(&message.capability),
            mig: text(message.mig),
            parent: text(message.parent),
            nvlink: message.nvlink,
            pci: message.pci,
            numa: message.numa,
            ecc: message.ecc,
            temperature_c: message.temperature_c,
            power_watts: message.power_watts,
            power_limit_watts: message.power_limit_watts,
            throttled: message.throttled,
            health: text(message.health),
            keeper: keeper_from(message.keeper),
        }
    }
}

const fn keeper_to(keeper: Option<Keeper>) -> v1::GpuKeeper {
    match keeper {
        None => v1::GpuKeeper::Unspecified,
        Some(Keeper::Stranger) => v1::GpuKeeper::Stranger,
        Some(Keeper::Leaving) => v1::GpuKeeper::Leaving,
    }
}

/// What a later agent says besides is for people alone.
fn keeper_from(number: i32) -> Option<Keeper> {
    match v1::GpuKeeper::try_from(number) {
        Ok(v1::GpuKeeper::Stranger) => Some(Keeper::Stranger),
        Ok(v1::GpuKeeper::Leaving) => Some(Keeper::Leaving),
        Ok(v1::GpuKeeper::Unspecified) | Err(_) => None,
    }
}

/// What a later agent says in another way is not known.
fn capability(text: &str) -> Option<(u16, u16)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

impl From<&Inventory> for v1::Inventory {
    fn from(inventory: &Inventory) -> Self {
        Self {
            os: inventory.os.clone(),
            arch: inventory.arch.clone(),
            kernel: inventory.kernel.clone(),
            engine: inventory.engine.clone(),
            driver: inventory.driver.clone(),
            cuda: inventory.cuda.clone(),
            total: Some(inventory.total.into()),
            allocatable: Some(inventory.allocatable.into()),
            gpus: inventory.gpus.iter().map(v1::Gpu::from).collect(),
            disk_limit: inventory.disk_limit.clone(),
        }
    }
}

impl From<v1::Inventory> for Inventory {
    fn from(message: v1::Inventory) -> Self {
        Self {
            os: message.os,
            arch: message.arch,
            kernel: message.kernel,
            engine: message.engine,
            driver: message.driver,
            cuda: message.cuda,
            total: capacity(message.total),
            allocatable: capacity(message.allocatable),
            gpus: message.gpus.into_iter().map(Gpu::from).collect(),
            disk_limit: message.disk_limit,
        }
    }
}

/// What an agent says first on its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub protocol_min: u32,
    pub protocol_max: u32,
    pub identity: AgentIdentity,
    pub inventory: Inventory,
}

pub fn hello(greeting: &Greeting) -> v1::Hello {
    let Greeting { protocol_min, protocol_max, identity, inventory } = greeting;
    v1::Hello {
        protocol_min: *protocol_min,
        protocol_max: *protocol_max,
        agent_id: identity.id.as_bytes().to_vec().into(),
        name: identity.name.clone(),
        version: identity.version.clone(),
        boot_id: identity.boot_id.clone(),
        session: identity.session.as_bytes().to_vec().into(),
        labels: identity.labels.clone().into_iter().collect(),
        pool: identity.pool.clone(),
        inventory: Some(inventory.into()),
        token: String::new(),
    }
}

impl TryFrom<v1::Hello> for Greeting {
    type Error = WireError;

    fn try_from(message: v1::Hello) -> Result<Self, WireError> {
        let name = text(message.name).ok_or_else(|| WireError::new("name", "is empty"))?;
        if name.chars().any(char::is_control) || name.parse::<AgentId>().is_ok() {
            return Err(WireError::new("name", "is an id, or has characters that cannot be shown"));
        }
        let pool = text(message.pool).unwrap_or_else(|| crate::job::spec::DEFAULT_POOL.to_owned());
        crate::job::check_name("pool", &pool)?;
        Ok(Self {
            protocol_min: message.protocol_min,
            protocol_max: message.protocol_max,
            identity: AgentIdentity {
                id: id("agent_id", AgentId::from_slice(&message.agent_id))?,
                name,
                version: message.version,
                boot_id: message.boot_id,
                session: id("session", SessionId::from_slice(&message.session))?,
                labels: message.labels.into_iter().collect(),
                pool,
            },
            inventory: required("inventory", message.inventory)?.into(),
        })
    }
}

impl From<&Offer> for v1::Offer {
    fn from(offer: &Offer) -> Self {
        Self {
            free: Some(offer.free.into()),
            gpus: offer.gpus.iter().map(v1::Gpu::from).collect(),
            slots: offer.slots,
            labels: offer.labels.clone().into_iter().collect(),
            pool: offer.pool.clone(),
            lanes: offer.lanes.iter().map(Lane::to_string).collect(),
        }
    }
}

impl TryFrom<v1::Offer> for Offer {
    type Error = WireError;

    fn try_from(message: v1::Offer) -> Result<Self, WireError> {
        Ok(Self {
            free: required("offer.free", message.free)?.into(),
            gpus: message.gpus.into_iter().map(Gpu::from).collect(),
            slots: message.slots,
            labels: message.labels.into_iter().collect(),
            pool: message.pool,
            lanes: lanes_from("offer.lanes", &message.lanes)?,
        })
    }
}

pub(super) fn lane(path: &str, text: &str) -> Result<Lane, WireError> {
    text.parse().map_err(|error| WireError::new(path, format!("{error}")))
}

pub fn lanes_from(path: &str, texts: &[String]) -> Result<Vec<Lane>, WireError> {
    texts.iter().map(|text| lane(path, text)).collect()
}

pub fn hints_to(hints: &BTreeMap<Lane, u32>) -> HashMap<String, u32> {
    hints.iter().map(|(lane, count)| (lane.to_string(), *count)).collect()
}

pub fn hints_from(hints: HashMap<String, u32>) -> Result<BTreeMap<Lane, u32>, WireError> {
    hints.into_iter().map(|(text, count)| Ok((lane("hints", &text)?, count))).collect()
}

pub fn lane_answers_to(answers: &BTreeMap<Lane, LaneAnswer>) -> HashMap<String, i32> {
    answers.iter().map(|(lane, answer)| (lane.to_string(), v1::LaneAnswer::from(*answer) as i32)).collect()
}

pub fn lane_answers_from(answers: HashMap<String, i32>) -> Result<BTreeMap<Lane, LaneAnswer>, WireError> {
    answers
        .into_iter()
        .map(|(text, number)| Ok((lane("lanes", &text)?, lane_answer("lanes", number)?)))
        .collect()
}

impl From<&Holdings> for v1::Holdings {
    fn from(holdings: &Holdings) -> Self {
        let Holdings { images, caches } = holdings;
        Self { images: images.iter().cloned().collect(), caches: caches.iter().cloned().collect() }
    }
}

/// No more than an honest agent sends.
impl From<v1::Holdings> for Holdings {
    fn from(message: v1::Holdings) -> Self {
        let v1::Holdings { images, caches } = message;
        let most = |names: Vec<String>| names.into_iter().take(Self::MOST).collect();
        Self { images: most(images), caches: most(caches) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Greeting {
        let gpu = Gpu {
            uuid: "MIG-1".into(),
            busy: Some("python of anna".into()),
            keeper: Some(Keeper::Stranger),
            capability: Some((9, 0)),
            mig: Some("1g.10gb".into()),
            parent: Some("GPU-1".into()),
            nvlink: Some(0),
            pci: "00000000:3B:00.0".into(),
            numa: Some(1),
            ecc: Some(false),
            temperature_c: Some(40),
            power_watts: Some(70),
            power_limit_watts: Some(700),
            throttled: vec!["thermal".into()],
            health: Some("Xid 79".into()),
            ..Gpu::default()
        };
        Greeting {
            protocol_min: 1,
            protocol_max: 2,
            identity: AgentIdentity {
                id: AgentId::new(),
                name: "gpu-04".into(),
                version: "0.1.0".into(),
                boot_id: "b".into(),
                session: SessionId::new(),
                labels: [("site".to_owned(), "bern".to_owned())].into(),
                pool: "default".into(),
            },
            inventory: Inventory {
                arch: "amd64".into(),
                cuda: "12.4".into(),
                gpus: vec![gpu],
                ..Inventory::default()
            },
        }
    }

    #[test]
    fn a_greeting_reads_back() {
        let greeting = greeting();
        assert_eq!(Greeting::try_from(hello(&greeting)), Ok(greeting));
    }

    #[test]
    fn an_offer_reads_back_and_a_lane_that_is_none_is_refused() {
        let offer = Offer {
            free: Capacity { cpu_millis: 1, memory_bytes: 2, scratch_bytes: 3, gpus: 4 },
            gpus: vec![],
            slots: 2,
            labels: BTreeMap::new(),
            pool: "default".into(),
            lanes: Lane::of_pool("default").to_vec(),
        };
        let mut message = v1::Offer::from(&offer);
        assert_eq!(Offer::try_from(message.clone()), Ok(offer));
        message.lanes.push("nonsense".into());
        assert_eq!(Offer::try_from(message).unwrap_err().path, "offer.lanes");
    }

    #[test]
    fn maps_of_lanes_read_back() {
        let lane = Lane::new("default", false);
        let hints = BTreeMap::from([(lane.clone(), 3)]);
        assert_eq!(hints_from(hints_to(&hints)), Ok(hints));
        let answers = BTreeMap::from([(lane, LaneAnswer::MoreButNotForYou)]);
        assert_eq!(lane_answers_from(lane_answers_to(&answers)), Ok(answers));
    }
}
