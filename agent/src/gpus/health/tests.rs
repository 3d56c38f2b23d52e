use super::*;
use crate::host::fake;
use longshore_common::job::resources::GIB;

const BOOT: &str = "boot-1";
const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    health: Health,
    start: Instant,
    seconds: u32,
    reading: Reading,
}

impl Bench {
    fn new() -> Self {
        Self::with(Config::default(), None)
    }

    fn with(config: Config, kept: Option<&[u8]>) -> Self {
        let gpus = (0..4).map(|index| fake::gpu(index, "NVIDIA A100", 80 * GIB)).collect();
        let reading = Reading { gpus, nvml: Nvml::Answers, driver_load: Some(1), ..Reading::default() };
        Self { health: Health::new(config, kept), start: Instant::now(), seconds: 0, reading }
    }

    /// A second later.
    fn look(&mut self, granted: &[u32]) -> Vec<Signal> {
        self.look_under(BOOT, granted)
    }

    fn look_under(&mut self, boot: &str, granted: &[u32]) -> Vec<Signal> {
        self.seconds += 1;
        let granted = granted.iter().map(|index| uuid(*index)).collect();
        let signals = self.health.observe(self.start + self.seconds * SECOND, boot, &self.reading, &granted);
        self.reading.xids.clear();
        signals
    }

    fn looks(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.look(&[]);
        }
    }

    fn tells(&mut self, index: u32, code: u32) {
        self.reading.xids.push(Xid { gpu: Some(uuid(index)), code });
    }

    fn loses(&mut self, index: usize) {
        let reading = &mut self.reading.gpus[index];
        reading.gpu.memory_free_bytes = 0;
        (reading.lost, reading.silent) = (true, true);
        reading.fault = Some("it has fallen off the bus".to_owned());
    }

    fn mends(&mut self, index: u32) {
        self.reading.gpus[index as usize] = fake::gpu(index, "NVIDIA A100", 80 * GIB);
    }

    fn sick(&self) -> Vec<u32> {
        (0..4).filter(|index| self.health.why(&uuid(*index)).is_some()).collect()
    }
}

fn uuid(index: u32) -> String {
    format!("GPU-00000000-0000-4000-8000-{index:012}")
}

#[test]
fn a_fatal_error_sets_one_gpu_aside_and_ends_its_job_with_the_number() {
    let mut bench = Bench::new();
    bench.looks(1);
    bench.tells(2, 95);
    let signals = bench.look(&[2]);
    let detail = "GPU 2: Xid 95: an ECC error could not be kept within one program".to_owned();
    assert_eq!(signals, [Signal::Fault { gpu: uuid(2), xid: Some(95), detail }]);
    assert_eq!(bench.sick(), [2]);
    assert!(bench.health.notes()[0].starts_with("GPU 2 is set aside: Xid 95"), "{:?}", bench.health.notes());
    bench.looks(600);
    assert_eq!(bench.sick(), [2], "it answered all the time: nothing says that it was reset");
}

#[test]
fn an_error_of_the_program_is_told_and_one_for_the_operator_is_not() {
    let mut bench = Bench::new();
    bench.looks(1);
    bench.tells(1, 31);
    bench.tells(1, 63);
    let signals = bench.look(&[1]);
    assert!(
        matches!(&signals[..], [Signal::Told { gpu, line }] if *gpu == uuid(1) && line.contains("Xid 31")),
        "{signals:?}"
    );
    assert!(bench.sick().is_empty());
}

#[test]
fn a_lost_gpu_comes_back_when_it_has_answered_for_a_while() {
    let mut bench = Bench::new();
    bench.looks(1);
    bench.loses(0);
    let signals = bench.look(&[0]);
    assert!(matches!(&signals[..], [Signal::Fault { xid: None, .. }]), "{signals:?}");
    bench.mends(0);
    bench.looks(30);
    bench.loses(0);
    bench.looks(1);
    bench.mends(0);
    bench.looks(60);
    assert_eq!(bench.sick(), [0], "it stumbled in between: counted anew");
    bench.looks(1);
    assert!(bench.sick().is_empty());
}

#[test]
fn an_error_without_a_name_is_of_the_gpu_that_is_lost_with_it() {
    let mut bench = Bench::new();
    bench.looks(1);
    bench.reading.xids.push(Xid { gpu: None, code: 79 });
    bench.loses(3);
    assert!(matches!(&bench.look(&[3])[..], [Signal::Fault { gpu, xid: Some(79), .. }] if *gpu == uuid(3)));
    assert_eq!(bench.sick(), [3]);
    // It answers after a reset.
    bench.mends(3);
    bench.looks(61);
    assert!(bench.sick().is_empty());
}

#[test]
fn a_fault_that_passes_is_no_sickness() {
    let mut bench = Bench::new();
    bench.looks(1);
    let stumbling = |bench: &mut Bench| {
        bench.reading.gpus[1].silent = true;
        bench.reading.gpus[1].fault = Some("an unexpected error occurred".to_owned());
    };
    stumbling(&mut bench);
    bench.looks(4);
    bench.mends(1);
    bench.looks(1);
    assert!(bench.sick().is_empty());
    stumbling(&mut bench);
    bench.looks(6);
    assert_eq!(bench.sick(), [1]);
}

