//! Section g: whether a second mount of the job sees a change right after the call that made it returned.
//!
//! Each case makes a change through the first mount and looks at once through the second; its row is the share of
//! the tries that were right. This is about correctness, not speed: anything below 100 % is stale data.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::scene::Scene;
use super::sections::Row;
use super::sections::Unit::Percent;
use super::sequential::noise;

pub(super) const ROWS: &[Row] = &[
    Row::new("new_file", "new file", Percent),
    Row::new(
        "after_negative_lookup",
        "new file that was looked for before",
        Percent,
    ),
    Row::new("overwrite_trunc", "overwritten after truncation", Percent),
    Row::new("overwrite_in_place", "overwritten in place", Percent),
    Row::new("append", "appended", Percent),
    Row::new("rename_over", "replaced by rename", Percent),
    Row::new("unlink", "removed", Percent),
    Row::new("readdir_new", "new file in a listing", Percent),
    Row::new("chmod", "changed mode", Percent),
    Row::new(
        "o_excl_two_mounts",
        "O_EXCL fails on the other mount",
        Percent,
    ),
    Row::new(
        "unclosed_write_visible",
        "written and not closed yet",
        Percent,
    ),
];

/// Tries per case.
const TRIES: usize = 20;

/// How long the second mount may take to see what a case starts from.
const SETTLE: Duration = Duration::from_secs(15);

/// How often it is asked meanwhile.
const SETTLE_POLL: Duration = Duration::from_millis(10);

/// A case: the pair of views, the try's number; whether what was seen was right.
type Case = fn(&Views, usize) -> io::Result<bool>;

const CASES: &[(&str, Case)] = &[
    ("new_file", new_file),
    ("after_negative_lookup", after_negative_lookup),
    ("overwrite_trunc", overwrite_trunc),
    ("overwrite_in_place", overwrite_in_place),
    ("append", append),
    ("rename_over", rename_over),
    ("unlink", unlink),
    ("readdir_new", readdir_new),
    ("chmod", chmod),
    ("o_excl_two_mounts", o_excl_two_mounts),
    ("unclosed_write_visible", unclosed_write_visible),
];

/// Plays the section; nothing happens in a directory that has no second mount.
pub(super) fn play(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let Some(second) = scene.second_mount() else {
        return Ok(());
    };
    second.check()?;
    let playground = scene.playground()?;
    let views = Views {
        writer: playground.path().to_owned(),
        reader: playground.seen_from(second),
    };
    settle(|| Ok(views.reader.is_dir())).with_context(|| {
        format!(
            "{} does not show {}: is it the same job?",
            second.path().display(),
            playground.path().display()
        )
    })?;
    for (key, case) in CASES {
        scene.check()?;
        let mut right = 0;
        for number in 0..TRIES {
            if case(&views, number).with_context(|| format!("{key}, try {number}"))? {
                right += 1;
            }
        }
        scene.record(key, 100.0 * right as f64 / TRIES as f64);
    }
    Ok(())
}

/// One directory through both mounts.
struct Views {
    writer: PathBuf,
    reader: PathBuf,
}

impl Views {
    fn at(&self, name: &str, number: usize) -> (PathBuf, PathBuf) {
        let name = format!("{name}{number}");
        (self.writer.join(&name), self.reader.join(&name))
    }

    /// Makes a file and waits until the second mount shows it.
    fn settled(&self, name: &str, number: usize, content: &[u8]) -> io::Result<(PathBuf, PathBuf)> {
        let (written, seen) = self.at(name, number);
        fs::write(&written, content)?;
        settle(|| Ok(read(&seen)?.as_deref() == Some(content)))?;
        Ok((written, seen))
    }
}

fn new_file(views: &Views, number: usize) -> io::Result<bool> {
    let content = content(1 + number * 37_000, number);
    let (written, seen) = views.at("new", number);
    fs::write(written, &content)?;
    Ok(read(&seen)? == Some(content))
}

