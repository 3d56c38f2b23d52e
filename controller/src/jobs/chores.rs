//! Writes that decide nothing about jobs.

use super::types::{CreatedInput, InputFile};
use crate::{
    identity::Project,
    store::{
        AgentRow, AuditRow, DataKeyRow, Error, FiringRow, PutTrigger, Record, SecretKind, SecretRow,
        TokenRow, Tx,
    },
};
use longshore_common::{
    artifact::ManifestEntry,
    clock::Timestamp,
    ids::{AgentId, AttemptRef, FiringId, TriggerId},
};
use std::collections::BTreeMap;

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
        project: String,
        input: CreatedInput,
        files: Vec<InputFile>,
    },
    OpenContents {
        project: String,
        contents: BTreeMap<[u8; 32], u64>,
    },
    /// Opened before, and listed by no input since.
    ForgetContents(Timestamp),
    RemoveInputs {
        before: Timestamp,
        limit: u32,
    },
    DropGarbage {
        kind: &'static str,
        names: Vec<String>,
    },
    Token(Box<TokenRow>),
    RevokeToken(String),
    TokensUsed(Vec<(String, Timestamp)>),
    Project(Box<Project>),
    DataKey(Box<DataKeyRow>),
    Secret(Box<SecretRow>),
    RemoveSecret((String, SecretKind, String)),
    OpenCall(Box<AuditRow>),
    Audit(Box<AuditRow>),
    ForgetAudit(Timestamp),
    Triggers(Vec<PutTrigger>),
    RemoveTrigger(TriggerId),
    Firings(Box<Record>),
    SettleFirings(Vec<FiringRow>),
    ForgetFirings(Vec<FiringId>),
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
            Self::Input { project, input, files } => tx.put_input(project, input, files, now).await?,
            Self::OpenContents { project, contents } => tx.open_contents(project, contents, now).await?,
            Self::ForgetContents(before) => tx.forget_contents(*before).await?,
            Self::RemoveInputs { before, limit } => return tx.remove_inputs(*before, *limit).await,
            Self::DropGarbage { kind, names } => tx.drop_garbage(kind, names).await?,
            Self::Token(row) => tx.put_token(row).await?,
            Self::RevokeToken(id) => tx.revoke_token(id, now).await?,
            Self::TokensUsed(used) => tx.tokens_used(used).await?,
            Self::Project(project) => tx.put_project(project).await?,
            Self::DataKey(key) => tx.put_data_key(key).await?,
            Self::Secret(row) => tx.put_secret(row).await?,
            Self::RemoveSecret((project, kind, name)) => tx.remove_secret(project, *kind, name).await?,
            Self::OpenCall(line) => tx.open_call(line).await?,
            Self::Audit(line) => tx.audit(std::slice::from_ref(line)).await?,
            Self::ForgetAudit(before) => return tx.forget_audit(*before).await,
            Self::Triggers(puts) => tx.put_triggers(puts).await?,
            Self::RemoveTrigger(id) => tx.remove_trigger(*id).await?,
            Self::Firings(record) => return tx.record_firings(record).await,
            Self::SettleFirings(settled) => tx.settle_firings(settled).await?,
            Self::ForgetFirings(ids) => return tx.forget_firings(ids).await,
            Self::Forget { claims, requests } => tx.forget(*claims, *requests).await?,
        }
        Ok(0)
    }
}
