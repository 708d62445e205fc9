//! open(2) of a file that exists, and opendir(3).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use pocket_proto::session::{self, Entry, Open, OpenMode, reply, request};
use pocket_proto::{BlockBytes, Failure, InodeId, Status};

use super::{Access, DirectoryStream};
use crate::control::is_control;
use crate::file::{File, ReadAhead, Sharing, State};
use crate::filesystem::unexpected;
use crate::handle::{DirectoryHandle, FileHandle};
use crate::kernel_listings::Era;
use crate::read_to_end::ReadRanges;
use crate::{Errno, FileSystem, HandleId, Leased};

/// How to open.
#[derive(Clone, Copy, Debug)]
pub struct OpenRequest {
    /// open(2)'s flags.
    pub flags: i32,
    /// With O_TRUNC: whoever opens may not keep the file's set-id bits.
    pub clear_set_id: bool,
}

/// An open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// To be named in reads and writes, and released once.
    pub handle: HandleId,
    /// Closing needs no flush: nothing can be written through the handle, and no program of this
    /// mount has used locks, which a process gives up by closing.
    pub read_only: bool,
}

/// An open directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedDirectory {
    /// To be named in reads, and released once.
    pub handle: HandleId,
    /// The kernel is to keep the names that it is told through the handle, and what it has kept of
    /// others: it holds as long as it is not told to drop it.
    pub kept: bool,
}

/// open(2)'s flags, read.
#[derive(Clone, Copy)]
pub(crate) struct Flags(pub(super) i32);

impl Flags {
    /// O_RDONLY with O_TRUNC cuts the file, but writes nothing through the handle.
    pub(crate) fn access(self) -> Access {
        match self.0 & libc::O_ACCMODE {
            libc::O_RDONLY => Access::Read,
            _ => Access::Write,
        }
    }

    pub(crate) fn truncates(self) -> bool {
        self.0 & libc::O_TRUNC != 0
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
        if let Some(opened) = self.open_control(inode, flags).await {
            return opened;
        }
        if flags.truncates() {
            return self.open_and_cut(inode, open).await;
        }
        if flags.access() == Access::Write {
            self.refuse_if_read_only()?;
            let gate = self.files.gate(inode);
            let _opening = gate.read().await;
            return Ok(self.ask_to_open(inode, open).await?.0);
        }
        if let Some(opened) = self.open_leased(inode, flags) {
            return Ok(opened);
        }
        Ok(self.ask_to_open(inode, open).await?.0)
    }

    /// O_TRUNC: what is buffered goes first, and nobody writes until the file is cut.
    async fn open_and_cut(
        self: &Arc<Self>,
        inode: InodeId,
        open: OpenRequest,
    ) -> Result<Opened, Errno> {
        self.refuse_if_read_only()?;
        let gate = self.files.gate(inode);
        let _cutting = gate.write().await;
        let before = self.files.get(inode);
        let _alone = match &before {
            Some(file) => {
                let alone = file.length.write().await;
                self.flush_file(file).await?;
                Some(alone)
            }
            None => None,
        };
        self.inodes.forget(inode);
        let (opened, file) = self.ask_to_open(inode, open).await?;
        self.cut(&file);
        if open.clear_set_id {
            // The kernel takes its own cut to have left the mode as it was.
            self.kernel().drop_attributes(inode);
        }
        Ok(opened)
    }

    /// The server has cut the file to nothing.
    pub(super) fn cut(&self, file: &File) {
        self.inodes.forget(file.inode);
        let now = self.inodes.tick();
        file.with(|state| state.resized(0, now));
        self.drop_kept(file);
    }

    async fn ask_to_open(
        self: &Arc<Self>,
        inode: InodeId,
        open: OpenRequest,
    ) -> Result<(Opened, Arc<File>), Errno> {
        let flags = Flags(open.flags);
        let request = Open {
            inode: inode.0,
            write: flags.access() == Access::Write,
            truncate: flags.truncates(),
            clear_set_id: open.clear_set_id,
        };
        let answer = self.call(request::Operation::Open(request)).await?;
        let answer = answer.map(|result| match result {
            reply::Result::Opened(opened) => Ok(opened),
            _ => Err(unexpected()),
        })?;
        let (opened, file) = self.note_open(&answer, flags)?;
        if let Err(failure) = self.catch_up(&file, &answer).await {
            self.release(opened.handle).await;
            return Err(failure.into());
        }
        Ok((opened, file))
    }

