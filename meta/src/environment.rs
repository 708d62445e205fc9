//! What the jobs of a server share.

use std::sync::Arc;

use pocket_proto::control::{Leave, LeaveStage};
use pocket_proto::session::StorageServer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::blocks::BlockRemover;
use crate::layouts::Liveness;
use crate::leaving::Leaving;
use crate::metrics::Counts;
use crate::reaper::Reaper;
use crate::vouching::Vouching;

/// The ways out of a job: to storage servers, and to tasks of its own.
pub(crate) struct Environment {
    pub(crate) blocks: Arc<dyn BlockRemover>,
    pub(crate) liveness: Arc<Liveness>,
    pub(crate) reaper: Arc<Reaper>,
    pub(crate) vouching: Arc<Vouching>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) leaving: Leaving,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Environment {
    /// Tasks end when `stop` is cancelled.
    pub(crate) fn new(blocks: Arc<dyn BlockRemover>, stop: CancellationToken) -> Arc<Self> {
        let liveness = Arc::new(Liveness::default());
        let tasks = TaskTracker::new();
        let vouching = Vouching::new(Arc::clone(&blocks), tasks.clone(), stop.clone());
        let vouching = Arc::new(vouching);
        let reaper = Reaper::new(
            Arc::clone(&blocks),
            Arc::clone(&liveness),
            Arc::clone(&vouching),
            tasks.clone(),
            stop.clone(),
        );
        Arc::new(Environment {
            blocks,
            liveness,
            reaper: Arc::new(reaper),
            vouching,
            counts: Arc::default(),
            leaving: Leaving::default(),
            tasks,
            stop,
        })
    }

    /// Whether a block may be put on the server: it lives, and is to drop nothing first.
    pub(crate) fn takes_blocks(&self, server: &StorageServer) -> bool {
        self.liveness.is_alive(server) && !self.vouching.is_indebted(server)
    }

    /// How far this server's leaving is. It is sealed only when no living server holds blocks of a job
    /// that has ended, of which nobody else would tell it.
    pub(crate) fn leave(&self) -> Option<Leave> {
        let leave = self.leaving.report()?;
        let indebted = || {
            self.vouching
                .are_any_indebted(|server| self.liveness.is_alive(server))
        };
        match leave.stage() {
            LeaveStage::Sealed if indebted() => Some(Leave {
                stage: LeaveStage::Closed.into(),
                ..leave
            }),
            _ => Some(leave),
        }
    }

    /// Waits until all tasks have ended, after the stop token was cancelled.
    pub(crate) async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
