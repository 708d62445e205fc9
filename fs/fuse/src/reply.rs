//! Outcomes of operations as replies to the kernel.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use fuser::{
    Generation, INodeNo, ReplyAttr, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyWrite,
    ReplyXattr,
};
use pocket_fs::{Errno, FileSystem, Freshness, Leased};
use pocket_proto::session::{Attributes, DirectoryEntry, Entry};

use crate::convert;

/// Inode numbers are never reused, so all are of one generation.
pub(crate) const GENERATION: Generation = Generation(0);
/// Unit in which `df` counts, bytes.
pub(crate) const STATFS_UNIT_BYTES: u32 = 4096;

/// Answers with an entry and as much validity as its leases have left.
pub(crate) fn reply_entry(
    fs: &FileSystem,
    outcome: Result<Leased<Entry>, Errno>,
    reply: ReplyEntry,
) {
    match outcome {
        Err(errno) => reply.error(convert::errno(errno)),
        Ok(leased) => fs.hand_over_entry(&leased, |entry, freshness| {
            let name_ttl = freshness.validity(entry.name_valid_ms);
            match &entry.attributes {
                Some(attributes) => reply.entry_with_ttls(
                    &freshness.validity(entry.attributes_valid_ms),
                    &name_ttl,
                    &convert::attributes(attributes, block_bytes(entry)),
                    GENERATION,
                ),
                // Inode 0 says absent, for so long.
                None if !name_ttl.is_zero() => {
                    let absent = convert::attributes(&Default::default(), 0);
                    reply.entry_with_ttls(&name_ttl, &name_ttl, &absent, GENERATION);
                }
                None => reply.error(fuser::Errno::ENOENT),
            }
        }),
    }
}

pub(crate) fn reply_attributes(
    fs: &FileSystem,
    outcome: Result<Leased<Entry>, Errno>,
    reply: ReplyAttr,
) {
    match outcome {
        Err(errno) => reply.error(convert::errno(errno)),
        Ok(leased) => fs.hand_over_entry(&leased, |entry, freshness| match &entry.attributes {
            Some(attributes) => reply.attr(
                &freshness.validity(entry.attributes_valid_ms),
                &convert::attributes(attributes, block_bytes(entry)),
            ),
            None => reply.error(fuser::Errno::EIO),
        }),
    }
}

pub(crate) fn reply_empty(outcome: Result<(), Errno>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

/// The best size for I/O: a block for files, a page for the rest.
pub(crate) fn block_bytes(entry: &Entry) -> u32 {
    entry
        .layout
        .as_ref()
        .map_or(STATFS_UNIT_BYTES, |layout| layout.block_bytes)
}

pub(crate) fn reply_xattr(outcome: Result<Bytes, Errno>, size: u32, reply: ReplyXattr) {
    match outcome {
        Err(errno) => reply.error(convert::errno(errno)),
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(fuser::Errno::ERANGE),
        Ok(value) => reply.data(&value),
    }
}

pub(crate) fn reply_written(outcome: Result<u32, Errno>, reply: ReplyWrite) {
    match outcome {
        Ok(written) => reply.written(written),
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

/// Adds an entry of a directory with its attributes; true if there is no room for it.
pub(crate) fn add_with_attributes(
    reply: &mut ReplyDirectoryPlus,
    listed: &DirectoryEntry,
    freshness: Freshness,
) -> bool {
    let entry = listed.entry.clone().unwrap_or_default();
    // "." and ".." have none, and the kernel wants none.
    let attributes = entry.attributes.unwrap_or(Attributes {
        inode: listed.inode,
        kind: listed.kind,
        ..Attributes::default()
    });
    // The library has one validity for both.
    let ttl = freshness.validity(entry.attributes_valid_ms.min(entry.name_valid_ms));
    reply.add(
        INodeNo(listed.inode),
        listed.cookie,
        OsStr::from_bytes(&listed.name),
        &ttl,
        &convert::attributes(&attributes, block_bytes(&entry)),
        GENERATION,
    )
}
