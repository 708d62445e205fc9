//! The directory that a job is mounted on: is it there, is it free, and is there a dead mount on it.
//!
//! A mount whose process died answers every call with ENOTCONN until it is unmounted. Such a mount
//! is detached here before a new one takes its place; a living one is never touched.

use std::{
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    process::Command,
};

use nix::mount::MntFlags;
use thiserror::Error;

/// Dead mounts that may lie on top of each other before we give up.
const DEAD_MOUNTS_MAX: usize = 16;
const MOUNT_TABLE: &str = "/proc/self/mountinfo";

/// Why nothing can be mounted there.
#[derive(Debug, Error)]
pub enum MountPointError {
    /// Nothing of that name.
    #[error("mount point {} does not exist: create the directory first", .0.display())]
    Missing(PathBuf),
    /// A file, or something else that is not a directory.
    #[error("mount point {} is not a directory", .0.display())]
    NotDirectory(PathBuf),
    /// Another job, or the same one, is mounted there and alive.
    #[error(
        "job '{job}' is mounted on {} already: unmount it first (umount {})",
        .path.display(), .path.display()
    )]
    Mounted {
        /// Where.
        path: PathBuf,
        /// What the mount calls its source: the job's name unless `-o fsname` was given.
        job: String,
    },
    /// Another file system is mounted there.
    #[error("mount point {} is occupied: {source_name} ({kind}) is mounted there", .path.display())]
    Occupied {
        /// Where.
        path: PathBuf,
        /// Its type, as `tmpfs`.
        kind: String,
        /// Its source.
        source_name: String,
    },
    /// A dead mount that cannot be removed.
    #[error("cannot unmount the dead mount on {}: {reason}", .path.display())]
    Dead {
        /// Where.
        path: PathBuf,
        /// What was tried and what it said.
        reason: String,
    },
    /// Anything else: no permission, a broken disk below.
    #[error("cannot use mount point {}: {source}", .path.display())]
    Unusable {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A directory on which nothing is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountPoint {
    /// Absolute and without symbolic links.
    pub(crate) path: PathBuf,
    /// Whether a dead mount had to be removed.
    pub(crate) cleaned: bool,
}

impl MountPoint {
    /// Checks `path`, and removes dead mounts from it.
    pub(crate) fn prepare(path: &Path) -> Result<Self, MountPointError> {
        let path = std::path::absolute(path).map_err(|source| unusable(path, source))?;
        let mut cleaned = false;
        for _ in 0..DEAD_MOUNTS_MAX {
            match examine(&path) {
                Ok((_, false)) => return Err(MountPointError::NotDirectory(path)),
                Ok((path, true)) => {
                    check_free(&path)?;
                    return Ok(MountPoint { path, cleaned });
                }
                Err(error) if is_dead(&error) => {
                    detach(&path)?;
                    cleaned = true;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(MountPointError::Missing(path));
                }
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                    return Err(MountPointError::NotDirectory(path));
                }
                Err(error) => return Err(unusable(&path, error)),
            }
        }
        Err(MountPointError::Dead {
            path,
            reason: format!("{DEAD_MOUNTS_MAX} were removed and there are still more"),
        })
    }
}

/// What is mounted on a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountedHere {
    /// The mount's number, until it is gone.
    pub(crate) id: u32,
    /// The minor number of the file system's device.
    pub(crate) device_minor: u32,
    /// The type, as `fuse.pocket`.
    pub(crate) kind: String,
    /// The source, as the kernel shows it.
    pub(crate) source: String,
}

/// The topmost mount on exactly `path`, if there is one.
pub(crate) fn mounted_on(path: &Path) -> io::Result<Option<MountedHere>> {
    let table = fs::read(MOUNT_TABLE)?;
    Ok(find_mount(&table, path))
}

/// Removes the mount on `path`, from the tree at once and for good when nobody uses it any more.
/// For a dead mount, or one that could not be finished.
pub(crate) fn detach(path: &Path) -> Result<(), MountPointError> {
    let error = match nix::mount::umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    // Without privileges only the helper of FUSE may unmount.
    let helper = Command::new("fusermount3")
        .args(["-u", "-z", "--"])
        .arg(path)
        .output();
    let reason = match helper {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(missing) => format!("{error}, and fusermount3 cannot be run: {missing}"),
    };
    let path = path.to_owned();
    Err(MountPointError::Dead { path, reason })
}

/// The real path of something that answers, and whether it is a directory. The kernel may still
/// know the attributes of a dead mount; only the status of the file system is asked for each time.
fn examine(path: &Path) -> io::Result<(PathBuf, bool)> {
    let found = fs::metadata(path)?;
    nix::sys::statvfs::statvfs(path)?;
    Ok((fs::canonicalize(path)?, found.is_dir()))
}

