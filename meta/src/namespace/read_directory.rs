//! Listing a directory.

use bytes::Bytes;
use pocket_proto::{InodeId, Status};

use super::Namespace;
use super::directory::COOKIE_PARENT;

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: Bytes,
    pub(crate) inode: InodeId,
    /// Lists on behind this entry.
    pub(crate) cookie: u64,
}

impl Listed {
    /// Whether it is "." or "..".
    pub(crate) fn is_dot(&self) -> bool {
        self.cookie <= COOKIE_PARENT
    }
}

impl Namespace {
    /// Up to `entries_max` entries behind `cookie` (0: from the start, "." and ".." first), and
    /// whether the last of them is the directory's last.
    pub(crate) fn read_directory(
        &self,
        id: InodeId,
        cookie: u64,
        entries_max: usize,
    ) -> Result<(Vec<Listed>, bool), Status> {
        let directory = self.directory(id)?;
        let dots = [(".", id), ("..", directory.parent())];
        let dots = dots.iter().zip(1..).map(|(&(name, inode), cookie)| Listed {
            name: Bytes::from_static(name.as_bytes()),
            inode,
            cookie,
        });
        let named = directory.behind(cookie.max(COOKIE_PARENT));
        let named = named.map(|(cookie, name, inode)| Listed {
            name: name.clone(),
            inode,
            cookie,
        });
        let mut rest = dots
            .filter(|dot| dot.cookie > cookie)
            .chain(named)
            .peekable();
        let listed = rest.by_ref().take(entries_max).collect();
        Ok((listed, rest.peek().is_none()))
    }
}
