//! The kernel's structs and numbers, as include/uapi/linux/fuse.h has them (7.45, Linux 6.18).
//!
//! Only what is spoken here. Every struct is padded by hand, so that it is nothing but its bytes;
//! they are copied in and out, never pointed to.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The protocol spoken. Both sides then use the smaller minor number.
pub(crate) const MAJOR: u32 = 7;
pub(crate) const MINOR: u32 = 45;
/// The oldest minor number served (Linux 3.15): from there on structs keep their sizes.
pub(crate) const MINOR_MIN: u32 = 23;

/// Kinds of requests (`fuse_opcode`).
pub(crate) mod opcode {
    macro_rules! opcodes {
        ($($name:ident $code:literal $text:literal,)*) => {
            $(pub(crate) const $name: u32 = $code;)*

            /// What an opcode is called.
            pub(crate) fn name(code: u32) -> &'static str {
                match code {
                    $($code => $text,)*
                    _ => "unknown",
                }
            }
        };
    }

    opcodes! {
        LOOKUP 1 "lookup",
        FORGET 2 "forget",
        GETATTR 3 "getattr",
        SETATTR 4 "setattr",
        READLINK 5 "readlink",
        SYMLINK 6 "symlink",
        MKNOD 8 "mknod",
        MKDIR 9 "mkdir",
        UNLINK 10 "unlink",
        RMDIR 11 "rmdir",
        RENAME 12 "rename",
        LINK 13 "link",
        OPEN 14 "open",
        READ 15 "read",
        WRITE 16 "write",
        STATFS 17 "statfs",
        RELEASE 18 "release",
        FSYNC 20 "fsync",
        SETXATTR 21 "setxattr",
        GETXATTR 22 "getxattr",
        LISTXATTR 23 "listxattr",
        REMOVEXATTR 24 "removexattr",
        FLUSH 25 "flush",
        INIT 26 "init",
        OPENDIR 27 "opendir",
        READDIR 28 "readdir",
        RELEASEDIR 29 "releasedir",
        FSYNCDIR 30 "fsyncdir",
        GETLK 31 "getlk",
        SETLK 32 "setlk",
        SETLKW 33 "setlkw",
        ACCESS 34 "access",
        CREATE 35 "create",
        INTERRUPT 36 "interrupt",
        BMAP 37 "bmap",
        DESTROY 38 "destroy",
        IOCTL 39 "ioctl",
        POLL 40 "poll",
        NOTIFY_REPLY 41 "notify_reply",
        BATCH_FORGET 42 "batch_forget",
        FALLOCATE 43 "fallocate",
        READDIRPLUS 44 "readdirplus",
        RENAME2 45 "rename2",
        LSEEK 46 "lseek",
        COPY_FILE_RANGE 47 "copy_file_range",
        SYNCFS 50 "syncfs",
        TMPFILE 51 "tmpfile",
        STATX 52 "statx",
        COPY_FILE_RANGE_64 53 "copy_file_range_64",
    }
}

/// Kinds of notifications (`fuse_notify_code`).
pub(crate) mod notification {
    pub(crate) const INVAL_INODE: i32 = 2;
    pub(crate) const INVAL_ENTRY: i32 = 3;
    /// Since 7.44, Linux 6.16.
    pub(crate) const INC_EPOCH: i32 = 8;
}

