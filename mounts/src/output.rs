//! What commands print: tables for people, JSON for programs.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

/// Prints a line on standard output. A reader that has gone away (`pocket jobs | head -1`) is no
/// error.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    forgive(writeln!(io::stdout(), "{text}"))
}

/// Prints a value as JSON on one line.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string(value)?;
    Ok(line(text)?)
}

fn forgive(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// A column of a table.
pub(crate) enum Column {
    /// Words, to the left.
    Text(&'static str),
    /// Figures, to the right.
    Figure(&'static str),
}

/// An empty table with these columns, without lines, as wide as the terminal where there is one.
pub(crate) fn table(columns: &[Column]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(match io::stdout().is_terminal() {
        true => ContentArrangement::Dynamic,
        false => ContentArrangement::Disabled,
    });
    let names = columns.iter().map(|column| match column {
        Column::Text(name) | Column::Figure(name) => *name,
    });
    table.set_header(names);
    for (column, shown) in columns.iter().zip(table.column_iter_mut()) {
        shown.set_padding((0, 2));
        if let Column::Figure(_) = column {
            shown.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Prints a table, without blanks at the ends of its lines.
pub(crate) fn print_table(table: &Table) -> io::Result<()> {
    table.lines().try_for_each(|row| line(row.trim_end()))
}
