use super::*;
use crate::agent::GpuUsage;
use crate::job::GpuRequest;
use crate::job::resources::{GIB, MIB};

fn asked(cpu_millis: u32, memory: u64, scratch: u64) -> Resources {
    let (memory_bytes, scratch_bytes) = (memory * GIB, scratch * GIB);
    Resources { cpu_millis, memory_bytes, scratch_bytes, ..Resources::default() }
}

/// Of an hour, with these mean thousandths of a core and peaks in MiB.
fn run(asked: &Resources, cpu_millis: u64, memory: u64, disk: u64) -> Run {
    let used = Usage {
        cpu_micros: cpu_millis * 3600 * 1000,
        memory_peak_bytes: memory * MIB,
        disk_peak_bytes: disk * MIB,
        ..Usage::default()
    };
    Run { asked: asked.clone(), used, ran: Duration::from_secs(3600), outcome: Outcome::Succeeded }
}

fn ended(run: Run, outcome: Outcome) -> Run {
    Run { outcome, ..run }
}

fn next(advice: &Advice) -> Vec<Option<u64>> {
    advice.rows.iter().map(|row| row.next).collect()
}

#[test]
fn what_was_far_too_much_is_less_with_room_that_shrinks_as_more_is_known() {
    let asked = asked(8000, 64, 200);
    let one = advise(&asked, &[run(&asked, 900, 10 * 1024, 3 * 1024)]);
    assert_eq!(next(&one), [Some(2000), Some(15 * GIB), Some(5 * GIB)]);
    assert_eq!(
        (one.runs, one.headroom, one.to_string().as_str()),
        (1, 50, "cpu: 2, memory: 15GiB, scratch: 5GiB")
    );
    let runs: Vec<_> = (0..5).map(|n| run(&asked, 900, (6 + n) * 1024, 3 * 1024)).collect();
    assert_eq!(next(&advise(&asked, &runs)), [Some(2000), Some(12 * GIB), Some(4 * GIB)]);
    let taken = one.applied(&asked);
    assert_eq!((taken.cpu_millis, taken.memory_bytes, taken.scratch_bytes), (2000, 15 * GIB, 5 * GIB));
    assert!(!advise(&taken, &[run(&taken, 900, 10 * 1024, 3 * 1024)]).is_change(), "advice taken is at rest");
}

#[test]
fn nothing_is_advised_without_evidence_and_never_less_than_a_floor() {
    let asked = asked(1000, 2, 20);
    let never_ran = ended(Run { used: Usage::default(), ..run(&asked, 0, 0, 0) }, Outcome::AgentLost);
    assert_eq!(advise(&asked, &[never_ran]), Advice::default());
    let failed = ended(run(&asked, 10, 10, 1), Outcome::ExitCode(1));
    assert_eq!(next(&advise(&asked, &[failed]))[1..], [None, None], "it may have failed before its work");
    let short = Run { ran: Duration::from_secs(3), ..run(&asked, 1, 1, 1) };
    let advice = advise(&asked, &[short]);
    assert_eq!(next(&advice), [None, Some(128 * MIB), Some(GIB)]);
    assert!(advice.rows[0].why.contains("30 s"), "{advice:?}");
}

#[test]
fn who_ran_out_of_memory_asks_for_more_until_a_run_with_more_is_known() {
    let asked = asked(1000, 2, 20);
    let killed = ended(run(&asked, 500, 2048, 15 * 1024), Outcome::OomKilled);
    let advice = advise(&asked, std::slice::from_ref(&killed));
    assert_eq!(next(&advice), [None, Some(4 * GIB), None]);
    assert!(advice.rows[1].why.contains("2 GiB was not enough"), "{advice:?}");
    let larger = Resources { memory_bytes: 8 * GIB, ..asked.clone() };
    let fine = run(&larger, 500, 2200, 15 * 1024);
    assert_eq!(next(&advise(&asked, &[killed.clone(), fine.clone()]))[1], Some(3328 * MIB));
    // Whoever asks for enough by now is left alone, and never sent back below what was too little.
    assert_eq!(next(&advise(&larger, &[killed.clone(), fine]))[1], None);
    let small = run(&larger, 500, 300, 15 * 1024);
    assert_eq!(next(&advise(&asked, &[killed, small]))[1], Some(2560 * MIB));
}

#[test]
fn memory_full_of_files_says_nothing_and_a_disk_that_is_nearly_full_does() {
    let asked = asked(1000, 2, 20);
    let advice = advise(&asked, &[run(&asked, 990, 2048, 19 * 1024)]);
    assert_eq!(next(&advice), [Some(1500), None, Some(29 * GIB)]);
    assert!(advice.rows[1].why.contains("not known"), "{advice:?}");
}

#[test]
fn a_part_of_a_gpu_is_sized_and_a_whole_one_only_made_less() {
    let gpu = |memory: u64, shared: bool, count: u32| {
        let request = GpuRequest { memory_bytes: memory * GIB, shared, ..GpuRequest::of(count) };
        Resources { gpu: Some(request), ..asked(1000, 2, 20) }
    };
    let with = |asked: &Resources, peak: u64, percent: u32| {
        let of_gpu = GpuUsage {
            memory_peak_bytes: peak * GIB,
            percent_peak: 90,
            percent_mean: percent,
            ..GpuUsage::default()
        };
        let mut run = run(asked, 500, 1024, 15 * 1024);
        run.used.gpu = of_gpu;
        run
    };
    let last = |asked: &Resources, run: Run| advise(asked, &[run]).rows.pop().expect("of the GPU");
    let (part, whole, pair) = (gpu(8, true, 1), gpu(40, false, 1), gpu(40, false, 2));
    assert_eq!(last(&part, with(&part, 2, 50)).next, Some(3 * GIB));
    assert_eq!(last(&part, ended(with(&part, 8, 50), Outcome::VramLimit)).next, Some(16 * GIB));
    assert_eq!(last(&whole, with(&whole, 76, 50)).next, None);
    assert_eq!(last(&pair, with(&pair, 20, 50)).next, Some(15 * GIB), "of each");
    let unasked = gpu(0, false, 1);
    assert_eq!(last(&unasked, with(&unasked, 20, 50)).next, None);
    let idle = advise(&pair, &[with(&pair, 20, 4)]);
    assert!(idle.notes[0].contains("4 % of the time: fewer GPUs"), "{idle:?}");
    assert!(advise(&pair, &[with(&pair, 20, 40)]).notes.is_empty());
}
