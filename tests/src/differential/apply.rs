//! A subject made of directories: system calls below one root, or below several mounts of the
//! same files.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    sys::{
        stat::{Mode, UtimensatFlags, utimensat},
        time::TimeSpec,
    },
    unistd::{mkdir, mkfifo, truncate},
};

use super::{
    Access, Exchange, Operation, Outcome, Step, Subject, Tree,
    operation::pattern,
    outcome::{Attributes, Data, kind},
    tree,
};
use crate::syscall::{Map, Sharing, errno_of, get_xattr, list_xattr, remove_xattr, set_xattr};

/// A tree reached through one or more roots. With several, what is promised to nobody is not asked:
/// unsynced writes are synced before another root measures the file without opening it (close to
/// open), a directory's link count, which may lag on other mounts, is not looked at, a position is
/// put to the end behind every append, as the kernel counts on from the size it knew, and names are
/// looked at before they are renamed, as mv does: in the midst of a rename Linux cannot learn that a
/// directory it has in use was moved elsewhere.
#[derive(Debug)]
pub struct World {
    roots: Vec<PathBuf>,
    slots: Vec<Option<Slot>>,
}

#[derive(Debug)]
struct Slot {
    file: File,
    actor: usize,
    appends: bool,
    unsynced: bool,
}

type Result = std::result::Result<Outcome, Errno>;

impl World {
    /// A world below these roots.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        World {
            roots,
            slots: Vec::new(),
        }
    }

    fn is_shared(&self) -> bool {
        self.roots.len() > 1
    }

    fn path(&self, actor: usize, path: &str) -> PathBuf {
        self.roots[actor % self.roots.len()].join(path)
    }

    fn slot(&mut self, slot: usize) -> Option<&mut Slot> {
        self.slots.get_mut(slot).and_then(Option::as_mut)
    }

    /// Syncs what other actors than `actor` have written but not synced.
    fn sync_others(&mut self, actor: usize) {
        for slot in self.slots.iter_mut().flatten() {
            if slot.actor != actor && slot.unsynced {
                // An error would show when the contents are compared.
                let _ = slot.file.sync_all();
                slot.unsynced = false;
            }
        }
    }

    fn perform(&mut self, step: &Step) -> Result {
        use Operation::*;
        match &step.operation {
            Open { .. } => self.open(step),
            Close { slot }
            | Read { slot, .. }
            | Write { slot, .. }
            | ReadAt { slot, .. }
            | WriteAt { slot, .. }
            | SetLength { slot, .. }
            | Sync { slot }
            | SlotStatus { slot } => self.on_slot(*slot, &step.operation),
            Rename { from, to, exchange } => {
                let (from, to) = (self.path(step.actor, from), self.path(step.actor, to));
                if self.is_shared() {
                    let _ = (fs::symlink_metadata(&from), fs::symlink_metadata(&to));
                }
                rename(&from, &to, *exchange)
            }
            Link { from, to } => {
                let (from, to) = (self.path(step.actor, from), self.path(step.actor, to));
                fs::hard_link(from, to).map(done).map_err(errno)
            }
            ReadFile { path }
            | WriteFile { path, .. }
            | AppendFile { path, .. }
            | MapWrite { path, .. }
            | MapRead { path } => on_file(&self.path(step.actor, path), &step.operation),
            SetXattr { path, .. }
            | GetXattr { path, .. }
            | ListXattr { path }
            | RemoveXattr { path, .. } => on_xattr(&self.path(step.actor, path), &step.operation),
            Status { path, follow } => {
                let path = self.path(step.actor, path);
                let status = match follow {
                    true => fs::metadata(path),
                    false => fs::symlink_metadata(path),
                };
                let status = status.map_err(errno)?;
                Ok(Outcome::Attributes(Attributes::of(
                    &status,
                    !self.is_shared(),
                )))
            }
            Truncate { path, .. }
            | Symlink { path, .. }
            | ReadLink { path }
            | Unlink { path }
            | MakeDirectory { path, .. }
            | RemoveDirectory { path }
            | List { path }
            | MakeFifo { path, .. }
            | ChangeMode { path, .. }
            | ChangeOwner { path, .. }
            | SetTimes { path, .. } => on_name(&self.path(step.actor, path), &step.operation),
            CompareTrees => Ok(Outcome::Nothing),
        }
    }

    fn open(&mut self, step: &Step) -> Result {
        let Operation::Open {
            path,
            slot,
            access,
            flags,
            mode,
        } = &step.operation
        else {
            unreachable!("called for opens alone");
        };
        if self.slots.len() <= *slot {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[*slot] = None;
        let path = self.path(step.actor, path);
        let (read, write) = (*access != Access::Write, *access != Access::Read);
        // Past std's own checks, which refuse combinations that the kernel defines.
        let custom = flags
            .iter()
            .fold(libc::O_NONBLOCK, |all, flag| all | flag_bits(flag));
        let mut options = OpenOptions::new();
        options
            .read(read)
            .write(write)
            .mode(*mode)
            .custom_flags(custom);
        let file = options.open(path).map_err(errno)?;
        self.slots[*slot] = Some(Slot {
            file,
            actor: step.actor,
            appends: custom & libc::O_APPEND != 0,
            unsynced: false,
        });
        Ok(Outcome::Done)
    }

    fn on_slot(&mut self, number: usize, operation: &Operation) -> Result {
        let shared = self.is_shared();
        if matches!(operation, Operation::Close { .. }) {
            let open = self.slots.get_mut(number).and_then(Option::take);
            return Ok(open.map_or(Outcome::Nothing, |_| Outcome::Done));
        }
        let Some(slot) = self.slot(number) else {
            return Ok(Outcome::Nothing);
        };
        let written = |count: io::Result<usize>| count.map(Outcome::Count).map_err(errno);
        match operation {
            Operation::Read { length, .. } => read_data(*length, |into| slot.file.read(into)),
            Operation::ReadAt { offset, length, .. } => {
                read_data(*length, |into| slot.file.read_at(into, *offset))
            }
            Operation::Write { length, stamp, .. } => {
                slot.unsynced = true;
                let count = slot.file.write(&pattern(*stamp, 0, *length));
                if slot.appends && shared {
                    slot.file.seek(SeekFrom::End(0)).map_err(errno)?;
                }
                written(count)
            }
            Operation::WriteAt {
                offset,
                length,
                stamp,
                ..
            } => {
                slot.unsynced = true;
                let data = pattern(*stamp, *offset, *length);
                written(slot.file.write_at(&data, *offset))
            }
            Operation::SetLength { length, .. } => {
                slot.unsynced = true;
                slot.file.set_len(*length).map(done).map_err(errno)
            }
            Operation::Sync { .. } => {
                slot.unsynced = false;
                slot.file.sync_all().map(done).map_err(errno)
            }
            Operation::SlotStatus { .. } => {
                let status = slot.file.metadata().map_err(errno)?;
                Ok(Outcome::Attributes(Attributes::of(&status, !shared)))
            }
            other => unreachable!("{other:?} is not about a slot"),
        }
    }
}