#[test]
fn lost_data_ends_the_job_and_a_row_to_be_replaced_does_not() {
    let mut bench = Bench::new();
    bench.looks(1);
    bench.reading.gpus[0].memory_errors.needs_reset = Some(true);
    assert_eq!(bench.look(&[0]), []);
    assert_eq!(bench.sick(), [0]);
    bench.reading.gpus[1].memory_errors.uncorrected = Some(3);
    assert!(
        matches!(&bench.look(&[1])[..], [Signal::Fault { gpu, xid: None, detail }] if *gpu == uuid(1) && detail.contains("3 ECC errors"))
    );
    // Its driver was loaded anew, and the counter with it.
    bench.mends(0);
    bench.mends(1);
    bench.looks(1);
    assert!(bench.sick().is_empty());
}

#[test]
fn what_the_operator_has_looked_at_is_excused_and_what_comes_then_is_not() {
    let mut bench = Bench::new();
    bench.reading.gpus[1].memory_errors.uncorrected = Some(3);
    bench.looks(2);
    assert_eq!(bench.health.reset("1"), Some(uuid(1)));
    bench.looks(2);
    assert!(bench.sick().is_empty());
    bench.reading.gpus[1].memory_errors.uncorrected = Some(4);
    bench.looks(1);
    assert_eq!(bench.sick(), [1]);
    assert_eq!(bench.health.reset(&uuid(1)), Some(uuid(1)));
    assert!(bench.sick().is_empty());
    assert_eq!(bench.health.reset("7"), None);
}

#[test]
fn a_new_start_of_the_agent_cures_nobody_and_one_of_machine_or_driver_does() {
    for (boot, load, expected) in
        [(BOOT, Some(1), &[2][..]), (BOOT, None, &[2]), ("boot-2", Some(1), &[]), (BOOT, Some(2), &[])]
    {
        let mut bench = Bench::new();
        bench.tells(2, 48);
        bench.looks(1);
        let kept = bench.health.take_unsaved().expect("something new");
        assert_eq!(bench.health.take_unsaved(), None);
        let mut next = Bench::with(Config::default(), Some(&kept));
        next.reading.driver_load = load;
        next.look_under(boot, &[]);
        assert_eq!(next.sick(), expected, "{boot} {load:?}");
    }
    let mut spoilt = Bench::with(Config::default(), Some(b"{"));
    spoilt.looks(1);
    assert!(spoilt.sick().is_empty());
}

#[test]
fn a_granted_gpu_that_is_not_there_any_more_ends_its_job() {
    let mut bench = Bench::new();
    bench.looks(1);
    bench.reading.gpus.remove(3);
    assert_eq!(bench.look(&[3]), [], "a list may be read in the wrong moment");
    assert!(matches!(&bench.look(&[3])[..], [Signal::Fault { gpu, xid: None, .. }] if *gpu == uuid(3)));
    // A driver that cannot be asked says nothing about GPUs.
    let mut blind = Bench::new();
    blind.looks(1);
    (blind.reading.nvml, blind.reading.gpus) = (Nvml::Absent, Vec::new());
    assert_eq!((blind.look(&[3]), blind.look(&[3]), blind.look(&[3])), (vec![], vec![], vec![]));
}

#[test]
fn an_instance_is_as_sick_as_what_it_is_a_part_of() {
    let mut bench = Bench::new();
    let part = &mut bench.reading.gpus[1].gpu;
    (part.parent, part.mig) =
        (Some(std::mem::replace(&mut part.uuid, "MIG-1".to_owned())), Some("1g.10gb".into()));
    bench.looks(1);
    bench.tells(1, 79);
    bench.looks(1);
    assert!(bench.health.why("MIG-1").is_some() && bench.health.whole("MIG-1") == uuid(1));
    assert_eq!(bench.health.reset("MIG-1"), Some(uuid(1)));
    assert_eq!(bench.health.why("MIG-1"), None);
}

/// GPU 1 as the instance `MIG-1`.
fn divided(bench: &mut Bench) -> GpuReading {
    let whole = bench.reading.gpus[1].clone();
    let part = &mut bench.reading.gpus[1].gpu;
    (part.parent, part.mig) =
        (Some(std::mem::replace(&mut part.uuid, "MIG-1".to_owned())), Some("1g.10gb".into()));
    whole
}

