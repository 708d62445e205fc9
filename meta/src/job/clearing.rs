//! Freeing what was in a directory that is gone: a walk in slices, each as long as it holds nobody up.
//!
//! The walk goes down before it goes on, and sees to every directory that nothing is put into it any
//! more before it empties it, so it comes to an end whatever programs do that still stand in there.
//! Files that are open live on; everyone is told of each name that goes.

use std::collections::VecDeque;
use std::sync::Arc;

use pocket_proto::InodeId;
use pocket_proto::session::Removal;
use tokio::task::yield_now;

use super::{Job, JobState};
use crate::job::Touches;
use crate::limits::{RECALL_ROUNDS_MAX, REMOVALS_KEPT, VICTIMS_AT_ONCE};
use crate::now::Now;
use crate::operation::{Progress, Victim};

/// Removals of whole directories, those done lately included.
#[derive(Debug, Default)]
pub(crate) struct Clearings {
    /// In the order of their numbers.
    removals: VecDeque<Removal>,
    /// Directories whose names are gone, each with its removal.
    waiting: VecDeque<(InodeId, u64)>,
    begun: u64,
    /// A task sees to it.
    busy: bool,
}

/// What is next in a directory.
enum Next {
    /// These directories, before the one they are in.
    Down(Vec<InodeId>),
    /// These names.
    Here,
    /// There is nothing in it.
    Up,
}

impl Clearings {
    /// A directory has lost its name with all that is in it.
    pub(crate) fn begin(&mut self, tree: InodeId) -> Removal {
        self.begun += 1;
        let removal = Removal {
            removal: self.begun,
            // Its own name.
            removed: 1,
            done: false,
        };
        if self.removals.len() >= REMOVALS_KEPT && self.removals.front().is_some_and(|one| one.done)
        {
            self.removals.pop_front();
        }
        self.removals.push_back(removal);
        self.waiting.push_back((tree, self.begun));
        removal
    }

    /// How far a removal has come, if that is known (any more).
    pub(crate) fn find(&self, number: u64) -> Option<Removal> {
        let mut removals = self.removals.iter();
        removals.find(|one| one.removal == number).copied()
    }

    fn note(&mut self, number: u64, change: impl FnOnce(&mut Removal)) {
        let mut removals = self.removals.iter_mut();
        if let Some(removal) = removals.find(|one| one.removal == number) {
            change(removal);
        }
    }
}

impl JobState {
    /// What is next in a directory of a tree that goes. Nothing is put into it from now on.
    fn next_in(&mut self, directory: InodeId) -> Next {
        self.namespace.close_directory(directory);
        let names = self.namespace.first_names(directory, VICTIMS_AT_ONCE);
        if names.is_empty() {
            return Next::Up;
        }
        let is_full = |inode: &InodeId| self.namespace.name_count(*inode) > 0;
        let below: Vec<_> = names.iter().map(|(_, inode)| *inode).collect();
        let below: Vec<_> = below.into_iter().filter(is_full).collect();
        match below.is_empty() {
            true => Next::Here,
            false => Next::Down(below),
        }
    }
}

impl Job {
    /// Starts to free what directories held whose names are gone, unless that is under way.
    pub(crate) fn begin_clearing(self: &Arc<Self>, state: &mut JobState) {
        if state.clearings.busy || state.clearings.waiting.is_empty() {
            return;
        }
        state.clearings.busy = true;
        let job = Arc::clone(self);
        let stop = self.environment.stop.clone();
        self.environment
            .tasks
            .spawn(stop.run_until_cancelled_owned(async move { job.clear_all().await }));
    }

    async fn clear_all(self: &Arc<Self>) {
        loop {
            let next = {
                let clearings = &mut self.state.lock().clearings;
                let next = clearings.waiting.pop_front();
                clearings.busy = next.is_some();
                next
            };
            let Some((tree, number)) = next else { return };
            self.clear(tree, number).await;
            let mut state = self.state.lock();
            state.drop_if_unused(tree);
            state.clearings.note(number, |removal| removal.done = true);
        }
    }

    /// Removes everything in a directory.
    async fn clear(self: &Arc<Self>, tree: InodeId, number: u64) {
        let mut under_way = vec![tree];
        while let Some(&directory) = under_way.last() {
            match self.look_into(directory).await {
                Next::Down(below) => under_way.extend(below),
                Next::Up => {
                    under_way.pop();
                }
                Next::Here => {
                    let choose = |state: &JobState, _: Now| {
                        let names = state.namespace.first_names(directory, VICTIMS_AT_ONCE);
                        let victims = names.into_iter().map(|(name, inode)| Victim {
                            parent: directory,
                            name,
                            inode,
                        });
                        victims.collect()
                    };
                    let removed = self.remove_names(choose).await;
                    let mut state = self.state.lock();
                    let note = |removal: &mut Removal| removal.removed += removed;
                    state.clearings.note(number, note);
                }
            }
            yield_now().await;
        }
    }

    /// What is next in a directory. Whoever has it to itself is to share it first, and is heard on
    /// what it did there before.
    async fn look_into(self: &Arc<Self>, directory: InodeId) -> Next {
        let mut progress = Progress::default();
        for _ in 0..RECALL_ROUNDS_MAX {
            let awaited = {
                let (mut state, now) = (self.state.lock(), Now::take());
                if state.gone {
                    return Next::Up;
                }
                let touches = Touches {
                    directories: &[directory],
                    ..Touches::default()
                };
                let recalled = self
                    .as_server(&mut state, &mut progress, now)
                    .recall(touches);
                match recalled {
                    Some(awaited) => awaited,
                    None => return state.next_in(directory),
                }
            };
            self.await_recalls(awaited).await;
        }
        self.state.lock().release_marks(&mut progress.held);
        // Somebody keeps taking it for itself: what is in it stays until the job ends.
        Next::Up
    }
}
