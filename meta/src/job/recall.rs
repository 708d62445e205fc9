//! Taking leases back before a conflicting change.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pocket_proto::session::{Recall, recall::Name};
use pocket_proto::{Failure, InodeId, SessionId, Status};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Job, JobState};
use crate::leases::{Holder, Leases, Object};
use crate::operation::Context;
use crate::session::PendingRecall;

/// What a mutation changes, and others may have cached.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Touches<'a> {
    pub(crate) names: &'a [(InodeId, &'a [u8])],
    pub(crate) attributes: &'a [InodeId],
    /// Directories that are read, or change as a whole: nobody may be changing names in them ahead
    /// of the server.
    pub(crate) directories: &'a [InodeId],
    /// A file that becomes shared: those who cache its data have to go through.
    pub(crate) through: Option<InodeId>,
    /// A file that is to be cut: nobody else may be changing its blocks.
    pub(crate) cut: Option<InodeId>,
}

/// A recall that was sent and has to be acknowledged.
#[derive(Debug)]
pub(crate) struct Awaited {
    acknowledged: oneshot::Receiver<()>,
    /// When the leases lapse by themselves, or patience ends.
    until: Instant,
    /// There is more than leases that lapse: a session that holds on to it is ended.
    insists: bool,
}

/// The recall for one session, as it is put together.
struct Draft {
    session: SessionId,
    recall: Recall,
    until: Instant,
    insists: bool,
}

impl Draft {
    /// Asks for all names of a directory where names would be asked for one after the other.
    fn widen(&mut self, leases: &mut Leases) {
        let recall = &mut self.recall;
        for name in &recall.names {
            let wide = leases.note_name_recall(InodeId(name.parent), self.session);
            if wide && !recall.all_names.contains(&name.parent) {
                recall.all_names.push(name.parent);
            }
        }
        let wide = &recall.all_names;
        recall.names.retain(|name| !wide.contains(&name.parent));
    }
}

impl Context<'_> {
    /// Sends the recalls that `touches` need, marks the objects, and returns what to wait for.
    /// `None`: nobody is in the way (any more); the marks are gone, and the caller goes on at once.
    pub(crate) fn recall(&mut self, touches: Touches<'_>) -> Option<Vec<Awaited>> {
        let drafts = self.draft(touches);
        if self.ahead.is_some() {
            self.send_unawaited(drafts);
            return None;
        }
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
        for &directory in touches.directories {
            self.hold(Object::Directory(directory));
        }
        if let Some(inode) = touches.cut {
            self.hold(Object::Length(inode));
        }
        let awaited = drafts.into_iter().filter_map(|mut draft| {
            draft.widen(&mut self.state.leases);
            let session = self.state.sessions.get_mut(&draft.session)?;
            self.job.environment.counts.recalls.add(1);
            Some(Awaited {
                acknowledged: session.recall(draft.recall, self.now.tick),
                until: draft.until,
                insists: draft.insists,
            })
        });
        Some(awaited.collect())
    }

    /// Before names are looked at to be changed: has whoever has their directories to itself, or one
    /// of `victims`, share them. What it told of on the way there is done then. `None`: nobody has.
    pub(crate) fn share_before_change(
        &mut self,
        names: &[(InodeId, &[u8])],
        victims: &[InodeId],
    ) -> Option<Vec<Awaited>> {
        let mut directories = names.iter().map(|(parent, _)| parent).chain(victims);
        let is_shared = directories.all(|directory| self.exclusive_elsewhere(*directory).is_none());
        if is_shared || self.ahead.is_some() {
            return None;
        }
        self.recall(Touches {
            names,
            directories: victims,
            ..Touches::default()
        })
    }

    /// Has others drop what is out of date already.
    fn send_unawaited(&mut self, drafts: Vec<Draft>) {
        for draft in drafts {
            if let Some(session) = self.state.sessions.get_mut(&draft.session) {
                self.job.environment.counts.recalls.add(1);
                drop(session.recall(draft.recall, self.now.tick));
            }
        }
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
        let parents = touches.names.iter().map(|(parent, _)| parent);
        for &directory in touches.directories.iter().chain(parents) {
            if let Some(holder) = self.exclusive_elsewhere(directory)
                && let Some(recall) = self.recall_for(&mut drafts, holder)
                && !recall.directories.contains(&directory.0)
            {
                recall.directories.push(directory.0);
            }
        }
        for &(parent, name) in touches.names {
            if self.holds_name(parent, name) {
                continue;
            }
            let holders = state.leases.name_holders(parent, name, self.session, now);
            // Who has all names may have told its kernel of this one.
            for holder in holders.chain(self.exclusive_elsewhere(parent)) {
                if let Some(recall) = self.recall_for(&mut drafts, holder) {
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
                if let Some(recall) = self.recall_for(&mut drafts, holder) {
                    recall.attributes.push(inode.0);
                }
            }
        }
        if let Some(inode) = touches.through {
            for session in state.opens.cached_elsewhere(inode, self.session) {
                if let Some(recall) = self.recall_for(&mut drafts, Holder::for_good(session)) {
                    recall.through.push(inode.0);
                }
            }
        }
        if let Some(inode) = touches.cut {
            for session in state.opens.changing_elsewhere(inode, self.session) {
                if let Some(recall) = self.recall_for(&mut drafts, Holder::for_good(session)) {
                    recall.paused.push(inode.0);
                }
            }
        }
        drafts
    }

    /// Whether someone else is cutting the file.
    pub(crate) fn is_cut_elsewhere(&self, inode: InodeId) -> bool {
        let own = || self.progress.held.contains(&Object::Length(inode));
        self.state.leases.is_cut(inode) && !own()
    }

    /// The session, if it is another one, that has the directory to itself.
    fn exclusive_elsewhere(&self, directory: InodeId) -> Option<Holder> {
        let holder = self.state.leases.directory_holder(directory)?;
        (holder != self.session).then(|| Holder::for_good(holder))
    }

    /// The recall to be sent to a holder; `None` if its session has ended.
    fn recall_for<'a>(&self, drafts: &'a mut Vec<Draft>, holder: Holder) -> Option<&'a mut Recall> {
        self.state.sessions.get(&holder.session)?;
        let patience = self.now.tick + self.job.lease;
        let known = drafts
            .iter()
            .position(|draft| draft.session == holder.session);
        let at = known.unwrap_or_else(|| {
            drafts.push(Draft {
                session: holder.session,
                recall: Recall::default(),
                until: self.now.tick,
                insists: false,
            });
            drafts.len() - 1
        });
        let draft = &mut drafts[at];
        draft.until = draft.until.max(holder.expires.min(patience));
        draft.insists |= holder.expires > patience;
        Some(&mut draft.recall)
    }

    fn holds_name(&self, parent: InodeId, name: &[u8]) -> bool {
        let mut held = self.progress.held.iter();
        held.any(|object| matches!(object, Object::Name(p, n) if *p == parent && n == name))
    }
}

