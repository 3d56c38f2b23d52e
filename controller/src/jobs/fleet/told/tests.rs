use super::*;
use crate::jobs::types::AgentView;
use longshore_common::agent::{AgentIdentity, Inventory};

fn view(identity: &AgentIdentity, state: AgentState, note: &str) -> AgentView {
    AgentView {
        identity: identity.clone(),
        inventory: Inventory::default(),
        state,
        seen_at: Timestamp::now(),
        free: longshore_common::agent::Capacity::default(),
        gpus: Vec::new(),
        jobs: Vec::new(),
        note: note.to_owned(),
        closed: String::new(),
        slots: None,
        orders: longshore_common::fleet::Orders::default(),
        disk_low: false,
        holdings: None,
        caches_bytes: 0,
        leaving: None,
    }
}

fn identity() -> AgentIdentity {
    AgentIdentity {
        id: AgentId::new(),
        name: "gpu-04".into(),
        version: "0.2.0".into(),
        boot_id: "b".into(),
        session: SessionId::new(),
        labels: std::collections::BTreeMap::new(),
        pool: "default".into(),
    }
}

fn kinds(watch: &mut FleetWatch, view: &AgentView, at: Instant) -> Vec<Kind> {
    watch.compare(std::slice::from_ref(view), at).into_iter().map(|one| one.kind).collect()
}

#[test]
fn links_are_told_once_each_and_one_that_was_lost_is_back() {
    use AgentState::{Disconnected, Lost, Online};
    let mut watch = FleetWatch { loaded: true, ..FleetWatch::default() };
    let (mut one, at) = (identity(), watch.started + COMING);
    assert_eq!(kinds(&mut watch, &view(&one, Online, ""), at), [Kind::Joined]);
    assert_eq!(kinds(&mut watch, &view(&one, Online, ""), at), []);
    assert_eq!(kinds(&mut watch, &view(&one, Disconnected, ""), at), [Kind::Disconnected]);
    assert_eq!(kinds(&mut watch, &view(&one, Disconnected, ""), at), []);
    assert_eq!(kinds(&mut watch, &view(&one, Online, ""), at), [Kind::Connected]);
    one.session = SessionId::new();
    assert_eq!(kinds(&mut watch, &view(&one, Online, ""), at), [Kind::Connected], "another process");
    assert_eq!(kinds(&mut watch, &view(&one, Lost, ""), at), [Kind::Lost]);
    assert_eq!(kinds(&mut watch, &view(&one, Online, ""), at), [Kind::Back]);
    assert!(watch.compare(&[], at).is_empty());
    assert_eq!(kinds(&mut watch, &view(&one, Online, ""), at), [Kind::Joined], "it had been removed");
}

#[test]
fn a_new_controller_waits_for_its_agents_before_it_says_that_they_are_gone() {
    let mut watch = FleetWatch { loaded: true, ..FleetWatch::default() };
    let (one, start) = (identity(), watch.started);
    watch.told.insert(one.id, Told::of(Link::Up(None)));
    let gone = view(&one, AgentState::Disconnected, "");
    assert_eq!(kinds(&mut watch.clone(), &gone, start), []);
    assert_eq!(kinds(&mut watch.clone(), &gone, start + COMING), [Kind::Disconnected]);
    assert_eq!(kinds(&mut watch, &view(&one, AgentState::Online, ""), start), []);
}

#[test]
fn a_sick_gpu_is_told_once_and_when_it_is_well() {
    let mut watch = FleetWatch { loaded: true, ..FleetWatch::default() };
    let (one, start) = (identity(), watch.started);
    let mut beat = |health: Option<&str>| {
        let gpu = Gpu { uuid: "GPU-1".into(), health: health.map(str::to_owned), ..Gpu::default() };
        let view = AgentView { gpus: vec![gpu], ..view(&one, AgentState::Online, "") };
        kinds(&mut watch, &view, start)
    };
    assert_eq!(beat(None), [Kind::Joined]);
    assert_eq!(beat(Some("Xid 79")), [Kind::GpuSick]);
    assert_eq!(beat(Some("Xid 79")), []);
    assert_eq!(beat(None), [Kind::GpuWell]);
}

