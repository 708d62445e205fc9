//! Write-back: buffered data to their storage servers, and to another one where that fails.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use pocket_proto::session::{Relocate, StorageServer, reply, request};
use pocket_proto::{BlockAddress, BlockIndex, Failure, Status};

use super::File;
use crate::filesystem::FileSystem;

/// Places tried for one block before the write fails.
const PLACES_MAX: usize = 4;

impl FileSystem {
    /// Sends a block in the background, if it is not being sent already.
    pub(crate) fn start_write_back(self: &Arc<Self>, file: &Arc<File>, block: u64) {
        if begin(file, block) {
            let (fs, file) = (Arc::clone(self), Arc::clone(file));
            tokio::spawn(async move { fs.send_block(&file, block).await });
        }
    }

    /// Sends all that is buffered of a file in the background.
    pub(crate) fn start_write_back_all(self: &Arc<Self>, file: &Arc<File>) {
        let blocks: Vec<_> = file.with(|state| state.dirty.keys().copied().collect());
        for block in blocks {
            self.start_write_back(file, block);
        }
    }

    /// Sends a block and waits until what was buffered of it is stored or has failed.
    pub(super) async fn write_back_block(self: &Arc<Self>, file: &Arc<File>, block: u64) {
        let writes = file.with(|state| state.writes);
        if begin(file, block) {
            self.send_block(file, block).await;
        }
        wait(file, |state| {
            state
                .dirty
                .get(&block)
                .is_none_or(|dirty| dirty.oldest > writes)
        })
        .await;
    }

    /// Sends everything buffered so far and waits for it. Failures are kept in the file's state.
    pub(super) async fn write_back_all(self: &Arc<Self>, file: &Arc<File>) {
        let (writes, blocks) = file.with(|state| {
            (
                state.writes,
                state.dirty.keys().copied().collect::<Vec<_>>(),
            )
        });
        // The last block goes out on this task: most files are one block.
        if let Some((last, others)) = blocks.split_last() {
            for block in others {
                self.start_write_back(file, *block);
            }
            if begin(file, *last) {
                self.send_block(file, *last).await;
            }
        }
        wait(file, |state| {
            state.dirty.values().all(|dirty| dirty.oldest > writes)
        })
        .await;
    }

    /// Sends what `begin` took, and what was asked for meanwhile.
    async fn send_block(self: &Arc<Self>, file: &Arc<File>, block: u64) {
        loop {
            let extents = file.with(|state| state.dirty.get(&block).map(|dirty| dirty.sending()));
            let extents = extents.unwrap_or_default();
            let outcomes = match extents.as_slice() {
                [(start, data)] => {
                    vec![self.store(file, block, *start, data.clone()).await]
                }
                many => {
                    join_all(
                        many.iter()
                            .map(|(start, data)| self.store(file, block, *start, data.clone())),
                    )
                    .await
                }
            };
            if !finish(file, block, &extents, outcomes) {
                return;
            }
        }
    }

    /// Stores `data` at `start` of a block; answers the change of allocated bytes.
    pub(crate) async fn store(
        &self,
        file: &File,
        block: u64,
        start: u32,
        data: Bytes,
    ) -> Result<i64, Failure> {
        let block = BlockIndex(block);
        let mut server = self.server_of(file, block).await?;
        let (mut start, mut data) = (start, data);
        for _ in 1..PLACES_MAX {
            let failure = match self
                .storage
                .write(&server, file.inode, block, start, data.clone())
                .await
            {
                Ok(allocated) => return Ok(allocated),
                Err(failure) => failure,
            };
            (start, data) = self
                .save_rest(file, block, &server, start, data, failure)
                .await?;
            server = self.relocate(file, block, &server).await?;
        }
        self.storage
            .write(&server, file.inode, block, start, data)
            .await
    }

