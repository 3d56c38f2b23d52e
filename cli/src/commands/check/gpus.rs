//! `longshore check --gpus`: what the agent reads of this machine's GPUs beside what `nvidia-smi -q -x` says, field by
//! field. Measures twice at most: what moves may have moved between the two.

use crate::failure::code;
use crate::output::{FormatArgs, Table, print};
use longshore_agent::AgentConfig;
use longshore_agent::host::{Facts, GpuReading, Host as _, Machine};
use roxmltree::{Document, Node, ParsingOptions};
use serde_json::json;
use std::path::Path;
use std::process::Command;

const TRIES: u32 = 3;
/// Between two readings memory may be taken or given back.
const MEMORY_MIB: u64 = 256;
const DEGREES: u64 = 5;
/// Of the limit, or so: power jumps within milliseconds.
const WATTS: u64 = 100;
const PERCENT: u64 = 50;

/// One field as both say it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    gpu: String,
    field: &'static str,
    ours: String,
    theirs: String,
    agrees: bool,
}

pub(super) fn run(config: &AgentConfig, format: FormatArgs) -> anyhow::Result<i32> {
    let machine = Machine::new(&config.host, Path::new("/"))?;
    let facts = machine.facts();
    let problem = facts.driver_problem.clone().unwrap_or_else(|| "no NVIDIA driver answers".to_owned());
    anyhow::ensure!(facts.driver.is_some(), "{problem}: there is no GPU on this machine to compare");
    let mut rows = Vec::new();
    for _ in 0..TRIES {
        let text = ask()?;
        rows = compare(&facts, &machine.read().gpus, &text)?;
        if rows.iter().all(|row| row.agrees) {
            break;
        }
    }
    let differ = rows.iter().filter(|row| !row.agrees).count();
    if !format.write(|| rows.iter().map(as_json).collect())? {
        print(&table(&rows, differ))?;
    }
    Ok(if differ > 0 { code::FAILED } else { 0 })
}

fn ask() -> anyhow::Result<String> {
    let answer = Command::new("nvidia-smi").args(["-q", "-x"]).output();
    let answer = answer.map_err(|error| anyhow::anyhow!("nvidia-smi cannot be run: {error}"))?;
    anyhow::ensure!(
        answer.status.success(),
        "nvidia-smi failed: {}",
        String::from_utf8_lossy(&answer.stdout).trim()
    );
    Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
}

fn table(rows: &[Row], differ: usize) -> String {
    let mut table =
        Table::new(&["GPU", "FIELD", "LONGSHORE", "NVIDIA-SMI", "AGREES"], &["LONGSHORE", "NVIDIA-SMI"]);
    for row in rows {
        let agrees = if row.agrees { "yes" } else { "NO" };
        table.row(vec![
            row.gpu.clone(),
            row.field.to_owned(),
            row.ours.clone(),
            row.theirs.clone(),
            agrees.to_owned(),
        ]);
    }
    let last = if differ == 0 { "all agree".to_owned() } else { format!("{differ} differ") };
    format!("{}{last}\n", table.render())
}

fn as_json(row: &Row) -> serde_json::Value {
    json!({"gpu": row.gpu, "field": row.field, "ours": row.ours, "theirs": row.theirs, "agrees": row.agrees})
}

fn compare(facts: &Facts, ours: &[GpuReading], xml: &str) -> anyhow::Result<Vec<Row>> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(xml, options)
        .map_err(|error| anyhow::anyhow!("what nvidia-smi wrote cannot be read: {error}"))?;
    let log = document.root_element();
    let theirs: Vec<Node<'_, '_>> = log.children().filter(|node| node.has_tag_name("gpu")).collect();
    let mut rows = Rows { gpu: "all".to_owned(), rows: Vec::new() };
    rows.same("driver", facts.driver.clone().unwrap_or_default(), text(log, &["driver_version"]));
    rows.same("CUDA", facts.cuda.clone().unwrap_or_default(), text(log, &["cuda_version"]));
    let whole: std::collections::BTreeSet<&str> =
        (ours.iter()).map(|reading| reading.gpu.parent.as_deref().unwrap_or(&reading.gpu.uuid)).collect();
    rows.same("GPUs", whole.len().to_string(), theirs.len().to_string());
    for gpu in theirs {
        one(&mut rows, ours, gpu);
    }
    Ok(rows.rows)
}