#[test]
fn a_stranger_on_a_jobs_gpu_is_told_once_until_gone() {
    let mut watch = FleetWatch { loaded: true, ..FleetWatch::default() };
    let (one, start) = (identity(), watch.started);
    let mut beat = |job: Option<&str>, busy: Option<&str>| {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let keeper = busy.filter(|busy| busy.starts_with("python")).map(|_| Keeper::Stranger);
        let gpu = Gpu { uuid: "GPU-1".into(), job: own(job), busy: own(busy), keeper, ..Gpu::default() };
        let view = AgentView { gpus: vec![gpu], ..view(&one, AgentState::Online, "") };
        kinds(&mut watch, &view, start)
    };
    assert_eq!(beat(None, Some("python of anna")), [Kind::Joined]);
    assert_eq!(beat(Some("k3m9q2xw"), None), []);
    // Neither is anybody.
    assert_eq!(beat(Some("k3m9q2xw"), Some("set aside: the NVIDIA driver does not answer")), []);
    assert_eq!(beat(Some("k3m9q2xw"), Some("reserved: the container of x does not end")), []);
    assert_eq!(beat(Some("k3m9q2xw"), Some("python of anna")), [Kind::GpuStranger]);
    assert_eq!(beat(Some("k3m9q2xw"), Some("python of anna")), []);
    assert_eq!(beat(Some("k3m9q2xw"), None), []);
    assert_eq!(beat(Some("k3m9q2xw"), Some("python of anna")), [Kind::GpuStranger]);
}

#[test]
fn a_note_is_told_when_its_words_change_and_a_disk_once() {
    let mut watch = FleetWatch { loaded: true, ..FleetWatch::default() };
    let (one, start) = (identity(), watch.started);
    let mut beat = |note: &str, disk_low, at| {
        let view = AgentView { disk_low, ..view(&one, AgentState::Online, note) };
        kinds(&mut watch, &view, at)
    };
    assert_eq!(beat("others use 3 GiB", false, start), [Kind::Joined, Kind::Note]);
    assert_eq!(beat("others use 4 GiB", false, start + NOTES), []);
    assert_eq!(beat("full", true, start + NOTES), [Kind::DiskLow, Kind::Note]);
    assert_eq!(beat("", true, start + NOTES), [], "too soon");
    assert_eq!(beat("", false, start + NOTES * 2), [Kind::Note]);
}

/// Each start of the controller told all sick GPUs anew, and never one that had become well meanwhile.
#[test]
fn a_new_controller_knows_what_was_told_of_gpus_and_notes() {
    let mut watch = FleetWatch { loaded: true, ..FleetWatch::default() };
    let (one, start) = (identity(), watch.started);
    let gpu = |index: u32, health: Option<&str>| Gpu {
        index,
        uuid: format!("GPU-{index}"),
        health: health.map(str::to_owned),
        ..Gpu::default()
    };
    let sick = [gpu(0, Some("Xid 79")), gpu(1, Some("Xid 48")), gpu(2, None)];
    let view =
        |gpus: &[Gpu]| AgentView { gpus: gpus.to_vec(), ..view(&one, AgentState::Online, "3 images went") };
    let told = watch.compare(&[view(&sick)], start);
    let mut next = FleetWatch { loaded: true, ..FleetWatch::default() };
    let mut known = Told::of(Link::Up(None));
    told.iter().for_each(|one| known.remember(one.kind, &one.detail));
    next.told.insert(one.id, known);
    let well = [gpu(0, Some("Xid 79")), gpu(1, None), gpu(2, None)];
    assert_eq!(kinds(&mut next.clone(), &view(&sick), start), []);
    assert_eq!(kinds(&mut next, &view(&well), start), [Kind::GpuWell]);
}
