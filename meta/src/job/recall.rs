//! Taking leases back before a conflicting change.

use bytes::Bytes;
use pocket_proto::session::{Recall, recall::Name};
use pocket_proto::{Failure, InodeId, SessionId, Status};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::info;

use super::{Job, JobState};
use crate::leases::{Holder, Object};
use crate::now::Now;
use crate::operation::Context;

/// What a mutation changes, and others may have cached.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Touches<'a> {
    pub(crate) names: &'a [(InodeId, &'a [u8])],
    pub(crate) attributes: &'a [InodeId],
    /// A file that becomes shared: those who cache its data have to go through.
    pub(crate) through: Option<InodeId>,
}

/// A recall that was sent and has to be acknowledged.
#[derive(Debug)]
pub(crate) struct Awaited {
    session: SessionId,
    acknowledged: oneshot::Receiver<()>,
    /// When the leases lapse by themselves.
    until: Instant,
    /// Dirty data do not lapse: the session is ended instead.
    through: bool,
}

/// The recall for one session, as it is put together.
struct Draft {
    session: SessionId,
    recall: Recall,
    until: Instant,
}

impl Context<'_> {
    /// Sends the recalls that `touches` need, marks the objects, and returns what to wait for.
    /// `None`: nobody is in the way (any more); the marks are gone, and the caller goes on at once.
    pub(crate) fn recall(&mut self, touches: Touches<'_>) -> Option<Vec<Awaited>> {
        let drafts = self.draft(touches);
        if drafts.is_empty() {
            self.release_marks();
            return None;
        }
        for &(parent, name) in touches.names {
            self.hold(Object::Name(parent, Bytes::copy_from_slice(name)));
        }
        for &inode in touches.attributes {
            self.hold(Object::Attributes(inode));
        }
        let awaited = drafts.into_iter().filter_map(|draft| {
            let through = !draft.recall.through.is_empty();
            let session = self.state.sessions.get_mut(&draft.session)?;
            Some(Awaited {
                session: draft.session,
                acknowledged: session.recall(draft.recall, self.now.tick),
                until: draft.until,
                through,
            })
        });
        Some(awaited.collect())
    }

    /// Marks an object for as long as this mutation waits.
    pub(crate) fn hold(&mut self, object: Object) {
        if !self.progress.held.contains(&object) {
            self.state.leases.mark(&object);
            self.progress.held.push(object);
        }
    }

    /// Takes the marks back.
    pub(crate) fn release_marks(&mut self) {
        self.state.release_marks(&mut self.progress.held);
    }

    /// Who has to be asked what. Objects held since an earlier round are not asked for again: the
    /// answers have come, and nobody was given a lease since.
    fn draft(&self, touches: Touches<'_>) -> Vec<Draft> {
        let (state, now) = (&*self.state, self.now.tick);
        let mut drafts = Vec::new();
        for &(parent, name) in touches.names {
            if self.holds_name(parent, name) {
                continue;
            }
            for holder in state.leases.name_holders(parent, name, self.session, now) {
                if let Some(recall) = state.recall_for(&mut drafts, holder) {
                    recall.names.push(Name {
                        parent: parent.0,
                        name: Bytes::copy_from_slice(name),
                    });
                }
            }
        }
        for &inode in touches.attributes {
            if self.progress.held.contains(&Object::Attributes(inode)) {
                continue;
            }
            for holder in state.leases.attribute_holders(inode, self.session, now) {
                if let Some(recall) = state.recall_for(&mut drafts, holder) {
                    recall.attributes.push(inode.0);
                }
            }
        }
        if let Some(inode) = touches.through {
            for session in state.opens.cached_elsewhere(inode, self.session) {
                let expires = now + self.job.lease;
                let holder = Holder { session, expires };
                if let Some(recall) = state.recall_for(&mut drafts, holder) {
                    recall.through.push(inode.0);
                }
            }
        }
        drafts
    }

    fn holds_name(&self, parent: InodeId, name: &[u8]) -> bool {
        let mut held = self.progress.held.iter();
        held.any(|object| matches!(object, Object::Name(p, n) if *p == parent && n == name))
    }
}

impl JobState {
    /// The recall to be sent to a holder; `None` if its session has ended.
    fn recall_for<'a>(&self, drafts: &'a mut Vec<Draft>, holder: Holder) -> Option<&'a mut Recall> {
        self.sessions.get(&holder.session)?;
        let known = drafts
            .iter()
            .position(|draft| draft.session == holder.session);
        let at = known.unwrap_or_else(|| {
            drafts.push(Draft {
                session: holder.session,
                recall: Recall::default(),
                until: holder.expires,
            });
            drafts.len() - 1
        });
        let draft = &mut drafts[at];
        draft.until = draft.until.max(holder.expires);
        Some(&mut draft.recall)
    }

    pub(super) fn release_marks(&mut self, held: &mut Vec<Object>) {
        if held.is_empty() {
            return;
        }
        for object in held.drain(..) {
            self.leases.unmark(&object);
        }
        self.unmarked.send_modify(|times| *times += 1);
    }

    /// A session has done what a recall asked.
    pub(crate) fn acknowledge(&mut self, id: SessionId, number: u64) {
        let session = self.sessions.get_mut(&id);
        let Some((recall, waiter)) = session.and_then(|session| session.acknowledge(number)) else {
            return;
        };
        for inode in recall.attributes {
            self.leases.attributes_dropped(InodeId(inode), id, number);
        }
        for inode in recall.through {
            use pocket_proto::session::OpenMode;
            self.opens.set_mode(InodeId(inode), id, OpenMode::Through);
        }
        // Nobody waits if the leases lapsed first.
        let _ = waiter.send(());
    }
}

impl Job {
    /// Waits until all recalls are acknowledged, or need not be any more: because the leases
    /// lapsed, or because the session ended. A session that holds data back for the lease time is
    /// ended here.
    pub(super) async fn await_recalls(&self, awaited: Vec<Awaited>) {
        for recall in awaited {
            // A waiter dropped without a word means that the session has ended.
            if timeout_at(recall.until, recall.acknowledged).await.is_ok() || !recall.through {
                continue;
            }
            let mut state = self.state.lock();
            info!(job = %self.id, session = %recall.session,
                "session ended: it did not write back in time");
            state.end_session(recall.session, Now::take());
        }
    }

    /// What a mutation that keeps finding new leases in its way comes to.
    pub(super) fn gave_up() -> Failure {
        Failure::new(
            Status::Again,
            "the names kept changing while others were asked to forget them",
        )
    }
}
