//! Write-back: buffered data to their storage servers.

use std::sync::Arc;

use bytes::Bytes;
use pocket_proto::{Failure, Status};
use pocket_storage_client::Payload;

use super::contents::CONTENT_BYTES_MAX;
use super::{File, Sharing, State};
use crate::HandleId;
use crate::filesystem::FileSystem;

impl FileSystem {
    /// Sends a block in the background, if it is not being sent already.
    pub(crate) fn start_write_back(self: &Arc<Self>, file: &Arc<File>, block: u64) {
        if let Some(era) = begin(file, block) {
            let (fs, file) = (Arc::clone(self), Arc::clone(file));
            tokio::spawn(async move { fs.send_block(&file, block, era).await });
        }
    }

    /// Sends all that is buffered of a file in the background.
    pub(crate) fn start_write_back_all(self: &Arc<Self>, file: &Arc<File>) {
        let blocks: Vec<_> = file.with(|state| state.dirty.keys().copied().collect());
        for block in blocks {
            self.start_write_back(file, block);
        }
    }

    /// Whether the first write to an empty file has just been buffered: most files are written with
    /// one, so it is worth sending before anyone asks.
    pub fn is_first_write(&self, handle: HandleId) -> bool {
        let first = |state: &mut State| {
            let waiting = state.dirty.first_key_value();
            state.writes == 1
                && state.stored_size == 0
                && waiting.is_some_and(|(block, dirty)| *block == 0 && !dirty.is_sending())
        };
        let handle = self.handles.file(handle);
        handle.is_some_and(|handle| handle.file.with(first))
    }

    /// Sends the first write to a file while its writer goes on.
    pub async fn send_first_write(self: &Arc<Self>, handle: HandleId) {
        if let Some(handle) = self.handles.file(handle)
            && let Some(era) = begin(&handle.file, 0)
        {
            self.send_block(&handle.file, 0, era).await;
        }
    }

    /// Sends a block and waits until what was buffered of it is stored or has failed.
    pub(crate) async fn write_back_block(self: &Arc<Self>, file: &Arc<File>, block: u64) {
        let writes = file.with(|state| state.writes);
        if let Some(era) = begin(file, block) {
            self.send_block(file, block, era).await;
        }
        wait(file, |state| {
            let dirty = state.dirty.get(&block);
            dirty.is_none_or(|dirty| dirty.oldest > writes)
        })
        .await;
    }

    /// Sends everything buffered so far and waits for it. Failures are kept in the file's state.
    pub(super) async fn write_back_all(self: &Arc<Self>, file: &Arc<File>) {
        let (writes, blocks) = file.with(|state| {
            let blocks: Vec<_> = state.dirty.keys().copied().collect();
            (state.writes, blocks)
        });
        // The last block goes out on this task: most files are one block.
        if let Some((last, others)) = blocks.split_last() {
            for block in others {
                self.start_write_back(file, *block);
            }
            if let Some(era) = begin(file, *last) {
                self.send_block(file, *last, era).await;
            }
        }
        wait(file, |state| {
            state.dirty.values().all(|dirty| dirty.oldest > writes)
        })
        .await;
    }

    /// Sends what `begin` took, and what was asked for meanwhile. One extent after another: if
    /// the block has to move to another server, what is stored of it is known.
    async fn send_block(&self, file: &File, block: u64, era: u64) {
        loop {
            let (session, extents) = file.with(|state| {
                let dirty = state.dirty.get(&block);
                (state.session, dirty.map(|dirty| dirty.sending()))
            });
            for (start, data) in extents.unwrap_or_default() {
                let end = u64::from(start) + data.len() as u64;
                let outcome = self
                    .store(file, session, block, (start, data.clone()))
                    .await;
                let stored = outcome.is_ok();
                note(file, block, end, era, outcome);
                if stored && block == 0 && start == 0 {
                    keep_content(file, data);
                }
            }
            if !finish(file, block, era) {
                return;
            }
        }
    }

    /// Stores data that were taken up in a session at a place of a block; answers the change of
    /// allocated bytes.
    pub(crate) async fn store(
        &self,
        file: &File,
        session: u64,
        block: u64,
        (start, data): (u32, Payload),
    ) -> Result<i64, Failure> {
        let placed = pocket_proto::BlockIndex(block);
        let server = self.server_of(file, placed).await?;
        let storage = self.stores.of(session).await?;
        let write = storage.write(&server, file.inode, placed, start, data.clone());
        let stored = match write.await {
            Err(failure) if failure.status != Status::SessionEnded => {
                self.store_elsewhere(file, &storage, (placed, server), (start, data), failure)
                    .await
            }
            stored => stored,
        };
        self.stores.outlive(session, stored).await
    }
}

/// Takes what is pending of a block for sending, and says in which era. None if it is being sent
/// already (the sender then goes on with the rest) or there is nothing.
fn begin(file: &File, block: u64) -> Option<u64> {
    file.with(|state| match state.dirty.get_mut(&block) {
        Some(dirty) if dirty.is_sending() => {
            dirty.wanted = true;
            None
        }
        Some(dirty) => dirty.begin().then_some(state.era),
        None => None,
    })
}

/// Notes what became of an extent that ends at `end` of its block.
fn note(file: &File, block: u64, end: u64, era: u64, outcome: Result<i64, Failure>) {
    file.with(|state| {
        if state.era != era {
            // Its session is lost: it was counted as failed then.
            return;
        }
        match outcome {
            Ok(allocated) => {
                let end = block * u64::from(file.block_bytes) + end;
                state.stored_size = state.stored_size.max(end);
                state.allocated_delta += allocated;
            }
            Err(failure) => {
                tracing::warn!(inode = %file.inode, block, %failure, "buffered data lost");
                state.lost.insert(block);
                state.reservation.dense = false;
                state.failures.note(failure);
            }
        }
    });
}

/// If what was stored is all there is of a small file, it is worth keeping for whoever reads it.
fn keep_content(file: &File, data: Payload) {
    file.with(|state| {
        let whole = data.len() as u64 == state.size
            && state.size <= CONTENT_BYTES_MAX
            && state.sharing == Sharing::Cached
            && state.dirty.get(&0).is_some_and(|dirty| !dirty.is_pending());
        if whole {
            // Joined from several writes it may lie in a larger buffer.
            let content = data.into_bytes();
            state.content = Some(match state.writes {
                1 => content,
                _ => Bytes::copy_from_slice(&content),
            });
        }
    });
}

/// What was being sent is done with; true if more of the block is to be sent.
fn finish(file: &File, block: u64, era: u64) -> bool {
    let more = file.with(|state| {
        if state.era != era {
            return false;
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
pub(super) async fn wait(file: &File, done: impl Fn(&State) -> bool) {
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
