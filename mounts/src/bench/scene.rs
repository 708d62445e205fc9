//! One section played once in one directory: the checks before every phase, the cold caches, and the samples.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use indicatif::ProgressBar;

use super::interrupt::Interrupt;
use super::sections::Section;
use super::target::{Playground, Target};
use super::worker::{Crew, Outcome, Task};
use super::{again, objects, random, sequential, shuffle, small_files, tree, visibility};

/// What holds for the whole run.
#[derive(Debug)]
pub(super) struct Settings {
    /// Amount of work relative to the full size.
    pub(super) scale: f64,
    /// Longest time of one measurement.
    pub(super) cap: Duration,
    /// Shell command that remounts `$DIR`.
    pub(super) remount: Option<String>,
    /// Directory that section e packs and unpacks.
    pub(super) tree: PathBuf,
    /// The second mount of the first directory's job.
    pub(super) second_mount: Option<Target>,
}

impl Settings {
    /// `full` scaled, at least `least`.
    pub(super) fn scaled(&self, full: u64, least: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(least)
    }
}

/// A measured value and the row that it belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) key: &'static str,
    pub(super) value: f64,
}

/// What happened to the caches where a cold read was wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Caches {
    /// No cold read was wanted so far.
    #[default]
    Untouched,
    /// They were dropped.
    Dropped,
    /// The kernel refused: only root may drop them.
    Kept,
}

/// One section played once in one directory.
pub(super) struct Scene<'a> {
    target: &'a Target,
    settings: &'a Settings,
    interrupt: &'a Interrupt,
    progress: &'a ProgressBar,
    section: Section,
    is_primary: bool,
    caches: Cell<Caches>,
    samples: Vec<Sample>,
}

impl<'a> Scene<'a> {
    /// A section to play in `target`; `is_primary` says that the second mount belongs to it.
    pub(super) fn new(
        target: &'a Target,
        settings: &'a Settings,
        interrupt: &'a Interrupt,
        progress: &'a ProgressBar,
        section: Section,
        is_primary: bool,
    ) -> Self {
        let caches = Cell::default();
        Scene {
            target,
            settings,
            interrupt,
            progress,
            section,
            is_primary,
            caches,
            samples: Vec::new(),
        }
    }

    /// Plays the section; the samples made before a failure count.
    pub(super) fn play(&mut self) -> anyhow::Result<()> {
        match self.section {
            Section::Sequential => sequential::play(self),
            Section::SmallFiles => small_files::play(self),
            Section::Random => random::play(self),
            Section::Objects => objects::play(self),
            Section::Tree => tree::play(self),
            Section::Shuffle => shuffle::play(self),
            Section::Visibility => visibility::play(self),
            Section::Again => again::play(self),
        }
    }

    /// The samples made so far.
    pub(super) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// What happened to the caches so far.
    pub(super) fn caches(&self) -> Caches {
        self.caches.get()
    }

    /// The settings of the run.
    pub(super) fn settings(&self) -> &'a Settings {
        self.settings
    }

    /// The job's second mount, where this directory has one.
    pub(super) fn second_mount(&self) -> Option<&'a Target> {
        self.settings
            .second_mount
            .as_ref()
            .filter(|_| self.is_primary)
    }

    /// An empty directory in the measured one.
    pub(super) fn playground(&self) -> anyhow::Result<Playground> {
        self.check()?;
        self.target.playground(&self.section.letter().to_string())
    }

    /// Starts worker processes, outside any measured time.
    pub(super) fn crew(&self, workers: usize) -> anyhow::Result<Crew> {
        Crew::start(workers, self.settings.cap, self.interrupt)
    }

    /// Has the tasks done, warm: with whatever the caches hold.
    pub(super) fn warm(&self, crew: &mut Crew, tasks: Vec<Task>) -> anyhow::Result<Phase> {
        self.check()?;
        crew.perform(&tasks)
    }

    /// Has the tasks done cold: with caches dropped, and the directory mounted anew where the user told how.
    pub(super) fn cold(&self, crew: &mut Crew, tasks: Vec<Task>) -> anyhow::Result<Phase> {
        self.chill()?;
        self.warm(crew, tasks)
    }

    /// Writes back and drops what is cached.
    pub(super) fn chill(&self) -> anyhow::Result<()> {
        self.check()?;
        let path = self.target.path();
        let directory =
            fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        // Not sync(2): some other mount of the machine may hang.
        nix::unistd::syncfs(&directory)
            .with_context(|| format!("cannot write back {}", path.display()))?;
        drop(directory);
        if let Some(command) = &self.settings.remount {
            let mut shell = Command::new("sh");
            shell
                .arg("-c")
                .arg(command)
                .env("DIR", path)
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            let status = shell.status().context("cannot run the remount command")?;
            ensure!(
                status.success(),
                "the remount command for {} failed: {status}",
                path.display()
            );
            self.check()?;
        }
        let dropped = fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
        self.caches.set(if dropped {
            Caches::Dropped
        } else {
            Caches::Kept
        });
        Ok(())
    }

    /// Notes a measured value.
    pub(super) fn record(&mut self, key: &'static str, value: f64) {
        debug_assert!(
            self.section.rows().iter().any(|row| row.key == key),
            "{key} is no row of {}",
            self.section
        );
        self.samples.push(Sample { key, value });
    }

    /// Tells the user something on standard error.
    pub(super) fn warn(&self, message: &str) {
        self.progress.suspend(|| eprintln!("warning: {message}"));
    }

    /// Fails when the run was interrupted or the directory's mount has gone: asked before each phase.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.interrupt.check()?;
        self.target.check()
    }
}

/// What a phase brought: how long it took all workers together, and what each task did.
#[derive(Debug)]
pub(super) struct Phase {
    /// From the start signal to the last answer.
    pub(super) elapsed: Duration,
    /// In the order of the tasks.
    pub(super) outcomes: Vec<Outcome>,
}

impl Phase {
    /// Operations done by all tasks, or bytes moved.
    pub(super) fn count(&self) -> u64 {
        self.outcomes.iter().map(|outcome| outcome.count).sum()
    }

    /// Operations per second of all tasks together.
    pub(super) fn rate(&self) -> f64 {
        self.count() as f64 / self.elapsed.as_secs_f64()
    }

    /// Mebibytes per second, where the tasks count bytes.
    pub(super) fn mebibytes_per_second(&self) -> f64 {
        self.rate() / f64::from(1 << 20)
    }
}
