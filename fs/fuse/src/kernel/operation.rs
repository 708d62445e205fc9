//! What requests ask for, in plain words.

use super::abi::{self, CopyFileRangeIn, FileLock, LkIn, ReadIn, SetattrIn, WriteIn};

/// What is asked for. Open files are named by `handle`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation<'a> {
    Lookup {
        name: &'a [u8],
    },
    /// FORGET and BATCH_FORGET: nothing is remembered by count, and nothing is answered.
    Forget,
    GetAttributes,
    /// GETATTR with more to tell; the fields asked for are `mask` of statx(2).
    Statx {
        mask: u32,
    },
    SetAttributes(SetattrIn),
    ReadLink,
    Symlink {
        name: &'a [u8],
        target: &'a [u8],
    },
    MakeNode {
        name: &'a [u8],
        mode: u32,
        umask: u32,
        device: u32,
    },
    MakeDirectory {
        name: &'a [u8],
        mode: u32,
        umask: u32,
    },
    Unlink {
        name: &'a [u8],
    },
    RemoveDirectory {
        name: &'a [u8],
    },
    Rename {
        name: &'a [u8],
        new_parent: u64,
        new_name: &'a [u8],
        flags: u32,
    },
    /// A new name in the directory for the inode `target`.
    Link {
        target: u64,
        name: &'a [u8],
    },
    Open(OpenArguments),
    Create {
        name: &'a [u8],
        mode: u32,
        umask: u32,
        open: OpenArguments,
    },
    /// A file without a name, in the directory.
    TemporaryFile {
        mode: u32,
        umask: u32,
        open: OpenArguments,
    },
    Read(ReadArguments),
    Write {
        arguments: WriteArguments,
        data: &'a [u8],
    },
    Flush {
        handle: u64,
        lock_owner: u64,
    },
    Release {
        handle: u64,
        /// The owner of locks to be dropped, as flock(2) demands with the last close.
        flock_owner: Option<u64>,
    },
    Sync {
        handle: u64,
        data_only: bool,
    },
    OpenDirectory,
    ReadDirectory {
        handle: u64,
        cookie: u64,
        bytes_max: u32,
        with_attributes: bool,
    },
    ReleaseDirectory {
        handle: u64,
    },
    SyncDirectory,
    StatFs,
    SyncFs,
    SetXattr {
        name: &'a [u8],
        value: &'a [u8],
        flags: u32,
        /// An access list takes the set-group-id bit with it.
        clear_set_group_id: bool,
    },
    GetXattr {
        name: &'a [u8],
        bytes_max: u32,
    },
    ListXattr {
        bytes_max: u32,
    },
    RemoveXattr {
        name: &'a [u8],
    },
    Access {
        mask: u32,
    },
    GetLock(LockArguments),
    SetLock {
        lock: LockArguments,
        /// SETLKW: until it is granted or interrupted.
        wait: bool,
    },
    Allocate {
        handle: u64,
        offset: u64,
        length: u64,
        mode: u32,
    },
    Seek {
        handle: u64,
        offset: u64,
        whence: u32,
    },
    Copy {
        from: CopyFileRangeIn,
        /// The answer may tell more than 4 GiB.
        wide: bool,
    },
    Ioctl,
    BlockMap,
    Poll,
    /// The request `unique` is no longer waited for in earnest.
    Interrupt {
        unique: u64,
    },
    Init(InitArguments),
    Destroy,
    /// The answer to a notification that is never sent.
    NotifyReply,
    Unknown,
}

/// How to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenArguments {
    /// open(2)'s flags.
    pub(crate) flags: i32,
    /// O_TRUNC takes set-id bits with it.
    pub(crate) clear_set_id: bool,
}

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadArguments {
    pub(crate) handle: u64,
    pub(crate) offset: u64,
    pub(crate) length: u32,
    /// Whose mandatory locks count.
    pub(crate) lock_owner: Option<u64>,
}

/// Where and how to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriteArguments {
    pub(crate) handle: u64,
    pub(crate) offset: u64,
    /// open(2)'s flags.
    pub(crate) flags: i32,
    /// Pages that the kernel writes back.
    pub(crate) from_cache: bool,
    pub(crate) clear_set_id: bool,
    /// Whose mandatory locks count.
    pub(crate) lock_owner: Option<u64>,
}

/// A lock that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockArguments {
    pub(crate) handle: u64,
    /// Locks of one owner never conflict.
    pub(crate) owner: u64,
    /// F_RDLCK, F_WRLCK or F_UNLCK, from the first byte to the last.
    pub(crate) lock: FileLock,
    /// Of flock(2), not of fcntl(2).
    pub(crate) whole_file: bool,
}

/// What the kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InitArguments {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) read_ahead_bytes_max: u32,
    pub(crate) capabilities: u64,
}

impl OpenArguments {
    pub(super) fn new(flags: u32, open_flags: u32) -> Self {
        OpenArguments {
            flags: flags.cast_signed(),
            clear_set_id: open_flags & abi::OPEN_KILL_SUIDGID != 0,
        }
    }
}

impl ReadArguments {
    pub(super) fn new(read: ReadIn) -> Self {
        let owned = read.read_flags & abi::READ_LOCKOWNER != 0;
        ReadArguments {
            handle: read.fh,
            offset: read.offset,
            length: read.size,
            lock_owner: owned.then_some(read.lock_owner),
        }
    }
}

impl WriteArguments {
    pub(super) fn new(write: WriteIn) -> Self {
        let has = |flag| write.write_flags & flag != 0;
        WriteArguments {
            handle: write.fh,
            offset: write.offset,
            flags: write.flags.cast_signed(),
            from_cache: has(abi::WRITE_CACHE),
            clear_set_id: has(abi::WRITE_KILL_SUIDGID),
            lock_owner: has(abi::WRITE_LOCKOWNER).then_some(write.lock_owner),
        }
    }
}

impl LockArguments {
    pub(super) fn new(lock: LkIn) -> Self {
        LockArguments {
            handle: lock.fh,
            owner: lock.owner,
            lock: lock.lk,
            whole_file: lock.lk_flags & abi::LK_FLOCK != 0,
        }
    }
}
