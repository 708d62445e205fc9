//! Listing a directory.

use pocket_proto::session::{DirectoryEntry, FileKind, ReadDirectory, ReadDirectoryReply, reply};
use pocket_proto::{Failure, InodeId};

use super::{Context, Step};
use crate::limits::{READ_BYTES_MAX, READ_ENTRIES_MAX};
use crate::namespace::Listed;

pub(super) fn read_directory(
    context: &mut Context<'_>,
    request: &ReadDirectory,
) -> Result<Step, Failure> {
    let directory = InodeId(request.inode);
    if let Some(step) = context.share_directory(directory) {
        return Ok(step);
    }
    let entries_max = request.entries_max.clamp(1, READ_ENTRIES_MAX) as usize;
    let (listed, mut end) =
        context
            .state
            .namespace
            .read_directory(directory, request.cookie, entries_max)?;
    let (mut entries, mut bytes) = (Vec::with_capacity(listed.len()), 0);
    for listed in listed {
        if bytes > READ_BYTES_MAX {
            end = false;
            break;
        }
        let entry = describe(context, directory, listed, request.with_attributes)?;
        bytes += length(&entry);
        entries.push(entry);
    }
    let reply = ReadDirectoryReply {
        entries,
        end,
        valid_ms: context.lease_listing(directory),
    };
    Ok(Step::Done(reply::Result::ReadDirectory(reply)))
}

/// About how long the entry is on the wire.
fn length(entry: &DirectoryEntry) -> usize {
    const FIXED_BYTES: usize = 150;
    const EXCEPTION_BYTES: usize = 16;
    let layout = entry.entry.as_ref().and_then(|entry| entry.layout.as_ref());
    let exceptions = layout.map_or(0, |layout| layout.exceptions.len());
    FIXED_BYTES + entry.name.len() + exceptions * EXCEPTION_BYTES
}

fn describe(
    context: &mut Context<'_>,
    directory: InodeId,
    listed: Listed,
    with_attributes: bool,
) -> Result<DirectoryEntry, Failure> {
    let entry = if with_attributes && !listed.is_dot() {
        Some(context.named_entry(directory, &listed.name, listed.inode)?)
    } else {
        None
    };
    // The parent of a removed directory may be gone; it was a directory.
    let kind = match context.state.namespace.inode(listed.inode) {
        Ok(inode) => inode.kind(),
        Err(_) => FileKind::Directory,
    };
    Ok(DirectoryEntry {
        name: listed.name,
        inode: listed.inode.0,
        kind: kind.into(),
        cookie: listed.cookie,
        entry,
    })
}
