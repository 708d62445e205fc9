//! A directory under measurement: which mount it lies in, whether that mount is still there, and a place to play.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

/// A directory under measurement.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    mount: Mount,
}

impl Target {
    /// Opens an existing directory and remembers the mount that it lies in.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let absolute = path
            .canonicalize()
            .with_context(|| format!("cannot measure {}", path.display()))?;
        ensure!(
            absolute.is_dir(),
            "cannot measure {}: not a directory",
            absolute.display()
        );
        let mount = Mount::of(&absolute)?;
        Ok(Target {
            path: absolute,
            mount,
        })
    }

    /// The directory's absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The kind of file system, as the kernel names it.
    pub(super) fn file_system(&self) -> &str {
        &self.mount.file_system
    }

    /// Fails when the directory's mount has gone or died since [`Target::open`].
    ///
    /// Without this a benchmark whose mount has died measures the disk below it, which looks wonderfully fast.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        fs::metadata(&self.path)
            .with_context(|| format!("{} does not answer any more", self.path.display()))?;
        let now = Mount::of(&self.path)?;
        if now != self.mount {
            bail!(
                "{} is not mounted any more: it lies in {now} now, not in {}",
                self.path.display(),
                self.mount
            );
        }
        Ok(())
    }

    /// Makes an empty directory to work in, which disappears with the returned value.
    pub(super) fn playground(&self, name: &str) -> anyhow::Result<Playground> {
        let path = self
            .path
            .join(format!(".pocket-bench.{}.{name}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Playground { path })
    }
}

/// A directory that disappears, with all that is in it, when it is dropped.
#[derive(Debug)]
pub(super) struct Playground {
    path: PathBuf,
}

impl Playground {
    /// The directory's absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the same directory appears when its target is mounted at `other` too.
    pub(super) fn seen_from(&self, other: &Target) -> PathBuf {
        other
            .path
            .join(self.path.file_name().expect("a playground has a name"))
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.path) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => {
                eprintln!("cannot remove {}: {problem}", self.path.display());
            }
            _ => {}
        }
    }
}

/// The mount that a path lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    file_system: String,
}

impl Mount {
    /// The mount of an absolute path without symbolic links.
    fn of(path: &Path) -> anyhow::Result<Self> {
        let table = fs::read("/proc/self/mountinfo").context("cannot read the table of mounts")?;
        Self::find(&table, path)
            .with_context(|| format!("no mount is known for {}", path.display()))
    }

    /// The longest mount point that holds `path`; of mounts over one another the last.
    fn find(table: &[u8], path: &Path) -> Option<Self> {
        let mounts = table.split(|&byte| byte == b'\n').filter_map(Self::parse);
        mounts
            .filter(|mount| path.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.as_os_str().len())
    }

    /// One line of `/proc/self/mountinfo`, see proc(5): the fifth field is the mount point, the first after a lone
    /// hyphen the type.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let point = fields.nth(4)?;
        let kind = fields.skip_while(|field| field != b"-").nth(1)?;
        let point = PathBuf::from(OsString::from_vec(unescape(point)));
        Some(Mount {
            point,
            file_system: String::from_utf8_lossy(kind).into_owned(),
        })
    }
}

impl std::fmt::Display for Mount {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ({})", self.point.display(), self.file_system)
    }
}

/// Undoes the kernel's `\040` for blanks in mount points.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    plain
}

/// Makes one path a line in messages and JSON.
pub(super) fn show(path: &Path) -> String {
    String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        35 22 0:30 / /dev/shm rw - tmpfs tmpfs rw\n\
        40 22 0:44 / /mnt/a\\040job rw,nosuid shared:5 - fuse.pocket sort-42 rw\n\
        41 22 0:45 / /dev/shm rw - ramfs over rw\n";

    fn mount_of(path: &str) -> (String, String) {
        let mount = Mount::find(TABLE, Path::new(path)).unwrap();
        (show(&mount.point), mount.file_system)
    }

    #[test]
    fn a_path_lies_in_the_longest_mount_point_that_holds_it() {
        assert_eq!(
            mount_of("/mnt/a job/x"),
            ("/mnt/a job".into(), "fuse.pocket".into())
        );
        assert_eq!(mount_of("/mnt/a jobs"), ("/".into(), "ext4".into()));
    }

    #[test]
    fn of_mounts_over_one_another_the_last_counts() {
        assert_eq!(mount_of("/dev/shm/x"), ("/dev/shm".into(), "ramfs".into()));
    }

    #[test]
    fn a_playground_leaves_nothing_behind() {
        let target = Target::open(&std::env::temp_dir()).unwrap();
        let playground = target.playground("test").unwrap();
        let path = playground.path().to_owned();
        fs::write(path.join("file"), b"x").unwrap();
        drop(playground);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_that_is_not_there_is_a_clear_error() {
        let problem = Target::open(Path::new("/nonexistent-directory")).unwrap_err();
        assert!(
            format!("{problem:#}").starts_with("cannot measure /nonexistent-directory"),
            "{problem:#}"
        );
    }
}
