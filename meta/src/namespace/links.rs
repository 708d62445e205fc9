//! Where the names of an inode are: for the server, which knows the inode and is to take its names
//! away, and has no path to look up.

use bytes::Bytes;
use pocket_proto::InodeId;

use super::Namespace;

/// Places of an inode's names, in no order. Nearly every inode has one.
#[derive(Debug, Default)]
pub(super) enum Links {
    #[default]
    None,
    One(Link),
    Many(Vec<Link>),
}

/// A name's place: its directory, and its cookie there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) directory: InodeId,
    pub(super) cookie: u64,
}

impl Links {
    pub(super) fn add(&mut self, link: Link) {
        match self {
            Links::None => *self = Links::One(link),
            Links::One(first) => *self = Links::Many(vec![*first, link]),
            Links::Many(links) => links.push(link),
        }
    }

    pub(super) fn remove(&mut self, link: Link) {
        match self {
            Links::One(only) if *only == link => *self = Links::None,
            Links::Many(links) => {
                links.retain(|other| *other != link);
                if let [only] = links[..] {
                    *self = Links::One(only);
                }
            }
            _ => debug_assert!(false, "a name that goes has been given"),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    fn all(&self) -> &[Link] {
        match self {
            Links::None => &[],
            Links::One(link) => std::slice::from_ref(link),
            Links::Many(links) => links,
        }
    }
}

impl Namespace {
    /// Every name of an inode: its directory, and how it is called there.
    pub(crate) fn names_of(&self, id: InodeId) -> Vec<(InodeId, Bytes)> {
        let Ok(inode) = self.inode(id) else {
            return Vec::new();
        };
        let named = |link: &Link| {
            let name = self.directory(link.directory).ok()?.name_at(link.cookie)?;
            Some((link.directory, name.clone()))
        };
        inode.links.all().iter().filter_map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_given_and_not_taken_back_is_there() {
        let at = |cookie| Link {
            directory: InodeId::ROOT,
            cookie,
        };
        let mut links = Links::default();
        for cookie in 3..6 {
            links.add(at(cookie));
        }
        links.remove(at(4));
        assert_eq!(links.all(), [at(3), at(5)]);
        links.remove(at(3));
        assert_eq!(links.all(), [at(5)]);
        links.remove(at(5));
        assert_eq!(links.all(), []);
    }
}
