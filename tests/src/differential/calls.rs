//! Operations on paths as system calls, and what came of them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirEntryExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, FallocateFlags, RenameFlags, copy_file_range, fallocate, renameat2},
    sys::{
        stat::{Mode, UtimensatFlags, utimensat},
        time::TimeSpec,
    },
    unistd::{mkdir, mkfifo, truncate},
};

use super::{
    Allocation, Exchange, Operation, Outcome,
    operation::pattern,
    outcome::{Data, kind},
};
use crate::syscall::{Map, Sharing, errno_of, get_xattr, list_xattr, remove_xattr, set_xattr};

/// What came of an operation, or why it failed.
pub(super) type Result = std::result::Result<Outcome, Errno>;

pub(super) fn rename(from: &Path, to: &Path, exchange: Exchange) -> Result {
    let flags = match exchange {
        Exchange::Replace => RenameFlags::empty(),
        Exchange::NoReplace => RenameFlags::RENAME_NOREPLACE,
        Exchange::Exchange => RenameFlags::RENAME_EXCHANGE,
    };
    renameat2(AT_FDCWD, from, AT_FDCWD, to, flags).map(done)
}

pub(super) fn allocate(file: &File, offset: u64, length: u64, allocation: Allocation) -> Result {
    let flags = match allocation {
        Allocation::Grow => FallocateFlags::empty(),
        Allocation::KeepSize => FallocateFlags::FALLOC_FL_KEEP_SIZE,
        Allocation::PunchHole => {
            FallocateFlags::FALLOC_FL_KEEP_SIZE | FallocateFlags::FALLOC_FL_PUNCH_HOLE
        }
    };
    fallocate(file, flags, offset.cast_signed(), length.cast_signed()).map(done)
}

/// Copies until nothing is left, as callers do.
pub(super) fn copy(from: &File, offset: u64, to: &File, target: u64, length: usize) -> Result {
    let (mut offset, mut target) = (offset.cast_signed(), target.cast_signed());
    let mut copied = 0;
    loop {
        let left = length - copied;
        match copy_file_range(from, Some(&mut offset), to, Some(&mut target), left) {
            Ok(0) => return Ok(Outcome::Count(copied)),
            Ok(count) => copied += count,
            Err(errno) => return Err(errno),
        }
        if copied == length {
            return Ok(Outcome::Count(copied));
        }
    }
}

pub(super) fn on_file(path: &Path, operation: &Operation) -> Result {
    let mut options = OpenOptions::new();
    // A fifo would wait for its other end.
    options.custom_flags(libc::O_NONBLOCK);
    let file = match operation {
        Operation::ReadFile { .. } => options.read(true),
        Operation::WriteFile { .. } => options.write(true).create(true).truncate(true),
        Operation::AppendFile { .. } => options.append(true),
        _ => options.read(true).write(true),
    };
    let mut file = file.open(path).map_err(errno)?;
    match operation {
        Operation::ReadFile { .. } => {
            let mut data = Vec::new();
            file.read_to_end(&mut data).map_err(errno)?;
            Ok(Outcome::Data(Data::of(&data)))
        }
        Operation::WriteFile { length, stamp, .. }
        | Operation::AppendFile { length, stamp, .. } => {
            let data = pattern(*stamp, 0, *length);
            file.write_all(&data).map(done).map_err(errno)
        }
        Operation::MapWrite {
            offset,
            length,
            stamp,
            ..
        } => map_write(&file, *offset, *length, *stamp),
        Operation::MapRead { .. } => {
            let bytes = mappable_bytes(&file)?;
            let map = Map::new(&file, bytes, Sharing::Shared)?;
            Ok(Outcome::Data(Data::of(&map.read(0, bytes))))
        }
        other => unreachable!("{other:?} is not about a file's data"),
    }
}

/// Stores what of the range lies within the file; behind its end there is nothing to store to.
fn map_write(file: &File, offset: usize, length: usize, stamp: u32) -> Result {
    let bytes = mappable_bytes(file)?;
    let mut map = Map::new(file, bytes, Sharing::Shared)?;
    let length = length.min(bytes.saturating_sub(offset));
    if length > 0 {
        map.write(offset, &pattern(stamp, offset as u64, length));
    }
    map.sync()?;
    Ok(Outcome::Count(length))
}

