//! open(2) with O_TMPFILE.

use std::sync::Arc;

use pocket_proto::session::{CreateTemporary, Entry, reply, request};
use pocket_proto::{Failure, InodeId};

use super::open::Flags;
use super::{Access, Caller, Opened};
use crate::filesystem::unexpected;
use crate::{Errno, FileSystem, Leased};

/// A file to create and open, but not to name.
#[derive(Clone, Copy, Debug)]
pub struct CreateTemporaryRequest {
    /// The directory, which hands its group on if it is set-group-id.
    pub parent: InodeId,
    /// Permission bits as asked for.
    pub mode: u32,
    /// Taken off the mode, unless the directory has a default ACL.
    pub umask: u32,
    /// open(2)'s flags; with O_EXCL the file will never have a name.
    pub flags: i32,
    /// The new file's owner.
    pub caller: Caller,
}

impl FileSystem {
    /// Creates and opens a file without a name. It goes with its last handle, or with this mount,
    /// unless [`FileSystem::link`] has given it a name by then.
    pub async fn create_temporary(
        self: &Arc<Self>,
        create: CreateTemporaryRequest,
    ) -> Result<Leased<(Entry, Opened)>, Errno> {
        self.refuse_if_read_only()?;
        self.refuse_to_change(create.parent)?;
        let flags = Flags(create.flags);
        let request = CreateTemporary {
            parent: create.parent.0,
            mode: create.mode & 0o7777,
            umask: create.umask,
            owner: Some(create.caller.owner()),
            write: flags.access() == Access::Write,
            linkable: create.flags & libc::O_EXCL == 0,
        };
        let request = request::Operation::CreateTemporary(request);
        let answer = self.call(request).await?.map(|result| match result {
            reply::Result::Opened(opened) => Ok(opened),
            _ => Err(unexpected()),
        })?;
        let (opened, file) = self.note_open(&answer, flags)?;
        if let Err(failure) = self.catch_up(&file, &answer).await {
            self.release(opened.handle).await;
            return Err(failure.into());
        }
        let entry = answer.map(|answered| answered.entry.ok_or_else(unexpected))?;
        Ok(entry.map(|entry| Ok::<_, Failure>((entry, opened)))?)
    }
}
