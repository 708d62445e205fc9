//! Another place for a block whose server is full, leaving or dead.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pocket_proto::session::{Relocate, StorageServer, reply, request};
use pocket_proto::{BlockAddress, BlockIndex, Failure, Status};
use pocket_storage_client::{BlockStore, Payload};
use tokio::time::timeout;

use super::File;
use crate::filesystem::{FileSystem, unexpected};

/// Other places tried for one block before the write fails.
const PLACES_MAX: usize = 3;
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
            write = self.with_rest(file, block, &server, write, failure).await?;
            server = self.relocate(file, block, &server).await?;
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
                let old = self.stores.newest().read(server, address).await?;
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

    async fn relocate(
        &self,
        file: &File,
        block: BlockIndex,
        failed: &StorageServer,
    ) -> Result<Arc<StorageServer>, Failure> {
        let request = request::Operation::Relocate(Relocate {
            inode: file.inode.0,
            block: block.0,
            failed_server: failed.server,
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
