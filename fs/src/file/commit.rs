//! Flush and commit: what was written becomes visible to whoever opens next.

use std::sync::Arc;

use bytes::Bytes;
use pocket_proto::session::{Attributes, Commit, Entry, request};
use pocket_proto::{Failure, InodeId};

use super::contents::Version;
use super::{File, State};
use crate::Leased;
use crate::filesystem::FileSystem;

impl FileSystem {
    /// Sends what is buffered, waits, and commits. A write-back that fails is noted for the
    /// handles ([`File::tell_failure`]); the failure answered here is the commit's own.
    pub(crate) async fn flush_file(self: &Arc<Self>, file: &Arc<File>) -> Result<(), Failure> {
        if file.is_clean() {
            return Ok(());
        }
        self.write_back_all(file).await;
        self.commit_file(file).await
    }

    /// Tells the metadata server the size and what was allocated.
    pub(crate) async fn commit_file(&self, file: &File) -> Result<(), Failure> {
        let _one = file.commit.lock().await;
        let (commit, era) = file.with(|state| {
            let size = state.stored_size.min(state.growth_limit(file.block_bytes));
            let commit = state.needs_commit().then(|| Commit {
                inode: file.inode.0,
                // Another mount may have cut the file since: only growth is told, and what was
                // written after the cut, if there was one.
                size_bytes: match size > state.committed_size {
                    true => size,
                    false => std::mem::take(&mut state.through_end),
                },
                allocated_bytes: state.allocated_delta,
                modified: state.modified.take(),
                allocated_behind: std::mem::take(&mut state.allocated_behind),
                ..Commit::default()
            });
            (commit, state.era)
        });
        if let Some(commit) = commit {
            self.send_commit(file, commit, era).await?;
        }
        let unused = file.with(|state| state.settle());
        self.space.give_back(unused);
        Ok(())
    }

    async fn send_commit(&self, file: &File, commit: Commit, era: u64) -> Result<(), Failure> {
        let answer = match self.commit_ahead(file.inode, &commit) {
            Some(done) => {
                file.with(|state| state.told = true);
                Ok(done)
            }
            None => {
                self.inodes.forget(file.inode);
                self.call_entry(request::Operation::Commit(commit)).await
            }
        };
        let attributes = answer
            .as_ref()
            .ok()
            .and_then(|entry| entry.value.attributes);
        if answer
            .as_ref()
            .is_ok_and(|it| it.value.attributes_valid_ms == 0)
        {
            // Nothing is kept of it.
            self.inodes.forget(file.inode);
        }
        let now = self.inodes.tick();
        let mut content = None;
        file.with(|state| {
            state.changed = Some(now);
            if state.era != era {
                return;
            }
            match &answer {
                Ok(_) => {
                    state.changed_time = attributes.and_then(|attributes| attributes.changed);
                    content = state.content.take().zip(attributes);
                    if commit.size_bytes >= state.through_end {
                        state.through_end = 0;
                    }
                    state.committed_size = state.committed_size.max(commit.size_bytes);
                    state.stored_size = state.stored_size.max(state.committed_size);
                    state.allocated_delta -= commit.allocated_bytes;
                    state.reservation.taken_bytes -= commit.allocated_bytes;
                    state.give_up_lost_growth(file.block_bytes);
                }
                // Still to be told, with the next commit.
                Err(_) => {
                    state.allocated_behind |= commit.allocated_behind;
                    state.modified = state.modified.or(commit.modified);
                    state.through_end = state.through_end.max(commit.size_bytes);
                }
            }
        });
        if let Ok(entry) = &answer {
            self.hand_over_entry(entry, |_, _| ());
        }
        // An open may have been asked for after it and answered before it.
        self.inodes.changed(file.inode);
        answer?;
        if let Some((content, attributes)) = content {
            self.keep_content(file, content, &attributes);
        }
        Ok(())
    }

    fn keep_content(&self, file: &File, content: Bytes, attributes: &Attributes) {
        if let Some(changed) = attributes.changed {
            let size = attributes.size_bytes;
            self.contents
                .put(file.inode, Version { size, changed }, content);
        }
    }

    /// Commits to a file that nobody but this mount knows: the server is told, not asked.
    fn commit_ahead(&self, inode: InodeId, commit: &Commit) -> Option<Leased<Entry>> {
        self.coherence.stamped(|stamp, session| {
            let time = super::now();
            let operation = || {
                request::Operation::Commit(Commit {
                    ahead: Some(FileSystem::ahead_at(time)),
                    ..*commit
                })
            };
            let change = |entry: &mut Entry| {
                let Some(attributes) = &mut entry.attributes else {
                    return;
                };
                attributes.size_bytes = attributes.size_bytes.max(commit.size_bytes);
                attributes.allocated_bytes = attributes
                    .allocated_bytes
                    .saturating_add_signed(commit.allocated_bytes);
                attributes.allocated_behind |= commit.allocated_behind;
                if let Some(modified) = commit.modified {
                    attributes.modified = Some(modified);
                    attributes.changed = Some(time);
                }
            };
            let (entry, since) = self.change_owned(inode, operation, change)?;
            Some(self.answered_here(entry, since, (stamp, session)))
        })
    }
}

impl State {
    /// How far the file may grow: data behind growth that could not be stored stay out of sight,
    /// or there would be zeros before them.
    fn growth_limit(&self, block_bytes: u32) -> u64 {
        let block_bytes = u64::from(block_bytes);
        let first = self.committed_size / block_bytes;
        let lost = self.lost.range(first..).next();
        lost.map_or(u64::MAX, |block| {
            (block * block_bytes).max(self.committed_size)
        })
    }

    /// After a commit: growth that was lost is no longer part of the file.
    fn give_up_lost_growth(&mut self, block_bytes: u32) {
        if self.growth_limit(block_bytes) == u64::MAX {
            return;
        }
        let first = self.committed_size.div_ceil(u64::from(block_bytes));
        self.lost.split_off(&first);
        self.stored_size = self.committed_size;
        if self.dirty.is_empty() {
            self.size = self.committed_size;
        }
    }
}
