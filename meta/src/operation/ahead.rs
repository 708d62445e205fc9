//! What a mount has answered before it told the server.
//!
//! The mount holds the exclusive lease on every directory that is concerned, so it knew what would
//! come of the operation; here it is done as told, at the time it was done there. Others who hold
//! leases on the inodes are told to drop them, but nobody waits for them.

use pocket_proto::session::{Ahead, request};
use pocket_proto::{Epoch, Failure, InodeId, Status};

use super::{Context, malformed};
use crate::now::Timestamp;

/// An operation that the mount has answered already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// The number for the inode that is made.
    pub(super) inode: InodeId,
    /// The weight map of a file that is made.
    pub(super) epoch: Epoch,
}

/// Whether the mount has answered the operation already.
pub(crate) fn of(operation: &request::Operation) -> Option<&Ahead> {
    use request::Operation as O;
    match operation {
        O::Create(request) => request.ahead.as_ref(),
        O::MakeNode(request) => request.ahead.as_ref(),
        O::Remove(request) => request.ahead.as_ref(),
        O::Rename(request) => request.ahead.as_ref(),
        O::SetAttributes(request) => request.ahead.as_ref(),
        O::Commit(request) => request.ahead.as_ref(),
        _ => None,
    }
}

impl Context<'_> {
    /// Takes up an operation that was answered already, if the mount was entitled to.
    pub(super) fn begin_ahead(
        &mut self,
        ahead: &Ahead,
        operation: &request::Operation,
    ) -> Result<(), Failure> {
        if !self.one_way {
            return Err(malformed("what was done ahead is told, not asked"));
        }
        let time = ahead.time.as_ref();
        self.now.wall = Timestamp::read(time.ok_or_else(|| malformed("done at no time"))?)?;
        let leases = &self.state.leases;
        for directory in directories(operation).into_iter().flatten() {
            if leases.directory_holder(InodeId(directory)) != Some(self.session) {
                let what = format!("directory {directory} is not this mount's alone");
                return Err(Failure::new(Status::Denied, what));
            }
        }
        self.ahead = Some(Answered {
            inode: InodeId(ahead.inode),
            epoch: Epoch(ahead.epoch),
        });
        Ok(())
    }

    /// The number for the inode that is made, if it was chosen ahead.
    pub(super) fn granted_inode(&self) -> Option<InodeId> {
        Some(self.ahead?.inode)
    }

    /// Notes that the number is used. Fails if it was not granted, or not the next.
    pub(super) fn use_granted_inode(&mut self) -> Result<(), Failure> {
        let Some(inode) = self.granted_inode() else {
            return Ok(());
        };
        let session = self.state.sessions.get_mut(&self.session);
        if let Some(lost) = session.and_then(|session| session.use_inode(inode)) {
            self.state.namespace.return_inodes(lost);
            return Ok(());
        }
        let what = format!("inode number {inode} is not the next of this mount");
        Err(Failure::new(Status::Denied, what))
    }

    /// The weight map that places a new file's blocks.
    pub(super) fn epoch_of_new(&self) -> Result<Epoch, Failure> {
        match self.ahead {
            None => Ok(self.state.newest_epoch()),
            Some(ahead) if self.state.layouts.has(ahead.epoch) => Ok(ahead.epoch),
            Some(ahead) => Err(malformed(format!("there is no weight map {}", ahead.epoch))),
        }
    }
}

/// Directories whose names the operation changes.
fn directories(operation: &request::Operation) -> [Option<u64>; 2] {
    use request::Operation as O;
    match operation {
        O::Create(request) => [Some(request.parent), None],
        O::MakeNode(request) => [Some(request.parent), None],
        O::Remove(request) => [Some(request.parent), None],
        O::Rename(request) => [Some(request.parent), Some(request.new_parent)],
        _ => [None, None],
    }
}
