//! The monkey: one thing a step, thrown from the seed, and the end of every trouble it made.

use crate::{cluster::Cluster, dice::Dice, jobs::Task, wire::Silent};
use std::time::Duration;

/// What it may do, as often as it stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Submit,
    Cancel,
    KillAgent,
    StopAgent,
    Reboot,
    KillController,
    EngineAway,
    EngineCrash,
    CutWire,
    SilentWire,
    SlowWire,
    Weather,
    SetClock,
}

const DEEDS: [Deed; 26] = [
    Deed::Submit,
    Deed::Submit,
    Deed::Submit,
    Deed::Submit,
    Deed::Submit,
    Deed::Submit,
    Deed::Cancel,
    Deed::Cancel,
    Deed::KillAgent,
    Deed::KillAgent,
    Deed::KillAgent,
    Deed::StopAgent,
    Deed::Reboot,
    Deed::KillController,
    Deed::EngineAway,
    Deed::EngineCrash,
    Deed::CutWire,
    Deed::CutWire,
    Deed::SilentWire,
    Deed::SilentWire,
    Deed::SilentWire,
    Deed::SilentWire,
    Deed::SlowWire,
    Deed::Weather,
    Deed::Weather,
    Deed::SetClock,
];

/// The end of a trouble.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Relief {
    StartAgent(usize),
    StartController,
    EngineBack(usize),
    WireSpeaks(usize),
    WireFast(usize),
    Calm(usize),
}

const SECOND: Duration = Duration::from_secs(1);
/// Of a clock that is wrong.
const MOST_WRONG: Duration = Duration::from_secs(600);

/// One step: a deed, then some time.
pub(crate) async fn step(cluster: &mut Cluster, dice: &mut Dice) {
    let deed = *dice.pick(&DEEDS).expect("there are some");
    let seat = dice.below(cluster.machines.len());
    // Some are over before anybody notices, some outlast every lease.
    let length = dice.length(SECOND / 2, 900 * SECOND);
    match deed {
        Deed::Submit => {
            for _ in 0..=dice.below(6) {
                let task = Task::throw(dice);
                let again = dice.chance(0.2);
                cluster.submit(task, again).await;
            }
        }
        Deed::Cancel => {
            let throw = dice.below(usize::MAX);
            cluster.cancel(throw).await;
        }
        Deed::KillController => cluster.kill_controller(length / 8).await,
        Deed::KillAgent | Deed::StopAgent | Deed::Reboot => end_agent(cluster, seat, deed, length / 4).await,
        Deed::EngineAway | Deed::EngineCrash => {
            cluster.act(seat, format!("{deed:?} for {:?}", length / 4));
            let engine = &cluster.machines[seat].engine;
            engine.away(true);
            if deed == Deed::EngineCrash {
                engine.crash().await;
            }
            cluster.later(length / 4, Relief::EngineBack(seat));
        }
        Deed::CutWire | Deed::SilentWire | Deed::SlowWire => wire(cluster, dice, seat, deed, length),
        Deed::Weather => {
            let (network, engine) = (dice.below(40), dice.below(20));
            cluster.act(
                seat,
                format!("{network} % of calls and {engine} % of the engine's in trouble for {length:?}"),
            );
            let share = |percent: usize| f64::from(u32::try_from(percent).expect("small")) / 100.0;
            cluster.machines[seat].trouble(share(network), share(engine));
            cluster.later(length, Relief::Calm(seat));
        }
        Deed::SetClock => {
            let by = dice.length(SECOND, MOST_WRONG);
            let ahead = dice.chance(0.5);
            cluster.act(seat, format!("clock {} by {by:?}", if ahead { "ahead" } else { "behind" }));
            let clock = &cluster.machines[seat].clock;
            if ahead { clock.set_ahead(by) } else { clock.set_behind(by) }
        }
    }
    let pause = dice.length(SECOND / 20, 40 * SECOND);
    cluster.pass(pause).await;
}

async fn end_agent(cluster: &mut Cluster, seat: usize, deed: Deed, length: Duration) {
    cluster.act(seat, format!("{deed:?} for {length:?}"));
    let machine = &mut cluster.machines[seat];
    match deed {
        Deed::StopAgent => machine.stop().await,
        Deed::Reboot => machine.reboot().await,
        _ => machine.kill().await,
    }
    cluster.later(length, Relief::StartAgent(seat));
}

fn wire(cluster: &mut Cluster, dice: &mut Dice, seat: usize, deed: Deed, length: Duration) {
    let both = dice.chance(0.5);
    let up = dice.chance(0.5);
    let silent = Silent { up: both || up, down: both || !up };
    let latency = dice.length(SECOND / 100, 5 * SECOND);
    let what = match deed {
        Deed::SilentWire => format!("{silent:?} for {length:?}"),
        Deed::SlowWire => format!("by {latency:?} for {length:?}"),
        _ => String::new(),
    };
    cluster.act(seat, format!("{deed:?} {what}"));
    let wire = &cluster.machines[seat].wire;
    match deed {
        Deed::SilentWire => {
            wire.silence(silent);
            cluster.later(length, Relief::WireSpeaks(seat));
        }
        Deed::SlowWire => {
            wire.slow(latency);
            cluster.later(length, Relief::WireFast(seat));
        }
        _ => wire.cut(),
    }
}
