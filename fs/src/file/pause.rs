//! Changes of a file's blocks that go straight to servers, and the pause that they make while
//! another mount cuts the file.
//!
//! A cut drops blocks wherever they come from, so no change may be on its way meanwhile. The
//! metadata server asks for the pause with a recall; when it is acknowledged, all that was begun is
//! committed. What comes next asks for leave, which is given once nobody cuts the file.

use pocket_proto::Failure;
use pocket_proto::session::{ReserveAppend, reply, request};

use super::File;
use super::write_back::wait;
use crate::filesystem::{FileSystem, unexpected};

/// Which changes are under way, and whether others may begin.
#[derive(Debug, Default)]
pub(super) struct Changes {
    under_way: u32,
    /// The session's newest recall that asked for a pause, unless leave was given since. Not counted
    /// as answers are stamped: one that waited for the cut is newer than its stamp says.
    paused_by: Option<u64>,
}

/// A change under way.
pub(crate) struct Changing<'a>(&'a File);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.with(|state| state.changes.under_way -= 1);
        self.0.progress.notify_waiters();
    }
}

impl Changes {
    /// The session is lost: in the next one the file is open without a pause.
    pub(super) fn forget_pause(&mut self) {
        self.paused_by = None;
    }
}

impl File {
    /// No change begins until leave is given that is newer than the session's recall of that
    /// number; 0: until any is given.
    pub(crate) fn pause(&self, session: u64, recall: u64) {
        self.with(|state| {
            // Other sessions number theirs anew.
            if state.session == session {
                let changes = &mut state.changes;
                changes.paused_by = changes.paused_by.max(Some(recall));
            }
        });
    }

    /// Waits until no change is under way.
    pub(crate) async fn changed(&self) {
        wait(self, |state| state.changes.under_way == 0).await;
    }

    /// Begins a change; `leave` was given after so many recalls of the session. None: the file is paused.
    fn begin(&self, leave: Option<u64>) -> Option<Changing<'_>> {
        self.with(|state| {
            let changes = &mut state.changes;
            if changes.paused_by > leave {
                return None;
            }
            changes.paused_by = None;
            changes.under_way += 1;
            Some(Changing(self))
        })
    }
}

impl FileSystem {
    /// Begins a change of a file's blocks, when nobody cuts it. What is under way must not begin
    /// another: a cut would wait for it, and it for the cut.
    pub(crate) async fn begin_change<'a>(&self, file: &'a File) -> Result<Changing<'a>, Failure> {
        if let Some(changing) = file.begin(None) {
            return Ok(changing);
        }
        let (changing, _) = self.begin_append(file, 0).await?;
        Ok(changing)
    }

    /// Begins an append of so many bytes; answers where they go.
    pub(crate) async fn begin_append<'a>(
        &self,
        file: &'a File,
        length: u32,
    ) -> Result<(Changing<'a>, u64), Failure> {
        loop {
            let reserve = ReserveAppend {
                inode: file.inode.0,
                length_bytes: u64::from(length),
            };
            let answer = self
                .call(request::Operation::ReserveAppend(reserve))
                .await?;
            let reply::Result::ReserveAppend(reserved) = answer.value else {
                return Err(unexpected());
            };
            // What was reserved before a cut went with it.
            if !reserved.ask_again
                && let Some(changing) = file.begin(Some(reserved.recalls))
            {
                return Ok((changing, reserved.offset_bytes));
            }
        }
    }
}
