//! How a server leaves: first it takes no new blocks, then it changes none, and in the end nobody
//! needs it.
//!
//! A server that is leaving does not vouch for what it lacks: a block may have been moved, so who
//! looks for it is sent to the metadata server. Stages only rise, but for one that is undone in
//! time. Changes under way are counted by the stage that permitted them, and the server says that it
//! has reached a stage when no earlier one has any left: nothing changes any more once it says that
//! it is sealed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use pocket_proto::{
    BlockAddress, BlockSpan, Failure, JobId, Status,
    control::{Leave, LeaveStage},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::engine::{BlockEngine, Change, Completion};

/// Where a server's leaving stands.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    state: RwLock<State>,
    /// Changes under way.
    changing: Changing,
    /// Cancelled when nobody needs the server any more.
    dismissed: CancellationToken,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// As the controller said it; none: the server stays.
    leave: Option<Leave>,
    since: Option<Instant>,
}

/// How many changes are under way, by the stage that permitted them. Raised under the lock of the
/// state only.
#[derive(Debug, Default)]
struct Changing {
    while_staying: AtomicUsize,
    while_closed: AtomicUsize,
}

impl Changing {
    fn of(&self, stage: LeaveStage) -> &AtomicUsize {
        match stage {
            LeaveStage::Stays => &self.while_staying,
            _ => &self.while_closed,
        }
    }

    /// The stage that a server told of `stage` has reached.
    fn reached(&self, stage: LeaveStage) -> LeaveStage {
        let waits_for = |earlier: &LeaveStage| {
            *earlier < stage && self.of(*earlier).load(Ordering::Acquire) > 0
        };
        let earlier = [LeaveStage::Stays, LeaveStage::Closed];
        earlier.into_iter().find(waits_for).unwrap_or(stage)
    }
}

/// Held while a block is changed, until that is answered.
pub(crate) struct Permit {
    leaving: Arc<Leaving>,
    stage: LeaveStage,
}

impl Permit {
    /// Holds it until the change has completed.
    pub(crate) fn through(self, change: Change) -> Change {
        match change {
            Completion::Now(outcome) => Completion::Now(outcome),
            Completion::Later(outcome) => Completion::later(async move {
                let outcome = outcome.await;
                drop(self);
                outcome
            }),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let changing = self.leaving.changing.of(self.stage);
        changing.fetch_sub(1, Ordering::Release);
    }
}

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
        let reached = self.changing.reached(state.stage());
        let leave = state.leave.clone();
        leave
            .filter(|_| reached > LeaveStage::Stays)
            .map(|leave| Leave {
                stage: reached.into(),
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
        self: &Arc<Self>,
        engine: &dyn BlockEngine,
        job: JobId,
        makes: Option<BlockAddress>,
    ) -> Result<Permit, Failure> {
        let state = self.state.read();
        let stage = state.stage();
        match stage {
            LeaveStage::Stays => {}
            LeaveStage::Closed => {
                if makes.is_some_and(|address| is_hole(engine, job, address)) {
                    let what = "this server is leaving: it takes no new blocks";
                    return Err(Failure::new(Status::ServerFull, what));
                }
            }
            LeaveStage::Sealed | LeaveStage::Gone => return Err(moved()),
        }
        self.changing.of(stage).fetch_add(1, Ordering::Relaxed);
        Ok(Permit {
            leaving: Arc::clone(self),
            stage,
        })
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

fn is_hole(engine: &dyn BlockEngine, job: JobId, address: BlockAddress) -> bool {
    let only = BlockSpan {
        inode: address.inode,
        first: address.block,
        count: 1,
    };
    engine.list(job, only).blocks.is_empty()
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
        assert!(matches!(written, Completion::Now(Ok(512))));
        engine
    }

    #[test]
    fn a_closed_server_changes_what_it_has_and_takes_nothing_new() {
        let (leaving, engine) = (Arc::new(Leaving::default()), engine_with_one_block());
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
        let (leaving, engine) = (Arc::new(Leaving::default()), engine_with_one_block());
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

    #[test]
    fn a_stage_is_reached_when_no_change_of_an_earlier_one_is_under_way() {
        let (leaving, engine) = (Arc::new(Leaving::default()), engine_with_one_block());
        let reached = || leaving.report().map(|leave| leave.stage());
        let begun = || {
            let permit = leaving.permit(&engine, JOB, Some(block(0)));
            permit.expect("the block is there")
        };
        let change = begun().through(Completion::later(std::future::pending()));
        leaving.follow(told(LeaveStage::Closed));
        assert_eq!(reached(), None);
        drop(begun().through(Completion::Now(Ok(0))));
        drop(change);
        assert_eq!(reached(), Some(LeaveStage::Closed));
        let change = begun().through(Completion::later(std::future::ready(Ok(0))));
        leaving.follow(told(LeaveStage::Sealed));
        assert_eq!(reached(), Some(LeaveStage::Closed));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let done = runtime.expect("a runtime").block_on(change.finished());
        assert!(done.is_ok());
        assert_eq!(reached(), Some(LeaveStage::Sealed));
    }
}
