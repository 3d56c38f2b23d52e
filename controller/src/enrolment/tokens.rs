//! Join tokens for people: made, listed, revoked.

use super::{Enrolment, Error};
use crate::store::JoinTokenRow;
use longshore_common::{
    clock::Timestamp,
    credential::{JoinToken, JoinTokenId},
};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// Credentials and tokens that are over stay this long, so that people find out why something was refused.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Clone, Debug)]
pub struct NewJoinToken {
    pub uses: u32,
    pub valid: Duration,
    pub created_by: String,
}

/// What may be shown of a join token.
#[derive(Clone, Debug)]
pub struct JoinTokenView {
    pub id: JoinTokenId,
    pub created_at: Timestamp,
    pub created_by: String,
    pub expires_at: Timestamp,
    pub uses: u32,
    pub used: u32,
    pub revoked: bool,
}

impl Enrolment {
    /// The only time that the token itself is seen.
    pub async fn create_join_token(&self, new: NewJoinToken) -> Result<(JoinToken, JoinTokenView), Error> {
        let now = Timestamp::now();
        let fingerprint = self.0.pki.as_ref().map(crate::pki::Pki::fingerprint);
        let token = JoinToken::new(rand::random(), rand::random(), fingerprint);
        let row = JoinTokenRow {
            id: token.id,
            hash: Sha256::digest(token.secret).to_vec(),
            created_at: now,
            created_by: new.created_by,
            expires_at: now.plus(new.valid),
            uses: new.uses,
            used: 0,
            revoked_at: None,
        };
        let mut tx = self.0.store.begin().await?;
        tx.forget_enrolment(now.minus(REMEMBERED)).await?;
        tx.put_join_token(&row).await?;
        tx.commit().await?;
        Ok((token, view(row)))
    }

    /// Newest first.
    pub async fn join_tokens(&self) -> Result<Vec<JoinTokenView>, Error> {
        Ok(self.0.store.join_tokens().await?.into_iter().map(view).collect())
    }

    pub async fn revoke_join_token(&self, id: JoinTokenId) -> Result<(), Error> {
        let mut tx = self.0.store.begin().await?;
        let found = tx.revoke_join_token(id, Timestamp::now()).await?;
        tx.commit().await?;
        if found { Ok(()) } else { Err(Error::UnknownToken) }
    }
}

fn view(row: JoinTokenRow) -> JoinTokenView {
    JoinTokenView {
        id: row.id,
        created_at: row.created_at,
        created_by: row.created_by,
        expires_at: row.expires_at,
        uses: row.uses,
        used: row.used,
        revoked: row.revoked_at.is_some(),
    }
}
