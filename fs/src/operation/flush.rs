//! close(2), fsync(2), fdatasync(2), syncfs(2).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pocket_proto::session::{KeepAlive, request};
use pocket_proto::{Failure, InodeId, Status};

use super::Access;
use crate::handle::FileHandle;
use crate::{Errno, FileSystem, HandleId};

impl FileSystem {
    /// Brings what was written through any handle of the file to the servers and makes it visible
    /// to whoever opens next. Tells each handle once of a write that failed since it was opened, or
    /// before and nobody was told.
    pub async fn flush(self: &Arc<Self>, handle: HandleId) -> Result<(), Errno> {
        if self.control.text(handle).is_some() {
            return Ok(());
        }
        let handle = self.handles.file(handle).ok_or(Errno(libc::EBADF))?;
        handle.refuse_if_locks_lost()?;
        let flushed = match handle.access {
            // It is closed, and has written nothing.
            Access::Read => Ok(()),
            Access::Write => self.flush_handle(&handle).await,
        };
        // That it was made, if that has not left with what was told since.
        self.metadata.flush();
        flushed
    }

    /// As [`FileSystem::flush`], and what the metadata server was only told it has heard: there is
    /// no cache on the servers that could be lost alone. What others have written is synced as
    /// well, as a program that only reads may ask.
    pub async fn fsync(self: &Arc<Self>, handle: HandleId) -> Result<(), Errno> {
        if self.control.text(handle).is_some() {
            return Ok(());
        }
        let handle = self.handles.file(handle).ok_or(Errno(libc::EBADF))?;
        handle.refuse_if_locks_lost()?;
        self.flush_handle(&handle).await?;
        self.sync_names().await
    }

    async fn flush_handle(self: &Arc<Self>, handle: &FileHandle) -> Result<(), Errno> {
        let file = &handle.file;
        let committed = self.flush_file(file).await;
        if let Some(status) = file.with(|state| state.dead) {
            return Err(status.into());
        }
        let (failures, failure) = file.tell_failure(handle.failures_seen.load(Ordering::Acquire));
        handle.failures_seen.store(failures, Ordering::Release);
        match failure {
            Some(failure) => Err(failure.into()),
            None => Ok(committed?),
        }
    }

    /// Brings everything that was written through this mount to the servers, and makes it visible
    /// to whoever opens next. Answers the first failure; those of single files are told to their
    /// handles as well.
    pub async fn sync_fs(self: &Arc<Self>) -> Result<(), Errno> {
        let mut outcome = Ok(());
        for file in self.files.all() {
            let flushed = self.flush_file(&file).await;
            outcome = outcome.and(flushed);
        }
        let named = self.sync_names().await;
        outcome?;
        named
    }

    /// As [`FileSystem::sync_fs`], unasked: failures are told to who closes or syncs.
    pub(crate) async fn write_back(self: Arc<Self>) {
        if let Err(errno) = self.sync_fs().await {
            tracing::debug!(%errno, "not everything was written back");
        }
    }

    /// Before something is done that only a living session may do: asks the metadata server, if it
    /// may have ended the session without this mount knowing, because the mount was stopped or cut
    /// off. Fails if it did.
    pub(crate) async fn stay_in_touch(&self) -> Result<(), Failure> {
        if self.is_still(self.coherence.session()).await? {
            return Ok(());
        }
        let what = "the session with the metadata server was lost";
        Err(Failure::new(Status::Lost, what))
    }

    /// Whether the session of that number lives; asks the metadata server if this mount cannot tell.
    pub(crate) async fn is_still(&self, session: u64) -> Result<bool, Failure> {
        if !self.is_in_touch() {
            let sign = request::Operation::KeepAlive(KeepAlive {});
            self.call_done(sign).await?;
        }
        Ok(self.coherence.session() == session)
    }

    /// As [`FileSystem::sync_names`]. EIO, once, if names that were made, removed or renamed in the
    /// directory may have been lost with a session since somebody last asked.
    pub async fn sync_directory(&self, directory: InodeId) -> Result<(), Errno> {
        self.sync_names().await?;
        match self.lost_names.tell(directory) {
            true => Err(Errno(libc::EIO)),
            false => Ok(()),
        }
    }

    /// Waits until the metadata server has done what it was told of so far: names made, removed and
    /// renamed ahead of it, and commits.
    pub async fn sync_names(&self) -> Result<(), Errno> {
        if self.metadata.is_settled() {
            return Ok(());
        }
        // Done behind everything told so far; fails if the session was lost with it.
        let sign = request::Operation::KeepAlive(KeepAlive {});
        Ok(self.call_done(sign).await?)
    }
}
