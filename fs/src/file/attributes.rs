//! What the server knows of an open file and what this mount knows, brought together.

use pocket_proto::Failure;
use pocket_proto::session::{Attributes, Entry, Layout, Time};

use super::{File, Sharing, State};
use crate::FileSystem;
use crate::inode_cache::Tick;

/// Set-user-id and set-group-id.
const SET_ID_BITS: u32 = 0o6000;

impl File {
    /// Lets attributes from the server show what is only in this mount's memory. True if they
    /// differ from what a commit will make of them, so that they must not be cached.
    pub(crate) fn overlay(&self, attributes: &mut Attributes) -> bool {
        let state = self.state.lock();
        let coming = !state.dirty.is_empty() || state.needs_commit();
        if coming {
            attributes.size_bytes = state.size_by(attributes);
        }
        if let Some(modified) = state.modified {
            attributes.modified = Some(modified);
            attributes.changed = Some(later(attributes.changed, modified));
        }
        coming
    }

    /// The server has answered, to a request that went out at `since`, with attributes that may be
    /// newer than those at open.
    pub(crate) fn refresh(&self, entry: &Entry, since: Tick) {
        let Some(attributes) = &entry.attributes else {
            return;
        };
        let mut state = self.state.lock();
        state.mode = attributes.mode;
        state.read_once = entry.read_once;
        state.changed_time = attributes.changed;
        let size = attributes.size_bytes;
        let overtaken = state.changed.is_some_and(|changed| changed > since);
        let own_data = !state.dirty.is_empty() || state.stored_size > state.committed_size;
        if overtaken || own_data {
            // It may not know of what this mount did: it can only have more.
            state.size = state.size.max(size);
            state.committed_size = state.committed_size.max(size);
            state.stored_size = state.stored_size.max(size);
        } else {
            state.size = size;
            state.committed_size = size;
            state.stored_size = size;
            state.reservation.dense = is_dense(attributes);
        }
        if !overtaken && let Some(layout) = &entry.layout {
            state.adopt_layout(layout);
        }
    }

    /// The size by an answer of the server to what was asked just now.
    pub(crate) fn size_by(&self, entry: &Entry) -> u64 {
        let attributes = entry.attributes.as_ref();
        attributes.map_or(0, |attributes| self.state.lock().size_by(attributes))
    }

    /// The modification time is being set: what was buffered before does not change it any more.
    pub(crate) fn forget_modified(&self) {
        self.state.lock().modified = None;
    }

    /// Whether a write by someone without the right to keep them clears set-id bits.
    pub(crate) fn has_set_id(&self) -> bool {
        self.state.lock().mode & SET_ID_BITS != 0
    }

    /// Another mount changed the attributes: the mode is not known any more, so a write asks.
    pub(crate) fn forget_mode(&self) {
        self.state.lock().mode |= SET_ID_BITS;
    }
}

impl FileSystem {
    /// The size of an open file at this moment. Where it goes through, others may have moved its end.
    pub(crate) async fn size_now(&self, file: &File) -> Result<u64, Failure> {
        if file.with(|state| state.sharing == Sharing::Cached) {
            return Ok(file.with(|state| state.size));
        }
        let entry = self.fetch_attributes(file.inode).await?;
        file.refresh(&entry.value, entry.since);
        Ok(file.size_by(&entry.value))
    }
}

impl State {
    /// The size by what the server says: with what is buffered here. Where the file goes through and
    /// nothing is, the server knows of every write that has returned, and of cuts by others, which what
    /// this mount wrote before says nothing of.
    fn size_by(&self, attributes: &Attributes) -> u64 {
        match self.sharing == Sharing::Through && self.dirty.is_empty() {
            true => attributes.size_bytes,
            false => attributes.size_bytes.max(self.size),
        }
    }

    /// Takes a layout over. Exceptions are only ever added.
    pub(super) fn adopt_layout(&mut self, layout: &Layout) {
        if layout.block_bytes == self.layout.block_bytes
            && layout.exceptions.len() >= self.layout.exceptions.len()
            && (layout.epoch, layout.edition) >= (self.layout.epoch, self.layout.edition)
        {
            self.layout = layout.clone();
        }
    }
}

/// Whether everything below the size has its space on the servers.
pub(super) fn is_dense(attributes: &Attributes) -> bool {
    attributes.allocated_bytes >= attributes.size_bytes && !attributes.allocated_behind
}

fn later(time: Option<Time>, other: Time) -> Time {
    let key = |time: Time| (time.seconds, time.nanoseconds);
    time.filter(|time| key(*time) >= key(other))
        .unwrap_or(other)
}
