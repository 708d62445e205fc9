//! fcntl(2) with F_GETLK, F_SETLK, F_SETLKW and their F_OFD kin, and flock(2).
//!
//! Locks are held by the metadata server, for all mounts. One that has to wait is queued there, and
//! a recall tells when it is granted; meanwhile the server is asked now and then whether it still
//! knows, so that a wait ends with an error if the server is gone.

use std::time::Duration;

use pocket_proto::session::{
    self, CancelLock, GetLock, LockRange, ReleaseLocks, SetLock, SetLockReply, reply, request,
};
use pocket_proto::{Failure, InodeId, Status};
use tokio::time::timeout;

use crate::filesystem::unexpected;
use crate::handle::FileHandle;
use crate::locks::{Ended, LockKind, LockOwner};
use crate::{Errno, FileSystem, HandleId};

/// With the deadline of a call behind it, a server that is gone is known within ten seconds.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(1500);
/// Sessions that may be lost, one after the other, before a lock is given up.
const SESSIONS_TRIED_MAX: usize = 3;

/// How a lock excludes others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// F_RDLCK, LOCK_SH.
    Shared,
    /// F_WRLCK, LOCK_EX.
    Exclusive,
}

/// What to lock, to unlock or to ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRequest {
    /// For whom.
    pub owner: LockOwner,
    /// The first byte. flock's are whole files, whatever stands here.
    pub first: u64,
    /// The last byte, at most 2^63 - 1.
    pub last: u64,
    /// None: unlock.
    pub mode: Option<LockMode>,
    /// Who asks, for F_GETLK of others on this mount.
    pub process: u32,
}

/// A lock that is in the way of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLock {
    /// Its first byte.
    pub first: u64,
    /// Its last byte.
    pub last: u64,
    /// How it excludes others.
    pub mode: LockMode,
    /// The process that has it, or 0 if that is on another mount.
    pub process: u32,
}

/// What to do about a lock that is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockPatience {
    /// EAGAIN.
    None,
    /// Wait.
    Waits,
}

impl FileSystem {
    /// The first lock that is in the way of one.
    pub async fn get_lock(
        &self,
        handle: HandleId,
        request: LockRequest,
    ) -> Result<Option<HeldLock>, Errno> {
        let handle = self.handles.file(handle).ok_or(Errno(libc::EBADF))?;
        handle.refuse_if_locks_lost()?;
        let request = GetLock {
            inode: handle.file.inode.0,
            owner: Some(wire_owner(request.owner)),
            range: Some(wire_range(request)),
            mode: wire_mode(request.mode).into(),
        };
        let answer = self.call(request::Operation::GetLock(request)).await?;
        let reply::Result::GetLock(found) = answer.value else {
            return Err(unexpected().into());
        };
        let mode = match found.mode() {
            session::LockMode::Shared => LockMode::Shared,
            session::LockMode::Exclusive => LockMode::Exclusive,
            session::LockMode::Unlocked => return Ok(None),
            session::LockMode::Unspecified => return Err(unexpected().into()),
        };
        let range = found.range.ok_or_else(unexpected)?;
        Ok(Some(HeldLock {
            first: range.first,
            last: range.last,
            mode,
            process: found.process,
        }))
    }

    /// Locks or unlocks. Dropping what this returns gives up: the request leaves the queue, and
    /// what it was granted at that very moment is given back.
    ///
    /// EAGAIN where it would wait and may not, EDEADLK where it would wait for ever (records
    /// only), ENOLCK beyond the limits, EIO on a handle of a file whose locks were lost.
    pub async fn set_lock(
        &self,
        id: HandleId,
        request: LockRequest,
        patience: LockPatience,
    ) -> Result<(), Errno> {
        let handle = self.handles.file(id).ok_or(Errno(libc::EBADF))?;
        handle.refuse_if_locks_lost()?;
        let inode = handle.file.inode;
        if request.mode.is_none() {
            return Ok(self.unlock(inode, request).await?);
        }
        for _ in 0..SESSIONS_TRIED_MAX {
            let attempt = Attempt::begin(self, inode, id, request.owner);
            match attempt.lock(request, patience).await {
                // It had no locks in the session that ended, or there is an end to this.
                Err(failure) if failure.status == Status::SessionEnded => {
                    handle.refuse_if_locks_lost()?;
                }
                Err(failure) => return Err(failure.into()),
                Ok(()) => {
                    let lost = handle.refuse_if_locks_lost();
                    if lost.is_err() {
                        // It had others, and they went with the session before this one.
                        self.release_locks(id, request.owner).await;
                    }
                    return lost;
                }
            }
        }
        Err(Errno(libc::EIO))
    }

    /// Unlocks all that an owner has locked of a file: a process has closed a descriptor of it,
    /// whichever, or an open file is closed for the last time.
    pub async fn release_locks(&self, handle: HandleId, owner: LockOwner) {
        if let Some(handle) = self.handles.file(handle) {
            let inode = handle.file.inode;
            if self.locks.let_go(inode, owner) {
                let release = release(inode, owner);
                if self.call_done(release.clone()).await.is_err() {
                    // It is done when the server is back, if it was not.
                    self.tell_of_lock(release);
                }
            }
        }
    }

    /// A handle is closed for the last time; see [`crate::locks::MountLocks::close`].
    pub(super) fn release_locks_of(&self, inode: InodeId, handle: HandleId) {
        for owner in self.locks.close(inode, handle) {
            self.tell_of_lock(release(inode, owner));
        }
    }

