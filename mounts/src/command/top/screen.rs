//! The picture: as many lines and columns as there is room for, the most important first.

use std::fmt::Write;

use crossterm::style::{Attribute, Color, SetAttribute, SetForegroundColor};

use super::snapshot::{JOB_COLUMNS, Order, Row, SERVER_COLUMNS, Snapshot, Tier};

/// Cells of a bar that shows how full a tier is, where there is room for it.
const BAR: usize = 20;
/// Between columns.
const GAP: usize = 2;
/// The first column, a name, is cut to this before a second one is left out.
const NAME_MIN: usize = 12;

/// Cells of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: usize,
    pub(super) height: usize,
}

/// How a piece of a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Plain,
    Bold,
    Bad,
    Marked,
}

/// A line in pieces.
#[derive(Debug)]
pub(super) struct Line(Vec<(Look, String)>);

impl Line {
    fn new(look: Look, text: impl Into<String>) -> Self {
        Line(vec![(look, text.into())])
    }

    /// The line as the terminal takes it, cut to so many cells. What is in names moves no cursor.
    pub(super) fn to_ansi(&self, width: usize) -> String {
        let mut text = String::new();
        let mut left = width;
        for (look, piece) in &self.0 {
            let shown: String = piece.chars().take(left).map(visible).collect();
            left -= shown.chars().count();
            // Writing to a string does not fail.
            let _ = match look {
                Look::Plain => Ok(()),
                Look::Bold => write!(text, "{}", SetAttribute(Attribute::Bold)),
                Look::Bad => write!(text, "{}", SetForegroundColor(Color::Red)),
                Look::Marked => write!(text, "{}", SetAttribute(Attribute::Reverse)),
            };
            text.push_str(&shown);
            if *look != Look::Plain {
                let _ = write!(text, "{}", SetAttribute(Attribute::Reset));
            }
        }
        text
    }
}

fn visible(letter: char) -> char {
    match letter.is_control() {
        true => '?',
        false => letter,
    }
}

/// A picture, or why there is none: no more lines than there is room for.
pub(super) fn picture(
    snapshot: Option<&Snapshot>,
    failure: Option<&str>,
    order: Order,
    size: Size,
) -> Vec<Line> {
    let mut lines = Vec::new();
    lines.extend(failure.map(|failure| Line::new(Look::Bad, failure)));
    match snapshot {
        None if lines.is_empty() => lines.push(Line::new(Look::Plain, "asking the controller")),
        None => {}
        Some(snapshot) => {
            lines.extend(head(snapshot, size.width));
            // The keys come last.
            let left = size.height.saturating_sub(lines.len() + 1);
            let (servers, jobs) = (snapshot.server_rows(order), snapshot.job_rows(order));
            // Each with its heading; jobs have half at least.
            let for_servers =
                (servers.len() + 1).min(left.saturating_sub(jobs.len() + 1).max(left / 2));
            lines.extend(table(&SERVER_COLUMNS, &servers, for_servers, size.width));
            let for_jobs = left - for_servers;
            lines.extend(table(&JOB_COLUMNS, &jobs, for_jobs, size.width));
            lines.truncate(size.height.saturating_sub(1));
            lines.push(keys(order));
        }
    }
    lines.truncate(size.height);
    lines
}

fn head(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let mut lines = vec![Line::new(Look::Bold, snapshot.headline())];
    lines.extend(snapshot.pools().map(|pool| Line::new(Look::Plain, pool)));
    let tiers = snapshot.tiers();
    lines.extend(tiers.iter().map(|tier| tier_line(tier, width)));
    let waiting = snapshot.waiting.iter();
    lines.extend(waiting.map(|sentence| Line::new(Look::Plain, format!("waiting: {sentence}"))));
    lines
}

fn tier_line(tier: &Tier, width: usize) -> Line {
    let text = tier.sentence();
    if width < text.len() + BAR + 3 {
        return Line::new(Look::Plain, text);
    }
    let share = tier.used_bytes as f64 / tier.capacity_bytes.max(1) as f64;
    let full = ((share * BAR as f64).ceil() as usize).min(BAR);
    let bar = format!("[{}{}] ", "|".repeat(full), " ".repeat(BAR - full));
    Line::new(Look::Plain, bar + &text)
}

/// Which keys there are; the order in force is marked.
fn keys(order: Order) -> Line {
    let mut pieces = vec![(Look::Plain, "q ends; by ".to_owned())];
    for each in Order::ALL {
        let (key, name) = each.key();
        let look = match each == order {
            true => Look::Marked,
            false => Look::Plain,
        };
        pieces.push((look, format!("{key}:{name}")));
        pieces.push((Look::Plain, " ".to_owned()));
    }
    Line(pieces)
}

