//! The part of truncations that storage servers do.
//!
//! The new size is set first, so that nobody reads blocks that are being dropped, and nobody is
//! given a lease on the attributes until they are gone. If a server does not do its part the old
//! size comes back: what was not dropped must never be seen as part of a file that grows later.
//!
//! A write that came in between would be lost, though it was answered. So those who may be writing
//! elsewhere are asked to pause first ([`Touches::cut`]): when they have, all that they began is
//! committed, and they go on once the server has answered that nobody cuts the file any more.

use pocket_proto::{BlockIndex, Failure, InodeId, Status};

use super::{Context, Step};
#[cfg(doc)]
use crate::job::Touches;
use crate::job::Truncation;
use crate::layouts::BlockRange;
use crate::leases::Object;
use crate::namespace::AttributeChange;

impl Context<'_> {
    /// Sets attributes. If the size is among them, answers what storage servers have to do; `None`:
    /// nothing.
    pub(super) fn apply(
        &mut self,
        id: InodeId,
        change: &AttributeChange,
    ) -> Result<Option<Truncation>, Status> {
        let truncation = match change.size_bytes {
            Some(size_bytes) => self.plan_truncation(id, size_bytes)?,
            None => None,
        };
        if change.size_bytes.is_some() {
            self.state.opens.count_cut(id);
        }
        let wall = self.now.wall;
        self.state.namespace.set_attributes(id, change, wall);
        Ok(truncation)
    }

    /// What storage servers have to do when the file gets this size; `None`: nothing.
    fn plan_truncation(&self, id: InodeId, size_bytes: u64) -> Result<Option<Truncation>, Status> {
        let file = self.state.namespace.inode(id)?.file();
        let file = file.ok_or(Status::Invalid)?;
        let layouts = &self.state.layouts;
        let block_bytes = layouts.block_bytes();
        // Blocks that nobody committed, or that were allocated ahead, may be anywhere.
        let old_end = match file.has_blocks_behind() {
            true => u64::MAX,
            false => file.size_bytes,
        };
        let Some(range) = BlockRange::behind(size_bytes, old_end, block_bytes) else {
            return Ok(None);
        };
        if file.is_empty() {
            return Ok(None);
        }
        let keep_bytes = size_bytes % u64::from(block_bytes);
        Ok(Some(Truncation {
            inode: id,
            old_size_bytes: file.size_bytes,
            first_block: BlockIndex(range.first),
            keep_bytes: u32::try_from(keep_bytes).expect("less than a block"),
            servers: layouts.servers_of(id, file, range),
        }))
    }

    /// Blocks are not dropped while they are being moved.
    pub(super) fn await_moves(&self) -> Step {
        Step::AwaitUnmarked(self.state.unmarked.subscribe())
    }

    /// The size is set: has the blocks dropped.
    pub(super) fn begin_truncation(&mut self, truncation: Truncation) -> Step {
        self.hold(Object::Attributes(truncation.inode));
        self.hold(Object::Length(truncation.inode));
        *self.state.truncating.entry(truncation.inode).or_default() += 1;
        Step::Truncate(truncation)
    }

    /// If blocks were dropped since the last attempt: settles what that means. False if there was
    /// nothing to settle.
    pub(super) fn end_truncation(&mut self) -> Result<bool, Failure> {
        let Some(truncated) = self.progress.truncated.take() else {
            return Ok(false);
        };
        self.release_marks();
        let truncation = truncated.truncation;
        let namespace = &mut self.state.namespace;
        match truncated.result {
            Ok(change) => {
                namespace.add_allocated(truncation.inode, change);
                namespace.end_truncation(truncation.inode);
                Ok(true)
            }
            Err(failure) => {
                namespace.restore_size(truncation.inode, truncation.old_size_bytes);
                Err(failure)
            }
        }
    }
}