    async fn unlock(&self, inode: InodeId, request: LockRequest) -> Result<(), Failure> {
        let Some(begun) = self.locks.begun(inode, request.owner) else {
            return Ok(());
        };
        let unlock = set_lock(inode, request, None, LockPatience::None);
        let answer = self.call(unlock.clone()).await;
        let answer = answer.and_then(|answer| set_lock_reply(answer.value));
        match answer {
            Ok(answer) => {
                if !answer.holds {
                    self.locks.has_unlocked_all(inode, request.owner, begun);
                }
                Ok(())
            }
            Err(failure) => {
                if failure.status == Status::Unavailable {
                    self.tell_of_lock(unlock);
                }
                Err(failure)
            }
        }
    }

    fn tell_of_lock(&self, operation: request::Operation) {
        if let Err(failure) = self.metadata.tell(operation) {
            tracing::debug!(%failure, "a lock is free when the session ends");
        }
    }
}

impl FileHandle {
    /// EIO on handles that were open on a file when locks on it were lost with the session: what
    /// programs do under a lock they no longer have must not look as if it were done.
    pub(crate) fn refuse_if_locks_lost(&self) -> Result<(), Errno> {
        match self.file.with(|state| state.lost_locks(self.era)) {
            None => Ok(()),
            Some(status) => Err(status.into()),
        }
    }
}

/// A lock on its way. Dropping it takes it back, unless it has ended.
struct Attempt<'a> {
    fs: &'a FileSystem,
    inode: InodeId,
    owner: LockOwner,
    ticket: u64,
    /// The session it is asked in.
    session: u64,
    has_ended: bool,
}

impl<'a> Attempt<'a> {
    fn begin(fs: &'a FileSystem, inode: InodeId, handle: HandleId, owner: LockOwner) -> Self {
        let session = fs.coherence.session();
        fs.locks.begin(inode, owner, handle);
        Attempt {
            fs,
            inode,
            owner,
            ticket: fs.locks.next_ticket(),
            session,
            has_ended: false,
        }
    }

    async fn lock(mut self, request: LockRequest, patience: LockPatience) -> Result<(), Failure> {
        let operation = set_lock(self.inode, request, Some(self.ticket), patience);
        let mut granted = self.fs.locks.wait(self.ticket);
        loop {
            let answer = self.fs.call(operation.clone()).await;
            let answer = answer.and_then(|answer| set_lock_reply(answer.value));
            match answer {
                Ok(answer) if !answer.queued => break,
                Ok(_) => {}
                Err(failure) => {
                    // Whoever cannot be asked may have granted it: see the drop.
                    if failure.status != Status::Unavailable {
                        self.end(self.without_it());
                    }
                    return Err(failure);
                }
            }
            match timeout(ASK_AGAIN_AFTER, &mut granted).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) => {
                    self.end(Ended::AsBefore);
                    return Err(Status::SessionEnded.into());
                }
                Err(_) => {}
            }
        }
        if self.end(Ended::Held) {
            return Ok(());
        }
        // It may have been granted in the session that followed, which nobody would know.
        let release = release(self.inode, self.owner);
        self.fs.tell_of_lock(release);
        Err(Status::SessionEnded.into())
    }

    /// What the owner has if it was not granted: flock(2) gives up the lock that it converts.
    fn without_it(&self) -> Ended {
        match self.owner.kind {
            LockKind::Flock => Ended::Nothing,
            LockKind::Record | LockKind::OpenFile => Ended::AsBefore,
        }
    }

    /// False if the session in which it was asked is over.
    fn end(&mut self, ended: Ended) -> bool {
        self.has_ended = true;
        let Attempt { fs, session, .. } = *self;
        let still = || fs.coherence.session() == session;
        fs.locks.stop_waiting(self.ticket);
        fs.locks.end(self.inode, self.owner, ended, still)
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let ticket = self.ticket;
        let cancel = request::Operation::CancelLock(CancelLock { ticket });
        let ended = match self.fs.metadata.tell(cancel) {
            Ok(()) => self.without_it(),
            // It may be there, and is given back when the file is closed.
            Err(_) => Ended::Held,
        };
        self.end(ended);
    }
}

fn set_lock(
    inode: InodeId,
    request: LockRequest,
    ticket: Option<u64>,
    patience: LockPatience,
) -> request::Operation {
    request::Operation::SetLock(SetLock {
        inode: inode.0,
        owner: Some(wire_owner(request.owner)),
        range: Some(wire_range(request)),
        mode: wire_mode(request.mode).into(),
        process: request.process,
        ticket: ticket.unwrap_or_default(),
        wait: patience == LockPatience::Waits,
    })
}

fn set_lock_reply(result: reply::Result) -> Result<SetLockReply, Failure> {
    match result {
        reply::Result::SetLock(reply) => Ok(reply),
        _ => Err(unexpected()),
    }
}

fn release(inode: InodeId, owner: LockOwner) -> request::Operation {
    request::Operation::ReleaseLocks(ReleaseLocks {
        inode: inode.0,
        owner: Some(wire_owner(owner)),
    })
}

fn wire_owner(owner: LockOwner) -> session::LockOwner {
    let kind = match owner.kind {
        LockKind::Flock => session::LockKind::Flock,
        LockKind::Record => session::LockKind::Record,
        LockKind::OpenFile => session::LockKind::OpenFile,
    };
    session::LockOwner {
        kind: kind.into(),
        owner: owner.id,
    }
}

fn wire_range(request: LockRequest) -> LockRange {
    LockRange {
        first: request.first,
        last: request.last,
    }
}

fn wire_mode(mode: Option<LockMode>) -> session::LockMode {
    match mode {
        Some(LockMode::Shared) => session::LockMode::Shared,
        Some(LockMode::Exclusive) => session::LockMode::Exclusive,
        None => session::LockMode::Unlocked,
    }
}
