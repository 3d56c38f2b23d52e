use super::*;
use crate::{attempt::stop::StopSignal, host::Age};
use longshore_common::{
    clock::Timestamp,
    ids::{AttemptRef, Epoch, JobId},
};

const NOT_OURS: &str = "others may use this GPU too";

/// A running job with one GPU.
fn runs(held: &Held, uuid: &str) -> (Holding, StopSignal) {
    let attempt = AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) };
    let lease = Duration::from_secs(600);
    let (holding, signal) = held.admit(attempt, lease, tokio::time::Instant::now()).expect("free");
    holding.has_gpus(&[uuid.to_owned()], None);
    holding.started(Timestamp::from_micros(1));
    (holding, signal)
}

fn told(gpu: &str) -> Signal {
    Signal::Told { gpu: gpu.to_owned(), line: "GPU 0: Xid 31".to_owned() }
}

/// `MIG-1` and `MIG-2` are parts of `GPU-0`.
fn whole(uuid: &str) -> String {
    if uuid.starts_with("MIG-") { "GPU-0" } else { uuid }.to_owned()
}

#[tokio::test]
async fn an_error_of_one_instance_is_not_said_to_be_of_each_job_on_that_gpu() {
    let held = Held::default();
    let (mut one, _first) = runs(&held, "MIG-1");
    let (other, _second) = runs(&held, "MIG-2");
    let (beside, _third) = runs(&held, "GPU-1");
    held.gpu_signal(&told("GPU-0"), whole);
    assert!(one.line().await.contains(NOT_OURS));
    for story in [one.story_so_far(), other.story_so_far()] {
        assert_eq!((story.errors.len(), story.doubtful.len()), (0, 1), "{story:?}");
    }
    assert_eq!(beside.story_so_far(), Story::default());
    // A whole GPU of one job's own is without doubt, and so is one that is broken.
    held.gpu_signal(&told("GPU-1"), whole);
    assert_eq!(beside.story_so_far().errors, ["GPU 0: Xid 31"]);
    let broken = Signal::Fault { gpu: "GPU-0".to_owned(), xid: Some(79), detail: "GPU 0: Xid 79".to_owned() };
    held.gpu_signal(&broken, whole);
    assert!(one.story_so_far().fault.is_some() && other.story_so_far().fault.is_some());
}

#[tokio::test]
async fn an_error_on_a_shared_gpu_is_of_the_one_that_runs_or_of_nobody_for_sure() {
    let held = Held::default();
    let (one, _first) = runs(&held, "GPU-0");
    let (other, _second) = runs(&held, "GPU-0");
    other.phase(JobState::Preparing);
    held.gpu_signal(&told("GPU-0"), whole);
    assert_eq!((one.story_so_far().errors.len(), other.story_so_far()), (1, Story::default()));
    other.started(Timestamp::from_micros(2));
    held.gpu_signal(&told("GPU-0"), whole);
    assert_eq!(other.story_so_far().doubtful.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_a_stalled_driver_tells_after_the_end_is_waited_for() {
    let held = Held::default();
    let (holding, signal) = runs(&held, "GPU-0");
    holding.ended();
    let stalls = async {
        held.looks().wanted().await;
        for second in 0..10 {
            if second == 5 {
                let detail = "GPU 0: Xid 79".to_owned();
                held.gpu_signal(&Signal::Fault { gpu: "GPU-0".to_owned(), xid: Some(79), detail }, whole);
            }
            let look = held.looks().begin();
            tokio::time::sleep(Duration::from_secs(1)).await;
            held.looks().done(look, Age::Old);
        }
    };
    let story = tokio::select! {
        story = holding.story() => story,
        () = stalls => panic!("enough was known"),
    };
    assert_eq!((story.fault.map(|(xid, _)| xid), story.unknown), (Some(Some(79)), false));
    assert_eq!(signal.said(), None, "nothing is stopped any more");
    let (holding, _signal) = runs(&held, "GPU-1");
    holding.ended();
    assert!(holding.story().await.unknown, "it never answers");
}

#[tokio::test]
async fn a_container_that_lost_its_gpus_is_told_so_once_and_one_that_never_had_them_is_not() {
    let held = Held::default();
    let (mut holding, signal) = runs(&held, "GPU-0");
    holding.opens_gpus(false);
    assert!(held.shut_out().is_empty(), "an engine that hides it");
    for may in [true, false, false, true, false] {
        holding.opens_gpus(may);
    }
    assert!(holding.line().await.starts_with("gpu_access: "));
    assert!(holding.lines.try_recv().is_err(), "once");
    assert!(holding.story_so_far().shut_out && held.shut_out().len() == 1);
    assert_eq!(signal.said(), None, "what it has open goes on");
}
