//! Tokens and the audit log, as far as they are rows: who may do what is `identity`'s.

use super::{Jobs, chores::Chore, error::Error, token, types::Page};
use crate::store::{AuditRow, TokenRow};
use longshore_common::clock::Timestamp;

/// Which lines of the audit log to read. Empty fields match all.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    pub actor: Option<String>,
    pub since: Option<Timestamp>,
    /// Only what was not done.
    pub refused: bool,
}

impl Jobs {
    pub(crate) async fn tokens(&self) -> Result<Vec<TokenRow>, Error> {
        Ok(self.inner.shared.store.tokens().await?)
    }

    pub(crate) async fn put_token(&self, token: TokenRow) -> Result<(), Error> {
        self.chore(Chore::Token(Box::new(token))).await.map(drop)
    }

    pub(crate) async fn revoke_token(&self, id: String) -> Result<(), Error> {
        self.chore(Chore::RevokeToken(id)).await.map(drop)
    }

    pub(crate) async fn tokens_used(&self, used: Vec<(String, Timestamp)>) -> Result<(), Error> {
        self.chore(Chore::TokensUsed(used)).await.map(drop)
    }

    /// Notes that a changing call has begun. Not waited for: what the call changes goes to the same writer behind it, and
    /// so is never on disk without it.
    pub(crate) async fn open_call(&self, line: AuditRow) -> Result<(), Error> {
        self.post(Chore::OpenCall(Box::new(line))).await
    }

    /// On disk when this returns.
    pub(crate) async fn audit(&self, line: AuditRow) -> Result<(), Error> {
        self.chore(Chore::Audit(Box::new(line))).await.map(drop)
    }

    /// Newest first.
    pub(crate) async fn audit_lines(
        &self,
        filter: &AuditFilter,
        size: u32,
        page: &str,
    ) -> Result<Page<AuditRow>, Error> {
        let shared = &self.inner.shared;
        let list = format!("audit {filter:?}");
        let before = match token::open(&shared.token_key, &list, page)? {
            Some(bytes) => Some(bytes.try_into().map_err(|_| Error::PageToken)?),
            None => None,
        };
        let items = shared.store.audit(filter, before, size).await?;
        let next = items.last().filter(|_| items.len() >= size as usize);
        let next = next.map(|last| token::seal(&shared.token_key, &list, &last.id));
        Ok(Page { items, next })
    }

    /// Answers how many lines went.
    pub async fn forget_audit(&self, before: Timestamp) -> Result<u32, Error> {
        self.chore(Chore::ForgetAudit(before)).await
    }
}
