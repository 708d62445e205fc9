//! Which blocks of a file its storage servers hold: what is data, and what is a hole.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use futures_util::future::try_join_all;
use pocket_proto::session::{RelocateReason, StorageServer};
use pocket_proto::{BlockIndex, BlockSpan, Failure, HeldBlocks, Status};

use super::File;
use super::relocation::moves_on;
use super::space::ROUNDS_MAX;
use crate::filesystem::FileSystem;

/// So many blocks are looked up one by one; for more, every server of the file is asked.
const PLACED_BLOCKS_MAX: u64 = 16;

/// What to make of a server that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Nobody knows what it held: the question fails.
    Fails,
    /// It holds nothing any more.
    HoldsNothing,
}

/// Blocks that servers hold, as far as they told.
pub(crate) struct Held {
    /// Every block before this one is told of.
    pub(crate) told_to: u64,
    /// How long the blocks are, by their number.
    pub(crate) lengths: BTreeMap<u64, u32>,
}

impl Held {
    /// How long a block is; 0 where there is none.
    pub(crate) fn length(&self, block: u64) -> u32 {
        self.lengths.get(&block).copied().unwrap_or(0)
    }
}

impl FileSystem {
    /// Asks which of these blocks servers hold. They tell of the first at least.
    pub(crate) async fn held_blocks(
        &self,
        file: &File,
        blocks: Range<u64>,
        gone: Gone,
    ) -> Result<Held, Failure> {
        for _ in 0..ROUNDS_MAX {
            if let Some(held) = self.held_blocks_now(file, blocks.clone(), gone).await? {
                return Ok(held);
            }
        }
        Err(moves_on(BlockIndex(blocks.start)))
    }

    /// `None`: some of them moved meanwhile.
    async fn held_blocks_now(
        &self,
        file: &File,
        blocks: Range<u64>,
        gone: Gone,
    ) -> Result<Option<Held>, Failure> {
        let span = BlockSpan {
            inode: file.inode,
            first: BlockIndex(blocks.start),
            count: blocks.end.saturating_sub(blocks.start),
        };
        let servers = self.servers_of(file, blocks.clone()).await?;
        let nothing = || HeldBlocks {
            told_to: span.end(),
            blocks: Vec::new(),
        };
        let storage = &self.stores.newest();
        let lists = servers.iter().map(|server| async {
            let failure = match storage.list(server, span).await {
                Ok(told) => return Ok(Some(told)),
                Err(failure) => failure,
            };
            match self.follow(file, blocks.clone(), server, failure).await {
                Ok(true) => Ok(None),
                Ok(false) => Ok(Some(nothing())),
                Err(failure) if gone == Gone::HoldsNothing && is_gone(failure.status) => {
                    Ok(Some(nothing()))
                }
                Err(failure) => Err(failure),
            }
        });
        let lists: Option<Vec<HeldBlocks>> = try_join_all(lists).await?.into_iter().collect();
        let Some(lists) = lists else {
            return Ok(None);
        };
        let told = lists.iter().map(|list| list.told_to.0);
        let mut held = Held {
            told_to: told.min().unwrap_or(blocks.end).min(blocks.end),
            lengths: BTreeMap::new(),
        };
        for (server, list) in servers.iter().zip(lists) {
            for block in list.blocks {
                // A server that was full may hold a block as it was before it moved.
                if block.block.0 < held.told_to
                    && self.server_of(file, block.block).await?.server == server.server
                {
                    held.lengths.insert(block.block.0, block.length_bytes);
                }
            }
        }
        Ok(Some(held))
    }

    /// The servers that may hold some of these blocks.
    pub(super) async fn servers_of(
        &self,
        file: &File,
        blocks: Range<u64>,
    ) -> Result<Vec<Arc<StorageServer>>, Failure> {
        if blocks.end.saturating_sub(blocks.start) > PLACED_BLOCKS_MAX {
            let layout = file.with(|state| state.layout.clone());
            return match self.maps.all_servers(&layout).await {
                Err(failure) if failure.status == Status::Lost => {
                    // The layout is older than any map that can still be had.
                    let first = BlockIndex(blocks.start);
                    self.ask_place(file, first, 0, RelocateReason::Ask).await?;
                    let layout = file.with(|state| state.layout.clone());
                    self.maps.all_servers(&layout).await
                }
                servers => servers,
            };
        }
        let mut servers: Vec<Arc<StorageServer>> = Vec::new();
        for block in blocks {
            let server = self.server_of(file, BlockIndex(block)).await?;
            if servers.iter().all(|known| known.server != server.server) {
                servers.push(server);
            }
        }
        Ok(servers)
    }
}

fn is_gone(status: Status) -> bool {
    matches!(status, Status::Unavailable | Status::Lost)
}
