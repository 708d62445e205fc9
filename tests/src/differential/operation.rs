//! The operations that are compared, as data: printable, replayable, independent of any tree.

use serde::{Deserialize, Serialize};

/// An operation and who does it: the index of one of the subject's roots (mounts).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Which root paths are looked up below. Operations on a slot go where the slot was opened.
    pub actor: usize,
    /// What is done.
    #[serde(flatten)]
    pub operation: Operation,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Access {
    Read,
    Write,
    Both,
}

/// renameat2(2)'s flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Exchange {
    Replace,
    NoReplace,
    Exchange,
}

/// fallocate(2)'s modes that tmpfs has, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Allocation {
    Grow,
    KeepSize,
    PunchHole,
}

/// One call, or a few that belong together. Paths are relative to a root; `slot` numbers an open
/// file; data written are determined by `stamp`, lengths and offsets are bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do")]
#[allow(missing_docs)]
pub enum Operation {
    /// Opens into a slot; what the slot held before is closed first.
    Open {
        path: String,
        slot: usize,
        access: Access,
        /// Any of O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECT, O_SYNC.
        flags: Vec<String>,
        mode: u32,
    },
    Close {
        slot: usize,
    },
    /// read(2) at the slot's position.
    Read {
        slot: usize,
        length: usize,
    },
    /// write(2) at the slot's position.
    Write {
        slot: usize,
        length: usize,
        stamp: u32,
    },
    ReadAt {
        slot: usize,
        offset: u64,
        length: usize,
    },
    WriteAt {
        slot: usize,
        offset: u64,
        length: usize,
        stamp: u32,
    },
    /// ftruncate(2).
    SetLength {
        slot: usize,
        length: u64,
    },
    /// fallocate(2).
    Allocate {
        slot: usize,
        offset: u64,
        length: u64,
        allocation: Allocation,
    },
    /// copy_file_range(2) from one slot to another of the same actor.
    Copy {
        slot: usize,
        offset: u64,
        to: usize,
        target: u64,
        length: usize,
    },
    /// fsync(2).
    Sync {
        slot: usize,
    },
    /// fstat(2).
    SlotStatus {
        slot: usize,
    },
    /// Opens, reads everything, closes.
    ReadFile {
        path: String,
    },
    /// Creates or truncates, writes, closes.
    WriteFile {
        path: String,
        length: usize,
        stamp: u32,
    },
    /// Opens with O_APPEND, writes, closes.
    AppendFile {
        path: String,
        length: usize,
        stamp: u32,
    },
    /// Opens, stores through a shared map, syncs, unmaps, closes.
    MapWrite {
        path: String,
        offset: usize,
        length: usize,
        stamp: u32,
    },
    /// Opens, copies out of a shared map, unmaps, closes.
    MapRead {
        path: String,
    },
    /// truncate(2).
    Truncate {
        path: String,
        length: u64,
    },
    /// lstat(2), or stat(2) where symlinks are followed.
    Status {
        path: String,
        follow: bool,
    },
    Rename {
        from: String,
        to: String,
        exchange: Exchange,
    },
    Link {
        from: String,
        to: String,
    },
    Symlink {
        target: String,
        path: String,
    },
    ReadLink {
        path: String,
    },
    Unlink {
        path: String,
    },
    MakeDirectory {
        path: String,
        mode: u32,
    },
    RemoveDirectory {
        path: String,
    },
    /// Names, kinds, and whether each inode number is the one that lstat tells.
    List {
        path: String,
    },
    MakeFifo {
        path: String,
        mode: u32,
    },
    ChangeMode {
        path: String,
        mode: u32,
    },
    ChangeOwner {
        path: String,
        uid: u32,
        gid: u32,
    },
    /// utimensat(2), and what stat says then. Nanoseconds since 1970.
    SetTimes {
        path: String,
        accessed: i64,
        modified: i64,
    },
    SetXattr {
        path: String,
        name: String,
        length: usize,
        stamp: u32,
        flags: i32,
    },
    GetXattr {
        path: String,
        name: String,
    },
    ListXattr {
        path: String,
    },
    RemoveXattr {
        path: String,
        name: String,
    },
    /// Everything there is, read through every root. A step like the others, as reading fills
    /// caches.
    CompareTrees,
}

impl Operation {
    /// Whether it looks at a file's size, or changes it, without opening the file. Close-to-open
    /// promises such a caller nothing about another mount's unsynced writes.
    pub(super) fn measures_unopened(&self) -> bool {
        matches!(self, Operation::Status { .. } | Operation::Truncate { .. })
    }
}

/// `length` bytes as they belong at `offset` of data with this stamp: a byte out of place shows.
pub(super) fn pattern(stamp: u32, offset: u64, length: usize) -> Vec<u8> {
    let byte = |at: u64| {
        let mixed = (at ^ u64::from(stamp) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Never 0, so that data and holes are told apart.
        (mixed >> 56) as u8 | 1
    };
    (offset..offset + length as u64).map(byte).collect()
}
