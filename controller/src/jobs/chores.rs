//! Writes that decide nothing about jobs.

use super::types::{CreatedInput, InputFile};
use crate::store::{AgentRow, Error, Tx};
use longshore_common::{
    artifact::ManifestEntry,
    clock::Timestamp,
    ids::{AgentId, AttemptRef},
};

#[derive(Debug)]
pub(super) enum Chore {
    Agent(Box<AgentRow>),
    AgentsSeen(Vec<(AgentId, Timestamp)>),
    Page {
        attempt: AttemptRef,
        page: u32,
        entries: Vec<ManifestEntry>,
    },
    /// Objects with an ordinal below `opened` may come to be.
    Opened {
        attempt: AttemptRef,
        opened: u64,
    },
    Input {
        input: CreatedInput,
        files: Vec<InputFile>,
    },
    RemoveInputs {
        before: Timestamp,
        limit: u32,
    },
    DropGarbage {
        kind: &'static str,
        names: Vec<String>,
    },
    Forget {
        claims: Timestamp,
        requests: Timestamp,
    },
}

impl Chore {
    /// Answers how many things went, where that is asked.
    pub(super) async fn run(&self, tx: &mut Tx, now: Timestamp) -> Result<u32, Error> {
        match self {
            Self::Agent(row) => tx.put_agent(row).await?,
            Self::AgentsSeen(seen) => tx.agents_seen(seen).await?,
            Self::Page { attempt, page, entries } => tx.put_page(*attempt, *page, entries).await?,
            Self::Opened { attempt, opened } => tx.note_opened(*attempt, *opened).await?,
            Self::Input { input, files } => tx.put_input(input, files, now).await?,
            Self::RemoveInputs { before, limit } => return tx.remove_inputs(*before, *limit).await,
            Self::DropGarbage { kind, names } => tx.drop_garbage(kind, names).await?,
            Self::Forget { claims, requests } => tx.forget(*claims, *requests).await?,
        }
        Ok(0)
    }
}
