//! What goes by itself: files and empty directories that have outlived their time, files that were
//! read and closed. And what the server has to do to take names away that nobody named.

use std::collections::VecDeque;
use std::sync::Arc;

use pocket_proto::{InodeId, SessionId};
use tokio::task::yield_now;

use super::{Job, JobState};
use crate::limits::{EXPIRED_MAX, RECALL_ROUNDS_MAX, VICTIMS_AT_ONCE};
use crate::namespace::Inode;
use crate::now::Now;
use crate::operation::{Context, Progress, Victim};

/// Whose the server's own changes are: no session has this number.
const SERVER: SessionId = SessionId(0);

/// What is to go.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    /// Files that were closed after they had been read to the end.
    used_up: VecDeque<InodeId>,
    /// A task sees to it.
    busy: bool,
}

impl JobState {
    /// A file with names that nobody has open any more.
    pub(super) fn note_closed(&mut self, id: InodeId) {
        if self.is_used_up(id) {
            self.overdue.used_up.push_back(id);
        }
    }

    fn is_used_up(&self, id: InodeId) -> bool {
        let inode = self.namespace.inode(id).ok();
        let file = inode.and_then(Inode::file);
        file.is_some_and(|file| file.used_up) && !self.opens.is_open(id)
    }

    /// Whether it has outlived its time, and may go: nobody writes it, or puts anything into it.
    fn is_expired(&self, id: InodeId, now: Now) -> bool {
        let expired = self.namespace.expires(id).is_some_and(|at| at <= now.wall);
        expired && self.namespace.name_count(id) == 0 && !self.opens.is_written(id)
    }

    fn victims(&self, inodes: &[InodeId], fits: impl Fn(InodeId) -> bool) -> Vec<Victim> {
        let fitting = inodes.iter().copied().filter(|inode| fits(*inode));
        let victims = fitting.flat_map(|inode| {
            let names = self.namespace.names_of(inode).into_iter();
            names.map(move |(parent, name)| Victim {
                parent,
                name,
                inode,
            })
        });
        victims.collect()
    }
}

impl Job {
    /// Starts to remove what is to go by now, unless that is under way.
    pub(super) fn begin_overdue(self: &Arc<Self>, state: &mut JobState, now: Now) {
        if state.overdue.busy {
            return;
        }
        let expired = state.namespace.take_expired(now.wall, VICTIMS_AT_ONCE);
        if expired.is_empty() && state.overdue.used_up.is_empty() {
            return;
        }
        state.overdue.busy = true;
        let job = Arc::clone(self);
        let stop = self.environment.stop.clone();
        self.environment
            .tasks
            .spawn(stop.run_until_cancelled_owned(async move {
                job.remove_used_up().await;
                job.remove_expired(expired).await;
                job.state.lock().overdue.busy = false;
            }));
    }

    async fn remove_used_up(self: &Arc<Self>) {
        let mut left = Vec::new();
        loop {
            let inodes: Vec<_> = {
                let used_up = &mut self.state.lock().overdue.used_up;
                let count = used_up.len().min(VICTIMS_AT_ONCE);
                used_up.drain(..count).collect()
            };
            if inodes.is_empty() {
                break;
            }
            self.remove_names(|state, _| state.victims(&inodes, |inode| state.is_used_up(inode)))
                .await;
            left.extend(inodes);
            yield_now().await;
        }
        // Names that somebody kept changing are looked at another time.
        let mut state = self.state.lock();
        for inode in left {
            let named = |inode: &Inode| inode.link_count > 0;
            if state.namespace.inode(inode).is_ok_and(named) {
                state.note_closed(inode);
            }
        }
    }

    async fn remove_expired(self: &Arc<Self>, mut inodes: Vec<InodeId>) {
        for _ in 0..EXPIRED_MAX / VICTIMS_AT_ONCE {
            self.remove_names(|state, now| {
                state.victims(&inodes, |inode| state.is_expired(inode, now))
            })
            .await;
            {
                let mut state = self.state.lock();
                let now = Now::take();
                for inode in inodes {
                    state.namespace.look_again(inode, now.wall);
                }
                inodes = state.namespace.take_expired(now.wall, VICTIMS_AT_ONCE);
            }
            yield_now().await;
        }
        let mut state = self.state.lock();
        for inode in inodes {
            state.namespace.look_again(inode, Now::take().wall);
        }
    }

    /// Removes the names that `choose` says, asked anew whenever others had to be waited for.
    /// Returns how many are gone.
    pub(super) async fn remove_names(
        self: &Arc<Self>,
        choose: impl Fn(&JobState, Now) -> Vec<Victim> + Send,
    ) -> u64 {
        let mut progress = Progress::default();
        for _ in 0..RECALL_ROUNDS_MAX {
            let attempted = {
                let (mut state, now) = (self.state.lock(), Now::take());
                if state.gone {
                    return 0;
                }
                state.drop_due_orphans(self);
                let victims = choose(&state, now);
                self.as_server(&mut state, &mut progress, now)
                    .remove_victims(&victims)
            };
            match attempted {
                Ok(removed) => return removed,
                Err(awaited) => self.await_recalls(awaited).await,
            }
        }
        // Names that keep changing: another time.
        self.state.lock().release_marks(&mut progress.held);
        0
    }

    /// The surroundings of what the server does by itself.
    pub(super) fn as_server<'a>(
        &'a self,
        state: &'a mut JobState,
        progress: &'a mut Progress,
        now: Now,
    ) -> Context<'a> {
        Context {
            job: self,
            state,
            session: SERVER,
            one_way: true,
            ahead: None,
            progress,
            now,
        }
    }
}
