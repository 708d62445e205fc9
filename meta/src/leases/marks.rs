//! Objects whose leases are being recalled, counted: two mutations may recall one object at once.

use std::collections::HashMap;

use bytes::Bytes;
use pocket_proto::InodeId;

/// Something that can be leased.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Object {
    Attributes(InodeId),
    Name(InodeId, Bytes),
}

/// How many recalls of each object are under way.
#[derive(Debug, Default)]
pub(super) struct Marks(HashMap<Object, u32>);

impl Marks {
    pub(super) fn add(&mut self, object: &Object) {
        *self.0.entry(object.clone()).or_default() += 1;
    }

    pub(super) fn remove(&mut self, object: &Object) {
        if let Some(count) = self.0.get_mut(object) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(object);
            }
        }
    }

    pub(super) fn has_attributes(&self, inode: InodeId) -> bool {
        !self.0.is_empty() && self.0.contains_key(&Object::Attributes(inode))
    }

    pub(super) fn has_name(&self, directory: InodeId, name: &[u8]) -> bool {
        !self.0.is_empty()
            && self
                .0
                .contains_key(&Object::Name(directory, Bytes::copy_from_slice(name)))
    }
}
