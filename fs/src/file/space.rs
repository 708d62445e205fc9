//! Space of a file without data of a program's: allocating, zeroing and punching its blocks.
//!
//! Whoever calls this holds `File::length` for writing and has flushed the file, so that nothing
//! is buffered that would come after. What servers answer is counted at once, whatever becomes of
//! the rest.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use pocket_proto::{BlockAddress, BlockIndex, BlockSpan, Failure, Fill, Status};
use pocket_storage_client::{BlockStore, Payload};

use super::held::Gone;
use super::relocation::{may_have_moved, moves_on};
use super::reservation::round_up;
use super::{File, Sharing};
use crate::filesystem::FileSystem;

/// How often blocks are looked for anew that move away from a leaving server.
pub(super) const ROUNDS_MAX: u32 = 4;
/// Blocks that are allocated at the same time.
const ALLOCATIONS_MAX: usize = 16;

impl FileSystem {
    /// Space that allocating a range takes: what servers do not hold of it yet.
    pub(crate) async fn space_missing(
        &self,
        file: &File,
        range: &Range<u64>,
    ) -> Result<u64, Failure> {
        let block_bytes = u64::from(file.block_bytes);
        let blocks = blocks_of(file, range);
        let last = blocks.end - 1;
        let in_last = round_up((range.end - last * block_bytes) as u32);
        let charge = |block| match block == last {
            true => u64::from(in_last),
            false => block_bytes,
        };
        let mut missing = (last - blocks.start)
            .saturating_mul(block_bytes)
            .saturating_add(u64::from(in_last));
        let mut at = blocks.start;
        while at < blocks.end {
            let held = self
                .held_blocks(file, at..blocks.end, Gone::HoldsNothing)
                .await?;
            for (block, length) in held.lengths {
                missing = missing.saturating_sub(u64::from(round_up(length)).min(charge(block)));
            }
            at = held.told_to;
        }
        Ok(missing)
    }

    /// Has servers hold a range, for which the space was taken.
    pub(crate) async fn allocate_range(
        &self,
        file: &File,
        range: &Range<u64>,
        fill: Fill,
    ) -> Result<(), Failure> {
        let storage = &self.store_of(file).await?;
        let blocks = blocks_of(file, range);
        let mut at = blocks.start;
        while at < blocks.end {
            let held = self
                .held_blocks(file, at..blocks.end, Gone::HoldsNothing)
                .await?;
            let window = at..held.told_to;
            at = held.told_to;
            let missing = window.filter_map(|block| {
                let (start, end) = within(file, range, block);
                (fill == Fill::All || held.length(block) < end).then_some((block, start..end))
            });
            let failed = &Mutex::new(None);
            stream::iter(missing)
                .for_each_concurrent(ALLOCATIONS_MAX, |(block, piece)| async move {
                    if failed.lock().is_some() {
                        return;
                    }
                    match self
                        .allocate_block(file, storage, block, (piece, fill))
                        .await
                    {
                        Ok(change) => file.with(|state| state.allocated_delta += change),
                        Err(failure) => *failed.lock() = Some(failure),
                    }
                })
                .await;
            if let Some(failure) = failed.lock().take() {
                return Err(failure);
            }
        }
        Ok(())
    }

    async fn allocate_block(
        &self,
        file: &File,
        storage: &Arc<dyn BlockStore>,
        block: u64,
        (piece, fill): (Range<u32>, Fill),
    ) -> Result<i64, Failure> {
        let index = BlockIndex(block);
        let server = self.server_of(file, index).await?;
        let address = address(file, block, piece.clone());
        let failure = match storage.allocate(&server, address, fill).await {
            Err(failure) if is_elsewhere(failure.status) => failure,
            done => return done,
        };
        // As a write of zeros the block finds another place.
        let shown = file.with(|state| state.stored_size) > block * u64::from(file.block_bytes);
        let start = match (shown, fill) {
            (false, _) => 0,
            (true, Fill::All) => piece.start,
            (true, Fill::Missing) => {
                let whole = self::address(file, block, 0..file.block_bytes);
                let held = self.read_block(file, whole).await?;
                (held.bytes.len() as u32).min(piece.end)
            }
        };
        let zeros = Payload::from(Bytes::from(vec![0; (piece.end - start) as usize]));
        self.store_elsewhere(file, storage, (index, server), (start, zeros), failure)
            .await
    }

    /// For what changes blocks of a file without data of a program's.
    async fn store_of(&self, file: &File) -> Result<Arc<dyn BlockStore>, Failure> {
        self.stores.of(file.with(|state| state.session)).await
    }