#[test]
fn a_divided_gpu_that_stumbles_takes_no_job_of_its_instances_with_it() {
    let mut bench = Bench::new();
    let whole = divided(&mut bench);
    let has = ["MIG-1".to_owned()].into();
    let part = bench.reading.gpus[1].clone();
    let look = |bench: &mut Bench, gpu: &GpuReading| {
        bench.reading.gpus[1] = gpu.clone();
        bench.seconds += 1;
        bench.health.observe(bench.start + bench.seconds * SECOND, BOOT, &bench.reading, &has)
    };
    look(&mut bench, &part);
    let fault = Some("an unexpected error occurred".to_owned());
    let stumbles = GpuReading { silent: true, fault, ..whole.clone() };
    for _ in 0..4 {
        assert_eq!(look(&mut bench, &stumbles), []);
    }
    assert_eq!(look(&mut bench, &part), []);
    // One that goes on so is sick, and one that answers without the instance has lost it.
    let signals = (0..6).map(|_| look(&mut bench, &stumbles)).last();
    assert!(
        matches!(signals.as_deref(), Some([Signal::Fault { gpu, .. }]) if *gpu == uuid(1)),
        "{signals:?}"
    );
    let undivided = GpuReading { fault: Some("it is in MIG mode and not divided".to_owned()), ..whole };
    let mut bench = Bench::new();
    divided(&mut bench);
    look(&mut bench, &part);
    look(&mut bench, &undivided);
    let signals = look(&mut bench, &undivided);
    assert!(matches!(&signals[..], [Signal::Fault { gpu, .. }] if gpu == "MIG-1"), "{signals:?}");
}

#[test]
fn two_readings_in_one_moment_are_no_vanished_gpu() {
    let mut bench = Bench::new();
    bench.looks(1);
    bench.reading.gpus.remove(3);
    assert_eq!(bench.look(&[3]), []);
    // Somebody waits for a look at once.
    let soon = bench.start + bench.seconds * SECOND + Duration::from_millis(3);
    assert_eq!(bench.health.observe(soon, BOOT, &bench.reading, &[uuid(3)].into()), []);
    assert_eq!(bench.look(&[3]).len(), 1);
}

#[test]
fn a_sick_gpu_takes_no_error_without_a_name_from_the_next_one_that_falls_silent() {
    let mut bench = Bench::new();
    bench.looks(1);
    bench.loses(0);
    bench.looks(10);
    bench.reading.xids.push(Xid { gpu: None, code: 119 });
    bench.loses(2);
    let signals = bench.look(&[2]);
    let of = |index: u32| {
        signals.iter().find_map(|signal| match signal {
            Signal::Fault { gpu, xid, .. } if *gpu == uuid(index) => Some(*xid),
            _ => None,
        })
    };
    assert_eq!((of(0), of(2)), (Some(None), Some(Some(119))), "{signals:?}");
    // Nor one long after.
    bench.looks(60);
    bench.reading.xids.push(Xid { gpu: None, code: 79 });
    bench.looks(1);
    assert!(bench.health.why(&uuid(0)).is_some_and(|why| !why.contains("79")));
}

#[test]
fn an_error_without_a_name_that_is_not_fatal_here_names_no_sickness() {
    let mut bench = Bench::with(Config { ignored_xids: vec![119], ..Config::default() }, None);
    bench.looks(1);
    bench.reading.xids.extend([119, 31].map(|code| Xid { gpu: None, code }));
    bench.loses(1);
    let signals = bench.look(&[1]);
    assert!(matches!(&signals[..], [Signal::Fault { xid: None, .. }]), "{signals:?}");
}

#[test]
fn an_error_without_a_name_on_a_machine_of_one_gpu_is_that_gpus() {
    let mut bench = Bench::new();
    bench.reading.gpus.truncate(1);
    bench.looks(1);
    bench.reading.xids.push(Xid { gpu: None, code: 95 });
    bench.looks(1);
    assert_eq!(bench.sick(), [0]);
}

#[test]
fn a_question_for_errors_of_memory_that_fails_heals_no_gpu() {
    let mut bench = Bench::new();
    bench.reading.gpus[0].memory_errors.uncorrected = Some(3);
    bench.reading.gpus[1].memory_errors.needs_reset = Some(true);
    bench.looks(2);
    assert_eq!(bench.sick(), [0, 1]);
    for gpu in &mut bench.reading.gpus {
        gpu.memory_errors = MemoryErrors::default();
    }
    bench.looks(5);
    assert_eq!(bench.sick(), [0, 1]);
    // Nor in the agent's next process, which has not asked before.
    let kept = bench.health.take_unsaved().expect("something new");
    let mut next = Bench::with(Config::default(), Some(&kept));
    next.reading.gpus.clone_from(&bench.reading.gpus);
    next.looks(5);
    assert_eq!(next.sick(), [0, 1]);
    (0..4).for_each(|index| next.mends(index));
    next.looks(1);
    assert!(next.sick().is_empty());
}

#[test]
fn a_reading_without_news_proves_nothing() {
    let mut bench = Bench::new();
    bench.looks(1);
    bench.reading.age = Age::Old;
    bench.reading.gpus.remove(3);
    bench.loses(1);
    assert_eq!((bench.look(&[3]), bench.look(&[3]), bench.look(&[3])), (vec![], vec![], vec![]));
    bench.tells(0, 79);
    assert_eq!(bench.look(&[0]).len(), 1, "errors come by another way");
}
