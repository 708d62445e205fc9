//! `pocket bench`: measures what programs get from directories, side by side in one run.
//!
//! Every measurement is done by worker processes that know nothing of Pocket: they use files. Repetitions alternate
//! between the directories, and the report quotes medians and their ratios, because rates on a shared machine swing
//! and only what was measured side by side can be compared. Arguments enter by [`run`], the report leaves by standard
//! output, progress and warnings by standard error. Nothing is left behind in a measured directory, also when the run
//! is interrupted.

mod again;
mod interrupt;
mod objects;
mod random;
mod report;
mod scene;
mod sections;
mod sequential;
mod shuffle;
mod small_files;
mod statistics;
mod target;
mod tree;
mod visibility;
mod worker;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use interrupt::Interrupt;
use report::{Failure, Report};
use scene::{Scene, Settings};
use sections::Section;
use target::Target;

/// Repetitions are bounded: a thousand of them run for days.
const REPEAT_MAX: u32 = 1000;

/// Measure directories: sequential and random I/O, small files, objects, a source tree, a shuffle
#[derive(Args, Debug, Clone)]
pub struct BenchArgs {
    /// Directory to measure, for example a mounted job
    #[arg(value_name = "DIR", required_unless_present = "worker")]
    directory: Option<PathBuf>,

    /// Another directory to measure in the same run, alternating with DIR; may be repeated
    #[arg(long, value_name = "DIR")]
    against: Vec<PathBuf>,

    /// Sections to run, separated by commas [default: all, but for g where no second mount is given]
    #[arg(long, value_enum, value_delimiter = ',')]
    sections: Vec<Section>,

    /// Amount of work, relative to 1 GiB streams, 5,000 small files and 2,000 objects of each size
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    scale: f64,

    /// Repetitions of every section; the report shows medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=REPEAT_MAX as i64))]
    repeat: u32,

    /// The same job mounted a second time: measures what it sees of changes made in DIR
    #[arg(long, value_name = "DIR")]
    second_mount: Option<PathBuf>,

    /// Shell command that remounts the directory given in $DIR, run where a cold read is wanted
    #[arg(long, value_name = "CMD")]
    remount: Option<String>,

    /// Directory of some thousand files that section e packs, unpacks and searches
    #[arg(long, value_name = "DIR", default_value = "/usr/include")]
    tree: PathBuf,

    /// Longest time of one measurement in seconds; one that is cut short reports its rate so far
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    cap: f64,

    /// Print JSON with every sample instead of a table
    #[arg(long)]
    json: bool,

    /// Act as a worker process of a running benchmark
    #[arg(long, hide = true)]
    worker: bool,
}

/// Runs the benchmark and prints its report.
///
/// Fails when the arguments make no sense, when it is interrupted, or (after the report) when a section failed.
pub fn run(args: BenchArgs) -> anyhow::Result<()> {
    ensure!(
        args.scale > 0.0 && args.scale <= 1000.0,
        "scale {} is not in (0, 1000]",
        args.scale
    );
    ensure!(
        args.cap > 0.0 && args.cap <= 3600.0,
        "cap {} is not in (0, 3600] seconds",
        args.cap
    );
    let cap = Duration::from_secs_f64(args.cap);
    if args.worker {
        return worker::serve(cap);
    }

    let targets = open_targets(&args)?;
    let second_mount = args.second_mount.as_deref().map(Target::open).transpose()?;
    let settings = Settings {
        scale: args.scale,
        cap,
        remount: args.remount,
        tree: args.tree,
        second_mount,
    };
    let sections = chosen_sections(&args.sections, &settings)?;

    let report = measure(&targets, &settings, &sections, args.repeat)?;
    let text = if args.json {
        report.to_json()?
    } else {
        report.to_table()
    };
    writeln!(std::io::stdout(), "{text}").context("cannot write the report")?;
    match report.failures.len() {
        0 => Ok(()),
        count => bail!(
            "{count} measurements failed, the first: {}",
            report.failures[0]
        ),
    }
}

/// Opens DIR and the directories to compare it with, in the order of the report's columns.
fn open_targets(args: &BenchArgs) -> anyhow::Result<Vec<Target>> {
    let directories = args.directory.iter().chain(&args.against);
    let targets = directories
        .map(|directory| Target::open(directory))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for (index, target) in targets.iter().enumerate() {
        let repeated = targets[..index]
            .iter()
            .any(|other| other.path() == target.path());
        ensure!(!repeated, "{} is given twice", target.path().display());
    }
    Ok(targets)
}

/// The sections asked for, each once, or those that can run.
fn chosen_sections(asked: &[Section], settings: &Settings) -> anyhow::Result<Vec<Section>> {
    let mut sections = Vec::new();
    for &section in if asked.is_empty() {
        Section::ALL
    } else {
        asked
    } {
        if section == Section::Visibility && settings.second_mount.is_none() {
            ensure!(
                asked.is_empty(),
                "section g needs the job's second mount: give it by --second-mount DIR"
            );
            continue;
        }
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    Ok(sections)
}

/// Runs every section on every directory, `repeat` times, alternating.
fn measure(
    targets: &[Target],
    settings: &Settings,
    sections: &[Section],
    repeat: u32,
) -> anyhow::Result<Report> {
    let interrupt = Interrupt::watch()?;
    let progress = progress_bar(repeat as u64 * (sections.len() * targets.len()) as u64);
    let mut report = Report::new(targets, settings, sections, repeat);
    for repetition in 0..repeat as usize {
        for &section in sections {
            for turn in 0..targets.len() {
                // Nobody is always the first, nor always the one after the slowest.
                let index = (turn + repetition) % targets.len();
                let target = &targets[index];
                let mut scene =
                    Scene::new(target, settings, &interrupt, &progress, section, index == 0);
                announce(
                    &progress,
                    &format!(
                        "{}/{repeat} {section}: {}",
                        repetition + 1,
                        target.path().display()
                    ),
                );
                let outcome = scene.play();
                interrupt.check()?;
                report.add(index, &scene);
                if let Err(problem) = outcome {
                    let failure = Failure::new(target, section, repetition, &problem);
                    scene.warn(&failure.to_string());
                    report.failures.push(failure);
                }
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    report.summarise();
    Ok(report)
}

/// A bar on standard error where that is a terminal.
fn progress_bar(steps: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed} {wide_msg}");
    ProgressBar::new(steps).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Says what starts now: in the bar, or as a line where standard error is a log.
fn announce(progress: &ProgressBar, message: &str) {
    if std::io::stderr().is_terminal() {
        progress.set_message(message.to_owned());
    } else {
        eprintln!("{message}");
    }
}
