//! Does what was planned, on a thread of its own, and puts everything right at the end. Starts again what ended by
//! itself, and remembers that.

use crate::{
    faults::{Fault, What},
    stack::Stack,
    timeline::Timeline,
};
use longshore_tests::env::PATIENCE;
use std::{thread, time::Duration};

/// How late a fault may be.
const TICK: Duration = Duration::from_millis(50);

pub(crate) fn run(stack: &mut Stack, plan: Vec<Fault>, length: Duration, timeline: &Timeline) {
    let mut due = plan.into_iter().peekable();
    let mut under_way: Vec<Fault> = Vec::new();
    while timeline.now() < length {
        let now = timeline.now();
        while let Some(fault) = due.next_if(|fault| fault.from <= now) {
            begin(stack, fault.what, timeline);
            under_way.push(fault);
        }
        for over in under_way.extract_if(.., |fault| fault.to <= now) {
            end(stack, over.what, timeline);
        }
        stack.supervise(timeline);
        thread::sleep(TICK);
    }
    for rest in under_way {
        end(stack, rest.what, timeline);
    }
    heal(stack, timeline);
}

/// Until every part answers: one that was just started may take long, or not come up at the first try.
fn heal(stack: &mut Stack, timeline: &Timeline) {
    let began = timeline.now();
    while !stack.answers() {
        assert!(
            timeline.now() - began < PATIENCE,
            "a part that was started does not answer after {PATIENCE:?}"
        );
        stack.supervise(timeline);
        thread::sleep(TICK);
    }
}

fn begin(stack: &mut Stack, what: What, timeline: &Timeline) {
    timeline.fault(what);
    match what {
        What::Kill { part, .. } => stack.kill(part),
        What::Pause(part) => stack.pause(part),
        What::Cut(link) => stack.link(link).close(),
        What::Freeze(link) => stack.link(link).freeze(),
    }
}

fn end(stack: &mut Stack, what: What, timeline: &Timeline) {
    match what {
        What::Kill { part, live_restore } => stack.start_again(part, live_restore),
        What::Pause(part) => stack.resume(part),
        What::Cut(link) | What::Freeze(link) => stack.link(link).open(),
    }
    timeline.over(what);
    timeline.note(&format!("over: {what}"));
}
