//! Section e: a source tree unpacked, listed, searched and removed by the usual programs.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};

use super::scene::Scene;
use super::sections::Row;
use super::sections::Unit::Seconds;
use super::target::Playground;

pub(super) const ROWS: &[Row] = &[
    Row::new("untar_s", "untar", Seconds),
    Row::new("find_stat_s", "find + stat cold", Seconds),
    Row::new("find_stat_warm_s", "find + stat again", Seconds),
    Row::new("grep_s", "grep -r cold", Seconds),
    Row::new("rm_s", "rm -rf", Seconds),
];

/// Plays the section.
pub(super) fn play(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let archive = Archive::pack(&scene.settings().tree)?;
    let playground: Playground = scene.playground()?;
    let place = playground.path();

    let untar = Shell::new("tar xf \"$ARCHIVE\" -C \"$PLACE\" --no-same-owner", place)
        .with("ARCHIVE", &archive.path);
    let find = Shell::new("find \"$PLACE\" -print0 | xargs -0 stat", place);
    // Nothing contains the string (this file has it in pieces), so grep reads everything; it says
    // so by exit code 1.
    let grep = Shell::new("grep -r zqxjkv'_'nothing \"$PLACE\"; test $? = 1", place);
    let remove = Shell::new("rm -rf \"$PLACE\"/*", place);

    for (key, shell, cold) in [
        ("untar_s", untar, false),
        ("find_stat_s", find.clone(), true),
        ("find_stat_warm_s", find, false),
        ("grep_s", grep, true),
        ("rm_s", remove, false),
    ] {
        if cold {
            scene.chill()?;
        } else {
            scene.check()?;
        }
        let seconds = shell.time()?;
        scene.record(key, seconds);
    }
    Ok(())
}

/// The tree as one tar file, outside the measured directories; it disappears when dropped.
struct Archive {
    path: std::path::PathBuf,
}

impl Archive {
    fn pack(tree: &Path) -> anyhow::Result<Self> {
        ensure!(
            tree.is_dir(),
            "{} is no directory: name one of some thousand files by --tree",
            tree.display()
        );
        let path = std::env::temp_dir().join(format!("pocket-bench.{}.tar", std::process::id()));
        let archive = Archive { path };
        let parent = tree.parent().unwrap_or(tree);
        let name = tree.file_name().unwrap_or(".".as_ref());
        let mut tar = Command::new("tar");
        tar.arg("cf")
            .arg(&archive.path)
            .arg("-C")
            .arg(parent)
            .arg(name)
            .stdin(Stdio::null());
        let status = tar.status().context("cannot run tar")?;
        ensure!(
            status.success(),
            "tar cannot pack {}: {status}",
            tree.display()
        );
        Ok(archive)
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        // It may never have come to be.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A shell command over `$PLACE`.
#[derive(Clone)]
struct Shell {
    script: &'static str,
    variables: Vec<(&'static str, std::path::PathBuf)>,
}

impl Shell {
    fn new(script: &'static str, place: &Path) -> Self {
        Shell {
            script,
            variables: vec![("PLACE", place.to_owned())],
        }
    }

    fn with(mut self, name: &'static str, value: &Path) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// Runs the command and returns its wall time in seconds.
    fn time(&self) -> anyhow::Result<f64> {
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(self.script)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        shell.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let start = Instant::now();
        let status: ExitStatus = shell
            .status()
            .with_context(|| format!("cannot run {:?}", self.script))?;
        let seconds = start.elapsed().as_secs_f64();
        ensure!(status.success(), "{:?} failed: {status}", self.script);
        Ok(seconds)
    }
}
