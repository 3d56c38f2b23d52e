//! Finish reports, sent together: whatever is waiting when a call returns goes with the next one. No timer, so a
//! single report never waits.

use super::{
    calls::{Client, limited, one_each, within},
    refusal,
};
use crate::link::Error;
use longshore_common::{agent::FinishReport, tasks};
use longshore_proto::v1;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

const BATCH: usize = 128;
const FINISH: Duration = Duration::from_secs(30);

type Waiting = (v1::FinishReport, oneshot::Sender<Result<(), Error>>);

#[derive(Debug)]
pub(super) struct FinishQueue(mpsc::Sender<Waiting>);

impl FinishQueue {
    /// Ends when the queue is dropped and empty.
    pub(super) fn start(client: Client) -> Self {
        let (sender, reports) = mpsc::channel(BATCH * 4);
        drop(tasks::spawn("finish", drain(client, reports)));
        Self(sender)
    }

    pub(super) async fn report(&self, report: FinishReport) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let gone = || Error::Unreachable("the agent's link has ended".to_owned());
        self.0.send(((&report).into(), answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn drain(client: Client, mut reports: mpsc::Receiver<Waiting>) {
    let mut batch: Vec<Waiting> = Vec::with_capacity(BATCH);
    while reports.recv_many(&mut batch, BATCH).await > 0 {
        let (messages, waiting): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let answers = match send(client.clone(), messages).await {
            Ok(answers) => answers,
            Err(error) => vec![Err(error); waiting.len()],
        };
        for (answer, waiting) in answers.into_iter().zip(waiting) {
            // The attempt may have been fenced meanwhile and not wait any more.
            drop(waiting.send(answer));
        }
    }
}

async fn send(mut client: Client, reports: Vec<v1::FinishReport>) -> Result<Vec<Result<(), Error>>, Error> {
    let asked = reports.len();
    let call = client.finish(limited(FINISH, v1::FinishRequest { reports }));
    let answer = within(FINISH, call).await?;
    one_each(asked, answer.results.len())?;
    let result = |result: v1::FinishResult| match result.error {
        None => Ok(()),
        Some(error) => Err(refusal(&error.into())),
    };
    Ok(answer.results.into_iter().map(result).collect())
}
