//! How an attempt ended, decided once from everything that is known about it. Pure.

use super::{held::Story, stop::Cause};
use crate::runtime::Exit;
use longshore_common::{
    agent::MEMORY_FULL,
    job::{Outcome, Resources},
    units::ByteSize,
};
use std::time::Duration;

/// What SIGKILL makes an exit code.
const KILLED: i32 = 137;

/// What is known when nothing more can happen to the attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ending {
    /// Why it was stopped, if it was.
    pub(super) stopped: Option<Cause>,
    /// What went wrong before the main process ran.
    pub(super) failed: Option<(Outcome, String)>,
    pub(super) exit: Option<Exit>,
    /// For how long at least.
    pub(super) ran: Option<Duration>,
    /// Nothing more went into what has a hard limit, when it ended.
    pub(super) disk_full: bool,
    /// What its processes held at most, as often as anybody looked. No page cache: that is given back when it is wanted.
    pub(super) held: u64,
    pub(super) limits: Limits,
    /// It could not be ended: the machine's trouble, whatever it was stopped for.
    pub(super) stuck: Option<String>,
    /// What went wrong with its files.
    pub(super) not_stored: Option<(Outcome, String)>,
    /// What happened to its GPUs.
    pub(super) gpus: Story,
}

/// What the job may take, for the sentences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    memory_bytes: u64,
    scratch_bytes: u64,
}

impl From<&Resources> for Limits {
    fn from(resources: &Resources) -> Self {
        Self { memory_bytes: resources.memory_bytes, scratch_bytes: resources.scratch_bytes }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is another's now.
    Vanish,
    Report {
        outcome: Outcome,
        detail: String,
        notes: Vec<String>,
    },
}

impl Ending {
    /// Keeps the strongest cause.
    pub(super) fn stop(&mut self, cause: Cause) {
        if self.stopped.as_ref().is_none_or(|before| *before < cause) {
            self.stopped = Some(cause);
        }
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.stopped == Some(Cause::Revoked)
    }