fn after_negative_lookup(views: &Views, number: usize) -> io::Result<bool> {
    let content = content(5000, number);
    let (written, seen) = views.at("negative", number);
    let absent_before = read(&seen)?.is_none();
    fs::write(written, &content)?;
    Ok(absent_before && read(&seen)? == Some(content))
}

fn overwrite_trunc(views: &Views, number: usize) -> io::Result<bool> {
    let (written, seen) = views.settled("truncate", number, &content(70_000, number))?;
    let after = content(70_000, number + 99);
    fs::write(written, &after)?;
    Ok(read(&seen)? == Some(after))
}

fn overwrite_in_place(views: &Views, number: usize) -> io::Result<bool> {
    let (written, seen) = views.settled("place", number, &content(70_000, number))?;
    let after = content(70_000, number + 99);
    File::options()
        .write(true)
        .open(written)?
        .write_all(&after)?;
    Ok(read(&seen)? == Some(after))
}

fn append(views: &Views, number: usize) -> io::Result<bool> {
    let (before, more) = (content(5000, number), content(5000, number + 99));
    let (written, seen) = views.settled("append", number, &before)?;
    File::options()
        .append(true)
        .open(written)?
        .write_all(&more)?;
    Ok(read(&seen)? == Some([before, more].concat()))
}

fn rename_over(views: &Views, number: usize) -> io::Result<bool> {
    let (written, seen) = views.settled("replace", number, &content(9000, number))?;
    let after = content(9000, number + 99);
    let temporary = written.with_extension("new");
    fs::write(&temporary, &after)?;
    fs::rename(temporary, written)?;
    Ok(read(&seen)? == Some(after))
}

fn unlink(views: &Views, number: usize) -> io::Result<bool> {
    let (written, seen) = views.settled("unlink", number, &content(900, number))?;
    fs::remove_file(written)?;
    Ok(read(&seen)?.is_none())
}

fn readdir_new(views: &Views, number: usize) -> io::Result<bool> {
    let (written, seen) = views.at("list", number);
    let listed = |path: &Path| -> io::Result<bool> {
        let names = fs::read_dir(&views.reader)?.map(|entry| Ok(entry?.file_name()));
        Ok(names
            .collect::<io::Result<Vec<_>>>()?
            .iter()
            .any(|name| path.ends_with(name)))
    };
    let listed_before = listed(&seen)?;
    fs::write(written, b"x")?;
    Ok(!listed_before && listed(&seen)?)
}

fn chmod(views: &Views, number: usize) -> io::Result<bool> {
    let (written, seen) = views.settled("chmod", number, b"x")?;
    fs::set_permissions(written, Permissions::from_mode(0o600))?;
    Ok(fs::metadata(seen)?.permissions().mode() & 0o777 == 0o600)
}

fn o_excl_two_mounts(views: &Views, number: usize) -> io::Result<bool> {
    let (written, seen) = views.at("exclusive", number);
    let absent_before = read(&seen)?.is_none();
    fs::write(written, b"x")?;
    match File::create_new(seen) {
        Ok(_) => Ok(false),
        Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => Ok(absent_before),
        Err(problem) => Err(problem),
    }
}

fn unclosed_write_visible(views: &Views, number: usize) -> io::Result<bool> {
    let content = content(3000, number);
    let (written, seen) = views.at("unclosed", number);
    let mut file = File::create(written)?;
    file.write_all(&content)?;
    let right = read(&seen)? == Some(content);
    drop(file);
    Ok(right)
}

/// What the file holds, or nothing where there is no such file.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// Bytes that differ between variants.
fn content(bytes: usize, variant: usize) -> Vec<u8> {
    let mut content = noise(bytes + variant * 8);
    content.drain(..variant * 8);
    content
}

/// Waits until the condition holds.
fn settle(condition: impl Fn() -> io::Result<bool>) -> io::Result<()> {
    let start = Instant::now();
    while !condition()? {
        if start.elapsed() > SETTLE {
            let message = format!(
                "the second mount did not catch up within {} s",
                SETTLE.as_secs()
            );
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        std::thread::sleep(SETTLE_POLL);
    }
    Ok(())
}
