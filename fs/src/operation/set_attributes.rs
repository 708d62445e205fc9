//! chmod, chown, utimensat, truncate.

use std::sync::Arc;

use pocket_proto::InodeId;
use pocket_proto::session::{Entry, SetAttributes, Time, request};

use crate::file::FILE_BYTES_MAX;
use crate::{Errno, FileSystem, Leased};

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o0010;

/// How a time is to be changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TimeChange {
    /// To the server's clock.
    Now,
    /// To this time.
    To(Time),
}

/// What to change; absent stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributesRequest {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size_bytes: Option<u64>,
    /// Access time.
    pub accessed: Option<TimeChange>,
    /// Modification time.
    pub modified: Option<TimeChange>,
    /// The caller may not keep set-id bits over a change of size.
    pub clear_set_id: bool,
}

impl FileSystem {
    /// Changes attributes; answers them as they are then.
    ///
    /// A change of size drops or zeroes what lies beyond before it answers. EFBIG for a size no
    /// file can have.
    pub async fn set_attributes(
        self: &Arc<Self>,
        inode: InodeId,
        change: SetAttributesRequest,
    ) -> Result<Leased<Entry>, Errno> {
        self.refuse_if_read_only()?;
        self.refuse_to_change(inode)?;
        if change.size_bytes.is_some_and(|size| size > FILE_BYTES_MAX) {
            return Err(Errno(libc::EFBIG));
        }
        let gate = change.size_bytes.map(|_| self.files.gate(inode));
        let _cutting = match &gate {
            Some(gate) => Some(gate.write().await),
            None => None,
        };
        let open = self.files.get(inode);
        let _alone = match (&open, change.size_bytes) {
            (Some(file), Some(_)) => {
                let alone = file.length.write().await;
                // Buffered data go first: the servers cut what they have.
                self.flush_file(file).await?;
                Some(alone)
            }
            _ => None,
        };
        if let (Some(file), true) = (&open, change.modified.is_some()) {
            // A later flush must not replace the time that is set here.
            file.forget_modified();
        }
        if change.size_bytes.is_none()
            && let Some(done) = self.set_attributes_ahead(inode, &change)
        {
            if let Some(file) = &open {
                file.refresh(&done.value, done.since);
            }
            return Ok(self.shown(done).await?);
        }
        self.inodes.forget(inode);
        let request = self.request(inode, &change);
        let answer = self
            .call_entry(request::Operation::SetAttributes(request))
            .await;
        let answer = answer.inspect_err(|_| self.inodes.forget(inode))?;
        if let Some(file) = &open {
            file.refresh(&answer.value, answer.since);
            if let Some(size) = change.size_bytes {
                let now = self.inodes.tick();
                file.with(|state| state.resized(size, now));
                self.drop_kept(file);
            }
        }
        Ok(self.shown(answer).await?)
    }

    /// Changes attributes other than the size of a file that nobody but this mount knows.
    fn set_attributes_ahead(
        &self,
        inode: InodeId,
        change: &SetAttributesRequest,
    ) -> Option<Leased<Entry>> {
        self.coherence.stamped(|stamp, session| {
            let time = crate::file::now();
            let operation = || {
                request::Operation::SetAttributes(SetAttributes {
                    ahead: Some(FileSystem::ahead_at(time)),
                    ..self.request(inode, change)
                })
            };
            let apply = |entry: &mut Entry| change.apply(entry, time);
            let (entry, since) = self.change_owned(inode, operation, apply)?;
            Some(self.answered_here(entry, since, (stamp, session)))
        })
    }

    fn request(&self, inode: InodeId, change: &SetAttributesRequest) -> SetAttributes {
        let to = |time: Option<TimeChange>| match time {
            Some(TimeChange::To(time)) => Some(time),
            _ => None,
        };
        SetAttributes {
            inode: inode.0,
            mode: change.mode,
            uid: change.uid,
            gid: change.gid,
            size_bytes: change.size_bytes,
            accessed: to(change.accessed),
            modified: to(change.modified),
            accessed_now: change.accessed == Some(TimeChange::Now),
            modified_now: change.modified == Some(TimeChange::Now),
            clear_set_id: change.clear_set_id,
            changed: None,
            ahead: None,
        }
    }
}

impl SetAttributesRequest {
    /// What the server makes of a file that is no directory, at `now`.
    fn apply(&self, entry: &mut Entry, now: Time) {
        let nothing = self.mode.is_none()
            && self.uid.is_none()
            && self.gid.is_none()
            && self.accessed.is_none()
            && self.modified.is_none()
            && !self.clear_set_id;
        let Some(attributes) = entry.attributes.as_mut().filter(|_| !nothing) else {
            return;
        };
        attributes.uid = self.uid.unwrap_or(attributes.uid);
        attributes.gid = self.gid.unwrap_or(attributes.gid);
        if let Some(mode) = self.mode {
            attributes.mode = mode & 0o7777;
            if let Some(acls) = &mut entry.acls {
                acls.set_mode(mode);
            }
        } else if self.clear_set_id || self.uid.is_some() || self.gid.is_some() {
            attributes.mode &= !SET_USER_ID;
            if attributes.mode & GROUP_EXECUTE != 0 {
                attributes.mode &= !SET_GROUP_ID;
            }
        }
        let time = |change: Option<TimeChange>| match change? {
            TimeChange::Now => Some(now),
            TimeChange::To(time) => Some(time),
        };
        attributes.accessed = time(self.accessed).or(attributes.accessed);
        attributes.modified = time(self.modified).or(attributes.modified);
        attributes.changed = Some(now);
    }
}
