//! Figures of a bench or of a chaos run: printed as they come, left as one JSON array, an object per line.

use anyhow::Context as _;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

#[derive(Debug, Default)]
pub struct Summary(Vec<Value>);

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Shown for comparison.
    None,
}

impl Summary {
    /// `floor`: what the same run measured without Longshore.
    pub fn add(&mut self, name: &str, value: f64, unit: &str, floor: Option<f64>, goal: Goal) {
        let (bound, met) = match goal {
            Goal::AtLeast(least) => (Some(least), Some(value >= least)),
            Goal::AtMost(most) => (Some(most), Some(value <= most)),
            Goal::None => (None, None),
        };
        let sign = if matches!(goal, Goal::AtMost(_)) { "≤" } else { "≥" };
        let verdict = match (bound, met) {
            (Some(bound), Some(true)) => format!("goal {sign} {bound}: met"),
            (Some(bound), _) => format!("goal {sign} {bound}: NOT met"),
            (None, _) => String::new(),
        };
        let beside = floor.map_or(String::new(), |floor| format!("(floor {floor:.2})"));
        println!("{name:<44} {value:>10.2} {unit:<10} {beside:<18} {verdict}");
        self.0.push(json!({
            "name": name, "value": value, "unit": unit, "floor": floor, "goal": bound, "met": met,
        }));
    }

    /// Leaves `summary.json` in `target/NAME`.
    pub fn write(&self, name: &str) -> anyhow::Result<()> {
        let folder = folder(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join("summary.json");
        let lines: Vec<_> = self.0.iter().map(Value::to_string).collect();
        fs::write(&path, format!("[\n{}\n]\n", lines.join(",\n")))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// `target/NAME` of this clone.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(name)
}

/// The value below which `share` of the samples lie.
pub fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let at = ((samples.len() as f64 - 1.0) * share).round() as usize;
    samples.get(at).copied().unwrap_or(f64::NAN)
}
