//! A directory's entries: found by name, listed in an order that never changes.
//!
//! Every entry has a cookie, given once, so that a listing goes on behind the entry where it stopped
//! whatever was added or removed meanwhile. Cookies fall: the newest name comes first, and whoever
//! lists a directory never meets what was added since, or would go on for ever while renaming what
//! was listed.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use bytes::Bytes;
use pocket_proto::InodeId;

/// Cookie of the entry "..", which follows "." (1).
pub(crate) const COOKIE_PARENT: u64 = 2;
/// Cookie of the first name. Programs keep cookies as offsets of files, with a sign that is never set:
/// some in 32 bits.
const COOKIE_FIRST: u64 = i32::MAX as u64;
/// After the two thousand million names that have such cookies: of 64 bits, with room above to count on.
const COOKIE_FIRST_LARGE: u64 = 1 << 62;

/// One name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dentry {
    /// What it leads to.
    pub(super) inode: InodeId,
    cookie: u64,
}

/// The names in a directory.
#[derive(Debug)]
pub(crate) struct Directory {
    parent: InodeId,
    entries: HashMap<Bytes, Dentry>,
    order: BTreeMap<u64, Bytes>,
    next_cookie: u64,
}

impl Directory {
    pub(super) fn new(parent: InodeId) -> Self {
        Directory {
            parent,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            next_cookie: COOKIE_FIRST,
        }
    }

    /// The directory that holds this one; the root is its own.
    pub(super) fn parent(&self) -> InodeId {
        self.parent
    }

    pub(super) fn set_parent(&mut self, parent: InodeId) {
        self.parent = parent;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<InodeId> {
        self.entries.get(name).map(|dentry| dentry.inode)
    }

    /// Adds a name that is not there, before all others. Copies it: `name` may be a piece of a
    /// large buffer. Returns its cookie.
    pub(super) fn insert(&mut self, name: &[u8], inode: InodeId) -> u64 {
        let name = Bytes::copy_from_slice(name);
        let cookie = self.next_cookie;
        self.next_cookie = match cookie - 1 {
            COOKIE_PARENT => COOKIE_FIRST_LARGE,
            next => next,
        };
        self.order.insert(cookie, name.clone());
        let before = self.entries.insert(name, Dentry { inode, cookie });
        debug_assert!(before.is_none(), "inserted over a name");
        cookie
    }

    /// Lets a name that is there lead elsewhere; it keeps its place in the order. Returns its cookie.
    pub(super) fn replace(&mut self, name: &[u8], inode: InodeId) -> u64 {
        let dentry = self.entries.get_mut(name);
        let dentry = dentry.expect("replaces a name that is there");
        dentry.inode = inode;
        dentry.cookie
    }

    /// Removes a name that is there. Returns its cookie.
    pub(super) fn remove(&mut self, name: &[u8]) -> u64 {
        let dentry = self.entries.remove(name);
        let cookie = dentry.expect("removes a name that is there").cookie;
        self.order.remove(&cookie);
        cookie
    }

    /// The name with a cookie.
    pub(super) fn name_at(&self, cookie: u64) -> Option<&Bytes> {
        self.order.get(&cookie)
    }

    /// Entries behind `cookie`, in order.
    pub(super) fn behind(&self, cookie: u64) -> impl Iterator<Item = (u64, &Bytes, InodeId)> {
        self.order
            .range((Bound::Excluded(cookie), Bound::Unbounded))
            .map(|(&cookie, name)| {
                let inode = self.get(name).expect("ordered names are entries");
                (cookie, name, inode)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_fit_32_bits_while_they_last_and_are_told_apart_ever_after() {
        let mut directory = Directory::new(InodeId::ROOT);
        let first = directory.insert(b"first", InodeId(7));
        assert_eq!(i32::try_from(first), Ok(i32::MAX));
        directory.next_cookie = COOKIE_PARENT + 1;
        let last = directory.insert(b"last that fits", InodeId(8));
        let large = directory.insert(b"large", InodeId(9));
        let newest = directory.insert(b"newest", InodeId(10));
        assert!(COOKIE_PARENT < last && last < first && first < newest && newest < large);
        let listed = directory
            .behind(COOKIE_PARENT)
            .map(|(_, name, _)| &name[..]);
        let expected: [&[u8]; 4] = [b"last that fits", b"first", b"newest", b"large"];
        assert_eq!(listed.collect::<Vec<_>>(), expected);
    }
}
