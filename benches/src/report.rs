//! What a part has to say: tables for people, charts for the picture, and their place in
//! docs/performance.md.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::picture::{self, Chart};

/// Of a line of the documentation.
const WIDTH: usize = 100;

/// What one part has measured.
#[derive(Debug)]
pub struct Section {
    /// The part's name, and that of its place in the document.
    pub name: &'static str,
    /// How it was measured, with this run's numbers.
    pub note: String,
    /// The figures.
    pub tables: Vec<Table>,
    /// Those that the picture shows; none, no picture.
    pub charts: Vec<Chart>,
}

/// Rows of text below a head. The first column is on the left, figures are on the right.
#[derive(Debug, Default)]
pub struct Table {
    head: Vec<String>,
    /// As long as the head, each.
    pub rows: Vec<Vec<String>>,
}

impl Section {
    /// Without figures yet.
    pub fn new(name: &'static str, note: &str) -> Self {
        Self {
            name,
            note: note.to_owned(),
            tables: Vec::new(),
            charts: Vec::new(),
        }
    }

    /// The text, as Markdown that is read well as it is.
    pub fn text(&self) -> String {
        let mut text = wrapped(&self.note);
        for table in &self.tables {
            text.push('\n');
            text.push_str(&table.text());
        }
        text
    }

    /// Puts text and picture into a directory of documentation.
    pub fn write(&self, docs: &Path) -> Result<()> {
        let mut text = self.text();
        if !self.charts.is_empty() {
            let picture = format!("performance-{}.svg", self.name);
            text.push_str(&format!("\n![The figures above as bars]({picture})\n"));
            let file = docs.join(&picture);
            fs::write(&file, picture::draw(&self.charts))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        write_text(docs, self.name, &text)
    }
}

/// A paragraph in lines of the documentation's width.
fn wrapped(paragraph: &str) -> String {
    let (mut text, mut width) = (String::new(), 0);
    for word in paragraph.split_whitespace() {
        let letters = word.chars().count() + 1;
        if width > 0 {
            let breaks = width + letters > WIDTH;
            text.push(if breaks { '\n' } else { ' ' });
            width = if breaks { 0 } else { width };
        }
        text.push_str(word);
        width += letters;
    }
    text.push('\n');
    text
}

impl Table {
    /// Without rows yet.
    pub fn new(head: Vec<String>) -> Self {
        let rows = Vec::new();
        Self { head, rows }
    }

    fn text(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| {
            let widths = lines().map(|line| line[column].chars().count());
            widths.max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        for (number, line) in lines().enumerate() {
            text.push_str(&row(line, &widths));
            if number == 0 {
                text.push_str(&rule(&widths));
            }
        }
        text
    }
}

fn row(cells: &[String], widths: &[usize]) -> String {
    let mut text = String::from("|");
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        match column {
            0 => text.push_str(&format!(" {cell:<width$} |")),
            _ => text.push_str(&format!(" {cell:>width$} |")),
        }
    }
    text.push('\n');
    text
}

fn rule(widths: &[usize]) -> String {
    let mut text = String::from("|");
    for (column, width) in widths.iter().enumerate() {
        let dashes = "-".repeat(width + 1);
        text.push_str(&match column {
            0 => format!("{dashes}-|"),
            _ => format!("{dashes}:|"),
        });
    }
    text.push('\n');
    text
}

/// Writes a text into its place in the document.
pub fn write_text(docs: &Path, name: &str, text: &str) -> Result<()> {
    replace(&docs.join("performance.md"), name, text)
}

/// Replaces what stands between the markers of a name.
fn replace(file: &Path, name: &str, text: &str) -> Result<()> {
    let shown = file.display();
    let old = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    let new = replaced(&old, name, text)
        .with_context(|| format!("{shown} has no place for the part {name}"))?;
    fs::write(file, new).with_context(|| format!("cannot write {shown}"))
}

fn replaced(old: &str, name: &str, text: &str) -> Option<String> {
    let begin = format!("<!-- bench: {name} -->\n");
    let end = format!("<!-- end: {name} -->");
    let from = old.find(&begin)? + begin.len();
    let to = from + old[from..].find(&end)?;
    Some(format!("{}\n{text}\n{}", &old[..from], &old[to..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let old = "a\n<!-- bench: x -->\nold\n<!-- end: x -->\nb\n";
        let new = replaced(old, "x", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- bench: x -->\n\nnew\n\n<!-- end: x -->\nb\n");
        assert_eq!(replaced(&new, "x", "new\n").unwrap(), new);
        assert!(replaced(old, "y", "new\n").is_none());
    }

    #[test]
    fn a_table_has_columns_of_one_width() {
        let mut table = Table::new(vec!["call".into(), "ms".into()]);
        table.rows.push(vec!["pause".into(), "12.5".into()]);
        let text = table.text();
        assert_eq!(
            text,
            "| call  |   ms |\n|-------|-----:|\n| pause | 12.5 |\n"
        );
    }
}
