//! The sections of the benchmark and the rows that each contributes to the report.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use super::{again, objects, random, sequential, shuffle, small_files, tree, visibility};

/// A group of measurements that are made one after the other in one directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Section {
    /// Sequential write and read of 1 MiB blocks
    #[value(name = "a", alias = "sequential")]
    Sequential,
    /// Small files: create, stat, read, rename, unlink
    #[value(name = "b", alias = "small-files")]
    SmallFiles,
    /// Random reads and writes of 4 KiB
    #[value(name = "c", alias = "random")]
    Random,
    /// Put and get of whole files of 100 KiB and 1 KiB
    #[value(name = "d", alias = "objects")]
    Objects,
    /// A source tree: untar, find, grep, rm
    #[value(name = "e", alias = "tree")]
    Tree,
    /// A shuffle of 32 x 32 pieces of 256 KiB
    #[value(name = "f", alias = "shuffle")]
    Shuffle,
    /// What a second mount sees right after a close
    #[value(name = "g", alias = "visibility")]
    Visibility,
    /// The same names looked at again and again
    #[value(name = "h", alias = "again")]
    Again,
}

impl Section {
    /// All sections, in the order in which they run.
    pub(super) const ALL: &[Section] = &[
        Section::Sequential,
        Section::SmallFiles,
        Section::Random,
        Section::Objects,
        Section::Tree,
        Section::Shuffle,
        Section::Visibility,
        Section::Again,
    ];

    /// The letter by which a user asks for the section.
    pub(super) fn letter(self) -> char {
        match self {
            Section::Sequential => 'a',
            Section::SmallFiles => 'b',
            Section::Random => 'c',
            Section::Objects => 'd',
            Section::Tree => 'e',
            Section::Shuffle => 'f',
            Section::Visibility => 'g',
            Section::Again => 'h',
        }
    }

    /// What the report's heading says.
    pub(super) fn title(self) -> &'static str {
        match self {
            Section::Sequential => "sequential, 1 MiB blocks",
            Section::SmallFiles => "files of 4 KiB",
            Section::Random => "random, 4 KiB over 256 MiB",
            Section::Objects => "objects, one after the other",
            Section::Tree => "source tree",
            Section::Shuffle => "shuffle, 32 x 32 x 256 KiB, 4 processes",
            Section::Visibility => "seen by the second mount right after",
            Section::Again => "again and again, 200 files",
        }
    }

    /// The rows that the section contributes, in the report's order.
    pub(super) fn rows(self) -> &'static [Row] {
        match self {
            Section::Sequential => sequential::ROWS,
            Section::SmallFiles => small_files::ROWS,
            Section::Random => random::ROWS,
            Section::Objects => objects::ROWS,
            Section::Tree => tree::ROWS,
            Section::Shuffle => shuffle::ROWS,
            Section::Visibility => visibility::ROWS,
            Section::Again => again::ROWS,
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.letter(), self.title())
    }
}

/// One line of the report.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Row {
    /// The name in JSON, unique over all sections.
    pub(super) key: &'static str,
    /// What a reader sees.
    pub(super) title: &'static str,
    /// What the value counts.
    pub(super) unit: Unit,
}

impl Row {
    /// A row of the catalogue.
    pub(super) const fn new(key: &'static str, title: &'static str, unit: Unit) -> Self {
        Row { key, title, unit }
    }
}

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Unit {
    /// Mebibytes per second; more is better.
    #[serde(rename = "MiB/s")]
    MebibytesPerSecond,
    /// Operations per second; more is better.
    #[serde(rename = "1/s")]
    PerSecond,
    /// Microseconds; less is better.
    #[serde(rename = "us")]
    Microseconds,
    /// Seconds; less is better.
    #[serde(rename = "s")]
    Seconds,
    /// Percent of the tried cases that were right; more is better.
    #[serde(rename = "%")]
    Percent,
}

impl Unit {
    /// Whether a larger value is the better one.
    pub(super) fn more_is_better(self) -> bool {
        !matches!(self, Unit::Microseconds | Unit::Seconds)
    }

    /// The unit as a reader knows it.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Unit::MebibytesPerSecond => "MiB/s",
            Unit::PerSecond => "1/s",
            Unit::Microseconds => "us",
            Unit::Seconds => "s",
            Unit::Percent => "%",
        }
    }

    /// Digits after the point that still mean something.
    pub(super) fn decimals(self) -> usize {
        match self {
            Unit::MebibytesPerSecond | Unit::PerSecond | Unit::Percent => 0,
            Unit::Microseconds => 1,
            Unit::Seconds => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let keys: Vec<_> = Section::ALL
            .iter()
            .flat_map(|section| section.rows())
            .map(|row| row.key)
            .collect();
        let distinct: HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn sections_are_asked_for_by_their_letters() {
        for section in Section::ALL {
            assert_eq!(
                Section::from_str(&section.letter().to_string(), false),
                Ok(*section)
            );
        }
    }
}