    /// Has a range read as zeros, and gives back what it held.
    pub(crate) async fn punch_range(&self, file: &File, range: &Range<u64>) -> Result<(), Failure> {
        let storage = self.store_of(file).await?;
        let block_bytes = u64::from(file.block_bytes);
        let blocks = blocks_of(file, range);
        let whole = range.start.div_ceil(block_bytes)..range.end / block_bytes;
        let (first, last) = (blocks.start, blocks.end - 1);
        for block in [first, last]
            .into_iter()
            .take(if first == last { 1 } else { 2 })
        {
            if whole.contains(&block) {
                continue;
            }
            let (start, end) = within(file, range, block);
            let address = address(file, block, start..end);
            let change = self.punch_block(file, &storage, address).await?;
            file.with(|state| state.allocated_delta += change);
        }
        if whole.is_empty() {
            return Ok(());
        }
        let span = BlockSpan {
            inode: file.inode,
            first: BlockIndex(whole.start),
            count: whole.end - whole.start,
        };
        for _ in 0..ROUNDS_MAX {
            let mut moved = false;
            for server in self.servers_of(file, whole.clone()).await? {
                match storage.drop_blocks(&server, span).await {
                    Ok(change) => file.with(|state| state.allocated_delta += change),
                    Err(failure) => {
                        moved |= self.follow(file, whole.clone(), &server, failure).await?;
                    }
                }
            }
            if !moved {
                return Ok(());
            }
        }
        Err(moves_on(span.first))
    }

    async fn punch_block(
        &self,
        file: &File,
        storage: &Arc<dyn BlockStore>,
        address: BlockAddress,
    ) -> Result<i64, Failure> {
        let mut server = self.server_of(file, address.block).await?;
        for _ in 0..ROUNDS_MAX {
            let failure = match storage.punch(&server, address).await {
                Err(failure) if may_have_moved(failure.status) => failure,
                done => return done,
            };
            let place = self.place_now(file, address.block, &server, &failure);
            let place = place.await?;
            if place.server == server.server {
                return Err(failure);
            }
            server = place;
        }
        Err(moves_on(address.block))
    }

    /// Whether one server holds the blocks at these offsets.
    pub(crate) async fn on_one_server(
        &self,
        from: (&Arc<File>, u64),
        to: (&Arc<File>, u64),
    ) -> Result<bool, Failure> {
        let block =
            |(file, offset): (&Arc<File>, u64)| BlockIndex(offset / u64::from(file.block_bytes));
        let source = self.server_of(from.0, block(from)).await?;
        let target = self.server_of(to.0, block(to)).await?;
        Ok(source.server == target.server)
    }

    /// Copies a piece of one block over a piece of another where one server holds both, and nothing
    /// of them is shared with other mounts. `space` was taken for it. False: it is to be copied
    /// some other way.
    pub(crate) async fn copy_piece(
        self: &Arc<Self>,
        from: (&Arc<File>, u64),
        to: (&Arc<File>, u64),
        length: u32,
    ) -> Result<bool, Failure> {
        let place = |(file, offset): (&Arc<File>, u64)| {
            let block_bytes = u64::from(file.block_bytes);
            let start = (offset % block_bytes) as u32;
            address(file, offset / block_bytes, start..start + length)
        };
        let (source, target) = (place(from), place(to));
        let server = self.server_of(from.0, source.block).await?;
        if self.server_of(to.0, target.block).await?.server != server.server {
            return Ok(false);
        }
        let storage = self.store_of(to.0).await?;
        self.write_back_block(from.0, source.block.0).await;
        self.write_back_block(to.0, target.block.0).await;
        let fit = |file: &File, block: BlockIndex| {
            file.with(|state| state.sharing == Sharing::Cached && !state.lost.contains(&block.0))
        };
        if !fit(from.0, source.block) || !fit(to.0, target.block) {
            return Ok(false);
        }
        let dense = from.0.with(|state| state.reservation.dense);
        match storage.copy(&server, source, target).await {
            Ok(change) => {
                let end = to.1 + u64::from(length);
                to.0.with(|state| {
                    state.stored_through(target.block.0, to.1, end, change);
                    if !dense {
                        state.reservation.doubt();
                    }
                });
                self.drop_blocks(to.0, [target.block.0]);
                Ok(true)
            }
            // As a write it finds another place.
            Err(failure) if is_elsewhere(failure.status) => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}

/// Whether another server may take what this one did not.
fn is_elsewhere(status: Status) -> bool {
    matches!(
        status,
        Status::ServerFull | Status::Moved | Status::Unavailable | Status::Lost
    )
}

/// The blocks that a range of a file touches. The range is not empty.
fn blocks_of(file: &File, range: &Range<u64>) -> Range<u64> {
    let block_bytes = u64::from(file.block_bytes);
    range.start / block_bytes..(range.end - 1) / block_bytes + 1
}

/// The bytes of a block that lie in a range.
fn within(file: &File, range: &Range<u64>, block: u64) -> (u32, u32) {
    let block_bytes = u64::from(file.block_bytes);
    let from = block * block_bytes;
    let start = range.start.saturating_sub(from).min(block_bytes);
    let end = (range.end - from).min(block_bytes);
    (start as u32, end as u32)
}

fn address(file: &File, block: u64, piece: Range<u32>) -> BlockAddress {
    BlockAddress {
        inode: file.inode,
        block: BlockIndex(block),
        offset_bytes: piece.start,
        length_bytes: piece.end - piece.start,
    }
}