fn check_free(path: &Path) -> Result<(), MountPointError> {
    let found = mounted_on(path).map_err(|source| unusable(path, source))?;
    let Some(found) = found else { return Ok(()) };
    let path = path.to_owned();
    Err(match found.kind.as_str() {
        "fuse.pocket" => MountPointError::Mounted {
            path,
            job: found.source,
        },
        _ => MountPointError::Occupied {
            path,
            kind: found.kind,
            source_name: found.source,
        },
    })
}

/// Whether what is mounted on `path` is dead. Asks it, and waits for what lives there.
pub(crate) fn is_dead_at(path: &Path) -> bool {
    let asked = nix::sys::statvfs::statvfs(path);
    asked.is_err_and(|error| is_dead(&error.into()))
}

/// The process behind a FUSE mount is gone, or its connection was aborted.
fn is_dead(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOTCONN | libc::ECONNABORTED)
    )
}

fn unusable(path: &Path, source: io::Error) -> MountPointError {
    MountPointError::Unusable {
        path: path.to_owned(),
        source,
    }
}

/// A line of the table: id, parent, device, root, mount point, options, optional fields, "-",
/// type, source, options of the file system (see proc_pid_mountinfo(5)).
fn find_mount(table: &[u8], path: &Path) -> Option<MountedHere> {
    let mut mounts = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = number(fields.next()?)?;
        let device = fields.nth(1)?;
        let colon = device.iter().position(|byte| *byte == b':')?;
        let device_minor = number(&device[colon + 1..])?;
        let mount_point = fields.nth(1)?;
        fields.find(|field| *field == b"-")?;
        let (kind, source) = (fields.next()?, fields.next()?);
        (unescape(mount_point) == path.as_os_str().as_bytes()).then(|| MountedHere {
            id,
            device_minor,
            kind: String::from_utf8_lossy(kind).into_owned(),
            source: std::ffi::OsString::from_vec(unescape(source))
                .to_string_lossy()
                .into_owned(),
        })
    });
    // Later lines lie on top of earlier ones.
    mounts.next_back()
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Undoes the kernel's writing of blanks and backslashes as `\040`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, behind)) = rest.split_first() {
        let octal = match behind {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if first == b'\\' => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        plain.push(octal.unwrap_or(first));
        rest = if octal.is_some() {
            &behind[3..]
        } else {
            behind
        };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        40 22 0:35 / /mnt/a\\040b rw - fuse.pocket sort\\04042 rw,user_id=0\n\
        41 22 0:36 / /mnt/c rw master:2 shared:9 - tmpfs none rw\n\
        42 41 0:37 / /mnt/c rw - fuse.sshfs host:/ rw\n\
        garbage\n";

    #[test]
    fn the_topmost_mount_is_found() {
        let found = |path: &str| find_mount(TABLE, Path::new(path));
        let expect = |id, device_minor, kind: &str, source: &str| {
            Some(MountedHere {
                id,
                device_minor,
                kind: kind.to_owned(),
                source: source.to_owned(),
            })
        };
        assert_eq!(found("/mnt/a b"), expect(40, 35, "fuse.pocket", "sort 42"));
        assert_eq!(found("/mnt/c"), expect(42, 37, "fuse.sshfs", "host:/"));
        assert_eq!(found("/mnt"), None);
    }

    #[test]
    fn escapes_are_undone_and_broken_ones_kept() {
        assert_eq!(unescape(br"a\040b\134c"), br"a b\c");
        assert_eq!(unescape(br"\04"), br"\04");
        assert_eq!(unescape(br"\999"), br"\999");
        assert_eq!(unescape(b"\\"), b"\\");
    }

    #[test]
    fn a_plain_directory_is_ready_even_when_not_empty() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "x").unwrap();
        let ready = MountPoint::prepare(directory.path()).unwrap();
        assert_eq!(ready.path, fs::canonicalize(directory.path()).unwrap());
        assert!(!ready.cleaned);
    }

    #[test]
    fn symbolic_links_are_followed() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path(), &link).unwrap();
        let ready = MountPoint::prepare(&link).unwrap();
        assert_eq!(ready.path, fs::canonicalize(directory.path()).unwrap());
    }

    #[test]
    fn missing_and_wrong_mount_points_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "x").unwrap();
        let prepare = |path: &Path| MountPoint::prepare(path).unwrap_err();
        assert!(matches!(
            prepare(&directory.path().join("absent")),
            MountPointError::Missing(_)
        ));
        assert!(matches!(prepare(&file), MountPointError::NotDirectory(_)));
        assert!(matches!(
            prepare(&file.join("below")),
            MountPointError::NotDirectory(_)
        ));
        assert!(matches!(
            prepare(Path::new("/proc")),
            MountPointError::Occupied { kind, .. } if kind == "proc"
        ));
    }
}
