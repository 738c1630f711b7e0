//! Tables and text that fit a terminal of 80 columns.

use comfy_table::{CellAlignment, Table, presets};

const WIDTH: usize = 80;
/// Longer column names are wrapped at punctuation.
const HEADER_WIDTH: usize = 20;

/// Named rows and columns. A grid too wide for one table becomes several tables below each other.
pub(super) struct Grid {
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Grid {
    pub(super) fn new<'a>(columns: impl Iterator<Item = &'a str>) -> Self {
        Self { columns: columns.map(broken).collect(), rows: Vec::new() }
    }

    /// One cell per column.
    pub(super) fn add(&mut self, name: &str, cells: Vec<String>) {
        self.rows.push((name.to_owned(), cells));
    }

    pub(super) fn to_text(&self) -> String {
        let names = self.rows.iter().map(|(name, _)| length(name)).max().unwrap_or(0);
        let mut text = String::new();
        let mut from = 0;
        while from < self.columns.len() {
            let mut to = from;
            let mut width = names + 2;
            while to < self.columns.len() {
                width += self.width(to) + 2;
                if width > WIDTH && to > from {
                    break;
                }
                to += 1;
            }
            text += &self.table(from, to);
            text.push('\n');
            from = to;
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|(_, cells)| cells.get(column));
        let header = self.columns[column].lines().map(length);
        cells.map(|cell| length(cell)).chain(header).max().unwrap_or(0)
    }

    fn table(&self, from: usize, to: usize) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let header = self.columns[from..to].iter().map(String::as_str);
        table.set_header([""].into_iter().chain(header));
        for (name, cells) in &self.rows {
            let cells = cells.iter().take(to).skip(from).map(String::as_str);
            if cells.clone().any(|cell| !cell.is_empty()) {
                table.add_row([name.as_str()].into_iter().chain(cells));
            }
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.trim_fmt()
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Wraps to lines of at most [`HEADER_WIDTH`], where punctuation permits.
fn broken(name: &str) -> String {
    let (mut text, mut line) = (String::new(), 0);
    for part in name.split_inclusive([':', ',', '/']) {
        if line > 0 && line + length(part) > HEADER_WIDTH {
            text.push('\n');
            line = 0;
        }
        text += part;
        line += length(part);
    }
    text
}

/// Wraps to lines of at most 80 characters, unless a word is longer; empty for no text.
pub(super) fn wrapped(text: &str) -> String {
    let (mut lines, mut line) = (String::new(), 0);
    for word in text.split_whitespace() {
        if line > 0 && line + 1 + length(word) > WIDTH {
            lines.push('\n');
            line = 0;
        }
        if line > 0 {
            lines.push(' ');
            line += 1;
        }
        lines += word;
        line += length(word);
    }
    if !lines.is_empty() {
        lines.push('\n');
    }
    lines
}

/// Quoted according to RFC 4180.
pub(super) fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wider_than_a_terminal() {
        let mut grid = Grid::new(["x86_64-linux:big-parallel,kvm,nixos-test"; 9].into_iter());
        grid.add("time with too many machines", vec!["123h45m ± 123h45m".to_owned(); 9]);
        let text = grid.to_text();
        assert!(text.lines().all(|line| length(line) <= WIDTH), "{text}");
        assert_eq!(text.matches("± 123h45m").count(), 9);
        assert_eq!(text.matches("time with").count(), 5, "two columns a table");
        let long = wrapped(&"word ".repeat(50));
        assert!(long.lines().all(|line| line.len() <= WIDTH) && long.lines().count() == 4);
        assert_eq!(wrapped(""), "");
    }

    #[test]
    fn commas_separate_only_fields() {
        assert_eq!(quoted("x86_64-linux,i686-linux"), "\"x86_64-linux,i686-linux\"");
        assert_eq!(quoted("x86_64-linux"), "x86_64-linux");
    }
}