fn mappable_bytes(file: &File) -> std::result::Result<usize, Errno> {
    let status = file.metadata().map_err(errno)?;
    match status.is_file() {
        true => Ok(status.size() as usize),
        false => Err(Errno::ENODEV),
    }
}

pub(super) fn on_xattr(path: &Path, operation: &Operation) -> Result {
    match operation {
        Operation::SetXattr {
            name,
            length,
            stamp,
            flags,
            ..
        } => set_xattr(path, name, &pattern(*stamp, 0, *length), *flags).map(done),
        Operation::GetXattr { name, .. } => {
            let value = get_xattr(path, name)?;
            Ok(Outcome::Data(Data::of(&value)))
        }
        Operation::ListXattr { .. } => Ok(Outcome::Text(list_xattr(path)?.join(" "))),
        Operation::RemoveXattr { name, .. } => remove_xattr(path, name).map(done),
        other => unreachable!("{other:?} is not about extended attributes"),
    }
}

pub(super) fn on_name(path: &Path, operation: &Operation) -> Result {
    let io = match operation {
        Operation::Symlink { target, .. } => std::os::unix::fs::symlink(target, path),
        Operation::Unlink { .. } => fs::remove_file(path),
        Operation::RemoveDirectory { .. } => fs::remove_dir(path),
        Operation::ChangeMode { mode, .. } => {
            fs::set_permissions(path, fs::Permissions::from_mode(*mode))
        }
        Operation::ChangeOwner { uid, gid, .. } => lchown(path, Some(*uid), Some(*gid)),
        Operation::Truncate { length, .. } => return truncate(path, *length as i64).map(done),
        Operation::MakeDirectory { mode, .. } => {
            return mkdir(path, Mode::from_bits_truncate(*mode)).map(done);
        }
        Operation::MakeFifo { mode, .. } => {
            return mkfifo(path, Mode::from_bits_truncate(*mode)).map(done);
        }
        Operation::ReadLink { .. } => {
            let target = fs::read_link(path).map_err(errno)?;
            return Ok(Outcome::Text(target.to_string_lossy().into_owned()));
        }
        Operation::List { .. } => return list(path),
        Operation::SetTimes {
            accessed, modified, ..
        } => return set_times(path, *accessed, *modified),
        other => unreachable!("{other:?} is not about a name"),
    };
    io.map(done).map_err(errno)
}

fn list(path: &Path) -> Result {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(errno)? {
        let entry = entry.map_err(errno)?;
        let told = entry.file_type().map_err(errno)?;
        let status = entry.metadata().map_err(errno)?;
        let told = if told == status.file_type() {
            "told"
        } else {
            "mistold"
        };
        let inode = {
            if entry.ino() == status.ino() {
                "same"
            } else {
                "other"
            }
        };
        let name = entry.file_name();
        let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
        names.push((name, format!("{} {told}, {inode} inode", kind(&status))));
    }
    names.sort();
    Ok(Outcome::Names(names))
}

fn set_times(path: &Path, accessed: i64, modified: i64) -> Result {
    let spec = |nanoseconds: i64| {
        let (seconds, rest) = (
            nanoseconds.div_euclid(SECOND),
            nanoseconds.rem_euclid(SECOND),
        );
        TimeSpec::new(seconds, rest)
    };
    let (accessed, modified) = (spec(accessed), spec(modified));
    let no_follow = UtimensatFlags::NoFollowSymlink;
    utimensat(AT_FDCWD, path, &accessed, &modified, no_follow)?;
    let status = fs::symlink_metadata(path).map_err(errno)?;
    // Walking a path changes the access times of the symlinks on it, or not.
    let accessed = match status.is_symlink() {
        true => 0,
        false => status.atime() * SECOND + status.atime_nsec(),
    };
    let modified = status.mtime() * SECOND + status.mtime_nsec();
    Ok(Outcome::Times(accessed, modified))
}

const SECOND: i64 = 1_000_000_000;

pub(super) fn done<T>(_: T) -> Outcome {
    Outcome::Done
}

pub(super) fn errno(error: io::Error) -> Errno {
    errno_of(&error)
}