    /// A stop of ours explains any exit; then what failed before the start; then the engine; then the exit.
    pub(super) fn verdict(self) -> Verdict {
        let failed = self.exit.as_ref().is_some_and(|exit| exit.code != 0);
        let mut notes = told(&self.gpus, failed);
        let exited = |exit: &Exit, notes: &mut Vec<String>| {
            if let Some(note) = full(exit, self.held, self.limits) {
                notes.push(note);
            }
            let (outcome, detail) = exited(exit, self.disk_full, self.limits, notes);
            blamed(&self.gpus, outcome, detail)
        };
        let (outcome, detail) = match (self.stopped, self.failed, self.exit) {
            // A process that waits for a GPU that is gone cannot be killed.
            (Some(Cause::GpuFault { xid, detail }), _, None) if self.stuck.is_some() => {
                (Outcome::GpuFault(xid), format!("{detail}; {}", self.stuck.unwrap_or_default()))
            }
            (Some(cause), _, None) if cause != Cause::Revoked && self.stuck.is_some() => {
                let why = cause.verdict().map(|(outcome, _)| format!(" ({outcome})")).unwrap_or_default();
                (Outcome::RuntimeError, self.stuck.unwrap_or_default() + &why)
            }
            // The engine had taken it before its time was up.
            (Some(Cause::RunDeadline(length)), _, Some(exit))
                if exit.engine_restarted && self.ran.is_some_and(|ran| ran < length) =>
            {
                exited(&exit, &mut notes)
            }
            (Some(cause), _, _) => match cause.verdict() {
                Some(verdict) => verdict,
                None => return Verdict::Vanish,
            },
            (None, Some(failed), _) => failed,
            (None, None, Some(exit)) => exited(&exit, &mut notes),
            (None, None, None) => (
                Outcome::RuntimeError,
                "the attempt ended without an exit; the agent's log says why".to_owned(),
            ),
        };
        match self.not_stored {
            Some(not_stored) if outcome == Outcome::Succeeded => {
                Verdict::Report { outcome: not_stored.0, detail: not_stored.1, notes }
            }
            Some((name, why)) => {
                notes.push(format!("{}: {why}", name.name()));
                Verdict::Report { outcome, detail, notes }
            }
            None => Verdict::Report { outcome, detail, notes },
        }
    }
}

/// What happened on its GPUs, whatever became of the job; what may be others' doing only of one that failed.
fn told(gpus: &Story, failed: bool) -> Vec<String> {
    let strangers = gpus.strangers.iter().map(|who| format!("gpu_stranger: {who}"));
    let errors = gpus.errors.iter().chain(gpus.doubtful.iter().filter(|_| failed));
    strangers.chain(errors.map(|line| format!("gpu_error: {line}"))).collect()
}

/// A program that fails when its GPU does, or while somebody else is on it, is not at fault for all that is known.
fn blamed(gpus: &Story, outcome: Outcome, detail: String) -> (Outcome, String) {
    if !matches!(outcome, Outcome::ExitCode(_)) {
        return (outcome, detail);
    }
    match (&gpus.fault, gpus.strangers.first()) {
        (Some((xid, why)), _) => (Outcome::GpuFault(*xid), format!("{why}; the container {detail}")),
        (None, Some(who)) => (Outcome::GpuDisturbed, format!("the container {detail} after {who}")),
        (None, None) if gpus.shut_out => {
            let why = "the container could not open its GPUs any more: its devices had been set anew";
            (Outcome::GpuFault(None), format!("{why}; it {detail}"))
        }
        (None, None) if gpus.unknown => {
            let why = "the NVIDIA driver did not answer when the container ended";
            (Outcome::GpuFault(None), format!("{why}; it {detail}"))
        }
        (None, None) => (outcome, detail),
    }
}

fn exited(exit: &Exit, disk_full: bool, limits: Limits, notes: &mut Vec<String>) -> (Outcome, String) {
    if exit.engine_restarted {
        return (
            Outcome::EngineRestart,
            format!("the container engine stopped and took the container with it (code {})", exit.code),
        );
    }
    match (exit.code, exit.oom_flag) {
        (0, false) => (Outcome::Succeeded, String::new()),
        (0, true) => {
            notes.push("oom_event: a child process was killed for memory".to_owned());
            (Outcome::Succeeded, String::new())
        }
        (code, true) => {
            let limit = ByteSize(limits.memory_bytes).rounded();
            (Outcome::OomKilled, format!("the container went over its memory limit of {limit} (code {code})"))
        }
        (code, false) if disk_full => {
            let limit = ByteSize(limits.scratch_bytes).rounded();
            let why = format!("the container filled its disk limit of {limit} and {}", exit_sentence(code));
            (Outcome::DiskLimit, why)
        }
        (code, false) => (Outcome::ExitCode(code), exit_sentence(code)),
    }
}

/// Somebody killed it, and memory may be why: it had nearly all that it may have.
fn full(exit: &Exit, held: u64, limits: Limits) -> Option<String> {
    let limit = limits.memory_bytes;
    let is_full = limit > 0 && held >= limit - limit / 20;
    (exit.code == KILLED && !exit.oom_flag && !exit.engine_restarted && is_full).then(|| {
        let (held, limit) = (ByteSize(held).rounded(), ByteSize(limit).rounded());
        format!("{MEMORY_FULL}: its processes held {held} of {limit}")
    })
}

/// A real signal and an `exit 128+n` look alike to the engine: the sentence names both.
fn exit_sentence(code: i32) -> String {
    let signal = match code {
        125 => return "exited with 125 (as `docker run` does when it fails itself)".to_owned(),
        126 => return "exited with 126 (a command may not be executed: permission denied?)".to_owned(),
        127 => return "exited with 127 (a command was not found)".to_owned(),
        129 => "SIGHUP",
        130 => "SIGINT",
        131 => "SIGQUIT",
        132 => "SIGILL",
        134 => "SIGABRT",
        135 => "SIGBUS",
        136 => "SIGFPE",
        137 => "SIGKILL",
        139 => "SIGSEGV, invalid memory access",
        141 => "SIGPIPE",
        143 => "SIGTERM",
        _ => return format!("exited with {code}"),
    };
    format!("exited with {code} ({signal}, or that code)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::clock::Timestamp;

    fn exit(code: i32, oom_flag: bool, engine_restarted: bool) -> Option<Exit> {
        let at = Timestamp::from_micros(0);
        Some(Exit { code, oom_flag, started_at: at, finished_at: at, engine_restarted })
    }

    fn ending(stopped: Option<Cause>, exit: Option<Exit>) -> Ending {
        Ending { stopped, exit, ..Ending::default() }
    }

    fn outcome(ending: Ending) -> Outcome {
        match ending.verdict() {
            Verdict::Report { outcome, .. } => outcome,
            Verdict::Vanish => panic!("vanished"),
        }
    }

    #[test]
    fn every_ending_has_one_outcome() {
        let deadline = Cause::RunDeadline(Duration::from_secs(1));
        let disk = Cause::DiskLimit { used: 2, limit: 1 };
        let cancel = Cause::Cancelled("by anna".into());
        let table = [
            (ending(None, exit(0, false, false)), Outcome::Succeeded),
            (ending(None, exit(3, false, false)), Outcome::ExitCode(3)),
            (ending(None, exit(139, false, false)), Outcome::ExitCode(139)),
            // A killed child with a main process that ends well.
            (ending(None, exit(0, true, false)), Outcome::Succeeded),
            (ending(None, exit(137, true, false)), Outcome::OomKilled),
            (ending(None, exit(1, true, false)), Outcome::OomKilled),
            // A kill from outside that is not memory.
            (ending(None, exit(137, false, false)), Outcome::ExitCode(137)),
            // Our own SIGKILL: never an exit code, never out of memory.
            (ending(Some(deadline.clone()), exit(137, false, false)), Outcome::RunTimeout),
            (ending(Some(deadline.clone()), exit(137, true, false)), Outcome::RunTimeout),
            // A trap that ends well during its grace.
            (ending(Some(deadline), exit(0, false, false)), Outcome::RunTimeout),
            (ending(Some(disk), exit(143, false, false)), Outcome::DiskLimit),
            (ending(Some(cancel.clone()), exit(143, false, false)), Outcome::Cancelled),
            (ending(Some(cancel.clone()), exit(0, false, true)), Outcome::Cancelled),
            (ending(Some(cancel), None), Outcome::Cancelled),
            (ending(Some(Cause::HandingBack), exit(0, false, false)), Outcome::AgentShutdown),
            (ending(Some(Cause::Drained("by anna".into())), exit(0, false, false)), Outcome::AgentShutdown),
            (ending(Some(Cause::LeaseLost(Duration::ZERO)), exit(143, false, false)), Outcome::AgentLost),
            // A stopping engine makes a TERM trap exit 0.
            (ending(None, exit(0, false, true)), Outcome::EngineRestart),
            (ending(None, exit(137, true, true)), Outcome::EngineRestart),
            (ending(None, None), Outcome::RuntimeError),
            (ending(Some(Cause::PrepareDeadline(Duration::ZERO)), None), Outcome::PrepareTimeout),
        ];
        for (ending, expected) in table {
            assert_eq!(outcome(ending.clone()), expected, "{ending:?}");
        }
    }

    #[test]
    fn a_limit_that_was_passed_is_named_with_its_size() {
        let resources = Resources { memory_bytes: 512 << 20, scratch_bytes: 3 << 30, ..Resources::default() };
        let told = |exit: Option<Exit>, disk_full: bool| {
            let ending = Ending { disk_full, limits: Limits::from(&resources), ..ending(None, exit) };
            match ending.verdict() {
                Verdict::Report { outcome, detail, .. } => (outcome, detail),
                Verdict::Vanish => panic!("vanished"),
            }
        };
        let (outcome, detail) = told(exit(137, true, false), true);
        assert_eq!(outcome, Outcome::OomKilled);
        assert_eq!(detail, "the container went over its memory limit of 512 MiB (code 137)");
        let (outcome, detail) = told(exit(1, false, false), true);
        assert_eq!(outcome, Outcome::DiskLimit);
        assert_eq!(detail, "the container filled its disk limit of 3 GiB and exited with 1");
        assert_eq!(told(exit(1, false, false), false).0, Outcome::ExitCode(1));
        // Whoever copes with a full disk has not failed.
        assert_eq!(told(exit(0, false, false), true).0, Outcome::Succeeded);
    }

    #[test]
    fn a_container_that_does_not_end_is_the_machines_trouble_whatever_it_was_stopped_for() {
        for cause in [Cause::RunDeadline(Duration::from_secs(1)), Cause::Cancelled("by anna".into())] {
            let stuck = Some("SIGKILL did nothing for 60 s".to_owned());
            assert_eq!(outcome(Ending { stuck, ..ending(Some(cause), None) }), Outcome::RuntimeError);
        }
        let stuck = Some("SIGKILL did nothing for 60 s".to_owned());
        assert_eq!(Ending { stuck, ..ending(Some(Cause::Revoked), None) }.verdict(), Verdict::Vanish);
    }

    #[test]
    fn a_program_that_fails_with_its_gpu_or_beside_a_stranger_is_not_at_fault() {
        let fault = Story { fault: Some((Some(79), "GPU 1: Xid 79".to_owned())), ..Story::default() };
        let stranger = Story { strangers: vec!["python of anna (pid 7)".to_owned()], ..Story::default() };
        let with = |gpus: &Story, code: i32, oom: bool| {
            let ending = Ending { gpus: gpus.clone(), ..ending(None, exit(code, oom, false)) };
            match ending.verdict() {
                Verdict::Report { outcome, detail, notes } => (outcome, detail, notes),
                Verdict::Vanish => panic!("vanished"),
            }
        };
        let (outcome, detail, _) = with(&fault, 1, false);
        assert_eq!(
            (outcome, detail),
            (Outcome::GpuFault(Some(79)), "GPU 1: Xid 79; the container exited with 1".into())
        );
        let (outcome, detail, notes) = with(&stranger, 1, false);
        assert_eq!(outcome, Outcome::GpuDisturbed);
        assert!(detail.contains("exited with 1") && detail.contains("anna"), "{detail}");
        assert_eq!(notes, ["gpu_stranger: python of anna (pid 7)"]);
        // What it did well, or to its own memory, is its own.
        assert_eq!(with(&fault, 0, false).0, Outcome::Succeeded);
        assert_eq!(with(&stranger, 0, false).0, Outcome::Succeeded);
        assert_eq!(with(&stranger, 137, true).0, Outcome::OomKilled);
        // Nor where nobody can say how its GPUs were, or it could not open them.
        for story in
            [Story { unknown: true, ..Story::default() }, Story { shut_out: true, ..Story::default() }]
        {
            assert_eq!(with(&story, 1, false).0, Outcome::GpuFault(None), "{story:?}");
            assert_eq!(with(&story, 0, false).0, Outcome::Succeeded, "{story:?}");
        }
        let cause = Cause::GpuFault { xid: None, detail: "GPU 1: it has fallen off the bus".into() };
        let stuck = Some("SIGKILL did nothing for 60 s".to_owned());
        assert_eq!(self::outcome(Ending { stuck, ..ending(Some(cause), None) }), Outcome::GpuFault(None));
    }

    #[test]
    fn an_error_that_may_be_of_another_job_is_no_note_of_one_that_went_well() {
        let doubtful = Story { doubtful: vec!["GPU 0: Xid 31".to_owned()], ..Story::default() };
        let notes = |code: i32| {
            let ending = Ending { gpus: doubtful.clone(), ..ending(None, exit(code, false, false)) };
            let Verdict::Report { notes, outcome, .. } = ending.verdict() else { panic!("vanished") };
            (outcome, notes)
        };
        assert_eq!(notes(0), (Outcome::Succeeded, vec![]));
        assert_eq!(notes(3), (Outcome::ExitCode(3), vec!["gpu_error: GPU 0: Xid 31".to_owned()]));
    }

    #[test]
    fn a_child_killed_for_memory_leaves_a_note() {
        let Verdict::Report { notes, .. } = ending(None, exit(0, true, false)).verdict() else {
            panic!("vanished")
        };
        assert!(notes[0].starts_with("oom_event"));
    }

    #[test]
    fn a_kill_with_full_memory_leaves_a_note_and_one_with_memory_full_of_files_does_not() {
        let limits = Limits { memory_bytes: 64 << 20, scratch_bytes: 0 };
        let notes = |code: i32, held: u64| {
            let ending = Ending { held: held << 20, limits, ..ending(None, exit(code, false, false)) };
            let Verdict::Report { notes, .. } = ending.verdict() else { panic!("vanished") };
            notes
        };
        assert_eq!(notes(137, 63), ["memory_full: its processes held 63 MiB of 64 MiB"]);
        for (code, held) in [(137, 40), (137, 0), (1, 64), (0, 64)] {
            assert_eq!(notes(code, held), Vec::<String>::new(), "{code} {held}");
        }
    }

    #[test]
    fn a_failed_upload_spoils_success_and_is_a_note_otherwise() {
        let lost = Some((Outcome::ArtifactUploadFailed, "no answer".to_owned()));
        let good = Ending { not_stored: lost.clone(), ..ending(None, exit(0, false, false)) };
        assert_eq!(outcome(good), Outcome::ArtifactUploadFailed);
        let bad = Ending { not_stored: lost, ..ending(None, exit(3, false, false)) };
        let Verdict::Report { outcome, notes, .. } = bad.verdict() else { panic!("vanished") };
        assert_eq!(outcome, Outcome::ExitCode(3));
        assert_eq!(notes, ["artifact_upload_failed: no answer"]);
    }

    #[test]
    fn fenced_reports_nothing_whatever_else_happened() {
        let mut fenced = ending(Some(Cause::Cancelled("late".into())), exit(0, false, false));
        fenced.stop(Cause::Revoked);
        fenced.stop(Cause::Leaving);
        assert_eq!(fenced.verdict(), Verdict::Vanish);
    }

    #[test]
    fn what_failed_before_the_start_is_the_outcome() {
        let failed = Some((Outcome::ImageNotFound, "no such image".to_owned()));
        assert_eq!(outcome(Ending { failed, ..Ending::default() }), Outcome::ImageNotFound);
    }
}
