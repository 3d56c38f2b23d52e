//! Asked against used, and what to ask for next time.

use crate::output::Table;
use longshore_common::job::sizing::Resource;
use longshore_proto::v1;

/// Also of many jobs at once.
pub(crate) fn text(sizing: &v1::Sizing) -> String {
    let mut table = Table::new(&["RESOURCE", "ASKED", "USED", "NEXT TIME", "WHY"], &["WHY"]);
    for row in &sizing.rows {
        let amount = |amount: u64| if amount == 0 { "-".to_owned() } else { said(&row.resource, amount) };
        let next = if row.next == 0 { "the same".to_owned() } else { amount(row.next) };
        table.row(vec![row.resource.clone(), amount(row.asked), amount(row.used), next, row.why.clone()]);
    }
    let runs = longshore_common::units::plural(sizing.runs.into(), "attempt", "attempts");
    let last = if sizing.advice.is_empty() {
        format!("next time: the same resources will do (seen: {runs})\n")
    } else {
        let room = sizing.headroom_percent;
        format!("next time: resources: {{{}}} (seen: {runs}, {room} % on top of it)\n", sizing.advice)
    };
    let notes: String = sizing.notes.iter().map(|note| format!("{note}\n")).collect();
    format!("{}{last}{notes}", table.render())
}

fn said(resource: &str, amount: u64) -> String {
    let all = [Resource::Cpu, Resource::Memory, Resource::Scratch, Resource::GpuMemory];
    match all.into_iter().find(|known| known.name() == resource) {
        Some(known) => known.amount(amount),
        // Of a newer controller.
        None => amount.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_their_units_and_the_last_line_can_be_pasted_into_a_job_file() {
        let row = |resource: &str, asked: u64, used: u64, next: u64| v1::SizingRow {
            resource: resource.to_owned(),
            asked,
            used,
            next,
            why: String::new(),
        };
        let mut sizing = v1::Sizing {
            runs: 1,
            headroom_percent: 50,
            rows: vec![row("cpu", 8000, 900, 2000), row("memory", 64 << 30, 0, 0), row("ipu", 3, 1, 0)],
            advice: "cpu: 2".to_owned(),
            notes: vec!["its GPUs slept".to_owned()],
        };
        let told = text(&sizing);
        for part in ["900m", "64 GiB", "the same", "resources: {cpu: 2} (seen: 1 attempt, 50 %", "slept\n"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        sizing.advice.clear();
        assert!(text(&sizing).contains("the same resources will do (seen: 1 attempt)"));
    }
}
