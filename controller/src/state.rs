//! What outlives a controller: the peaks of earlier runs, which no server could tell a new one.
//!
//! A text file, replaced as a whole: written beside, synced, renamed. `run CAPACITY RATE OBJECT
//! PROFILE` is a run, in bytes and bytes per second, the oldest first; the last line counts them, so
//! that a torn file is known for one. Everything else a controller knows comes from the servers, or
//! from the command line.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use pocket_policy::{History, Run, check_name};
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The first line: whose file it is, and of which version.
const HEAD: &str = "pocket-controller-state ";
const VERSION: &str = "1";
/// Twenty thousand profiles of eight runs, with the longest names.
const BYTES_MAX: u64 = 128 << 20;
/// What was learned is written this long after at the latest; a controller that is killed loses so
/// much.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// Why a controller's state cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// The system does not let it be read, written or moved.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// "read", "write" or "move".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not ours to overwrite.
    #[error("{path} is not a controller's state: name another file, or move this one away")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Of a version that is not known here.
    #[error(
        "{path} was written by another version of the controller (state {version}, this one writes \
         {VERSION}): run that version, or move the file away"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: String,
    },
}

/// What a file holds; an empty history if there is none. One that is torn is moved to
/// `FILE.torn`, with a warning.
pub(crate) fn load(path: &Path) -> Result<History, StateError> {
    let io = |what| {
        move |source| StateError::Io {
            what,
            path: path.to_owned(),
            source,
        }
    };
    let bytes = match fs::metadata(path) {
        Ok(found) if found.len() > BYTES_MAX => return Err(foreign(path)),
        Ok(_) => fs::read(path).map_err(io("read"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // That it cannot be written is better known now than after the first job.
            save(path, &History::default())?;
            return Ok(History::default());
        }
        Err(error) => return Err(io("read")(error)),
    };
    let text = String::from_utf8_lossy(&bytes);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    match first.strip_prefix(HEAD) {
        None => return Err(foreign(path)),
        Some(VERSION) => {}
        Some(version) => {
            return Err(StateError::Version {
                path: path.to_owned(),
                version: version.to_owned(),
            });
        }
    }
    match parse(rest) {
        Ok(history) => Ok(history),
        Err(why) => {
            let aside = beside(path, ".torn");
            fs::rename(path, &aside).map_err(io("move"))?;
            warn!(
                "{} is torn ({why}): kept as {}, and earlier runs are forgotten",
                path.display(),
                aside.display()
            );
            Ok(History::default())
        }
    }
}

/// Replaces the file.
fn save(path: &Path, history: &History) -> Result<(), StateError> {
    let new = beside(path, ".new");
    let written = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(text(history).as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    written().map_err(|source| StateError::Io {
        what: "write",
        path: path.to_owned(),
        source,
    })
}

/// Writes what `latest` tells whenever that is another edition than the one written last, until
/// stopped, and then once more.
pub(crate) async fn keep(
    path: PathBuf,
    mut edition: u64,
    latest: impl Fn(u64) -> Option<History>,
    stop: CancellationToken,
) {
    let mut ticks = interval(WRITE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            () = stop.cancelled() => true,
        };
        if let Some(history) = latest(edition) {
            let next = history.edition();
            let to = path.clone();
            let saved = tokio::task::spawn_blocking(move || save(&to, &history)).await;
            match saved {
                Ok(Ok(())) => {
                    edition = next;
                    if failed {
                        info!("{} is written again", path.display());
                    }
                    failed = false;
                }
                Ok(Err(error)) if !failed => {
                    warn!("{error}: trying on");
                    failed = true;
                }
                Ok(Err(_)) => {}
                Err(error) => warn!("writing {} failed: {error}", path.display()),
            }
        }
        if last {
            return;
        }
    }
}

fn text(history: &History) -> String {
    let mut text = format!("{HEAD}{VERSION}\n");
    let mut runs = 0;
    for profile in history.profiles() {
        for run in history.runs(profile) {
            let Run {
                capacity_bytes,
                bytes_per_second,
                object_bytes,
            } = run;
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "run {capacity_bytes} {bytes_per_second} {object_bytes} {profile}"
            );
            runs += 1;
        }
    }
    let _ = writeln!(text, "end {runs}");
    text
}

