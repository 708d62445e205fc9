//! What a job, an inode and a session may have at most, and why.

use std::time::Duration;

/// Inodes of a job: some 4 GB of the metadata server's memory.
pub(crate) const INODES_MAX: u64 = 10_000_000;
/// Names of a file, as ext4 has it. Directories have no such limit.
pub(crate) const LINK_COUNT_MAX: u32 = 65_000;
/// Bytes of a name (NAME_MAX).
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// Bytes of a symlink's target (PATH_MAX without its NUL).
pub(crate) const TARGET_BYTES_MAX: usize = 4095;
/// The largest file: the kernel's offsets are signed.
pub(crate) const FILE_BYTES_MAX: u64 = i64::MAX as u64;
/// Bytes of an extended attribute's value (XATTR_SIZE_MAX).
pub(crate) const XATTR_VALUE_BYTES_MAX: usize = 64 << 10;
/// Bytes of an inode's extended attributes, names and values: some fifteen of the largest, or a list
/// of names many times longer than the kernel passes on (XATTR_LIST_MAX, 64 KiB).
pub(crate) const XATTRS_BYTES_MAX: usize = 1 << 20;
/// Entries of one reply to a directory read: some 150 KB with attributes.
pub(crate) const READ_ENTRIES_MAX: u32 = 1024;
/// Bytes of such a reply: entries of files with many blocks elsewhere are long.
pub(crate) const READ_BYTES_MAX: usize = 1 << 20;
/// Blocks of a file away from where the map has them. Every entry of the file carries them.
pub(crate) const BLOCK_EXCEPTIONS_MAX: usize = 64 << 10;

/// Sessions of a job.
pub(crate) const SESSIONS_MAX: usize = 10_000;
/// Jobs of a server.
pub(crate) const JOBS_MAX: usize = 100_000;
/// Answered mutations that a session may repeat. A client has at most half as many under way.
pub(crate) const REPLIES_KEPT: usize = 1024;
/// Bytes of those answers. Only entries of files with many blocks elsewhere are so long that fewer
/// are kept.
pub(crate) const REPLIES_BYTES_MAX: usize = 8 << 20;
/// Recalls that a session has not acknowledged. One that lets more gather is ended.
pub(crate) const RECALLS_PENDING_MAX: usize = 16 << 10;
/// Files that a session may have open.
pub(crate) const OPENS_PER_SESSION_MAX: usize = 1 << 20;
/// Pieces of files that a session may have locked.
pub(crate) const LOCKS_PER_SESSION_MAX: usize = 16 << 10;
/// And those of all sessions of a job: some 100 MB of the server's memory.
pub(crate) const LOCKS_MAX: usize = 1 << 20;
/// Locks that a session may wait for. A waiter is a thread of a program.
pub(crate) const LOCK_WAITS_PER_SESSION_MAX: usize = 1024;
/// And those of all sessions of a job: the search for deadlocks goes through them.
pub(crate) const LOCK_WAITS_MAX: usize = 16 << 10;
/// Pieces that one lock may replace and still be taken back, should who asked have given up at the
/// moment when it was granted.
pub(crate) const LOCK_PIECES_PUT_BACK_MAX: usize = 64;
/// Objects with leases at a time, for a job. Beyond, nothing may be cached.
pub(crate) const LEASED_OBJECTS_MAX: usize = 2_000_000;
/// Leases at a time, for a job: each holder of an object counts, and each name. Some 200 MB of the
/// server's memory. Beyond, nothing more may be cached.
pub(crate) const LEASES_MAX: usize = 4_000_000;
/// Rounds of recalls that a mutation goes through before it gives up on names that keep changing
/// under it.
pub(crate) const RECALL_ROUNDS_MAX: usize = 64;
/// Weight maps kept for a job; a job's map changes when servers come and go.
pub(crate) const WEIGHT_MAPS_MAX: usize = 10_000;
/// Servers of a weight map.
pub(crate) const WEIGHT_MAP_SERVERS_MAX: usize = 10_000;

/// Leases on names and attributes last so many leases of a session, as long as the session does: a
/// mount may count on them while it is in touch with the server.
pub(crate) const OBJECT_LEASES: u32 = 12;
/// Inode numbers granted to a session and not used yet.
pub(crate) const INODES_GRANTED_MAX: u64 = 16 << 10;
/// Names of a directory that are remembered one by one as leased to a session; beyond, all are.
pub(crate) const NAMES_REMEMBERED_MAX: usize = 64 << 10;
/// The longest that attributes of a directory are leased: a directory's own times may lag so long
/// on other mounts (contract 2), so that changes of entries recall nothing.
pub(crate) const DIRECTORY_ATTRIBUTES_LEASE: Duration = Duration::from_secs(1);
/// A directory that two sessions changed within this time is contended, and for as long again its
/// names are not leased.
pub(crate) const CONTENTION_WINDOW: Duration = Duration::from_secs(2);
/// A server that could not take a block is not offered for others for so long.
pub(crate) const FULL_SERVER_MEMORY: Duration = Duration::from_secs(1);
/// Lapsed leases taken out at a time, by the housekeeping of a job: a millisecond or two.
pub(crate) const LEASES_SWEPT_MAX: usize = 20_000;

/// An inode that lost its last name and its last open is kept for so long: longer than a mount
/// takes from looking a name up to opening it, and short enough that deleting makes room within a
/// second. When space is short they go at once.
pub(crate) const ORPHAN_GRACE: Duration = Duration::from_millis(250);
/// Inodes without names dropped at a time, while others wait: some hundred microseconds.
pub(crate) const ORPHANS_AT_ONCE: usize = 256;
/// Names that the server takes away by itself at a time, while others wait: less than a millisecond.
pub(crate) const VICTIMS_AT_ONCE: usize = 256;
/// Inodes that are looked at for having outlived their time in one go of housekeeping, of which a
/// second has four: ten thousand a second.
pub(crate) const EXPIRED_MAX: usize = 2500;
/// Removals of whole directories that are remembered, once done, for who asks.
pub(crate) const REMOVALS_KEPT: usize = 64;
