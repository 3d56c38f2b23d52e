//! What to ask for next time. Only told, never read.

use crate::job::sizing::{Advice, Row};
use longshore_proto::v1;

impl From<&Advice> for v1::Sizing {
    fn from(advice: &Advice) -> Self {
        let Advice { runs, headroom, rows, notes } = advice;
        Self {
            runs: *runs,
            headroom_percent: *headroom,
            rows: rows.iter().map(v1::SizingRow::from).collect(),
            advice: advice.to_string(),
            notes: notes.clone(),
        }
    }
}

impl From<&Row> for v1::SizingRow {
    fn from(row: &Row) -> Self {
        Self {
            resource: row.resource.name().to_owned(),
            asked: row.asked,
            used: row.used,
            next: row.next.unwrap_or_default(),
            why: row.why.clone(),
        }
    }
}
