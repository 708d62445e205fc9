//! open(2) with O_CREAT.

use std::sync::Arc;

use pocket_proto::session::{self, Ahead, Create, Entry, FileKind, reply, request};
use pocket_proto::{Failure, InodeId};

use super::{Access, Caller, Opened};
use crate::ahead::New;
use crate::file::{File, Sharing};
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
    /// Permission bits as asked for.
    pub mode: u32,
    /// Taken off the mode, unless the directory has a default ACL.
    pub umask: u32,
    /// open(2)'s flags.
    pub flags: i32,
    /// With O_TRUNC, of a file that is there: the caller may not keep its set-id bits.
    pub clear_set_id: bool,
    /// The new file's owner.
    pub caller: Caller,
}

impl FileSystem {
    /// Creates and opens a file; opens the existing one unless O_EXCL is set.
    ///
    /// In a directory of this mount's own the server is told, not asked.
    pub async fn create(
        self: &Arc<Self>,
        create: CreateRequest<'_>,
    ) -> Result<Leased<(Entry, Opened)>, Errno> {
        self.refuse_if_read_only()?;
        self.refuse_to_make(create.parent, create.name)?;
        if let Some(made) = self.create_ahead(&create) {
            return Ok(made);
        }
        let flags = Flags(create.flags);
        let request = create.request(None);
        self.exclusive.doubt(create.parent, create.name);
        let answer = self.call(request::Operation::Create(request)).await;
        self.name_asked(create.parent, create.name, &answer);
        let answer = answer?;
        let answer = answer.map(|result| match result {
            reply::Result::Opened(opened) => Ok(opened),
            _ => Err(unexpected()),
        })?;
        let (opened, file) = self.note_open(&answer, flags)?;
        match self.show_opened(answer, flags, &file).await {
            Ok(shown) => shown.map(|entry| Ok((entry, opened))),
            Err(failure) => {
                self.release(opened.handle).await;
                Err(failure.into())
            }
        }
    }

    async fn show_opened(
        &self,
        answer: Leased<session::Opened>,
        flags: Flags,
        file: &File,
    ) -> Result<Leased<Entry>, Failure> {
        // The file may have been there already, made by another mount a moment ago.
        self.catch_up(file, &answer).await?;
        if flags.truncates() {
            self.inodes.forget(file.inode);
        }
        let entry = answer.map(|answered| answered.entry.ok_or_else(unexpected))?;
        self.shown(entry).await
    }

    /// Creates a file whose name is known to be free, in a directory that is this mount's alone.
    fn create_ahead(
        self: &Arc<Self>,
        create: &CreateRequest<'_>,
    ) -> Option<Leased<(Entry, Opened)>> {
        if !self.is_in_touch() {
            return None;
        }
        let new = New {
            kind: FileKind::Regular,
            mode: create.mode,
            umask: create.umask,
            caller: create.caller,
            device: 0,
            target: &[],
        };
        let flags = Flags(create.flags);
        let made = self.coherence.stamped(|stamp, session| {
            let heritage = self.exclusive.heritage(create.parent, create.name)?;
            let describe = |ahead| request::Operation::Create(create.request(Some(ahead)));
            let (entry, inode) = self.make_ahead(&heritage, &new, describe)?;
            let since = self.show_made(create.parent, create.name, &entry, heritage.owned);
            let cached = (&entry, Sharing::Cached);
            let session_counts = (session, true);
            let known = (since, Some(since));
            let file = self
                .files
                .open(inode, cached, known, session_counts, flags.access());
            let opened = self.new_handle(file, flags);
            Some(self.answered_here((entry, opened), since, (stamp, session)))
        });
        self.refill_numbers();
        made
    }
}

impl CreateRequest<'_> {
    fn request(&self, ahead: Option<Ahead>) -> Create {
        let flags = Flags(self.flags);
        Create {
            parent: self.parent.0,
            name: self.name.to_vec().into(),
            mode: self.mode & 0o7777,
            umask: self.umask,
            owner: Some(self.caller.owner()),
            exclusive: self.flags & libc::O_EXCL != 0,
            write: flags.access() == Access::Write,
            truncate: flags.truncates(),
            clear_set_id: self.clear_set_id,
            ahead,
        }
    }
}
