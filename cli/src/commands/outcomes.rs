//! `longshore outcomes`: the table of outcomes as `docs/outcomes.md` holds it.

use crate::output::print;
use longshore_common::job::Outcome;

pub(crate) fn run() -> anyhow::Result<i32> {
    print(&document())?;
    Ok(0)
}

fn document() -> String {
    let mut text = String::from(
        "# Outcomes\n\n\
         How a job ends. `longshore outcomes` writes this page from the table in the program.\n\n\
         - **blame** says who has to act: the user, the platform, or something outside of both.\n\
         - **retried** means that the default policy tries again by itself; `retry.on` in a job file names others.\n\
         - **exit code** is what `longshore run`, `wait` and `logs -f` exit with.\n\n\
         | outcome | state | blame | retried | exit code | what happened | what to do |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in Outcome::table() {
        let code = row.exit_code.map_or_else(|| "the container's".to_owned(), |code| code.to_string());
        let retried = if row.retried { "yes" } else { "no" };
        text.push_str(&format!(
            "| `{}` | {} | {} | {retried} | {code} | {} | {} |\n",
            row.name,
            row.state,
            row.blame.as_str(),
            row.sentence,
            row.hint
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_what_the_program_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/outcomes.md");
        let written = std::fs::read_to_string(path).expect("docs/outcomes.md is there");
        assert!(written == document(), "out of date: longshore outcomes > docs/outcomes.md");
    }

    #[test]
    fn no_cell_breaks_the_table() {
        let text = document();
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(rows.len(), Outcome::table().len());
        assert!(rows.iter().all(|row| row.matches('|').count() == 8));
    }
}