/// What both sides can and want (flags of INIT; those above 31 travel in `flags2`).
pub(crate) mod capability {
    pub(crate) const ASYNC_READ: u64 = 1 << 0;
    /// fcntl's locks are asked of us.
    pub(crate) const POSIX_LOCKS: u64 = 1 << 1;
    pub(crate) const ATOMIC_O_TRUNC: u64 = 1 << 3;
    /// "." and ".." are looked up to find inodes by their numbers (open_by_handle_at, NFS).
    pub(crate) const EXPORT_SUPPORT: u64 = 1 << 4;
    pub(crate) const BIG_WRITES: u64 = 1 << 5;
    /// The umask is ours to apply.
    pub(crate) const DONT_MASK: u64 = 1 << 6;
    /// flock's as well.
    pub(crate) const FLOCK_LOCKS: u64 = 1 << 10;
    pub(crate) const DO_READDIRPLUS: u64 = 1 << 13;
    pub(crate) const ASYNC_DIO: u64 = 1 << 15;
    pub(crate) const PARALLEL_DIROPS: u64 = 1 << 18;
    /// The kernel asks for access control lists, and obeys and keeps them.
    pub(crate) const POSIX_ACL: u64 = 1 << 20;
    pub(crate) const MAX_PAGES: u64 = 1 << 22;
    pub(crate) const CACHE_SYMLINKS: u64 = 1 << 23;
    pub(crate) const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    /// [`super::SetxattrInExt`] is there (Linux 5.13).
    pub(crate) const SETXATTR_EXT: u64 = 1 << 29;
    /// `flags2` is there.
    pub(crate) const INIT_EXT: u64 = 1 << 30;
    pub(crate) const DIRECT_IO_ALLOW_MMAP: u64 = 1 << 36;
}

/// Which attributes a SETATTR changes (`fuse_setattr_in.valid`).
pub(crate) mod fattr {
    pub(crate) const MODE: u32 = 1 << 0;
    pub(crate) const UID: u32 = 1 << 1;
    pub(crate) const GID: u32 = 1 << 2;
    pub(crate) const SIZE: u32 = 1 << 3;
    pub(crate) const ATIME: u32 = 1 << 4;
    pub(crate) const MTIME: u32 = 1 << 5;
    pub(crate) const ATIME_NOW: u32 = 1 << 7;
    pub(crate) const MTIME_NOW: u32 = 1 << 8;
    pub(crate) const KILL_SUIDGID: u32 = 1 << 11;
}

/// Flags of the answer to OPEN.
pub(crate) const FOPEN_DIRECT_IO: u32 = 1 << 0;
/// Pages are not dropped.
pub(crate) const FOPEN_KEEP_CACHE: u32 = 1 << 1;
/// Names that are told through this handle are kept in pages of the directory.
pub(crate) const FOPEN_CACHE_DIR: u32 = 1 << 3;
pub(crate) const FOPEN_NOFLUSH: u32 = 1 << 5;
/// Flags of RELEASE.
pub(crate) const RELEASE_FLOCK_UNLOCK: u32 = 1 << 1;
/// Flags of locks.
pub(crate) const LK_FLOCK: u32 = 1 << 0;
/// Flags of WRITE.
pub(crate) const WRITE_CACHE: u32 = 1 << 0;
pub(crate) const WRITE_LOCKOWNER: u32 = 1 << 1;
pub(crate) const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// Flags of READ.
pub(crate) const READ_LOCKOWNER: u32 = 1 << 1;
/// Flags of OPEN and CREATE.
pub(crate) const OPEN_KILL_SUIDGID: u32 = 1 << 0;
/// Flags of SETXATTR.
pub(crate) const SETXATTR_ACL_KILL_SGID: u32 = 1 << 0;
/// Flags of FSYNC.
pub(crate) const FSYNC_FDATASYNC: u32 = 1 << 0;

/// Records of a directory begin at multiples of this.
pub(crate) const DIRECTORY_RECORD_ALIGN: usize = 8;

macro_rules! plain {
    ($($(#[$note:meta])* struct $name:ident { $($field:ident: $kind:ty,)* })*) => {$(
        $(#[$note])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout
        )]
        #[repr(C)]
        pub(crate) struct $name { $(pub(crate) $field: $kind,)* }
    )*};
}

