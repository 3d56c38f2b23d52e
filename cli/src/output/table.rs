//! Columns that fit the terminal: the widest cells of elastic columns are cut. Into a pipe nothing is cut.

use console::{Term, measure_text_width, truncate_str};

const GAP: usize = 2;
const LEAST: usize = 6;

#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    /// Columns that may be cut, the first to go first.
    elastic: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&'static str], elastic: &[&'static str]) -> Self {
        let index = |name: &&str| header.iter().position(|known| known == name);
        Self {
            header: header.to_vec(),
            elastic: elastic.iter().filter_map(index).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.header.len());
        let one_line = |cell: String| if cell.contains('\n') { cell.replace('\n', " ") } else { cell };
        self.rows.push(cells.into_iter().map(one_line).collect());
    }

    /// For the terminal that stdout is, if it is one.
    pub(crate) fn render(&self) -> String {
        let terminal = Term::stdout();
        let width = terminal.is_term().then(|| usize::from(terminal.size().1)).filter(|width| *width > 0);
        self.render_for(width)
    }

    fn render_for(&self, width: Option<usize>) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        let header: Vec<_> = self.header.iter().map(|name| (*name).to_owned()).collect();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let cell = truncate_str(cell, *width, "…");
                let pad = width.saturating_sub(measure_text_width(&cell)) + GAP;
                line.push_str(&cell);
                line.extend(std::iter::repeat_n(' ', pad));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let widest = |column: usize| {
            let cells = self.rows.iter().map(|row| measure_text_width(&row[column])).max().unwrap_or(0);
            cells.max(self.header[column].len())
        };
        let mut widths: Vec<_> = (0..self.header.len()).map(widest).collect();
        let Some(limit) = limit else { return widths };
        for column in &self.elastic {
            let total: usize = widths.iter().sum::<usize>() + GAP * (widths.len() - 1);
            let over = total.saturating_sub(limit);
            let least = self.header[*column].len().max(LEAST);
            widths[*column] = widths[*column].saturating_sub(over).max(least.min(widths[*column]));
        }
        widths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["ID", "NAME", "WHY"], &["WHY", "NAME"]);
        table.row(vec!["abcd".into(), "a-rather-long-name".into(), "no agent has\ntwo free GPUs".into()]);
        table.row(vec!["efgh".into(), "größe".into(), String::new()]);
        table
    }

    #[test]
    fn columns_line_up_by_what_is_seen() {
        assert_eq!(
            table().render_for(None),
            "ID    NAME                WHY\n\
             abcd  a-rather-long-name  no agent has two free GPUs\n\
             efgh  größe\n"
        );
    }

    #[test]
    fn a_narrow_terminal_cuts_elastic_columns_only() {
        for width in [60, 40, 24] {
            let text = table().render_for(Some(width));
            assert!(text.lines().all(|line| measure_text_width(line) <= width), "{width}:\n{text}");
            assert!(text.contains("abcd"));
        }
        assert!(table().render_for(Some(40)).contains('…'));
    }
}