impl Subject for World {
    fn apply(&mut self, step: &Step) -> Outcome {
        if self.is_shared() && step.operation.measures_unopened() {
            self.sync_others(step.actor);
        }
        self.perform(step).unwrap_or_else(Outcome::from)
    }

    fn tree(&mut self, actor: usize) -> Tree {
        self.sync_others(actor);
        tree::read(&self.path(actor, ""), !self.is_shared())
    }
}

fn flag_bits(name: &str) -> i32 {
    match name {
        "O_CREAT" => libc::O_CREAT,
        "O_EXCL" => libc::O_EXCL,
        "O_TRUNC" => libc::O_TRUNC,
        "O_APPEND" => libc::O_APPEND,
        "O_DIRECT" => libc::O_DIRECT,
        "O_SYNC" => libc::O_SYNC,
        unknown => panic!("no open flag {unknown}"),
    }
}

fn rename(from: &Path, to: &Path, exchange: Exchange) -> Result {
    let flags = match exchange {
        Exchange::Replace => RenameFlags::empty(),
        Exchange::NoReplace => RenameFlags::RENAME_NOREPLACE,
        Exchange::Exchange => RenameFlags::RENAME_EXCHANGE,
    };
    renameat2(AT_FDCWD, from, AT_FDCWD, to, flags).map(done)
}

fn on_file(path: &Path, operation: &Operation) -> Result {
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

fn on_xattr(path: &Path, operation: &Operation) -> Result {
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

fn on_name(path: &Path, operation: &Operation) -> Result {
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
            use std::os::unix::fs::DirEntryExt;
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

fn read_data(length: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> Result {
    let mut data = vec![0; length];
    let count = read(&mut data).map_err(errno)?;
    Ok(Outcome::Data(Data::of(&data[..count])))
}

fn done<T>(_: T) -> Outcome {
    Outcome::Done
}

fn errno(error: io::Error) -> Errno {
    errno_of(&error)
}
