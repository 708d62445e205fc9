//! How a server leaves: first it takes no new blocks, then it changes none, and in the end nobody
//! needs it.
//!
//! A server that is leaving does not vouch for what it lacks: a block may have been moved, so who
//! looks for it is sent to the metadata server. Stages only rise, but for one that is undone in
//! time. The lock is held for reading during every change of a block, so that nothing changes any
//! more once the server says that it is sealed.

use std::time::{Duration, Instant};

use parking_lot::{RwLock, RwLockReadGuard};
use pocket_proto::{
    BlockAddress, Failure, JobId, Status,
    control::{Leave, LeaveStage},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::engine::BlockEngine;

/// Where a server's leaving stands.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    state: RwLock<State>,
    /// Cancelled when nobody needs the server any more.
    dismissed: CancellationToken,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// As the controller said it; none: the server stays.
    leave: Option<Leave>,
    since: Option<Instant>,
}

/// Held while a block is changed.
pub(crate) struct Permit<'a>(#[expect(dead_code)] RwLockReadGuard<'a, State>);

impl Leaving {
    /// Takes the controller's word.
    pub(crate) fn follow(&self, told: Option<Leave>) {
        let mut state = self.state.write();
        let (now, next) = (state.stage(), stage_of(told.as_ref()));
        match (now, next) {
            (LeaveStage::Closed, LeaveStage::Stays) => {
                info!("staying after all");
                *state = State::default();
            }
            _ if next > now => {
                let told = told.unwrap_or_default();
                info!(reason = told.reason, stage = ?next, "leaving");
                let begun = Duration::from_secs(told.since_seconds);
                let begun = Instant::now().checked_sub(begun);
                state.since = state.since.or(begun).or_else(|| Some(Instant::now()));
                state.leave = Some(told);
            }
            _ => {}
        }
        if next == LeaveStage::Gone {
            self.dismissed.cancel();
        }
    }

    /// How far it is, for the controller.
    pub(crate) fn report(&self) -> Option<Leave> {
        let state = self.state.read();
        let since = state.since.map_or(0, |since| since.elapsed().as_secs());
        state.leave.clone().map(|leave| Leave {
            since_seconds: since,
            ..leave
        })
    }

    /// Waits until nobody needs this server any more.
    pub(crate) async fn dismissed(&self) {
        self.dismissed.cancelled().await;
    }

    /// Before a change of a block. `makes`: the block that is made if it is not there.
    pub(crate) fn permit(
        &self,
        engine: &impl BlockEngine,
        job: JobId,
        makes: Option<BlockAddress>,
    ) -> Result<Permit<'_>, Failure> {
        let state = self.state.read();
        match state.stage() {
            LeaveStage::Stays => Ok(Permit(state)),
            LeaveStage::Closed => {
                let is_new = makes.map(|address| is_hole(engine, job, address));
                match is_new.transpose()? {
                    Some(true) => {
                        let what = "this server is leaving: it takes no new blocks";
                        Err(Failure::new(Status::ServerFull, what))
                    }
                    _ => Ok(Permit(state)),
                }
            }
            LeaveStage::Sealed | LeaveStage::Gone => Err(moved()),
        }
    }

    /// Whether a block that is not here is a hole.
    pub(crate) fn vouches_for_holes(&self) -> bool {
        self.state.read().stage() == LeaveStage::Stays
    }

    /// Whether a list of blocks tells where data are.
    pub(crate) fn vouches_for_lists(&self) -> bool {
        self.state.read().stage() < LeaveStage::Sealed
    }
}

impl State {
    fn stage(&self) -> LeaveStage {
        stage_of(self.leave.as_ref())
    }
}

/// The answer to those who should ask the metadata server.
pub(crate) fn moved() -> Failure {
    let what = "this server is leaving: the block may be elsewhere by now";
    Failure::new(Status::Moved, what)
}

fn stage_of(leave: Option<&Leave>) -> LeaveStage {
    leave.map_or(LeaveStage::Stays, Leave::stage)
}

fn is_hole(engine: &impl BlockEngine, job: JobId, address: BlockAddress) -> Result<bool, Failure> {
    let nothing = BlockAddress {
        offset_bytes: 0,
        length_bytes: 0,
        ..address
    };
    Ok(engine.read(job, nothing)?.hole)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pocket_proto::{BlockIndex, ByteCount, InodeId};

    use super::*;
    use crate::engine::DramEngine;

    const JOB: JobId = JobId(1);

    fn told(stage: LeaveStage) -> Option<Leave> {
        Some(Leave {
            stage: stage.into(),
            ..Leave::default()
        })
    }

    fn block(index: u64) -> BlockAddress {
        BlockAddress {
            inode: InodeId(2),
            block: BlockIndex(index),
            offset_bytes: 0,
            length_bytes: 4,
        }
    }

    fn engine_with_one_block() -> DramEngine {
        let engine = DramEngine::new(ByteCount(1 << 20));
        let written = engine.write(
            JOB,
            InodeId(2),
            BlockIndex(0),
            0,
            Bytes::from_static(b"data"),
        );
        written.expect("there is room");
        engine
    }

    #[test]
    fn a_closed_server_changes_what_it_has_and_takes_nothing_new() {
        let (leaving, engine) = (Leaving::default(), engine_with_one_block());
        leaving.follow(told(LeaveStage::Closed));
        assert!(leaving.permit(&engine, JOB, Some(block(0))).is_ok());
        let refused = leaving.permit(&engine, JOB, Some(block(1))).err();
        assert_eq!(
            refused.map(|failure| failure.status),
            Some(Status::ServerFull)
        );
        assert!(leaving.permit(&engine, JOB, None).is_ok());
        assert!(!leaving.vouches_for_holes());
        leaving.follow(None);
        assert!(leaving.permit(&engine, JOB, Some(block(1))).is_ok());
        assert_eq!(leaving.report(), None);
    }

    #[test]
    fn a_sealed_server_changes_nothing_and_stays_so() {
        let (leaving, engine) = (Leaving::default(), engine_with_one_block());
        leaving.follow(told(LeaveStage::Sealed));
        leaving.follow(None);
        for makes in [None, Some(block(0)), Some(block(1))] {
            let refused = leaving.permit(&engine, JOB, makes).err();
            assert_eq!(refused.map(|failure| failure.status), Some(Status::Moved));
        }
        assert!(!leaving.vouches_for_lists());
        assert!(!leaving.dismissed.is_cancelled());
        leaving.follow(told(LeaveStage::Gone));
        assert!(leaving.dismissed.is_cancelled());
    }
}
