//! What operators want of machines, and what happens to machines. Words only: who obeys them is elsewhere.

use crate::{agent::Gpu, clock::Timestamp};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

/// A machine, or one GPU, that is to get no new work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cordon {
    pub note: String,
    pub author: String,
    pub at: Timestamp,
    /// It ends by itself then; `None`: when somebody ends it.
    pub until: Option<Timestamp>,
    /// What runs is to end too.
    pub drain: Option<Drain>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// What still runs then is handed back; `None`: everything may end by itself.
    pub deadline: Option<Timestamp>,
    /// Nothing ran any more.
    pub drained_at: Option<Timestamp>,
}

/// What one machine is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Orders {
    pub cordon: Option<Cordon>,
    /// By UUID.
    pub gpus: BTreeMap<String, Cordon>,
}

impl Orders {
    /// What is wanted of this GPU, or of the whole one that it is an instance of.
    pub fn of_gpu(&self, gpu: &Gpu) -> Option<&Cordon> {
        self.gpus.get(&gpu.uuid).or_else(|| self.gpus.get(gpu.parent.as_ref()?))
    }
}

/// A project's jobs, or all, are to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub note: String,
    pub author: String,
    pub at: Timestamp,
}

impl Cordon {
    /// Of a machine whose agent was told to stop: what runs there may go on for so long.
    pub fn leaving(now: Timestamp, left: Duration) -> Self {
        Self {
            note: "its agent was told to stop".to_owned(),
            author: String::new(),
            at: now,
            until: None,
            drain: Some(Drain { deadline: Some(now.plus(left)), drained_at: None }),
        }
    }

    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    pub fn is_drained(&self) -> bool {
        self.drain.is_some_and(|drain| drain.drained_at.is_some())
    }

    /// `cordoned`, `draining` or `drained`.
    pub fn word(&self) -> &'static str {
        match self.drain {
            None => "cordoned",
            Some(Drain { drained_at: None, .. }) => "draining",
            Some(Drain { drained_at: Some(_), .. }) => "drained",
        }
    }

    /// `cordoned by anna until 18:00 UTC: booked`.
    pub fn sentence(&self, now: Timestamp) -> String {
        let by = if self.author.is_empty() { String::new() } else { format!(" by {}", self.author) };
        format!("{}{by}{}", self.word(), self.terms(now))
    }

    /// Until when and why: ` until 18:00 UTC: booked`.
    pub fn terms(&self, now: Timestamp) -> String {
        let deadline = self.drain.filter(|drain| drain.drained_at.is_none()).and_then(|drain| drain.deadline);
        let mut text = String::new();
        if let Some(deadline) = deadline {
            text.push_str(&format!(", jobs may run until {}", clock_time(deadline, now)));
        }
        if let Some(until) = self.until {
            text.push_str(&format!(" until {}", clock_time(until, now)));
        }
        if !self.note.is_empty() {
            text.push_str(&format!(": {}", self.note));
        }
        text
    }
}

impl Pause {
    /// `paused by anna since 11:00 UTC: store is full`.
    pub fn sentence(&self, now: Timestamp) -> String {
        let note = if self.note.is_empty() { String::new() } else { format!(": {}", self.note) };
        format!("paused by {} since {}{note}", self.author, clock_time(self.at, now))
    }
}

/// `18:00 UTC`, with the day if that is not near.
fn clock_time(time: Timestamp, now: Timestamp) -> String {
    const NEAR: Duration = Duration::from_secs(20 * 3600);
    let text = time.to_rfc3339();
    let (day, of_day) = text.split_at(10);
    let minute = of_day.get(1..6).unwrap_or_default();
    let near = time.since(now).max(now.since(time)) < NEAR;
    if near { format!("{minute} UTC") } else { format!("{day} {minute} UTC") }
}

/// What happened to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgentEventKind {
    /// For the first time.
    Joined,
    Connected,
    Disconnected,
    /// Not heard of for longer than its lease.
    Lost,
    /// After it was lost.
    Back,
    Cordoned,
    Uncordoned,
    Draining,
    Drained,
    Labelled,
    Removed,
    /// What it says of itself.
    Note,
    DiskLow,
    GpuSick,
    GpuWell,
    /// Somebody outside of Longshore uses a GPU that a job has.
    GpuStranger,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a kind of agent event")]
pub struct UnknownKind(String);

impl AgentEventKind {
    pub const ALL: [Self; 16] = [
        Self::Joined,
        Self::Connected,
        Self::Disconnected,
        Self::Lost,
        Self::Back,
        Self::Cordoned,
        Self::Uncordoned,
        Self::Draining,
        Self::Drained,
        Self::Labelled,
        Self::Removed,
        Self::Note,
        Self::DiskLow,
        Self::GpuSick,
        Self::GpuWell,
        Self::GpuStranger,
    ];

    /// The stored and shown text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Lost => "lost",
            Self::Back => "back",
            Self::Cordoned => "cordoned",
            Self::Uncordoned => "uncordoned",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Labelled => "labelled",
            Self::Removed => "removed",
            Self::Note => "note",
            Self::DiskLow => "disk_low",
            Self::GpuSick => "gpu_sick",
            Self::GpuWell => "gpu_well",
            Self::GpuStranger => "gpu_stranger",
        }
    }
}

impl fmt::Display for AgentEventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for AgentEventKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back() {
        for kind in AgentEventKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert!("exploded".parse::<AgentEventKind>().is_err());
    }

    #[test]
    fn a_cordon_says_by_whom_until_when_and_why() {
        // 2026-11-21T10:38:53Z
        let now = Timestamp::from_micros(1_795_257_533_000_000);
        let hours = |hours: u64| now.plus(Duration::from_secs(hours * 3600));
        let mut cordon = Cordon {
            note: "booked".into(),
            author: "anna".into(),
            at: now,
            until: Some(hours(2)),
            drain: None,
        };
        assert_eq!(cordon.sentence(now), "cordoned by anna until 12:38 UTC: booked");
        assert!(cordon.holds(hours(1)) && !cordon.holds(hours(2)));
        cordon.until = Some(hours(48));
        assert_eq!(cordon.sentence(now), "cordoned by anna until 2026-11-23 10:38 UTC: booked");
        (cordon.until, cordon.note) = (None, String::new());
        cordon.drain = Some(Drain { deadline: Some(hours(1)), drained_at: None });
        assert_eq!(cordon.sentence(now), "draining by anna, jobs may run until 11:38 UTC");
        cordon.drain = Some(Drain { deadline: Some(hours(1)), drained_at: Some(now) });
        assert_eq!(cordon.sentence(now), "drained by anna");
        assert!(cordon.holds(hours(1_000)) && cordon.is_drained());
    }
}
