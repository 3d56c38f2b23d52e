//! Columns that fit the terminal: elastic columns are cut first, then whole columns go. Into a pipe nothing is cut.

use super::words;
use console::{Term, measure_text_width, truncate_str};

const GAP: usize = 2;
/// A cell cut shorter than this says nothing.
const LEAST: usize = 8;
/// Of the first elastic column, which holds a sentence, while there are spare columns.
const READABLE: usize = 24;

#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    /// Columns that may be cut, the first to go first.
    elastic: Vec<usize>,
    /// Columns that a narrow terminal does without, the first to go first.
    spare: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&'static str], elastic: &[&'static str]) -> Self {
        let mut table =
            Self { header: header.to_vec(), elastic: Vec::new(), spare: Vec::new(), rows: Vec::new() };
        table.elastic = table.indices(elastic);
        table
    }

    /// Columns that a narrow terminal does without, the first to go first.
    pub(crate) fn spare(mut self, names: &[&'static str]) -> Self {
        self.spare = self.indices(names);
        self
    }

    fn indices(&self, names: &[&'static str]) -> Vec<usize> {
        names.iter().filter_map(|name| self.header.iter().position(|known| known == name)).collect()
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.header.len());
        // Before widths are measured, so that columns stay where they are.
        let one_line = |cell: String| words(&cell).replace(['\n', '\t'], " ");
        self.rows.push(cells.into_iter().map(one_line).collect());
    }

    /// For the terminal that stdout is, if it is one.
    pub(crate) fn render(&self) -> String {
        let terminal = Term::stdout();
        let width = terminal.is_term().then(|| usize::from(terminal.size().1)).filter(|width| *width > 0);
        self.render_for(width)
    }

    fn render_for(&self, width: Option<usize>) -> String {
        let (columns, widths) = self.layout(width);
        let mut text = String::new();
        let header: Vec<_> = self.header.iter().map(|name| (*name).to_owned()).collect();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for (column, width) in columns.iter().zip(&widths) {
                let cell = truncate_str(&row[*column], *width, "…");
                let pad = width.saturating_sub(measure_text_width(&cell)) + GAP;
                line.push_str(&cell);
                line.extend(std::iter::repeat_n(' ', pad));
            }
            let line = line.trim_end();
            // A terminal that even the least columns do not fit is still not made to wrap.
            text.push_str(&width.map_or(line.into(), |width| truncate_str(line, width, "…")));
            text.push('\n');
        }
        text
    }

    /// The columns that are shown, and how wide.
    fn layout(&self, limit: Option<usize>) -> (Vec<usize>, Vec<usize>) {
        let mut columns: Vec<_> = (0..self.header.len()).collect();
        let Some(limit) = limit else {
            let widths = columns.iter().map(|column| self.widest(*column)).collect();
            return (columns, widths);
        };
        // A column without a word says nothing; it goes before any other.
        let is_empty = |column: &&usize| self.rows.iter().all(|row| row[**column].is_empty());
        let (empty, worded): (Vec<usize>, Vec<usize>) =
            self.spare.iter().partition(|column| is_empty(column));
        for spare in empty.into_iter().chain(worded) {
            let readable = if self.elastic.contains(&spare) { LEAST } else { READABLE };
            let (widths, fits) = self.shrunk(&columns, limit, readable);
            if fits {
                return (columns, widths);
            }
            columns.retain(|column| *column != spare);
        }
        let (widths, _) = self.shrunk(&columns, limit, LEAST);
        (columns, widths)
    }

    /// Their widths when elastic ones are cut, the first to no less than `readable`, and whether that is enough.
    fn shrunk(&self, columns: &[usize], limit: usize, readable: usize) -> (Vec<usize>, bool) {
        let mut widths: Vec<_> = columns.iter().map(|column| self.widest(*column)).collect();
        let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        for column in &self.elastic {
            let Some(at) = columns.iter().position(|shown| shown == column) else { continue };
            let over = total(&widths).saturating_sub(limit);
            let words = if self.elastic.first() == Some(column) { readable } else { LEAST };
            let least = self.header[*column].len().max(words);
            widths[at] = widths[at].saturating_sub(over).max(least.min(widths[at]));
        }
        let fits = total(&widths) <= limit;
        (widths, fits)
    }

    fn widest(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| measure_text_width(&row[column])).max().unwrap_or(0);
        cells.max(self.header[column].len())
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
    fn a_cell_moves_and_colours_nothing() {
        let mut table = Table::new(&["NAME", "STATE"], &["NAME"]);
        table.row(vec!["a\rb\u{1b}[31m\tc".into(), "lost".into()]);
        assert_eq!(table.render_for(None), "NAME        STATE\na␛b␛[31m c  lost\n");
    }

    #[test]
    fn a_narrower_one_does_without_spare_columns_the_empty_ones_first() {
        let mut table = Table::new(&["ID", "GPUS", "AGE", "WHY"], &["WHY"]).spare(&["AGE", "GPUS"]);
        table.row(vec!["k3m9q2xw".into(), String::new(), "3h".into(), "no agent can ever take it".into()]);
        let header =
            |width| table.render_for(Some(width)).lines().next().map(str::to_owned).unwrap_or_default();
        assert_eq!(header(60), "ID        GPUS  AGE  WHY");
        assert_eq!(header(40), "ID        AGE  WHY");
        assert_eq!(header(20), "ID        WHY");
        for width in [5, 12, 20, 40, 60] {
            let text = table.render_for(Some(width));
            assert!(text.lines().all(|line| measure_text_width(line) <= width), "{width}:\n{text}");
        }
    }

    #[test]
    fn a_narrow_terminal_cuts_elastic_columns_only() {
        for width in [60, 40, 26] {
            let text = table().render_for(Some(width));
            assert!(text.lines().all(|line| measure_text_width(line) <= width), "{width}:\n{text}");
            assert!(text.contains("abcd"));
        }
        assert!(table().render_for(Some(40)).contains('…'));
    }
}
