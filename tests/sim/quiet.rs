//! A runtime on one thread whose clock is paused. tokio moves such a clock to the next timer when nothing is left to
//! do; here it moves only when no other thread of the process has anything to do either, so that a slow disk or a
//! busy machine never looks like time gone by. Knows nothing of Longshore.

use std::{
    fs::{self, File},
    future::Future,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

/// More files at once than the databases and journals of a cluster keep busy.
const BLOCKING_THREADS: usize = 4;
const LOOK_AGAIN: Duration = Duration::from_micros(20);

pub(crate) fn run<F: Future>(work: F) -> F::Output {
    let others = Mutex::new(Others::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .max_blocking_threads(BLOCKING_THREADS)
        // On the way to sleep, before the clock is moved. What a thread brings afterwards keeps it from moving.
        .on_thread_park(move || others.lock().unwrap_or_else(PoisonError::into_inner).wait_until_asleep())
        .build();
    runtime.expect("a runtime can be built").block_on(work)
}

/// The other threads of this process, by the files in which the kernel says what they do.
#[derive(Debug, Default)]
struct Others {
    count: u64,
    states: Vec<File>,
}

impl Others {
    fn wait_until_asleep(&mut self) {
        while !self.are_asleep() {
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn are_asleep(&mut self) -> bool {
        let count = fs::metadata("/proc/self/task").expect("Linux has it").nlink();
        if count != self.count {
            self.count = count;
            self.states = list();
        }
        let states: Option<Vec<bool>> = self.states.iter().map(is_asleep).collect();
        // One has ended: look who is left.
        let Some(states) = states else {
            self.count = 0;
            return false;
        };
        states.into_iter().all(|asleep| asleep)
    }
}

fn list() -> Vec<File> {
    let own = fs::read_link("/proc/thread-self").expect("Linux has it");
    let tasks = fs::read_dir("/proc/self/task").expect("Linux has it").flatten();
    let others = tasks.filter(|task| Some(task.file_name().as_os_str()) != own.file_name());
    others.filter_map(|task| File::open(task.path().join("stat")).ok()).collect()
}

/// `None`: there is no such thread any more.
fn is_asleep(stat: &File) -> Option<bool> {
    // `123 (name) S ...`, with a name of 15 bytes at most, which may hold anything.
    let mut text = [0; 32];
    let length = stat.read_at(&mut text, 0).ok()?;
    let end = text[..length].iter().rposition(|byte| *byte == b')')?;
    Some(text.get(end + 2) == Some(&b'S'))
}