/// One of theirs beside the same one of ours, or its instances.
fn one(rows: &mut Rows, ours: &[GpuReading], gpu: Node<'_, '_>) {
    let uuid = text(gpu, &["uuid"]);
    rows.gpu.clone_from(&uuid);
    let parts: Vec<&GpuReading> =
        ours.iter().filter(|reading| reading.gpu.parent.as_deref() == Some(&uuid)).collect();
    let Some(reading) = ours.iter().find(|reading| reading.gpu.uuid == uuid).or(parts.first().copied())
    else {
        rows.same("there", "no".to_owned(), "yes".to_owned());
        return;
    };
    rows.same("model", reading.gpu.model.clone(), text(gpu, &["product_name"]));
    rows.same("PCI", reading.gpu.pci.to_lowercase(), text(gpu, &["pci", "pci_bus_id"]).to_lowercase());
    rows.same("MIG instances", parts.len().to_string(), count(gpu, "mig_devices", "mig_device").to_string());
    rows.same("ECC", on(reading.gpu.ecc), ecc(&text(gpu, &["ecc_mode", "current_ecc"])));
    health(rows, reading, gpu);
    moving(rows, reading, gpu);
    if parts.is_empty() {
        usage(rows, reading, gpu);
    }
}

fn health(rows: &mut Rows, reading: &GpuReading, gpu: Node<'_, '_>) {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let known = |is: Option<bool>| is.map_or_else(|| "not told".to_owned(), yes);
    let said = |path: &[&str]| text(gpu, path).eq_ignore_ascii_case("yes");
    let errors = reading.memory_errors;
    let pending =
        said(&["remapped_rows", "remapped_row_pending"]) || said(&["retired_pages", "pending_retirement"]);
    rows.same("reset pending", known(errors.needs_reset), yes(pending));
    rows.same("worn out", known(errors.worn_out), yes(said(&["remapped_rows", "remapped_row_failure"])));
    // Newer ones tell them apart by where they were found, older ones sum them up.
    let volatile = child(gpu, &["ecc_errors", "volatile"]);
    let uncorrected: u64 = volatile
        .map(|volatile| {
            let parts = volatile.children().filter(|node| {
                let name = node.tag_name().name();
                name.contains("uncorrectable") && !name.ends_with("_total")
            });
            parts.filter_map(|node| number(node.text().unwrap_or_default())).sum()
        })
        .unwrap_or(0);
    let ours = errors.uncorrected.map_or_else(|| "not told".to_owned(), |errors| errors.to_string());
    rows.same("uncorrected ECC", ours, uncorrected.to_string());
    let reasons = ["clocks_event_reasons", "clocks_throttle_reasons"];
    let active = |name: &str| {
        reasons.iter().any(|group| {
            child(gpu, &[group]).is_some_and(|group| {
                let found = group.children().find(|node| node.tag_name().name().ends_with(name));
                found.and_then(|node| node.text()).is_some_and(|text| text.trim() == "Active")
            })
        })
    };
    let hot = active("hw_thermal_slowdown") || active("sw_thermal_slowdown");
    rows.same("thermal", yes(reading.gpu.throttled.iter().any(|why| why == "thermal")), yes(hot));
}

fn moving(rows: &mut Rows, reading: &GpuReading, gpu: Node<'_, '_>) {
    let first = |paths: &[&[&str]]| paths.iter().find_map(|path| number(&text(gpu, path)));
    rows.near("temperature C", reading.gpu.temperature_c, first(&[&["temperature", "gpu_temp"]]), DEGREES);
    let draw: [&[&str]; 4] = [
        &["gpu_power_readings", "instant_power_draw"],
        &["gpu_power_readings", "power_draw"],
        &["power_readings", "power_draw"],
        &["gpu_power_readings", "average_power_draw"],
    ];
    rows.near("power W", reading.gpu.power_watts, first(&draw), WATTS);
    let limit: [&[&str]; 3] = [
        &["gpu_power_readings", "current_power_limit"],
        &["power_readings", "enforced_power_limit"],
        &["power_readings", "power_limit"],
    ];
    rows.near("power limit W", reading.gpu.power_limit_watts, first(&limit), 1);
}

