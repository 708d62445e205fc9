//! Listing a directory.

use pocket_proto::session::{DirectoryEntry, ReadDirectory, ReadDirectoryReply, reply};
use pocket_proto::{Failure, InodeId};

use super::{Context, Step};
use crate::limits::READ_ENTRIES_MAX;
use crate::namespace::Listed;

pub(super) fn read_directory(
    context: &mut Context<'_>,
    request: &ReadDirectory,
) -> Result<Step, Failure> {
    let directory = InodeId(request.inode);
    let entries_max = request.entries_max.clamp(1, READ_ENTRIES_MAX) as usize;
    let (listed, end) =
        context
            .state
            .namespace
            .read_directory(directory, request.cookie, entries_max)?;
    let entries = listed.into_iter().map(|listed| {
        let with_attributes = request.with_attributes;
        describe(context, directory, listed, with_attributes)
    });
    let entries = entries.collect::<Result<_, Failure>>()?;
    let reply = ReadDirectoryReply { entries, end };
    Ok(Step::Done(reply::Result::ReadDirectory(reply)))
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
        Err(_) => pocket_proto::session::FileKind::Directory,
    };
    Ok(DirectoryEntry {
        name: listed.name,
        inode: listed.inode.0,
        kind: kind.into(),
        cookie: listed.cookie,
        entry,
    })
}
