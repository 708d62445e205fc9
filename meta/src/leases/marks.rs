//! Objects whose leases are being recalled, counted: two mutations may recall one object at once.

use std::collections::HashMap;

use bytes::Bytes;
use pocket_proto::InodeId;

/// Something that can be leased.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Object {
    Attributes(InodeId),
    Name(InodeId, Bytes),
    /// All names of a directory, from the session that has it to itself.
    Directory(InodeId),
    /// Where a file ends, and so its blocks.
    Length(InodeId),
}

/// How many recalls of each object are under way.
#[derive(Debug, Default)]
pub(super) struct Marks {
    objects: HashMap<Object, u32>,
    /// Marks on names and on all names, by directory.
    directories: HashMap<InodeId, u32>,
}

impl Marks {
    pub(super) fn add(&mut self, object: &Object) {
        *self.objects.entry(object.clone()).or_default() += 1;
        if let Some(directory) = object.directory() {
            *self.directories.entry(directory).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, object: &Object) {
        count_down(&mut self.objects, object);
        if let Some(directory) = object.directory() {
            count_down(&mut self.directories, &directory);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.directories.is_empty()
    }

    pub(super) fn has_attributes(&self, inode: InodeId) -> bool {
        !self.objects.is_empty() && self.objects.contains_key(&Object::Attributes(inode))
    }

    pub(super) fn has_length(&self, inode: InodeId) -> bool {
        !self.objects.is_empty() && self.objects.contains_key(&Object::Length(inode))
    }

    pub(super) fn has_name(&self, directory: InodeId, name: &[u8]) -> bool {
        self.has_any_name(directory)
            && self
                .objects
                .contains_key(&Object::Name(directory, Bytes::copy_from_slice(name)))
    }

    /// Whether any name of the directory is marked, or all are.
    pub(super) fn has_any_name(&self, directory: InodeId) -> bool {
        !self.directories.is_empty() && self.directories.contains_key(&directory)
    }
}

impl Object {
    fn directory(&self) -> Option<InodeId> {
        match self {
            Object::Attributes(_) | Object::Length(_) => None,
            Object::Name(directory, _) | Object::Directory(directory) => Some(*directory),
        }
    }
}

fn count_down<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
