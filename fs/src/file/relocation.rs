//! Another place for a block whose server is full, leaving or dead, and where a block is that has
//! moved.
//!
//! A server that is sealed answers [`Status::Moved`] to whoever would change a block, and to
//! whoever asks for one that it does not have: the metadata server then has the block moved, or
//! says where it is. One that has left is not reached any more, so that question is asked, too,
//! before a block is taken for lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use std::ops::Range;

use pocket_proto::session::{Relocate, RelocateReason, StorageServer, reply, request};
use pocket_proto::{BlockAddress, BlockIndex, Failure, Status};
use pocket_storage_client::{BlockData, BlockStore, Payload};
use tokio::time::timeout;

use super::File;
use crate::filesystem::{FileSystem, unexpected};

/// Other places tried for one block before the write fails.
const PLACES_MAX: usize = 3;
/// How long a reader waits to be told where a block is.
const ASK_DEADLINE: Duration = Duration::from_secs(2);
/// Blocks looked after one by one when their server leaves.
const FOLLOWED_MAX: u64 = 65_536;
/// All of them together, so that a write ends within the ten seconds that are promised.
const ELSEWHERE_DEADLINE: Duration = Duration::from_secs(6);

impl FileSystem {
    /// Stores `write` (where in the block, and what), which the server has failed to take.
    pub(super) async fn store_elsewhere(
        &self,
        file: &File,
        storage: &Arc<dyn BlockStore>,
        (block, server): (BlockIndex, Arc<StorageServer>),
        write: (u32, Payload),
        failure: Failure,
    ) -> Result<i64, Failure> {
        let tries = self.try_places(file, storage, (block, server), write, failure);
        timeout(ELSEWHERE_DEADLINE, tries)
            .await
            .unwrap_or_else(|_| {
                Err(Failure::new(
                    Status::Unavailable,
                    "no server took the block",
                ))
            })
    }

    async fn try_places(
        &self,
        file: &File,
        storage: &Arc<dyn BlockStore>,
        (block, mut server): (BlockIndex, Arc<StorageServer>),
        mut write: (u32, Payload),
        mut failure: Failure,
    ) -> Result<i64, Failure> {
        for _ in 0..PLACES_MAX {
            if failure.status == Status::SessionEnded {
                // No other place takes it in the name of this session.
                return Err(failure);
            }
            let place = self.place_now(file, block, &server, &failure).await?;
            if place.server != server.server {
                // What it held before is there already.
                server = place;
                let (start, data) = write.clone();
                let stored = storage.write(&server, file.inode, block, start, data);
                match stored.await {
                    Ok(allocated) => return Ok(allocated),
                    Err(another) => failure = another,
                }
                continue;
            }
            write = self.with_rest(file, block, &server, write, failure).await?;
            let failed = server.server;
            server = self
                .ask_place(file, block, failed, RelocateReason::Failed)
                .await?;
            let (start, data) = write.clone();
            let stored = storage.write(&server, file.inode, block, start, data);
            match stored.await {
                Ok(allocated) => return Ok(allocated),
                Err(another) => failure = another,
            }
        }
        Err(failure)
    }

