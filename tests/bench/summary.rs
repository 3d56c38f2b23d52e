//! The lines of the bench: printed as they come, left as JSON lines at the end.

use anyhow::Context as _;
use serde_json::{Value, json};
use std::{fs, path::Path};

#[derive(Debug, Default)]
pub(crate) struct Summary(Vec<Value>);

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Shown for comparison.
    None,
}

impl Summary {
    /// `floor`: what the same run measured without Longshore.
    pub(crate) fn add(&mut self, name: &str, value: f64, unit: &str, floor: Option<f64>, goal: Goal) {
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

    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/summary.json");
        fs::create_dir_all(path.parent().context("the summary has a folder")?)?;
        let lines: String = self.0.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&path, lines).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The value below which `share` of the samples lie.
pub(crate) fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let at = ((samples.len() as f64 - 1.0) * share).round() as usize;
    samples.get(at).copied().unwrap_or(f64::NAN)
}
