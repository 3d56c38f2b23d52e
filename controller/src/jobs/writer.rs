//! The one task that writes. It drains its channel into one transaction; whoever asked hears after the commit.

use super::{
    Shared, after, batches, claim, command::Command, error::Error, finish, fleet, heartbeat, remove, submit,
    turns, work::Work,
};
use crate::{actions, store::Tx};
use longshore_common::{clock::Timestamp, ids::JobId};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};

/// Commands of one transaction at most.
const BATCH: usize = 128;
/// How long a busy writer waits for more. An idle one does not wait: a lone command is committed at once.
const GATHER: Duration = Duration::from_millis(2);

pub(super) async fn run(shared: Arc<Shared>, mut commands: mpsc::Receiver<Command>) {
    let mut busy = false;
    while let Some(first) = commands.recv().await {
        let batch = gather(first, &mut commands, busy).await;
        busy = batch.len() > 1;
        commit(&shared, batch).await;
    }
}

async fn gather(first: Command, commands: &mut mpsc::Receiver<Command>, busy: bool) -> Vec<Command> {
    let mut batch = vec![first];
    let deadline = Instant::now() + GATHER;
    while batch.len() < BATCH {
        match commands.try_recv() {
            Ok(command) => batch.push(command),
            Err(_) if !busy => break,
            Err(_) => match tokio::time::timeout_at(deadline, commands.recv()).await {
                Ok(Some(command)) => batch.push(command),
                Ok(None) | Err(_) => break,
            },
        }
    }
    batch
}

/// A command that spoils its batch is alone with its error: the others are done one by one.
async fn commit(shared: &Shared, mut batch: Vec<Command>) {
    match attempt(shared, &mut batch).await {
        Ok(()) => batch.into_iter().for_each(|command| command.settle(Ok(()))),
        Err(error) if batch.len() == 1 || error.is_transient() => {
            tracing::error!(%error, commands = batch.len(), "commit failed");
            batch.into_iter().for_each(|command| command.settle(Err(error.clone().into())));
        }
        Err(error) => {
            tracing::warn!(%error, commands = batch.len(), "batch failed; trying its commands one by one");
            for command in batch {
                let mut alone = [command];
                let result = attempt(shared, &mut alone).await;
                let [command] = alone;
                if let Err(error) = &result {
                    tracing::error!(%error, "commit failed");
                }
                command.settle(result.map_err(Error::from));
            }
        }
    }
}

async fn attempt(shared: &Shared, batch: &mut [Command]) -> Result<(), crate::store::Error> {
    let before = shared.revision();
    let config = &shared.config;
    let mut work = Work::new(
        Timestamp::now(),
        shared.cluster.1,
        before,
        (shared.projects.retention(config.retention), config.disconnect_tolerance),
        fleet::Draft::new(shared.fleet.now()),
    );
    let mut tx = shared.store.begin().await?;
    apply(shared, batch, &mut work, &mut tx).await?;
    work.finish(&mut tx, before).await?;
    tx.commit().await?;
    shared.set_revision(work.revision);
    if let Some(fleet) = work.fleet.changed() {
        shared.fleet.set(fleet);
        if work.fleet.is_ordered() {
            shared.marks.forget();
            shared.reserved.close(|agent| work.fleet.is_cordoned(agent, work.now));
        }
        shared.nudges.fleet();
    }
    work.publish((&shared.live, &shared.agents, &shared.reserved), &shared.nudges);
    Ok(())
}

async fn apply(
    shared: &Shared,
    batch: &mut [Command],
    work: &mut Work,
    tx: &mut Tx,
) -> Result<(), crate::store::Error> {
    for command in batch.iter_mut() {
        if let Command::Chore(call) = command {
            call.answer = Some(call.input.run(tx, work.now).await?);
        }
        if let Command::Action(call) = command {
            call.answer = Some(actions::apply(&call.input, tx, work.now).await?);
        }
        // Before the claims of this batch: they see it.
        if let Command::Fleet(call) = command {
            let done = fleet::apply(&call.input, &mut work.fleet, &shared.live, tx, work.now);
            call.answer = Some(done.await?);
        }
    }
    let jobs: Vec<_> = touched(batch).into_iter().collect();
    work.jobs.extend(tx.load_jobs(&jobs).await?.into_iter().map(|row| (row.job.id, row)));
    let requests = submit::Known::load(batch, &shared.projects, tx).await?;
    let reports = finish::Known::load(batch, &shared.live, work, tx).await?;
    let needs = remove::Known::load(batch, tx).await?;
    let mut submits = submit::Round::new(requests);
    for command in batch.iter_mut() {
        match command {
            Command::Submit(call) => call.answer = Some(submits.apply(&call.input, work)),
            Command::Batch(call) => call.answer = Some(batches::make(&call.input, &mut submits, work)),
            Command::Phases(call) => {
                heartbeat::apply(&call.input, work);
                call.answer = Some(());
            }
            Command::Finish(call) => call.answer = Some(finish::apply(&call.input, &reports, work)),
            Command::Events(call) => {
                let events = call.input.iter();
                call.answer = Some(events.map(|(job, event)| work.apply(*job, event.clone())).collect());
            }
            Command::Remove(call) => call.answer = Some(remove::apply(&call.input, &needs, work)),
            Command::Claim(_) | Command::Chore(_) | Command::Fleet(_) | Command::Action(_) => {}
        }
    }
    // Before the claims of this batch: what is let go can be granted.
    after::settle(work, tx).await?;
    turns::settle(work, tx).await?;
    claim::apply_all(shared, batch, work, tx).await
}

/// Jobs that the batch names.
fn touched(batch: &[Command]) -> BTreeSet<JobId> {
    let mut jobs = BTreeSet::new();
    for command in batch {
        match command {
            Command::Phases(call) => jobs.extend(call.input.iter().map(|held| held.attempt.job)),
            Command::Finish(call) => jobs.extend(call.input.iter().map(|report| report.attempt.job)),
            Command::Events(call) => jobs.extend(call.input.iter().map(|(job, _)| *job)),
            Command::Remove(call) => jobs.extend(&call.input.jobs),
            Command::Submit(_)
            | Command::Batch(_)
            | Command::Claim(_)
            | Command::Chore(_)
            | Command::Fleet(_)
            | Command::Action(_) => {}
        }
    }
    jobs
}
