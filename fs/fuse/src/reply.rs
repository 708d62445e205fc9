//! Outcomes of operations as answers to the kernel.

use bytes::Bytes;
use pocket_fs::{Errno, FileSystem, Freshness, Leased, Opened, ReadData, StatFs};
use pocket_proto::session::{DirectoryEntry, Entry};

use crate::convert;
use crate::kernel::abi::{
    AttrOut, CopyFileRangeOut, CreateOut, EntryOut, FOPEN_DIRECT_IO, FOPEN_NOFLUSH, GetxattrOut,
    Kstatfs, LseekOut, OpenOut, StatxOut, WriteOut,
};
use crate::kernel::{ListedName, Listing, Reply, validity};

/// Unit in which `df` counts, bytes.
const STATFS_UNIT_BYTES: u32 = 4096;
/// Longest name, bytes.
const NAME_BYTES_MAX: u32 = 255;

/// For ever.
const UNNAMED_VALID_SECONDS: u64 = u32::MAX as u64;

/// Answers with an entry and as much validity as its leases have left.
pub(crate) fn reply_entry(fs: &FileSystem, outcome: Result<Leased<Entry>, Errno>, reply: Reply) {
    match outcome {
        Err(errno) => reply.error(errno.0),
        Ok(leased) => fs.hand_over_entry(&leased, |entry, freshness| {
            // Inode 0 says absent, for so long.
            let remembered = !freshness.validity(entry.name_valid_ms).is_zero();
            match entry.attributes {
                None if !remembered => reply.error(libc::ENOENT),
                _ => {
                    let entry = entry_out(entry, freshness);
                    reply.entry(&entry, &entry);
                }
            }
        }),
    }
}

/// An entry as the kernel takes it. Inode numbers are never reused, so all are of one generation.
fn entry_out(entry: &Entry, freshness: Freshness) -> EntryOut {
    let (entry_valid, entry_valid_nsec) = validity(freshness.validity(entry.name_valid_ms));
    let Some(attributes) = &entry.attributes else {
        return EntryOut {
            entry_valid,
            entry_valid_nsec,
            ..EntryOut::default()
        };
    };
    let (attr_valid, attr_valid_nsec) = validity(freshness.validity(entry.attributes_valid_ms));
    EntryOut {
        nodeid: attributes.inode,
        generation: 0,
        entry_valid,
        attr_valid,
        entry_valid_nsec,
        attr_valid_nsec,
        attr: convert::attr(attributes, block_bytes(entry)),
    }
}

/// Answers with attributes, and for how long they may be kept.
pub(crate) fn reply_attributes(
    fs: &FileSystem,
    outcome: Result<Leased<Entry>, Errno>,
    reply: Reply,
) {
    match outcome {
        Err(errno) => reply.error(errno.0),
        Ok(leased) => fs.hand_over_entry(&leased, |entry, freshness| {
            let Some(attributes) = &entry.attributes else {
                return reply.error(libc::EIO);
            };
            let (attr_valid, attr_valid_nsec) =
                validity(freshness.validity(entry.attributes_valid_ms));
            reply.value(&AttrOut {
                attr_valid,
                attr_valid_nsec,
                dummy: 0,
                attr: convert::attr(attributes, block_bytes(entry)),
            });
        }),
    }
}

/// As [`reply_attributes`], to STATX.
pub(crate) fn reply_statx(fs: &FileSystem, outcome: Result<Leased<Entry>, Errno>, reply: Reply) {
    match outcome {
        Err(errno) => reply.error(errno.0),
        Ok(leased) => fs.hand_over_entry(&leased, |entry, freshness| {
            let Some(attributes) = &entry.attributes else {
                return reply.error(libc::EIO);
            };
            let (attr_valid, attr_valid_nsec) =
                validity(freshness.validity(entry.attributes_valid_ms));
            reply.value(&StatxOut {
                attr_valid,
                attr_valid_nsec,
                stat: convert::statx(attributes, block_bytes(entry)),
                ..StatxOut::default()
            });
        }),
    }
}

pub(crate) fn reply_empty(outcome: Result<(), Errno>, reply: Reply) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno.0),
    }
}

/// Answers with an open file.
pub(crate) fn reply_opened(opened: Opened, reply: Reply) {
    reply.value(&open_out(opened));
}

/// Answers with a file that was made and opened.
pub(crate) fn reply_created(
    fs: &FileSystem,
    outcome: Result<Leased<(Entry, Opened)>, Errno>,
    reply: Reply,
) {
    match outcome {
        Err(errno) => reply.error(errno.0),
        Ok(leased) => fs.hand_over(&leased, |(entry, opened), freshness| {
            let entry = entry_out(entry, freshness);
            let open = open_out(*opened);
            reply.entry(&entry, &CreateOut { entry, open });
        }),
    }
}

