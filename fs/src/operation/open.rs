//! open(2) of a file that exists, and opendir(3).

use std::sync::Arc;

use pocket_proto::session::{self, Entry, Open, OpenMode, reply, request};
use pocket_proto::{InodeId, Status};

use super::{Access, DirectoryStream};
use crate::file::{File, ReadAhead, Sharing};
use crate::filesystem::unexpected;
use crate::handle::{DirectoryHandle, FileHandle};
use crate::{Errno, FileSystem, HandleId};

/// How to open.
#[derive(Clone, Copy, Debug)]
pub struct OpenRequest {
    /// open(2)'s flags.
    pub flags: i32,
}

/// An open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// To be named in reads and writes, and released once.
    pub handle: HandleId,
    /// Closing needs no flush: nothing can be written through the handle.
    pub read_only: bool,
}

/// open(2)'s flags, read.
#[derive(Clone, Copy)]
pub(super) struct Flags(pub(super) i32);

impl Flags {
    pub(super) fn access(self) -> Access {
        // O_RDONLY with O_TRUNC truncates on Linux, and then needs to be a writer.
        if self.0 & libc::O_ACCMODE == libc::O_RDONLY {
            Access::Read
        } else {
            Access::Write
        }
    }
}

impl FileSystem {
    /// Opens a regular file. With a lease on it, to read it, the server is told, not asked.
    pub async fn open(
        self: &Arc<Self>,
        inode: InodeId,
        open: OpenRequest,
    ) -> Result<Opened, Errno> {
        let flags = Flags(open.flags);
        let access = flags.access();
        let truncate = open.flags & libc::O_TRUNC != 0;
        if access == Access::Write || truncate {
            self.refuse_if_read_only()?;
        } else if let Some(opened) = self.open_leased(inode, flags) {
            return Ok(opened);
        }
        if truncate && let Some(file) = self.files.get(inode) {
            self.flush_file(&file).await?;
            self.drop_kept(&file);
        }
        let request = Open {
            inode: inode.0,
            write: access == Access::Write,
            truncate,
        };
        if truncate {
            self.inodes.forget(inode);
        }
        let answer = self.call(request::Operation::Open(request)).await?;
        let reply::Result::Opened(opened) = answer.value else {
            return Err(unexpected().into());
        };
        if truncate && let Some(file) = self.files.get(inode) {
            file.with(|state| state.resized(0));
        }
        Ok(self.opened(opened, flags)?.1)
    }

    /// Opens for reading on the strength of a lease.
    fn open_leased(&self, inode: InodeId, flags: Flags) -> Option<Opened> {
        let announce = || {
            let open = Open {
                inode: inode.0,
                write: false,
                truncate: false,
            };
            self.metadata.tell(request::Operation::Open(open)).ok()
        };
        // The lease is looked at and the open announced with no recall in between: whoever
        // recalls it hears of the open before the acknowledgement.
        self.coherence.steady(|| {
            let file = match self.files.get(inode) {
                Some(file) => {
                    if file.with(|state| state.sharing == Sharing::Through) {
                        return None;
                    }
                    announce()?;
                    self.files.open_again(&file, Access::Read)
                }
                None => {
                    let entry = self.inodes.get(inode)?;
                    announce()?;
                    self.files
                        .open(inode, &entry, Sharing::Cached, Access::Read)
                }
            };
            Some(self.new_handle(file, flags))
        })
    }

    /// Notes what the server has opened.
    pub(super) fn opened(
        &self,
        opened: session::Opened,
        flags: Flags,
    ) -> Result<(Entry, Opened), Errno> {
        let sharing = match opened.mode() {
            OpenMode::Through => Sharing::Through,
            _ => Sharing::Cached,
        };
        let entry = opened.entry.ok_or(Status::Malformed)?;
        let inode = entry
            .attributes
            .as_ref()
            .map(|attributes| InodeId(attributes.inode));
        let inode = inode.ok_or(Status::Malformed)?;
        let file = self.files.open(inode, &entry, sharing, flags.access());
        let opened = self.new_handle(file, flags);
        Ok((self.overlaid(entry), opened))
    }

    fn new_handle(&self, file: Arc<File>, flags: Flags) -> Opened {
        let access = flags.access();
        let handle = self.handles.insert_file(FileHandle {
            file,
            access,
            append: flags.0 & libc::O_APPEND != 0,
            synchronous: flags.0 & (libc::O_SYNC | libc::O_DSYNC) != 0,
            read_ahead: ReadAhead::default(),
        });
        Opened {
            handle,
            read_only: access == Access::Read,
        }
    }

    /// Opens a directory for reading its names.
    pub fn open_directory(&self, inode: InodeId) -> HandleId {
        self.handles.insert_directory(DirectoryHandle {
            inode,
            stream: tokio::sync::Mutex::new(DirectoryStream::default()),
        })
    }
}
