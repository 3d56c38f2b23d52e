//! What a job asks of GPUs. How they are chosen is the controller's `placement`.

use super::version::Version;
use crate::units::ByteSize;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// GPUs of one job. All of them are alike for the job: each keeps every rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuRequest {
    /// At least 1.
    pub count: u32,
    /// Least total VRAM of each, or the part of a shared one; zero: any.
    pub memory_bytes: u64,
    /// Globs over the NVML product name, without regard to case: any of them, and none of those with a `!` before it.
    /// Empty: any. One alone was stored as a text.
    #[serde(default, deserialize_with = "one_or_many")]
    pub model: Vec<String>,
    /// Least compute capability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Version>,
    /// Least version of the driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<Version>,
    /// Least version of CUDA that the driver runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda: Option<Version>,
    /// MIG instances of this profile, `1g.10gb`; `None`: whole GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig: Option<String>,
    /// All in one NVLink group.
    #[serde(default)]
    pub nvlink: bool,
    /// A part of one GPU, beside other jobs that said the same.
    #[serde(default)]
    pub shared: bool,
}

impl GpuRequest {
    /// So many, whatever they are.
    pub const fn of(count: u32) -> Self {
        Self {
            count,
            memory_bytes: 0,
            model: Vec::new(),
            capability: None,
            driver: None,
            cuda: None,
            mig: None,
            nvlink: false,
            shared: false,
        }
    }
}

/// Globs of each kind that are told.
const TOLD: usize = 4;

/// `2 GPUs A100*, not *PCIe*, with 40 GiB`: what a machine must have.
impl fmt::Display for GpuRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match (&self.mig, self.shared) {
            (Some(profile), _) => format!("MIG instance{} {profile}", if self.count == 1 { "" } else { "s" }),
            (None, true) => "shared GPU".to_owned(),
            (None, false) => format!("GPU{}", if self.count == 1 { "" } else { "s" }),
        };
        write!(f, "{} {what}", self.count)?;
        let (not, any): (Vec<_>, Vec<_>) = self.model.iter().partition(|glob| glob.starts_with('!'));
        let first = |globs: &[&String]| {
            globs.iter().take(TOLD).map(|glob| glob.trim_start_matches('!').to_owned()).collect::<Vec<_>>()
        };
        if !any.is_empty() {
            write!(f, " {}", first(&any).join("|"))?;
        }
        for glob in first(&not) {
            write!(f, " not {glob}")?;
        }
        let more = any.len().saturating_sub(TOLD) + not.len().saturating_sub(TOLD);
        if more > 0 {
            write!(f, " and {more} more")?;
        }
        if self.memory_bytes > 0 {
            write!(f, " with {}", ByteSize(self.memory_bytes).to_tenths())?;
        }
        let least = [("capability", &self.capability), ("driver", &self.driver), ("CUDA", &self.cuda)];
        for (name, version) in least {
            if let Some(version) = version {
                write!(f, ", {name} {version}")?;
            }
        }
        if self.nvlink { f.write_str(", joined by NVLink") } else { Ok(()) }
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Many(Vec<String>),
        One(Option<String>),
    }
    Ok(match Stored::deserialize(from)? {
        Stored::Many(globs) => globs,
        Stored::One(glob) => glob.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::resources::GIB;

    #[test]
    fn a_request_of_an_older_version_is_read() {
        let read = |text: &str| serde_json::from_str::<GpuRequest>(text).expect("stored by 0.1");
        let old = read(r#"{"count":2,"memory_bytes":5,"model":"A100*"}"#);
        assert_eq!(old, GpuRequest { memory_bytes: 5, model: vec!["A100*".into()], ..GpuRequest::of(2) });
        assert_eq!(read(r#"{"count":1,"memory_bytes":0,"model":null}"#), GpuRequest::of(1));
        let text = serde_json::to_string(&old).expect("text keys");
        assert_eq!(read(&text), old);
    }

    #[test]
    fn a_request_is_told_in_words() {
        let mut asked = GpuRequest { memory_bytes: 40 * GIB, ..GpuRequest::of(2) };
        asked.model = vec!["A100*".into(), "!*PCIe*".into()];
        asked.capability = Some("8.0".parse().expect("a version"));
        asked.nvlink = true;
        let told = "2 GPUs A100* not *PCIe* with 40 GiB, capability 8.0, joined by NVLink";
        assert_eq!(asked.to_string(), told);
        let many = GpuRequest { model: (0..6).map(|n| format!("A{n}")).collect(), ..GpuRequest::of(1) };
        assert_eq!(many.to_string(), "1 GPU A0|A1|A2|A3 and 2 more");
        let mig = GpuRequest { mig: Some("1g.10gb".into()), ..GpuRequest::of(1) };
        assert_eq!(mig.to_string(), "1 MIG instance 1g.10gb");
    }
}
