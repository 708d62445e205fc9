//! Moving blocks away from a storage server that is sealed: it changes nothing any more.
//!
//! A block is copied to its new place, dropped at the old one, and then recorded as an exception in
//! the layout. While it is under way nobody is told where the block is, and it is not truncated:
//! who asks waits. Since the old place has dropped the block before anybody is sent to the new one,
//! no mount with an older layout reads what has been overwritten since; it asks, and learns.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use pocket_proto::session::StorageServer;
use pocket_proto::{BlockAddress, BlockIndex, BlockSpan, Failure, InodeId, ServerId, Status};
use tokio::time::{Instant, sleep, timeout};

use super::{Job, JobState, job_gone};
use crate::blocks::BlockMover;
use crate::vouching::Debt;

/// Files of a job that are moved at the same time, a block each: 16 MiB of 1 MiB blocks.
const MOVES_MAX: usize = 16;
/// Places tried for one block.
const PLACES_MAX: usize = 4;
/// Pause before a drop is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// A block that is to leave a server.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) inode: InodeId,
    pub(crate) block: BlockIndex,
    pub(crate) from: StorageServer,
}

/// What is to be done about a file.
enum Fate {
    /// Its blocks move.
    Moves,
    /// It is gone, and the rest of it may go with the server.
    Gone,
    /// A mount made it and will tell of it.
    NotToldYet,
}

impl JobState {
    /// Whether blocks of the file are being moved.
    pub(crate) fn is_moving(&self, inode: InodeId) -> bool {
        self.moving.iter().any(|(moving, _)| *moving == inode)
    }

    fn fate(&self, inode: InodeId) -> Fate {
        let granted = || {
            let mut sessions = self.sessions.values();
            sessions.any(|session| session.inodes.iter().any(|range| range.contains(&inode.0)))
        };
        match self.namespace.inode(inode) {
            Ok(_) => Fate::Moves,
            Err(_) if granted() => Fate::NotToldYet,
            Err(_) => Fate::Gone,
        }
    }
}

impl Job {
    /// Whether blocks may be on the server.
    pub(crate) fn needs(&self, server: &StorageServer) -> bool {
        let state = self.state.lock();
        !state.gone && state.layouts.name(server)
    }

    /// Moves every block away from a sealed server. Says whether the job does without it now; if
    /// not, something has to settle first and this is to be called again.
    pub(crate) async fn evacuate(self: &Arc<Self>, from: &StorageServer) -> Result<bool, Failure> {
        let mover = self.mover()?;
        if self.environment.vouching.is_indebted(from) {
            return Ok(false);
        }
        let mut after = InodeId(0);
        let mut complete = true;
        loop {
            let inodes = mover.inodes(from, self.id, after).await?;
            let Some(last) = inodes.last() else { break };
            after = *last;
            let moves = inodes.into_iter();
            let moves = moves.map(|inode| self.evacuate_file(inode, from));
            let mut moves = stream::iter(moves).buffer_unordered(MOVES_MAX);
            while let Some(moved) = moves.next().await {
                complete &= moved?;
            }
        }
        let mut state = self.state.lock();
        if !complete || !state.moving.is_empty() {
            return Ok(false);
        }
        let alive = |server: &StorageServer| self.environment.takes_blocks(server);
        let successor = state
            .layouts
            .successor_of(from, alive)
            .ok_or_else(no_place)?;
        state.layouts.depart(from, &successor);
        Ok(true)
    }

    async fn evacuate_file(
        self: &Arc<Self>,
        inode: InodeId,
        from: &StorageServer,
    ) -> Result<bool, Failure> {
        let fate = self.state.lock().fate(inode);
        match fate {
            Fate::Gone => return Ok(true),
            Fate::NotToldYet => return Ok(false),
            Fate::Moves => {}
        }
        let mover = self.mover()?;
        let mut span = BlockSpan {
            inode,
            first: BlockIndex(0),
            count: u64::MAX,
        };
        loop {
            let held = mover.list(from, self.id, span).await?;
            for held_block in held.blocks {
                let (block, from) = (held_block.block, from.clone());
                self.move_block(Move { inode, block, from }).await?;
            }
            if held.told_to >= span.end() {
                return Ok(true);
            }
            span.first = held.told_to;
            span.count = u64::MAX - span.first.0;
        }
    }