    /// Opens for reading on the strength of a lease.
    fn open_leased(&self, inode: InodeId, flags: Flags) -> Option<Opened> {
        let announce = || {
            let open = Open {
                inode: inode.0,
                write: false,
                truncate: false,
                clear_set_id: false,
            };
            // Heard before the acknowledgement of any recall, which is what counts.
            self.metadata.tell_soon(request::Operation::Open(open)).ok()
        };
        if !self.is_in_touch() {
            return None;
        }
        // The lease is looked at and the open announced with no recall in between: whoever
        // recalls it hears of the open before the acknowledgement.
        self.coherence.stamped(|_, session| {
            let file = match self.files.get(inode) {
                Some(file) => {
                    let fit = |state: &mut State| {
                        state.sharing == Sharing::Cached && state.dead.is_none()
                    };
                    if !file.with(fit) {
                        return None;
                    }
                    announce()?;
                    self.files.open_again(&file, Access::Read)
                }
                None => {
                    let (entry, since, _) = self.inodes.get(inode)?;
                    announce()?;
                    let cached = (&entry, Sharing::Cached);
                    let session = (session, true);
                    let known = (since, Some(since));
                    self.files.open(inode, cached, known, session, Access::Read)
                }
            };
            Some(self.new_handle(file, flags))
        })
    }

    /// Notes what the server has opened. If a file of this mount went through since, it may be
    /// this one.
    pub(super) fn note_open(
        &self,
        answer: &Leased<session::Opened>,
        flags: Flags,
    ) -> Result<(Opened, Arc<File>), Failure> {
        self.hand_over(answer, |opened, freshness| {
            let sharing = match opened.mode() {
                OpenMode::Through => Sharing::Through,
                _ if freshness.shared => Sharing::Through,
                _ => Sharing::Cached,
            };
            let (entry, inode) = self.check_opened(opened)?;
            let access = flags.access();
            let (opened, session) = ((entry, sharing), (freshness.session, freshness.counts));
            let known = (answer.since, self.inodes.newest(inode));
            let file = self.files.open(inode, opened, known, session, access);
            if freshness.shared {
                file.pause(freshness.session, 0);
            }
            Ok((self.new_handle(Arc::clone(&file), flags), file))
        })
    }

    /// Refuses an entry that no file can be read or written with.
    fn check_opened<'a>(
        &self,
        opened: &'a session::Opened,
    ) -> Result<(&'a Entry, InodeId), Failure> {
        let entry = opened.entry.as_ref().ok_or_else(unexpected)?;
        let attributes = entry.attributes.as_ref().ok_or_else(unexpected)?;
        let block_bytes = entry.layout.as_ref().map_or(0, |layout| layout.block_bytes);
        BlockBytes::new(u64::from(block_bytes))
            .map_err(|error| Failure::new(Status::Malformed, error.to_string()))?;
        Ok((entry, InodeId(attributes.inode)))
    }

    /// If the session was lost since the open was asked for, it may have to be counted anew. And if
    /// this mount has changed the inode since, the answer may not know of it: asks again what the file
    /// is like.
    pub(super) async fn catch_up(
        &self,
        file: &File,
        answer: &Leased<session::Opened>,
    ) -> Result<(), Failure> {
        self.reopen(file).await?;
        if self.inodes.is_newer(file.inode, answer.since) {
            let entry = self.fetch_attributes(file.inode).await?;
            file.refresh(&entry.value, entry.since);
        }
        Ok(())
    }

    pub(super) fn new_handle(&self, file: Arc<File>, flags: Flags) -> Opened {
        let access = flags.access();
        // Who may write does not use it up.
        let uses_up = access == Access::Read && !self.config.read_only;
        let uses_up = uses_up && file.with(|state| state.read_once);
        let handle = self.handles.insert_file(FileHandle {
            failures_seen: AtomicU64::new(file.failures_told()),
            era: file.with(|state| state.era()),
            file,
            access,
            read_ahead: ReadAhead::default(),
            read: uses_up.then(ReadRanges::default),
        });
        Opened {
            handle,
            read_only: access == Access::Read && !self.locks.is_used(),
        }
    }

    /// Opens a directory for reading its names.
    pub fn open_directory(&self, inode: InodeId) -> HandleId {
        self.new_directory_handle(inode, None)
    }

    /// As [`FileSystem::open_directory`], for the kernel, which may be asked to keep the names.
    pub fn open_directory_for_kernel(&self, inode: InodeId) -> OpenedDirectory {
        let kept = match is_control(inode) || !self.is_in_touch() {
            true => None,
            false => self.kernel_listings.open(inode),
        };
        OpenedDirectory {
            handle: self.new_directory_handle(inode, kept),
            kept: kept.is_some(),
        }
    }

    fn new_directory_handle(&self, inode: InodeId, kept: Option<Era>) -> HandleId {
        self.handles.insert_directory(DirectoryHandle {
            inode,
            kept,
            stream: tokio::sync::Mutex::new(DirectoryStream::default()),
        })
    }
}
