//! Extended attributes.

use std::collections::BTreeMap;

use bytes::Bytes;
use pocket_proto::{InodeId, Status};

use super::{Namespace, check_lifetime};
use crate::limits::{NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX, XATTRS_BYTES_MAX};
use crate::now::Timestamp;

/// An inode's extended attributes.
#[derive(Debug, Default)]
pub(crate) struct Xattrs(BTreeMap<Bytes, Bytes>);

/// What setting an extended attribute expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum XattrMode {
    /// Anything.
    Set,
    /// No attribute of the name (XATTR_CREATE).
    Create,
    /// One (XATTR_REPLACE).
    Replace,
    /// Both at once, which is never so: what is found decides which error it is.
    CreateAndReplace,
}

/// What a program's file may do beyond its user (capabilities(7)): a change of the data takes it away.
const CAPABILITY: &[u8] = b"security.capability";

impl Xattrs {
    /// Bytes of names and values, and of the NULs in a list of names.
    fn bytes(&self) -> usize {
        let all = self.0.iter();
        all.map(|(name, value)| name.len() + 1 + value.len()).sum()
    }

    /// Checks that there is room for an attribute in the place of what has its name.
    pub(super) fn check_room(&self, name: &[u8], value: &[u8]) -> Result<(), Status> {
        let size = |value: &[u8]| name.len() + 1 + value.len();
        let freed = self.0.get(name).map_or(0, |value| size(value));
        let after = self.bytes() - freed + size(value);
        if value.len() > XATTR_VALUE_BYTES_MAX {
            return Err(Status::OutOfRange);
        }
        if after > XATTRS_BYTES_MAX {
            return Err(Status::NoSpace);
        }
        Ok(())
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Bytes> {
        self.0.get(name)
    }

    pub(super) fn insert(&mut self, name: &'static [u8], value: Bytes) {
        self.0.insert(Bytes::from_static(name), value);
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        self.0.remove(name);
    }

    /// The file's data have changed.
    pub(super) fn drop_capability(&mut self) {
        self.0.remove(CAPABILITY);
    }
}

impl Namespace {
    /// The value of an extended attribute.
    pub(crate) fn xattr(&self, id: InodeId, name: &[u8]) -> Result<Bytes, Status> {
        let value = self.inode(id)?.xattrs.0.get(name);
        value.cloned().ok_or(Status::NoAttribute)
    }

    /// The names of an inode's extended attributes, each ended by NUL.
    pub(crate) fn list_xattrs(&self, id: InodeId) -> Result<Bytes, Status> {
        let mut list = Vec::new();
        for name in self.inode(id)?.xattrs.0.keys() {
            list.extend_from_slice(name);
            list.push(0);
        }
        Ok(list.into())
    }

    /// Checks that an extended attribute can be set.
    pub(crate) fn plan_set_xattr(
        &self,
        id: InodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), Status> {
        let xattrs = &self.inode(id)?.xattrs;
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(&0) {
            return Err(Status::OutOfRange);
        }
        check_lifetime(name, value)?;
        let before = xattrs.0.get(name);
        match (mode, before) {
            (XattrMode::Create | XattrMode::CreateAndReplace, Some(_)) => {
                return Err(Status::Exists);
            }
            (XattrMode::Replace | XattrMode::CreateAndReplace, None) => {
                return Err(Status::NoAttribute);
            }
            _ => {}
        }
        xattrs.check_room(name, value)
    }

    /// Sets an extended attribute.
    pub(crate) fn set_xattr(&mut self, id: InodeId, name: &[u8], value: &[u8], now: Timestamp) {
        let (name, value) = (Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
        let inode = self.planned(id);
        inode.xattrs.0.insert(name, value);
        inode.changed = now;
        self.await_expiry(id);
    }

    /// Removes an extended attribute that is there.
    pub(crate) fn remove_xattr(&mut self, id: InodeId, name: &[u8], now: Timestamp) {
        let inode = self.planned(id);
        inode.xattrs.0.remove(name);
        inode.changed = now;
        self.await_expiry(id);
    }
}