/// A heading and as many rows as fit into so many lines; the last line counts those that do not.
fn table(columns: &[&str], rows: &[Row], height: usize, width: usize) -> Vec<Line> {
    if height == 0 {
        return Vec::new();
    }
    let widths = widths(columns, rows, width);
    let headings = columns.iter().map(|&column| column.to_owned());
    let mut lines = vec![Line::new(Look::Bold, cells(headings, &widths))];
    let room = height - 1;
    lines.extend(rows.iter().take(room).map(|row| {
        let look = match row.is_bad {
            true => Look::Bad,
            false => Look::Plain,
        };
        Line::new(look, cells(row.cells.iter().cloned(), &widths))
    }));
    if rows.len() > room && room > 0 {
        let more = format!("... {} more", rows.len() - room + 1);
        lines[room] = Line::new(Look::Plain, more);
    }
    lines
}

fn cells(cells: impl Iterator<Item = String>, widths: &[usize]) -> String {
    let padded = cells.zip(widths).map(|(cell, &width)| {
        let cut: String = cell.chars().take(width).collect();
        format!("{cut:<width$}")
    });
    padded.collect::<Vec<_>>().join(&" ".repeat(GAP))
}

/// Of the columns that fit, as wide as their widest cell; the name gives way first.
fn widths(columns: &[&str], rows: &[Row], room: usize) -> Vec<usize> {
    let wanted = |index: usize| {
        let cells = rows.iter().filter_map(|row| row.cells.get(index));
        let lengths = cells.map(|cell| cell.chars().count());
        lengths.chain([columns[index].len()]).max().unwrap_or(0)
    };
    if columns.is_empty() {
        return Vec::new();
    }
    let name = wanted(0);
    let least = name.min(NAME_MIN).min(room);
    let (mut widths, mut left) = (vec![least], room - least);
    for index in 1..columns.len() {
        let needs = wanted(index) + GAP;
        if needs > left {
            break;
        }
        left -= needs;
        widths.push(needs - GAP);
    }
    widths[0] += left.min(name - least);
    widths
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::snapshot;
    use super::*;

    /// The lines as they are read, without their looks.
    fn drawn(width: usize, height: usize, failure: Option<&str>) -> String {
        let snapshot = snapshot();
        let size = Size { width, height };
        let lines = picture(Some(&snapshot), failure, Order::Used, size);
        assert!(lines.len() <= height, "{lines:?}");
        let text = |line: &Line| {
            let pieces = line.0.iter().map(|(_, piece)| piece.as_str());
            let text: String = pieces.collect::<String>().chars().take(width).collect();
            let ansi = line.to_ansi(width);
            assert!(ansi.chars().count() >= text.chars().count(), "{ansi:?}");
            text
        };
        lines.iter().map(text).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_wide_terminal_shows_all() {
        let picture = drawn(120, 30, None);
        for part in [
            "127.0.0.1:7300",
            "dram: 3MiB of 2GiB used",
            "[|",
            "a:1",
            "dead for",
            "d:4",
            "CAPACITY",
            "video",
            "AGE",
            "waiting: 1. 'big'",
            "u:used",
        ] {
            assert!(picture.contains(part), "{part} in\n{picture}");
        }
    }

    #[test]
    fn a_narrow_terminal_shows_what_matters_most() {
        let picture = drawn(40, 30, None);
        for part in ["SERVER", "STATE", "USED", "JOB", "video"] {
            assert!(picture.contains(part), "{part} in\n{picture}");
        }
        assert!(
            !picture.contains("OPS/S") && !picture.contains("[|"),
            "{picture}"
        );
        assert!(picture.lines().all(|line| line.len() <= 40), "{picture}");
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let picture = drawn(60, 10, None);
        assert!(picture.contains("more"), "{picture}");
    }

    #[test]
    fn no_size_is_too_small() {
        for width in 0..30 {
            for height in 0..12 {
                drawn(width, height, Some("the controller does not answer"));
            }
        }
    }

    #[test]
    fn a_failure_is_told_and_the_last_picture_stays() {
        let picture = drawn(80, 20, Some("the controller does not answer"));
        assert!(
            picture.contains("does not answer") && picture.contains("a:1"),
            "{picture}"
        );
    }

    #[test]
    fn what_is_in_a_name_moves_no_cursor() {
        let line = Line::new(Look::Plain, "a\x1b[2Jb\nc");
        assert_eq!(line.to_ansi(80), "a?[2Jb?c");
        assert_eq!(line.to_ansi(3), "a?[");
    }
}
