//! A subject made of directories: system calls below one root, or below several mounts of the
//! same files.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::PathBuf,
};

use super::{
    Access, Operation, Outcome, Step, Subject, Tree,
    calls::{Result, allocate, copy, done, errno, on_file, on_name, on_xattr, rename},
    operation::pattern,
    outcome::{Attributes, Data},
    tree,
};

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
            | Allocate { slot, .. }
            | Sync { slot }
            | SlotStatus { slot } => self.on_slot(*slot, &step.operation),
            Copy {
                slot,
                offset,
                to,
                target,
                length,
            } => self.copy((*slot, *offset), (*to, *target), *length),
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

    /// Mounts are file systems of their own to the kernel, which copies within one.
    fn copy(&mut self, from: (usize, u64), to: (usize, u64), length: usize) -> Result {
        let actor = |slot: Option<&mut Slot>| slot.map(|slot| slot.actor);
        let (reader, writer) = (actor(self.slot(from.0)), actor(self.slot(to.0)));
        if reader.is_none() || reader != writer {
            return Ok(Outcome::Nothing);
        }
        if let Some(slot) = self.slot(to.0) {
            slot.unsynced = true;
        }
        let shared = self.is_shared();
        let file = |slot: usize| self.slots.get(slot).and_then(Option::as_ref);
        let (Some(source), Some(target)) = (file(from.0), file(to.0)) else {
            return Ok(Outcome::Nothing);
        };
        if shared {
            // The kernel stops at the end that it knows, which may be that of a while ago.
            let _ = source.file.metadata();
        }
        copy(&source.file, from.1, &target.file, to.1, length)
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
            Operation::Allocate {
                offset,
                length,
                allocation,
                ..
            } => {
                slot.unsynced = true;
                allocate(&slot.file, *offset, *length, *allocation)
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

fn read_data(length: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> Result {
    let mut data = vec![0; length];
    let count = read(&mut data).map_err(errno)?;
    Ok(Outcome::Data(Data::of(&data[..count])))
}