    /// Moves a block, if it is there still. It is somewhere else when this returns without failure.
    pub(crate) async fn move_block(self: &Arc<Self>, wanted: Move) -> Result<(), Failure> {
        let key = (wanted.inode, wanted.block);
        loop {
            let mut unmarked = {
                let mut state = self.state.lock();
                if state.gone {
                    return Err(job_gone(self.id));
                }
                let Ok(inode) = state.namespace.inode(wanted.inode) else {
                    return Ok(());
                };
                let file = inode.file().ok_or(Status::Invalid)?;
                let now_on = state.layouts.server_of(wanted.inode, file, wanted.block);
                if now_on.is_none_or(|server| server.server != wanted.from.server) {
                    return Ok(());
                }
                if !state.truncating.contains_key(&wanted.inode) && state.moving.insert(key) {
                    break;
                }
                state.unmarked.subscribe()
            };
            // Late or not, it is looked at again.
            let _ = timeout(self.lease, unmarked.changed()).await;
        }
        // In a task of its own, so that it comes to its end whoever waits for it.
        let job = Arc::clone(self);
        let moved = self.environment.tasks.spawn(async move {
            let outcome = job.hand_over(&wanted).await;
            job.settle(&wanted, outcome)
        });
        moved.await.unwrap_or_else(|_| Err(Status::Internal.into()))
    }

    /// Notes where the block is now; it may be spoken of again.
    fn settle(
        self: &Arc<Self>,
        moved: &Move,
        outcome: Result<StorageServer, Failure>,
    ) -> Result<(), Failure> {
        let mut state = self.state.lock();
        state.moving.remove(&(moved.inode, moved.block));
        state.unmarked.send_modify(|times| *times += 1);
        let place = outcome?;
        let id = ServerId(place.server);
        match state.namespace.relocate(moved.inode, moved.block, id) {
            Ok(_) => Ok(()),
            Err(Status::Stale) => {
                // It was removed meanwhile, at the old place only.
                let reaper = &self.environment.reaper;
                reaper.condemn(self.id, moved.inode, vec![place]);
                Ok(())
            }
            Err(status) => Err(status.into()),
        }
    }

    /// Copies the block to another server and drops it at the old one.
    async fn hand_over(&self, wanted: &Move) -> Result<StorageServer, Failure> {
        let mover = self.mover()?;
        if self.environment.vouching.is_indebted(&wanted.from) {
            return Err(Status::Unavailable.into());
        }
        let (inode, block) = (wanted.inode, wanted.block);
        let address = self.state.lock().layouts.whole_block(inode, block);
        let mut avoided = wanted.from.server;
        let data = mover.read(&wanted.from, self.id, address).await?;
        let mut failure = no_place();
        for _ in 0..PLACES_MAX {
            let place = self
                .another_place(wanted, ServerId(avoided))
                .ok_or(failure)?;
            let Some(data) = data.clone() else {
                // A hole has nothing to be copied.
                return Ok(place);
            };
            match self.put(mover, &place, address, data).await {
                Ok(()) => {
                    self.drop_at(mover, &wanted.from, address).await?;
                    return Ok(place);
                }
                Err(another) => failure = another,
            }
            avoided = place.server;
        }
        Err(failure)
    }

    async fn put(
        &self,
        mover: &dyn BlockMover,
        place: &StorageServer,
        address: BlockAddress,
        data: Bytes,
    ) -> Result<(), Failure> {
        let length_bytes = u32::try_from(data.len()).map_err(|_| Status::Malformed)?;
        let address = BlockAddress {
            length_bytes,
            ..address
        };
        mover.put(place, self.id, address, data).await
    }

    /// Drops the old copy. Until that is certain nobody may be sent to the new one, so it is tried
    /// until it is done, or the server is dead and does it before anybody reads it again.
    async fn drop_at(
        &self,
        mover: &dyn BlockMover,
        from: &StorageServer,
        address: BlockAddress,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            match mover.drop_block(from, self.id, address).await {
                Ok(()) => return Ok(()),
                Err(_) if !self.environment.liveness.is_alive(from) => {
                    let debt = Debt::Block(self.id, address);
                    self.environment.vouching.owe(from, debt).await;
                    return Ok(());
                }
                Err(failure) if self.state.lock().gone => return Err(failure),
                Err(failure) => {
                    tracing::debug!(%failure, waited = ?begun.elapsed(), "a moved block is not dropped yet");
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    fn another_place(&self, wanted: &Move, failed: ServerId) -> Option<StorageServer> {
        let mut state = self.state.lock();
        let alive = |server: &StorageServer| {
            server.server != wanted.from.server && self.environment.takes_blocks(server)
        };
        let layouts = &mut state.layouts;
        layouts.choose_other(wanted.inode, wanted.block, failed, alive, Instant::now())
    }

    fn mover(&self) -> Result<&dyn BlockMover, Failure> {
        let mover = self.environment.blocks.mover();
        mover.ok_or_else(|| Failure::new(Status::Unsupported, "blocks cannot be moved here"))
    }
}

fn no_place() -> Failure {
    let what = "no other storage server of the job has room for a block that has to move";
    Failure::new(Status::NoSpace, what)
}
