use super::*;
use crate::jobs::AgentView;
use longshore_common::{
    agent::{AgentIdentity, AgentState, Capacity, Inventory},
    fleet::Orders,
    ids::{AgentId, SessionId},
};

/// GPU 0 in two instances, and GPU 1.
fn divided() -> AgentView {
    let part = |uuid: &str| Gpu { uuid: uuid.into(), parent: Some("GPU-0".into()), ..Gpu::default() };
    AgentView {
        identity: AgentIdentity {
            id: AgentId::new(),
            name: "gpu-04".into(),
            version: "0.2.0".into(),
            boot_id: "b".into(),
            session: SessionId::new(),
            labels: BTreeMap::new(),
            pool: "default".into(),
        },
        inventory: Inventory::default(),
        state: AgentState::Online,
        seen_at: Timestamp::now(),
        free: Capacity::default(),
        gpus: vec![part("MIG-a"), part("MIG-b"), Gpu { index: 1, uuid: "GPU-1".into(), ..Gpu::default() }],
        jobs: Vec::new(),
        note: String::new(),
        closed: String::new(),
        slots: None,
        orders: Orders::default(),
        disk_low: false,
        holdings: None,
        caches_bytes: 0,
        leaving: None,
    }
}

/// The first instance was booked, and the other one got the next job.
#[test]
fn a_gpu_named_by_its_index_is_all_of_its_instances() {
    let mut agent = divided();
    let uuid = |agent: &AgentView, text: &str| gpu(agent, text).map(|gpu| gpu.map(|gpu| gpu.uuid));
    for (text, means) in [("0", "GPU-0"), ("GPU-0", "GPU-0"), ("MIG-b", "MIG-b"), ("1", "GPU-1")] {
        assert_eq!(uuid(&agent, text).expect("is there").as_deref(), Some(means), "{text}");
    }
    assert!(gpu(&agent, "7").is_err() && gpu(&agent, "").is_ok_and(|gpu| gpu.is_none()));
    let cordon =
        Cordon { note: String::new(), author: String::new(), at: Timestamp::now(), until: None, drain: None };
    agent.orders.gpus =
        [("GPU-0", cordon.clone()), ("MIG-b", cordon)].map(|(of, one)| (of.into(), one)).into();
    assert!(agent.orders.of_gpu(&agent.gpus[0]).is_some() && agent.orders.of_gpu(&agent.gpus[2]).is_none());
    let ended = cordoned(&agent, "0").expect("is there").into_iter().flatten().map(|gpu| gpu.uuid);
    assert_eq!(ended.collect::<Vec<_>>(), ["GPU-0", "MIG-b"]);
}