    /// Before a block gets another place: what of it the failed write does not replace must come
    /// along. Answers the write to be made at the new place, or the failure if that cannot be.
    async fn with_rest(
        &self,
        file: &File,
        block: BlockIndex,
        server: &StorageServer,
        (start, data): (u32, Payload),
        failure: Failure,
    ) -> Result<(u32, Payload), Failure> {
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
                let old = match self.stores.newest().read(server, address).await {
                    // It is still said to be there: a leaving server does not speak for holes.
                    Err(failure) if failure.status == Status::Moved => return Ok((start, data)),
                    old => old?,
                };
                if old.hole {
                    return Ok((start, data));
                }
                // As long as the file shows of it: where it goes, an older copy may lie.
                let mut old = BytesMut::from(old.bytes);
                old.resize(held as usize, 0);
                let data = data.into_bytes();
                Ok((0, laid_over(&old, start as usize, &data).into()))
            }
            // The rest of the block was on a server that is gone.
            _ => Err(failure),
        }
    }

    /// Reads from a block, wherever it has moved meanwhile.
    pub(super) async fn read_block(
        &self,
        file: &File,
        address: BlockAddress,
    ) -> Result<BlockData, Failure> {
        let block = address.block;
        let storage = self.stores.newest();
        let mut server = self.server_of(file, block).await?;
        for _ in 0..PLACES_MAX {
            let failure = match storage.read(&server, address).await {
                Err(failure) if may_have_moved(failure.status) => failure,
                read => return read,
            };
            let asked = self.ask_place(file, block, server.server, RelocateReason::Ask);
            let Ok(Ok(place)) = timeout(ASK_DEADLINE, asked).await else {
                return Err(failure);
            };
            if place.server == server.server {
                return match failure.status {
                    Status::Moved => Ok(BlockData {
                        bytes: Bytes::new(),
                        hole: true,
                    }),
                    _ => Err(failure),
                };
            }
            server = place;
        }
        Err(moves_on(block))
    }

    /// The place of a block now that `server` has failed in this way: the same one, if it has not
    /// moved.
    pub(super) async fn place_now(
        &self,
        file: &File,
        block: BlockIndex,
        server: &StorageServer,
        failure: &Failure,
    ) -> Result<Arc<StorageServer>, Failure> {
        let reason = match failure.status {
            Status::Moved => RelocateReason::Sealed,
            _ => RelocateReason::Ask,
        };
        self.ask_place(file, block, server.server, reason).await
    }

    /// Finds out where those of `blocks` are that were on `server`, which has failed in this way.
    /// False: none of them was there. Fails where they have not moved.
    pub(super) async fn follow(
        &self,
        file: &File,
        blocks: Range<u64>,
        server: &StorageServer,
        failure: Failure,
    ) -> Result<bool, Failure> {
        if !may_have_moved(failure.status) {
            return Err(failure);
        }
        let mut moved = false;
        for block in blocks.take(FOLLOWED_MAX as usize).map(BlockIndex) {
            if self.server_of(file, block).await?.server != server.server {
                continue;
            }
            let place = self.place_now(file, block, server, &failure).await?;
            if place.server == server.server {
                return Err(failure);
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Asks the metadata server for the place of a block that is not at `failed` any more, or
    /// cannot be, and learns the file's layout.
    pub(super) async fn ask_place(
        &self,
        file: &File,
        block: BlockIndex,
        failed: u64,
        reason: RelocateReason,
    ) -> Result<Arc<StorageServer>, Failure> {
        let request = request::Operation::Relocate(Relocate {
            inode: file.inode.0,
            block: block.0,
            failed_server: failed,
            reason: reason.into(),
        });
        let reply::Result::Relocate(place) = self.call(request).await?.value else {
            return Err(unexpected());
        };
        let server = Arc::new(place.server.ok_or_else(unexpected)?);
        self.maps.learn_server(&server);
        self.inodes.forget(file.inode);
        let now = self.inodes.tick();
        file.with(|state| {
            state.changed = Some(now);
            if let Some(layout) = &place.layout {
                state.adopt_layout(layout);
            }
        });
        Ok(server)
    }
}

/// Whether the block may be somewhere else by now.
pub(super) fn may_have_moved(status: Status) -> bool {
    matches!(status, Status::Moved | Status::Unavailable | Status::Lost)
}

/// The failure of who follows a block for too long.
pub(super) fn moves_on(block: BlockIndex) -> Failure {
    Failure::new(Status::Unavailable, format!("block {block} keeps moving"))
}

/// `old` with `data` at `start`; a gap between them is zeros.
fn laid_over(old: &[u8], start: usize, data: &[u8]) -> Bytes {
    let end = start + data.len();
    let mut whole = BytesMut::with_capacity(old.len().max(end));
    whole.extend_from_slice(old);
    if whole.len() < end {
        whole.resize(end, 0);
    }
    whole[start..end].copy_from_slice(data);
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_laid_over_leaves_the_rest_and_fills_gaps_with_zeros() {
        assert_eq!(laid_over(b"abcdef", 2, b"XY"), &b"abXYef"[..]);
        assert_eq!(laid_over(b"ab", 1, b"XYZ"), &b"aXYZ"[..]);
        assert_eq!(laid_over(b"a", 3, b"X"), &b"a\0\0X"[..]);
    }
}
