//! How a metadata server leaves: the controller gives it no new jobs, those it has come to their end,
//! and then nobody needs it.
//!
//! Closed, it takes what the controller still sends: the command may have been on its way. Sealed, it
//! refuses new jobs, so that when it says that it is sealed and has none, none comes any more.

use parking_lot::RwLock;
use pocket_proto::control::{Leave, LeaveStage};
use pocket_proto::{Failure, Status};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Where a server's leaving stands.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    /// As the controller last said it, and when; none: the server stays.
    told: RwLock<Option<(Leave, Instant)>>,
    /// Cancelled when nobody needs the server any more.
    dismissed: CancellationToken,
}

impl Leaving {
    /// Takes the controller's word. A server that is sealed was told so when it had no job, and is about
    /// to end; it stays if the controller was started anew and believes it closed.
    pub(crate) fn follow(&self, word: Option<Leave>) {
        let mut told = self.told.write();
        let before = stage_of(&told);
        let next = word.as_ref().map_or(LeaveStage::Stays, Leave::stage);
        if next > before {
            let leave = word.unwrap_or_default();
            info!(reason = leave.reason, stage = ?next, "leaving");
            *told = Some((leave, Instant::now()));
        } else if next == LeaveStage::Stays && before != LeaveStage::Gone && before != next {
            info!("staying after all");
            *told = None;
        }
        if next == LeaveStage::Gone {
            self.dismissed.cancel();
        }
    }

    /// How far it is, for the controller. To be asked before the list of jobs that goes with it.
    pub(crate) fn report(&self) -> Option<Leave> {
        let told = self.told.read();
        told.as_ref().map(|(leave, at)| Leave {
            since_seconds: leave.since_seconds.saturating_add(at.elapsed().as_secs()),
            ..leave.clone()
        })
    }

    /// Before a job is opened, under the lock of the table that it goes into.
    pub(crate) fn check_takes_jobs(&self) -> Result<(), Failure> {
        match stage_of(&self.told.read()) {
            LeaveStage::Stays | LeaveStage::Closed => Ok(()),
            LeaveStage::Sealed | LeaveStage::Gone => {
                let what = "this metadata server is leaving: it takes no jobs";
                Err(Failure::new(Status::Unavailable, what))
            }
        }
    }

    /// Waits until nobody needs this server any more.
    pub(crate) async fn dismissed(&self) {
        self.dismissed.cancelled().await;
    }
}

fn stage_of(told: &Option<(Leave, Instant)>) -> LeaveStage {
    let stage = told.as_ref().map(|(leave, _)| leave.stage());
    stage.unwrap_or(LeaveStage::Stays)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(stage: LeaveStage) -> Option<Leave> {
        Some(Leave {
            stage: stage.into(),
            ..Leave::default()
        })
    }

    #[test]
    fn a_closed_server_takes_what_is_sent_and_a_sealed_one_does_not() {
        let leaving = Leaving::default();
        let reached = || leaving.report().map(|leave| leave.stage());
        assert_eq!(
            (reached(), leaving.check_takes_jobs().is_ok()),
            (None, true)
        );
        leaving.follow(told(LeaveStage::Closed));
        assert_eq!(reached(), Some(LeaveStage::Closed));
        assert!(leaving.check_takes_jobs().is_ok());
        leaving.follow(None);
        assert_eq!(reached(), None, "it stays after all");
        leaving.follow(told(LeaveStage::Sealed));
        let refused = leaving.check_takes_jobs().err();
        assert_eq!(
            refused.map(|failure| failure.status),
            Some(Status::Unavailable)
        );
        leaving.follow(told(LeaveStage::Closed));
        assert_eq!(reached(), Some(LeaveStage::Sealed), "it has gone further");
        leaving.follow(None);
        assert_eq!(reached(), None, "a new controller took it for closed");
        assert!(leaving.check_takes_jobs().is_ok() && !leaving.dismissed.is_cancelled());
        for stage in [LeaveStage::Sealed, LeaveStage::Gone] {
            leaving.follow(told(stage));
        }
        assert!(leaving.dismissed.is_cancelled());
        leaving.follow(None);
        assert_eq!(reached(), Some(LeaveStage::Gone), "too late");
    }
}