plain! {
    /// Before every request.
    struct InHeader {
        len: u32, opcode: u32, unique: u64, nodeid: u64,
        uid: u32, gid: u32, pid: u32, total_extlen: u16, padding: u16,
    }
    /// Before every answer and notification.
    struct OutHeader { len: u32, error: i32, unique: u64, }

    struct Attr {
        ino: u64, size: u64, blocks: u64,
        atime: u64, mtime: u64, ctime: u64,
        atimensec: u32, mtimensec: u32, ctimensec: u32,
        mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32, blksize: u32, flags: u32,
    }
    struct SxTime { tv_sec: i64, tv_nsec: u32, reserved: i32, }
    struct Statx {
        mask: u32, blksize: u32, attributes: u64, nlink: u32, uid: u32, gid: u32,
        mode: u16, spare0: u16, ino: u64, size: u64, blocks: u64, attributes_mask: u64,
        atime: SxTime, btime: SxTime, ctime: SxTime, mtime: SxTime,
        rdev_major: u32, rdev_minor: u32, dev_major: u32, dev_minor: u32, spare2: [u64; 14],
    }
    struct Kstatfs {
        blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64,
        bsize: u32, namelen: u32, frsize: u32, padding: u32, spare: [u32; 6],
    }
    struct FileLock { start: u64, end: u64, kind: u32, pid: u32, }

    struct InitIn { major: u32, minor: u32, max_readahead: u32, flags: u32, }
    /// Behind [`InitIn`] where its flags say so.
    struct InitInExt { flags2: u32, unused: [u32; 11], }
    struct InitOut {
        major: u32, minor: u32, max_readahead: u32, flags: u32,
        max_background: u16, congestion_threshold: u16, max_write: u32, time_gran: u32,
        max_pages: u16, map_alignment: u16, flags2: u32, max_stack_depth: u32,
        request_timeout: u16, unused: [u16; 11],
    }

    struct StatxIn { getattr_flags: u32, reserved: u32, fh: u64, sx_flags: u32, sx_mask: u32, }
    struct SetattrIn {
        valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64,
        atime: u64, mtime: u64, ctime: u64, atimensec: u32, mtimensec: u32, ctimensec: u32,
        mode: u32, unused4: u32, uid: u32, gid: u32, unused5: u32,
    }
    struct MknodIn { mode: u32, rdev: u32, umask: u32, padding: u32, }
    struct MkdirIn { mode: u32, umask: u32, }
    struct RenameIn { newdir: u64, }
    struct Rename2In { newdir: u64, flags: u32, padding: u32, }
    struct LinkIn { oldnodeid: u64, }
    struct OpenIn { flags: u32, open_flags: u32, }
    struct CreateIn { flags: u32, mode: u32, umask: u32, open_flags: u32, }
    struct ReleaseIn { fh: u64, flags: u32, release_flags: u32, lock_owner: u64, }
    struct FlushIn { fh: u64, unused: u32, padding: u32, lock_owner: u64, }
    struct FsyncIn { fh: u64, fsync_flags: u32, padding: u32, }
    /// Of READ, READDIR and READDIRPLUS.
    struct ReadIn {
        fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32, padding: u32,
    }
    struct WriteIn {
        fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32, padding: u32,
    }
    struct SetxattrIn { size: u32, flags: u32, }
    /// Behind [`SetxattrIn`] where that was agreed on.
    struct SetxattrInExt { setxattr_flags: u32, padding: u32, }
    struct GetxattrIn { size: u32, padding: u32, }
    struct LkIn { fh: u64, owner: u64, lk: FileLock, lk_flags: u32, padding: u32, }
    struct AccessIn { mask: u32, padding: u32, }
    struct InterruptIn { unique: u64, }
    struct FallocateIn { fh: u64, offset: u64, length: u64, mode: u32, padding: u32, }
    struct LseekIn { fh: u64, offset: u64, whence: u32, padding: u32, }
    struct CopyFileRangeIn {
        fh_in: u64, off_in: u64, nodeid_out: u64, fh_out: u64, off_out: u64, len: u64, flags: u64,
    }

    struct EntryOut {
        nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64,
        entry_valid_nsec: u32, attr_valid_nsec: u32, attr: Attr,
    }
    struct AttrOut { attr_valid: u64, attr_valid_nsec: u32, dummy: u32, attr: Attr, }
    struct StatxOut {
        attr_valid: u64, attr_valid_nsec: u32, flags: u32, spare: [u64; 2], stat: Statx,
    }
    struct OpenOut { fh: u64, open_flags: u32, backing_id: i32, }
    struct CreateOut { entry: EntryOut, open: OpenOut, }
    struct WriteOut { size: u32, padding: u32, }
    struct LseekOut { offset: u64, }
    struct CopyFileRangeOut { bytes_copied: u64, }
    struct GetxattrOut { size: u32, padding: u32, }
    /// Before a name in READDIR, and behind an [`EntryOut`] in READDIRPLUS.
    struct Dirent { ino: u64, off: u64, namelen: u32, kind: u32, }

    struct InvalInodeOut { ino: u64, off: i64, len: i64, }
    struct InvalEntryOut { parent: u64, namelen: u32, flags: u32, }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_are_as_long_as_in_the_kernels_header() {
        let lengths = [
            ("fuse_in_header", size_of::<InHeader>(), 40),
            ("fuse_out_header", size_of::<OutHeader>(), 16),
            ("fuse_attr", size_of::<Attr>(), 88),
            ("fuse_statx", size_of::<Statx>(), 256),
            ("fuse_kstatfs", size_of::<Kstatfs>(), 80),
            ("fuse_file_lock", size_of::<FileLock>(), 24),
            (
                "fuse_init_in",
                size_of::<InitIn>() + size_of::<InitInExt>(),
                64,
            ),
            ("fuse_init_out", size_of::<InitOut>(), 64),
            ("fuse_statx_in", size_of::<StatxIn>(), 24),
            ("fuse_setattr_in", size_of::<SetattrIn>(), 88),
            ("fuse_mknod_in", size_of::<MknodIn>(), 16),
            ("fuse_mkdir_in", size_of::<MkdirIn>(), 8),
            ("fuse_rename2_in", size_of::<Rename2In>(), 16),
            ("fuse_open_in", size_of::<OpenIn>(), 8),
            ("fuse_create_in", size_of::<CreateIn>(), 16),
            ("fuse_release_in", size_of::<ReleaseIn>(), 24),
            ("fuse_flush_in", size_of::<FlushIn>(), 24),
            ("fuse_fsync_in", size_of::<FsyncIn>(), 16),
            ("fuse_read_in", size_of::<ReadIn>(), 40),
            ("fuse_write_in", size_of::<WriteIn>(), 40),
            (
                "fuse_setxattr_in",
                size_of::<SetxattrIn>() + size_of::<SetxattrInExt>(),
                16,
            ),
            ("fuse_lk_in", size_of::<LkIn>(), 48),
            ("fuse_fallocate_in", size_of::<FallocateIn>(), 32),
            ("fuse_lseek_in", size_of::<LseekIn>(), 24),
            ("fuse_copy_file_range_in", size_of::<CopyFileRangeIn>(), 56),
            ("fuse_entry_out", size_of::<EntryOut>(), 128),
            ("fuse_attr_out", size_of::<AttrOut>(), 104),
            ("fuse_statx_out", size_of::<StatxOut>(), 288),
            ("fuse_open_out", size_of::<OpenOut>(), 16),
            ("fuse_create_out", size_of::<CreateOut>(), 144),
            ("fuse_dirent", size_of::<Dirent>(), 24),
            ("fuse_direntplus", size_of::<(EntryOut, Dirent)>(), 152),
            (
                "fuse_notify_inval_inode_out",
                size_of::<InvalInodeOut>(),
                24,
            ),
            (
                "fuse_notify_inval_entry_out",
                size_of::<InvalEntryOut>(),
                16,
            ),
        ];
        for (name, found, expected) in lengths {
            assert_eq!(found, expected, "{name}");
        }
    }
}
