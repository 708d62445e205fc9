//! Flush and commit: what was written becomes visible to whoever opens next.

use std::sync::Arc;

use pocket_proto::Failure;
use pocket_proto::session::{Commit, reply, request};

use super::File;
use crate::filesystem::{FileSystem, unexpected};

impl FileSystem {
    /// Sends what is buffered, waits, and commits. Tells a failure of any earlier write-back,
    /// once.
    pub(crate) async fn flush_file(self: &Arc<Self>, file: &Arc<File>) -> Result<(), Failure> {
        if file.is_clean() {
            return Ok(());
        }
        self.write_back_all(file).await;
        let committed = self.commit_file(file).await;
        let failed = file.with(|state| {
            state.failed.take().inspect(|_| {
                // What could not be stored is not there: the size is what was.
                if state.dirty.is_empty() {
                    state.size = state.committed_size.max(state.stored_size);
                }
            })
        });
        failed.map_or(committed, Err)
    }

    /// Tells the metadata server the size and what was allocated.
    pub(crate) async fn commit_file(&self, file: &File) -> Result<(), Failure> {
        let _one = file.commit.lock().await;
        let commit = file.with(|state| {
            state.needs_commit().then(|| Commit {
                inode: file.inode.0,
                size_bytes: state.stored_size,
                allocated_bytes: state.allocated_delta,
                modified: state.modified.take(),
                clear_set_id: false,
            })
        });
        if let Some(commit) = commit {
            self.send_commit(file, commit).await?;
        }
        let unused = file.with(|state| state.settle());
        self.space.give_back(unused);
        Ok(())
    }

    async fn send_commit(&self, file: &File, commit: Commit) -> Result<(), Failure> {
        self.inodes.forget(file.inode);
        let answer = self.call(request::Operation::Commit(commit)).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => {
                // Still to be told, with the next commit.
                file.with(|state| {
                    if state.modified.is_none() {
                        state.modified = commit.modified;
                    }
                });
                return Err(failure);
            }
        };
        file.with(|state| {
            state.committed_size = state.committed_size.max(commit.size_bytes);
            state.allocated_delta -= commit.allocated_bytes;
            state.reserved_bytes -= commit.allocated_bytes;
        });
        let entry = answer.map(|result| match result {
            reply::Result::Entry(entry) => Ok(entry),
            _ => Err(unexpected()),
        })?;
        if let Some(layout) = &entry.value.layout {
            file.with(|state| state.adopt_layout(layout));
        }
        self.hand_over_entry(&entry, |_, _| ());
        Ok(())
    }
}