/// Reads all behind the first line, or says what is wrong with which line.
fn parse(text: &str) -> Result<History, String> {
    let mut history = History::default();
    let mut lines = text.split_inclusive('\n').enumerate();
    for (runs, line) in &mut lines {
        let wrong = || format!("line {}, '{}'", runs + 2, line.trim_end());
        let line = line.strip_suffix('\n').ok_or_else(wrong)?;
        if let Some(count) = line.strip_prefix("end ") {
            return match count.parse() == Ok(runs) && lines.next().is_none() {
                true => Ok(history),
                false => Err(wrong()),
            };
        }
        let (profile, run) = read_run(line).ok_or_else(wrong)?;
        history.record(profile, run);
    }
    Err("its end is missing".to_owned())
}

fn read_run(line: &str) -> Option<(&str, Run)> {
    let mut words = line.strip_prefix("run ")?.splitn(4, ' ');
    let mut number = || words.next()?.parse().ok();
    let run = Run {
        capacity_bytes: number()?,
        bytes_per_second: number()?,
        object_bytes: number()?,
    };
    let profile = words.next()?;
    check_name(profile).ok()?;
    Some((profile, run))
}

fn foreign(path: &Path) -> StateError {
    StateError::Foreign {
        path: path.to_owned(),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn history(runs: &[(&str, u64)]) -> History {
        let mut history = History::default();
        for (profile, capacity_bytes) in runs {
            let run = Run {
                capacity_bytes: *capacity_bytes,
                bytes_per_second: 7,
                object_bytes: 9,
            };
            history.record(profile, run);
        }
        history
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = folder();
        let path = folder.path().join("state");
        assert_eq!(load(&path).expect("none yet").profiles(), [""; 0]);
        let saved = history(&[("nightly", 5), ("b", 1), ("nightly", 6)]);
        save(&path, &saved).expect("can be written");
        let loaded = load(&path).expect("is sound");
        assert_eq!(loaded.profiles(), ["b", "nightly"]);
        assert_eq!(loaded.forecast("nightly"), saved.forecast("nightly"));
        let names = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(names, 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_is_not_a_controllers_is_refused_and_left_alone() {
        let folder = folder();
        let path = folder.path().join("passwd");
        for (text, words) in [
            ("root:x:0:0\n", "is not a controller's state"),
            ("", "is not a controller's state"),
            ("pocket-controller-state 9\nend 0\n", "another version"),
        ] {
            fs::write(&path, text).expect("a file");
            let error = load(&path).expect_err("foreign").to_string();
            assert!(error.contains(words) && error.contains("passwd"), "{error}");
            assert_eq!(fs::read_to_string(&path).expect("is there"), text);
        }
        let error = load(folder.path()).expect_err("a folder").to_string();
        assert!(error.contains("cannot read"), "{error}");
        let nowhere = folder.path().join("none/state");
        let error = load(&nowhere).expect_err("no folder").to_string();
        assert!(error.contains("cannot write"), "{error}");
    }

    #[test]
    fn a_torn_file_is_kept_aside_wherever_it_was_torn() {
        let folder = folder();
        let path = folder.path().join("state");
        let whole = text(&history(&[("a", 5), ("b", 1)]));
        let head = HEAD.len() + VERSION.len();
        for length in head..whole.len() {
            fs::write(&path, &whole[..length]).expect("a file");
            assert_eq!(load(&path).expect("kept aside").profiles(), [""; 0]);
            assert!(!path.exists(), "{length}");
            let aside = fs::read(beside(&path, ".torn")).expect("is kept");
            assert_eq!(aside, &whole.as_bytes()[..length]);
        }
        for broken in [
            "run 1 2 a\nend 1\n",
            "run 1 2 3 a/b\nend 1\n",
            "run 1 2 3 a\nend 2\n",
        ] {
            fs::write(&path, format!("{HEAD}{VERSION}\n{broken}")).expect("a file");
            assert_eq!(load(&path).expect("kept aside").profiles(), [""; 0]);
            assert!(!path.exists(), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in ".*", tail in "(run|end|[0-9]+| |a|\n)*") {
            let _ = parse(&text);
            let _ = parse(&tail);
        }
    }
}