fn usage(rows: &mut Rows, reading: &GpuReading, gpu: Node<'_, '_>) {
    let mib = |bytes: u64| u32::try_from(bytes >> 20).ok();
    let memory = |name: &str| number(&text(gpu, &["fb_memory_usage", name]));
    rows.near("memory MiB", mib(reading.gpu.memory_bytes), memory("total"), 1);
    rows.near("free MiB", mib(reading.gpu.memory_free_bytes), memory("free"), MEMORY_MIB);
    if reading.tells_utilisation {
        let told = number(&text(gpu, &["utilization", "gpu_util"]));
        rows.near("utilisation %", Some(reading.gpu.utilisation_percent), told, PERCENT);
    }
    let mut theirs: Vec<(u64, u64)> = child(gpu, &["processes"])
        .map(|processes| {
            let all = processes.children().filter(|node| node.has_tag_name("process_info"));
            all.filter_map(|node| {
                Some((number(&text(node, &["pid"]))?, number(&text(node, &["used_memory"])).unwrap_or(0)))
            })
            .collect()
        })
        .unwrap_or_default();
    theirs.sort_unstable();
    let mut own: Vec<(u64, u64)> =
        reading.processes.iter().map(|process| (process.pid.into(), process.memory_bytes >> 20)).collect();
    own.sort_unstable();
    let list = |all: &[(u64, u64)]| {
        all.iter().map(|(pid, mib)| format!("{pid}: {mib} MiB")).collect::<Vec<_>>().join(", ")
    };
    let alike = own.len() == theirs.len()
        && own
            .iter()
            .zip(&theirs)
            .all(|(one, other)| one.0 == other.0 && one.1.abs_diff(other.1) <= MEMORY_MIB);
    rows.add("processes", list(&own), list(&theirs), alike);
}

struct Rows {
    gpu: String,
    rows: Vec<Row>,
}

impl Rows {
    fn add(&mut self, field: &'static str, ours: String, theirs: String, agrees: bool) {
        self.rows.push(Row { gpu: self.gpu.clone(), field, ours, theirs, agrees });
    }

    fn same(&mut self, field: &'static str, ours: String, theirs: String) {
        let agrees = ours == theirs;
        self.add(field, ours, theirs, agrees);
    }

    /// What neither knows is not compared.
    fn near(&mut self, field: &'static str, ours: Option<u32>, theirs: Option<u64>, by: u64) {
        let agrees = match (ours, theirs) {
            (None, None) => return,
            (Some(ours), Some(theirs)) => u64::from(ours).abs_diff(theirs) <= by,
            _ => false,
        };
        let say = |value: Option<u64>| value.map_or_else(|| "not told".to_owned(), |value| value.to_string());
        self.add(field, say(ours.map(u64::from)), say(theirs), agrees);
    }
}

fn child<'a, 'input>(of: Node<'a, 'input>, path: &[&str]) -> Option<Node<'a, 'input>> {
    path.iter().try_fold(of, |node, name| node.children().find(|child| child.has_tag_name(*name)))
}

fn text(of: Node<'_, '_>, path: &[&str]) -> String {
    child(of, path).and_then(|node| node.text()).unwrap_or_default().trim().to_owned()
}

fn count(of: Node<'_, '_>, group: &str, name: &str) -> usize {
    child(of, &[group]).map_or(0, |group| group.children().filter(|node| node.has_tag_name(name)).count())
}

/// `67.35 W` is 67; `N/A` is nothing.
fn number(text: &str) -> Option<u64> {
    let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn on(mode: Option<bool>) -> String {
    match mode {
        Some(true) => "on",
        Some(false) => "off",
        None => "none",
    }
    .to_owned()
}

fn ecc(text: &str) -> String {
    match text {
        "Enabled" => "on",
        "Disabled" => "off",
        _ => "none",
    }
    .to_owned()
}

#[cfg(test)]
#[path = "gpus_tests.rs"]
mod tests;
