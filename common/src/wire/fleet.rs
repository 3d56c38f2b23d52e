//! Cordons, pauses and what happened to machines.

use super::{timestamp_from, timestamp_to};
use crate::{
    clock::Timestamp,
    fleet::{AgentEventKind as Kind, Cordon, Drain, Orders, Pause},
};
use longshore_proto::v1;
use std::ops::RangeInclusive;

/// Protocols that this version speaks. 1: until 0.1; 2: an attempt may be handed back by order.
/// A version speaks its own and the one before it, so that a cluster is upgraded one machine at a time.
pub const PROTOCOLS: RangeInclusive<u32> = 1..=2;

/// From which protocol on an agent knows the order to hand an attempt back.
pub const HANDS_BACK: u32 = 2;

/// The latest that both speak.
pub fn common_protocol(theirs: RangeInclusive<u32>) -> Option<u32> {
    let latest = *PROTOCOLS.end().min(theirs.end());
    (PROTOCOLS.contains(&latest) && theirs.contains(&latest)).then_some(latest)
}

impl From<&Cordon> for v1::Cordon {
    fn from(cordon: &Cordon) -> Self {
        let drain = cordon.drain.unwrap_or_default();
        Self {
            note: cordon.note.clone(),
            author: cordon.author.clone(),
            at: Some(timestamp_to(cordon.at)),
            until: cordon.until.map(timestamp_to),
            drain: cordon.drain.is_some(),
            deadline: drain.deadline.map(timestamp_to),
            drained_at: drain.drained_at.map(timestamp_to),
        }
    }
}

impl From<v1::Cordon> for Cordon {
    fn from(message: v1::Cordon) -> Self {
        let time = |time: Option<prost_types::Timestamp>| time.as_ref().map(timestamp_from);
        let drain = Drain { deadline: time(message.deadline), drained_at: time(message.drained_at) };
        Self {
            note: message.note,
            author: message.author,
            at: time(message.at).unwrap_or_else(|| Timestamp::from_micros(0)),
            until: time(message.until),
            drain: message.drain.then_some(drain),
        }
    }
}

impl From<&Orders> for v1::Orders {
    fn from(orders: &Orders) -> Self {
        let gpu = |(gpu, cordon): (&String, &Cordon)| v1::GpuCordon {
            gpu: gpu.clone(),
            cordon: Some(cordon.into()),
        };
        Self { cordon: orders.cordon.as_ref().map(Into::into), gpus: orders.gpus.iter().map(gpu).collect() }
    }
}

impl From<v1::Orders> for Orders {
    fn from(message: v1::Orders) -> Self {
        let gpu = |one: v1::GpuCordon| Some((one.gpu, one.cordon?.into()));
        Self {
            cordon: message.cordon.map(Into::into),
            gpus: message.gpus.into_iter().filter_map(gpu).collect(),
        }
    }
}

impl From<&Pause> for v1::Pause {
    fn from(pause: &Pause) -> Self {
        Self { note: pause.note.clone(), author: pause.author.clone(), at: Some(timestamp_to(pause.at)) }
    }
}

impl From<Kind> for v1::AgentEventKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Joined => Self::Joined,
            Kind::Connected => Self::Connected,
            Kind::Disconnected => Self::Disconnected,
            Kind::Lost => Self::Lost,
            Kind::Back => Self::Back,
            Kind::Cordoned => Self::Cordoned,
            Kind::Uncordoned => Self::Uncordoned,
            Kind::Draining => Self::Draining,
            Kind::Drained => Self::Drained,
            Kind::Labelled => Self::Labelled,
            Kind::Removed => Self::Removed,
            Kind::Note => Self::Note,
            Kind::DiskLow => Self::DiskLow,
            Kind::GpuSick => Self::GpuSick,
            Kind::GpuWell => Self::GpuWell,
            Kind::GpuStranger => Self::GpuStranger,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_read_back() {
        let at = Timestamp::from_micros(7);
        let cordon = |drain| Cordon { note: "n".into(), author: "anna".into(), at, until: Some(at), drain };
        let drain = Drain { deadline: Some(at), drained_at: None };
        let orders =
            Orders { cordon: Some(cordon(Some(drain))), gpus: [("GPU-1".to_owned(), cordon(None))].into() };
        assert_eq!(Orders::from(v1::Orders::from(&orders)), orders);
    }

    #[test]
    fn the_latest_protocol_that_both_speak_is_spoken() {
        for (theirs, spoken) in
            [(1..=1, Some(1)), (1..=2, Some(2)), (2..=3, Some(2)), (3..=4, None), (0..=0, None)]
        {
            assert_eq!(common_protocol(theirs.clone()), spoken, "{theirs:?}");
        }
    }
}
