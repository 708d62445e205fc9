//! open(2) with O_CREAT.

use pocket_proto::InodeId;
use pocket_proto::session::{Create, Entry, reply, request};

use super::{Access, Caller, Opened};
use crate::filesystem::unexpected;
use crate::operation::open::Flags;
use crate::{Errno, FileSystem, Leased};

/// A file to create and open.
#[derive(Clone, Copy, Debug)]
pub struct CreateRequest<'a> {
    /// The directory.
    pub parent: InodeId,
    /// The name in it.
    pub name: &'a [u8],
    /// Permission bits, the umask already applied.
    pub mode: u32,
    /// open(2)'s flags.
    pub flags: i32,
    /// The new file's owner.
    pub caller: Caller,
}

impl FileSystem {
    /// Creates and opens a file; opens the existing one unless O_EXCL is set.
    pub async fn create(
        &self,
        create: CreateRequest<'_>,
    ) -> Result<Leased<(Entry, Opened)>, Errno> {
        self.refuse_if_read_only()?;
        let flags = Flags(create.flags);
        let request = Create {
            parent: create.parent.0,
            name: create.name.to_vec().into(),
            mode: create.mode & 0o7777,
            owner: Some(create.caller.owner()),
            exclusive: create.flags & libc::O_EXCL != 0,
            write: flags.access() == Access::Write,
            truncate: flags.truncates(),
        };
        let answer = self.call(request::Operation::Create(request)).await;
        self.name_changed(create.parent, create.name);
        let answer = answer?;
        let answer = answer.map(|result| match result {
            reply::Result::Opened(opened) => Ok(opened),
            _ => Err(unexpected()),
        })?;
        let (opened, file) = self.note_open(&answer, flags)?;
        // The file may have been there already, made by another mount a moment ago.
        self.catch_up(&file, &answer).await?;
        if flags.truncates() {
            self.inodes.forget(file.inode);
        }
        answer.map(|answered| {
            let entry = answered.entry.ok_or_else(unexpected)?;
            Ok((self.overlaid(entry), opened))
        })
    }
}