    /// Before a block gets another place: what of it the failed write does not replace must come
    /// along. Answers the write to be made at the new place, or the failure if that cannot be.
    async fn save_rest(
        &self,
        file: &File,
        block: BlockIndex,
        server: &StorageServer,
        start: u32,
        data: Bytes,
        failure: Failure,
    ) -> Result<(u32, Bytes), Failure> {
        let block_start = block.0 * u64::from(file.block_bytes);
        let held = file.with(|state| state.stored_size.saturating_sub(block_start));
        let held = held.min(u64::from(file.block_bytes)) as u32;
        let replaced = start == 0 && data.len() as u32 >= held;
        match failure.status {
            Status::ServerFull | Status::Unavailable | Status::Lost if held == 0 || replaced => {
                Ok((start, data))
            }
            Status::ServerFull => {
                let address = BlockAddress {
                    inode: file.inode,
                    block,
                    offset_bytes: 0,
                    length_bytes: held,
                };
                let old = self.storage.read(server, address).await?;
                if old.hole {
                    return Ok((start, data));
                }
                let end = start as usize + data.len();
                let mut whole = BytesMut::with_capacity(old.bytes.len().max(end));
                whole.extend_from_slice(&old.bytes);
                if whole.len() < end {
                    whole.resize(end, 0);
                }
                whole[start as usize..end].copy_from_slice(&data);
                Ok((0, whole.freeze()))
            }
            // The rest of the block was on a server that is gone.
            _ => Err(failure),
        }
    }

    async fn relocate(
        &self,
        file: &File,
        block: BlockIndex,
        failed: &StorageServer,
    ) -> Result<StorageServer, Failure> {
        let request = request::Operation::Relocate(Relocate {
            inode: file.inode.0,
            block: block.0,
            failed_server: failed.server,
        });
        match self.metadata.call(request).await?.result {
            reply::Result::Relocate(place) => {
                let server = place.server.ok_or(Status::Internal)?;
                self.maps.learn_server(&server);
                if let Some(layout) = &place.layout {
                    file.with(|state| state.adopt_layout(layout));
                }
                self.inodes.forget(file.inode);
                Ok(server)
            }
            _ => Err(Failure::new(Status::Internal, "relocate: unexpected reply")),
        }
    }
}

/// Takes what is pending of a block for sending; false if it is being sent already (the sender
/// then goes on with the rest) or there is nothing.
fn begin(file: &File, block: u64) -> bool {
    file.with(|state| match state.dirty.get_mut(&block) {
        Some(dirty) if dirty.is_sending() => {
            dirty.wanted = true;
            false
        }
        Some(dirty) => dirty.begin(),
        None => false,
    })
}

/// Notes what became of the extents sent; true if more of the block is to be sent.
fn finish(
    file: &File,
    block: u64,
    extents: &[(u32, Bytes)],
    outcomes: Vec<Result<i64, Failure>>,
) -> bool {
    let more = file.with(|state| {
        let block_start = block * u64::from(file.block_bytes);
        for ((start, data), outcome) in extents.iter().zip(outcomes) {
            match outcome {
                Ok(allocated) => {
                    let end = block_start + u64::from(*start) + data.len() as u64;
                    state.stored_size = state.stored_size.max(end);
                    state.allocated_delta += allocated;
                }
                Err(failure) => {
                    tracing::warn!(inode = %file.inode, block, %failure, "buffered data lost");
                    state.failed.get_or_insert(failure);
                }
            }
        }
        let Some(dirty) = state.dirty.get_mut(&block) else {
            return false;
        };
        if dirty.finish() {
            state.dirty.remove(&block);
            return false;
        }
        dirty.wanted && dirty.begin()
    });
    file.progress.notify_waiters();
    more
}

/// Waits until write-backs have made `done` true.
async fn wait(file: &File, done: impl Fn(&super::State) -> bool) {
    loop {
        let progress = file.progress.notified();
        tokio::pin!(progress);
        progress.as_mut().enable();
        if file.with(|state| done(state)) {
            return;
        }
        progress.await;
    }
}