/// Answers with an open file that has no name. The kernel's entry for it is found by no path, so that
/// it never needs to be looked up again; overlayfs would, and there is no name to do so by.
pub(crate) fn reply_temporary(
    fs: &FileSystem,
    outcome: Result<Leased<(Entry, Opened)>, Errno>,
    reply: Reply,
) {
    match outcome {
        Err(errno) => reply.error(errno.0),
        Ok(leased) => fs.hand_over(&leased, |(entry, opened), freshness| {
            let entry = EntryOut {
                entry_valid: UNNAMED_VALID_SECONDS,
                ..entry_out(entry, freshness)
            };
            let open = open_out(*opened);
            reply.entry(&entry, &CreateOut { entry, open });
        }),
    }
}

/// Data bypass the page cache, which costs more than the network; closing needs a flush only
/// where something can have been written.
fn open_out(opened: Opened) -> OpenOut {
    let no_flush = match opened.read_only {
        true => FOPEN_NOFLUSH,
        false => 0,
    };
    OpenOut {
        fh: opened.handle.0,
        open_flags: FOPEN_DIRECT_IO | no_flush,
        backing_id: 0,
    }
}

/// Answers with data, from where they lie.
pub(crate) fn reply_data(outcome: Result<ReadData, Errno>, reply: Reply) {
    match outcome {
        Err(errno) => reply.error(errno.0),
        Ok(data) => match data.pieces() {
            [] => reply.ok(),
            [only] => reply.bytes(only),
            pieces => reply.pieces(&pieces.iter().map(|piece| &piece[..]).collect::<Vec<_>>()),
        },
    }
}

pub(crate) fn reply_target(outcome: Result<Bytes, Errno>, reply: Reply) {
    match outcome {
        Ok(target) => reply.bytes(&target),
        Err(errno) => reply.error(errno.0),
    }
}

pub(crate) fn reply_written(outcome: Result<u32, Errno>, reply: Reply) {
    match outcome {
        Ok(size) => reply.value(&WriteOut { size, padding: 0 }),
        Err(errno) => reply.error(errno.0),
    }
}

/// Answers with an offset in a file.
pub(crate) fn reply_offset(outcome: Result<u64, Errno>, reply: Reply) {
    match outcome {
        Ok(offset) => reply.value(&LseekOut { offset }),
        Err(errno) => reply.error(errno.0),
    }
}

/// Answers how much was copied, in the wide form or as a write is answered.
pub(crate) fn reply_copied(outcome: Result<u64, Errno>, wide: bool, reply: Reply) {
    match outcome {
        Ok(bytes_copied) if wide => reply.value(&CopyFileRangeOut { bytes_copied }),
        // No more was asked for than the narrow form can tell.
        copied => reply_written(copied.map(|bytes| bytes as u32), reply),
    }
}

/// Answers with a value or a list, or with its length if the caller has no room at all.
pub(crate) fn reply_xattr(outcome: Result<Bytes, Errno>, bytes_max: u32, reply: Reply) {
    match outcome {
        Err(errno) => reply.error(errno.0),
        Ok(value) if bytes_max == 0 => reply.value(&GetxattrOut {
            size: value.len() as u32,
            padding: 0,
        }),
        Ok(value) if value.len() > bytes_max as usize => reply.error(libc::ERANGE),
        Ok(value) => reply.bytes(&value),
    }
}

pub(crate) fn reply_stat_fs(outcome: Result<StatFs, Errno>, reply: Reply) {
    match outcome {
        Err(errno) => reply.error(errno.0),
        Ok(status) => {
            let unit = u64::from(STATFS_UNIT_BYTES);
            let free = status.capacity_bytes.saturating_sub(status.used_bytes) / unit;
            reply.value(&Kstatfs {
                blocks: status.capacity_bytes.div_ceil(unit),
                bfree: free,
                bavail: free,
                files: status.inodes_max,
                ffree: status.inodes_max.saturating_sub(status.inodes),
                bsize: STATFS_UNIT_BYTES,
                namelen: NAME_BYTES_MAX,
                frsize: STATFS_UNIT_BYTES,
                ..Kstatfs::default()
            });
        }
    }
}

/// The best size for I/O: a block for files, a page for the rest.
fn block_bytes(entry: &Entry) -> u32 {
    entry
        .layout
        .as_ref()
        .map_or(STATFS_UNIT_BYTES, |layout| layout.block_bytes)
}

/// Adds an entry of a directory; false if there is no room for it.
pub(crate) fn list(listing: &mut Listing, listed: &DirectoryEntry) -> bool {
    listing.add(listed_name(listed))
}

/// As [`list`], with its attributes. "." and ".." have none, and the kernel wants none.
pub(crate) fn list_with_attributes(
    listing: &mut Listing,
    listed: &DirectoryEntry,
    freshness: Freshness,
) -> bool {
    let entry = match &listed.entry {
        Some(entry) => entry_out(entry, freshness),
        None => EntryOut::default(),
    };
    listing.add_with_entry(&entry, listed_name(listed))
}

fn listed_name(listed: &DirectoryEntry) -> ListedName<'_> {
    ListedName {
        inode: listed.inode,
        cookie: listed.cookie,
        kind: convert::type_bits(listed.kind()),
        name: &listed.name,
    }
}
