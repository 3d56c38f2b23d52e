//! Which GPUs of the machine are connected by NVLink, directly or through a switch.

use crate::host::GpuReading;
use nvml_wrapper::{
    Device, Nvml,
    enum_wrappers::device::{P2pCapabilitiesIndex, P2pStatus},
};
use std::collections::BTreeMap;

/// As it was found for this set of GPUs; wires do not change while they stay.
#[derive(Debug, Default)]
pub(super) struct Links {
    asked_of: Vec<String>,
    groups: BTreeMap<String, u32>,
}

impl Links {
    /// Asks anew when GPUs have come or gone, or have come to answer.
    pub(super) fn follow(&mut self, nvml: &Nvml, gpus: &[GpuReading]) {
        let sound = || gpus.iter().filter(|reading| reading.fault.is_none());
        let uuids: Vec<String> = sound().map(|reading| reading.gpu.uuid.clone()).collect();
        if uuids == self.asked_of {
            return;
        }
        let devices: Vec<(usize, Device<'_>)> = sound()
            .enumerate()
            .filter_map(|(place, reading)| Some((place, nvml.device_by_index(reading.gpu.index).ok()?)))
            .collect();
        let mut group: Vec<usize> = (0..uuids.len()).collect();
        for (place, one) in &devices {
            for (other_place, other) in devices.iter().filter(|(other, _)| other > place) {
                let status = one.p2p_status(other, P2pCapabilitiesIndex::NvLink);
                if status.is_ok_and(|status| status == P2pStatus::Ok) {
                    join(&mut group, *place, *other_place);
                }
            }
        }
        self.groups = numbered(&uuids, &group);
        self.asked_of = uuids;
    }

    /// `None`: it has no such neighbour.
    pub(super) fn group(&self, uuid: &str) -> Option<u32> {
        self.groups.get(uuid).copied()
    }
}

fn join(group: &mut [usize], one: usize, other: usize) {
    let (kept, gone) = (group[one].min(group[other]), group[one].max(group[other]));
    for member in group.iter_mut().filter(|member| **member == gone) {
        *member = kept;
    }
}

/// Groups of at least two, counted from zero.
fn numbered(uuids: &[String], group: &[usize]) -> BTreeMap<String, u32> {
    let mut numbers = BTreeMap::new();
    let size = |of: usize| group.iter().filter(|member| **member == of).count();
    let mut found = BTreeMap::new();
    for (uuid, of) in uuids.iter().zip(group).filter(|(_, of)| size(**of) > 1) {
        let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        found.insert(uuid.clone(), *numbers.entry(*of).or_insert(next));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_what_hangs_together() {
        let uuids: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).into();
        let mut group: Vec<usize> = (0..5).collect();
        for (one, other) in [(3, 4), (0, 2), (2, 4)] {
            join(&mut group, one, other);
        }
        let found = numbered(&uuids, &group);
        assert_eq!(found, ["a", "c", "d", "e"].map(|uuid| (uuid.to_owned(), 0)).into(), "b has no neighbour");
    }
}