impl JobState {
    pub(super) fn release_marks(&mut self, held: &mut Vec<Object>) {
        if held.is_empty() {
            return;
        }
        for object in held.drain(..) {
            self.leases.unmark(&object);
        }
        self.unmarked.send_modify(|times| *times += 1);
    }

    /// A session has done what a recall asked. Answers when that was sent, if it is not known yet
    /// that it was done.
    pub(crate) fn acknowledge(
        &mut self,
        id: SessionId,
        number: u64,
        lease: Duration,
    ) -> Option<Instant> {
        let PendingRecall {
            recall,
            sent,
            waiter,
        } = self.sessions.get_mut(&id)?.acknowledge(number)?;
        for inode in recall.attributes {
            self.leases.attributes_dropped(InodeId(inode), id, number);
        }
        for inode in recall.through {
            self.opens.went_through(InodeId(inode), id, number);
        }
        for inode in recall.paused {
            self.opens.pause(InodeId(inode), id, number);
        }
        for name in recall.names {
            self.leases
                .listing_dropped(InodeId(name.parent), id, number);
        }
        for directory in recall.all_names {
            self.leases.names_dropped(InodeId(directory), id, number);
        }
        for directory in recall.directories {
            self.share_directory(InodeId(directory), id, lease);
        }
        // Nobody waits if the leases lapsed first.
        let _ = waiter.send(());
        Some(sent)
    }

    /// A session has the directory to itself no more. What it told its kernel of names, present
    /// and absent, is cached for no longer than the lease.
    pub(crate) fn share_directory(&mut self, directory: InodeId, id: SessionId, lease: Duration) {
        let now = Instant::now();
        self.leases.end_directory(directory, id, now, now + lease);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.directories.remove(&directory);
        }
    }
}

impl Job {
    /// Waits until all recalls are acknowledged, or need not be any more: because the leases
    /// lapsed, or because the session ended: one that does not answer for the lease time is ended by
    /// [`JobState::fence_overdue_sessions`], which knows for how long this server heard nobody.
    pub(super) async fn await_recalls(self: &Arc<Self>, awaited: Vec<Awaited>) {
        for mut recall in awaited {
            // A waiter dropped without a word means that the session has ended.
            let answered = timeout_at(recall.until, &mut recall.acknowledged).await;
            if answered.is_ok() {
                continue;
            }
            self.environment.counts.overdue.add(1);
            if !recall.insists {
                continue;
            }
            // This ends when it is fenced, or with the job.
            let _ = recall.acknowledged.await;
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
