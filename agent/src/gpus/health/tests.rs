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
        (reading.lost, reading.fault) = (true, Some("it has fallen off the bus".to_owned()));
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
        bench.reading.gpus[1].gpu.memory_free_bytes = 0;
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
    bench.reading.gpus[0].memory_errors.needs_reset = true;
    assert_eq!(bench.look(&[0]), []);
    assert_eq!(bench.sick(), [0]);
    bench.reading.gpus[1].memory_errors.uncorrected = 3;
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
    bench.reading.gpus[1].memory_errors.uncorrected = 3;
    bench.looks(2);
    assert_eq!(bench.health.reset("1"), Some(uuid(1)));
    bench.looks(2);
    assert!(bench.sick().is_empty());
    bench.reading.gpus[1].memory_errors.uncorrected = 4;
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
