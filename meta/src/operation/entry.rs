//! Inodes as they are handed to a mount, with the leases that go with them.

use std::time::Duration;

use pocket_proto::session::Entry;
use pocket_proto::{InodeId, Status};

use super::{Context, Step};
use crate::job::Touches;
use crate::leases::Grantee;

impl Context<'_> {
    /// An inode's entry, its attributes leased if they may be.
    pub(super) fn entry(&mut self, id: InodeId) -> Result<Entry, Status> {
        let inode = self.state.namespace.inode(id)?;
        // An inode without names may be gone at any moment.
        let valid = match (inode.link_count, inode.is_directory()) {
            (0, _) => Duration::ZERO,
            (_, is_directory) => self.lease_attributes(id, is_directory),
        };
        let inode = self.state.namespace.inode(id)?;
        let acls = inode.acls();
        Ok(Entry {
            attributes: Some(inode.attributes(id)),
            layout: inode.file().map(|file| self.state.layouts.layout(file)),
            attributes_valid_ms: milliseconds(valid),
            name_valid_ms: 0,
            exclusive: inode.is_directory() && self.state.leases.holds_directory(id, self.session),
            names: self.state.namespace.name_count(id),
            read_once: inode.is_read_once(),
            cuts: self.state.opens.cuts(id),
            acls: (!acls.is_empty()).then(|| Box::new(acls)),
        })
    }

    /// What was made ahead is leased as if it were answered now.
    pub(super) fn lease_made(&mut self, parent: InodeId, name: &[u8], id: InodeId) {
        self.lease_name(parent, name);
        self.lease_changed(id);
    }

    /// What was changed ahead is leased as if it were answered now.
    pub(super) fn lease_changed(&mut self, id: InodeId) {
        let inode = self.state.namespace.inode(id);
        let is_directory = inode.is_ok_and(|inode| inode.is_directory());
        self.lease_attributes(id, is_directory);
    }

    /// An entry and the name that led to it, both leased if they may be.
    pub(super) fn named_entry(
        &mut self,
        parent: InodeId,
        name: &[u8],
        id: InodeId,
    ) -> Result<Entry, Status> {
        let name_valid_ms = self.lease_name(parent, name);
        Ok(Entry {
            name_valid_ms,
            ..self.entry(id)?
        })
    }

    /// Leases a name, present or absent. Returns for how many milliseconds.
    pub(super) fn lease_name(&mut self, parent: InodeId, name: &[u8]) -> u32 {
        let Some(grantee) = self.grantee() else {
            return 0;
        };
        let leases = &mut self.state.leases;
        milliseconds(leases.grant_name(parent, name, grantee, self.now.tick))
    }

    /// A lease on the list of a directory's names, in milliseconds.
    pub(super) fn lease_listing(&mut self, directory: InodeId) -> u32 {
        let Some(grantee) = self.grantee() else {
            return 0;
        };
        let leases = &mut self.state.leases;
        milliseconds(leases.grant_listing(directory, grantee, self.now.tick))
    }

    /// Before names of a directory are read: has whoever has it to itself share it. `None`: nobody
    /// has.
    pub(super) fn share_directory(&mut self, directory: InodeId) -> Option<Step> {
        let touches = Touches {
            directories: &[directory],
            ..Touches::default()
        };
        self.recall(touches).map(Step::Recall)
    }

    /// Gives this session the directory for itself, if it made it just now or keeps changing it.
    pub(super) fn lease_directory(&mut self, directory: InodeId, is_new: bool) {
        let now = self.now.tick;
        let Some(session) = self.state.sessions.get_mut(&self.session) else {
            return;
        };
        // In one that was removed with all that is in it, nothing can be made ahead.
        let inode = self.state.namespace.inode(directory);
        if inode.is_ok_and(|inode| inode.link_count == 0) {
            return;
        }
        let leases = &mut self.state.leases;
        let answered = !self.one_way || self.ahead.is_some();
        if answered && leases.grant_directory(directory, is_new, self.session, now) {
            session.directories.insert(directory);
        }
    }

    /// A file that someone else writes changes at any moment: its attributes are not leased.
    fn lease_attributes(&mut self, id: InodeId, is_directory: bool) -> Duration {
        let Some(grantee) = self.grantee() else {
            return Duration::ZERO;
        };
        if self.state.opens.is_written_elsewhere(id, self.session) {
            return Duration::ZERO;
        }
        let leases = &mut self.state.leases;
        leases.grant_attributes(id, is_directory, grantee, self.now.tick)
    }

    /// Nobody is given a lease whose answer goes nowhere.
    fn grantee(&self) -> Option<Grantee> {
        if self.one_way && self.ahead.is_none() {
            return None;
        }
        Some(Grantee {
            regardless: self.ahead.is_some(),
            ..self.state.sessions.get(&self.session)?.grantee()
        })
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
