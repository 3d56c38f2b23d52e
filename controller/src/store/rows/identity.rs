//! The rows of `projects`, `tokens` and `audit`.

use super::{from_json, micros, parse, small, time};
use crate::{
    identity::{Project, Token},
    store::Error,
};
use longshore_common::clock::Timestamp;
use serde::Serialize;
use sqlx::{Row as _, sqlite::SqliteRow};

/// A token and what is kept of its secret.
#[derive(Clone, Debug)]
pub(crate) struct TokenRow {
    pub(crate) token: Token,
    pub(crate) digest: [u8; 32],
    pub(crate) revoked_at: Option<Timestamp>,
}

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditRow {
    pub(crate) id: [u8; 16],
    pub(crate) at: Timestamp,
    pub(crate) actor: String,
    pub(crate) address: String,
    pub(crate) action: String,
    pub(crate) project: String,
    pub(crate) targets: Vec<String>,
    pub(crate) target_count: u32,
    pub(crate) result: String,
    pub(crate) message: String,
}

impl TokenRow {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        let digest: Vec<u8> = row.try_get("digest")?;
        Ok(Self {
            token: Token {
                id: row.try_get("id")?,
                name: row.try_get("name")?,
                role: parse("a role", row.try_get("role")?)?,
                project: row.try_get("project")?,
                created_at: Timestamp::from_micros(row.try_get("created_at")?),
                created_by: row.try_get("created_by")?,
                expires_at: time(row.try_get("expires_at")?),
                used_at: time(row.try_get("used_at")?),
            },
            digest: digest
                .try_into()
                .map_err(|_| Error::corrupt("a token", "its digest has not 32 bytes"))?,
            revoked_at: time(row.try_get("revoked_at")?),
        })
    }
}

impl AuditRow {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        let id: Vec<u8> = row.try_get("id")?;
        Ok(Self {
            id: id.try_into().map_err(|_| Error::corrupt("an audit line", "its id has not 16 bytes"))?,
            at: Timestamp::from_micros(row.try_get("at")?),
            actor: row.try_get("actor")?,
            address: row.try_get("address")?,
            action: row.try_get("action")?,
            project: row.try_get("project")?,
            targets: from_json("an audit line", row.try_get("targets")?)?,
            target_count: small(row.try_get("target_count")?),
            result: row.try_get("result")?,
            message: row.try_get("message")?,
        })
    }
}

pub(in crate::store) fn read_project(row: &SqliteRow) -> Result<Project, Error> {
    Ok(Project {
        name: row.try_get("name")?,
        settings: from_json("a project", row.try_get("settings")?)?,
        created_at: Timestamp::from_micros(row.try_get("created_at")?),
    })
}

#[derive(Serialize)]
struct PackedLine<'a> {
    id: String,
    at: i64,
    actor: &'a str,
    address: &'a str,
    action: &'a str,
    project: &'a str,
    targets: String,
    target_count: u32,
    result: &'a str,
    message: &'a str,
}

pub(in crate::store) fn pack_audit(rows: &[AuditRow]) -> String {
    super::pack_list(rows.iter().map(|row| PackedLine {
        id: hex::encode(row.id),
        at: row.at.as_micros(),
        actor: &row.actor,
        address: &row.address,
        action: &row.action,
        project: &row.project,
        targets: super::to_json(&row.targets),
        target_count: row.target_count,
        result: &row.result,
        message: &row.message,
    }))
}

#[derive(Serialize)]
struct PackedToken<'a> {
    id: &'a str,
    name: &'a str,
    digest: String,
    role: &'static str,
    project: Option<&'a str>,
    created_at: i64,
    created_by: &'a str,
    expires_at: Option<i64>,
}

pub(in crate::store) fn pack_token(TokenRow { token, digest, .. }: &TokenRow) -> String {
    super::pack_list([PackedToken {
        id: &token.id,
        name: &token.name,
        digest: hex::encode(digest),
        role: token.role.as_str(),
        project: token.project.as_deref(),
        created_at: token.created_at.as_micros(),
        created_by: &token.created_by,
        expires_at: micros(token.expires_at),
    }])
}
