//! What a run found: every sample, medians, how the first directory compares with the others, and what failed.

use std::fmt;

use anyhow::Context;
use comfy_table::{Attribute, Cell, CellAlignment, LineStyle, Table, presets};
use serde::Serialize;

use super::scene::{Caches, Sample, Scene, Settings};
use super::sections::{Row, Section};
use super::statistics::{advantage, median};
use super::target::{Target, show};

/// Everything that one run found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    directories: Vec<Directory>,
    scale: f64,
    repeat: u32,
    remount: Option<String>,
    /// Whether the kernel's caches were dropped before cold reads.
    caches_dropped: bool,
    rows: Vec<Line>,
    /// Sections that ended early.
    pub(super) failures: Vec<Failure>,
}

/// A measured directory.
#[derive(Debug, Serialize)]
struct Directory {
    path: String,
    file_system: String,
}

/// One row of the report.
#[derive(Debug, Serialize)]
struct Line {
    section: char,
    #[serde(flatten)]
    row: Row,
    more_is_better: bool,
    /// By directory.
    medians: Vec<Option<f64>>,
    /// How many times better the first directory is than each of the others, see [`advantage`].
    advantages: Vec<Option<f64>>,
    /// By directory, then in the order in which they were measured.
    samples: Vec<Vec<f64>>,
}

/// A section that ended early.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    directory: String,
    section: char,
    repetition: usize,
    message: String,
}

impl Failure {
    /// What went wrong where; repetitions count from 0.
    pub(super) fn new(
        target: &Target,
        section: Section,
        repetition: usize,
        problem: &anyhow::Error,
    ) -> Self {
        let (directory, section) = (show(target.path()), section.letter());
        Failure {
            directory,
            section,
            repetition,
            message: format!("{problem:#}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "section {} in {}: {}",
            self.section, self.directory, self.message
        )
    }
}

impl Report {
    /// A report without samples.
    pub(super) fn new(
        targets: &[Target],
        settings: &Settings,
        sections: &[Section],
        repeat: u32,
    ) -> Self {
        let directory = |target: &Target| Directory {
            path: show(target.path()),
            file_system: target.file_system().to_owned(),
        };
        let rows = sections
            .iter()
            .flat_map(|section| section.rows().iter().map(|&row| (section.letter(), row)));
        let line = |(section, row): (char, Row)| Line {
            section,
            row,
            more_is_better: row.unit.more_is_better(),
            medians: Vec::new(),
            advantages: Vec::new(),
            samples: vec![Vec::new(); targets.len()],
        };
        Report {
            directories: targets.iter().map(directory).collect(),
            scale: settings.scale,
            repeat,
            remount: settings.remount.clone(),
            caches_dropped: true,
            rows: rows.map(line).collect(),
            failures: Vec::new(),
        }
    }

    /// Adds what a scene found in the directory with this index.
    pub(super) fn add(&mut self, directory: usize, scene: &Scene<'_>) {
        for &Sample { key, value } in scene.samples() {
            if let Some(line) = self.rows.iter_mut().find(|line| line.row.key == key) {
                line.samples[directory].push(value);
            }
        }
        self.caches_dropped &= scene.caches() != Caches::Kept;
    }

    /// Computes medians and ratios; called once all samples are in.
    pub(super) fn summarise(&mut self) {
        self.rows
            .retain(|line| line.samples.iter().any(|samples| !samples.is_empty()));
        for line in &mut self.rows {
            line.medians = line.samples.iter().map(|samples| median(samples)).collect();
            let (ours, others) = line
                .medians
                .split_first()
                .expect("there is a first directory");
            line.advantages = others
                .iter()
                .map(|theirs| advantage(line.row.unit, *ours, *theirs))
                .collect();
        }
    }

    /// The report for machines.
    pub(super) fn to_json(&self) -> anyhow::Result<String> {
        serde_json::to_string_pretty(self).context("cannot write the report as JSON")
    }

    /// The report for people.
    pub(super) fn to_table(&self) -> String {
        let mut table = Table::new();
        table.load_style(
            presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─')),
        );
        let mut header = vec![Cell::new("median of measurement"), Cell::new("unit")];
        for (index, directory) in self.directories.iter().enumerate() {
            header.push(Cell::new(format!(
                "{}\n{}",
                directory.path, directory.file_system
            )));
            if index > 0 {
                header.push(Cell::new("ratio"));
            }
        }
        table.set_header(header);
        for section in Section::ALL {
            let lines: Vec<_> = self
                .rows
                .iter()
                .filter(|line| line.section == section.letter())
                .collect();
            if !lines.is_empty() {
                table.add_row(vec![Cell::new(section).add_attribute(Attribute::Bold)]);
            }
            for line in lines {
                table.add_row(line.cells());
            }
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        format!("{table}\n{}", self.notes().join("\n"))
    }

    /// What a reader must know to read the table.
    fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!("{} repetitions, scale {}", self.repeat, self.scale)];
        if self.directories.len() > 1 {
            notes.push(
                "ratio: how many times better the first directory is; below 1 it is worse"
                    .to_owned(),
            );
        }
        if !self.caches_dropped {
            notes.push(
                "the kernel's caches were not dropped (that takes root): cold rows may be warm"
                    .to_owned(),
            );
        }
        notes.extend(
            self.failures
                .iter()
                .map(|failure| format!("failed: {failure}")),
        );
        notes
    }
}

impl Line {
    fn cells(&self) -> Vec<Cell> {
        let decimals = self.row.unit.decimals();
        let value = |value: Option<f64>, decimals| match value {
            Some(value) => format!("{value:.decimals$}"),
            None => "-".to_owned(),
        };
        let mut cells = vec![
            Cell::new(format!("  {}", self.row.title)),
            Cell::new(self.row.unit.symbol()),
        ];
        for (index, &median) in self.medians.iter().enumerate() {
            cells.push(Cell::new(value(median, decimals)));
            if index > 0 {
                cells.push(Cell::new(value(self.advantages[index - 1], 2)));
            }
        }
        cells
    }
}
