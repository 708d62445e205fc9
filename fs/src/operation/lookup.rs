//! lookup: a name to its inode.

use std::sync::Arc;

use pocket_proto::InodeId;
use pocket_proto::session::{Entry, Lookup, ReadDirectory, ReadDirectoryReply, reply, request};
use tokio::runtime::Handle;

use crate::exclusive::{Glance, Known, NAME_BYTES_MAX};
use crate::filesystem::unexpected;
use crate::name_cache::{ReadName, WantedPage};
use crate::{Errno, FileSystem, Leased, start};

/// Names read ahead at once.
const NAMES_PER_PAGE: u32 = 256;
/// Names asked for at once where all are wanted, without attributes.
const ALL_NAMES_PER_PAGE: u32 = 1024;

impl FileSystem {
    /// The entry of `name` in `parent`. An absent name is answered as an entry without
    /// attributes, whose name lease says for how long it may be remembered as absent.
    pub async fn lookup(
        self: &Arc<Self>,
        parent: InodeId,
        name: &[u8],
    ) -> Result<Leased<Entry>, Errno> {
        match name {
            b"." => return self.find(parent).await,
            b".." => return self.find(self.parent_of(parent).await?).await,
            _ => {}
        }
        if let Some(found) = self.find_control(parent, name) {
            return found;
        }
        self.kernel_listings.looked_up(parent);
        // Where all names are known, such a one would be taken for absent.
        if name.len() > NAME_BYTES_MAX {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        if let Some(known) = self.kept_name(parent, name) {
            self.counts.names.hit();
            self.read_names_ahead(parent);
            return Ok(self.shown(known).await?);
        }
        self.counts.names.miss();
        let request = Lookup {
            parent: parent.0,
            name: name.to_vec().into(),
        };
        let glance = self.exclusive.glance(parent);
        let answer = self.call(request::Operation::Lookup(request)).await?;
        if let Some(glance) = glance {
            self.learn_name(parent, name, glance, &answer);
        }
        let answer = answer.map(|result| match result {
            reply::Result::Entry(entry) => {
                self.read_names_ahead(parent);
                Ok(entry)
            }
            reply::Result::Absent(absent) => Ok(Entry {
                name_valid_ms: absent.name_valid_ms,
                ..Entry::default()
            }),
            _ => Err(unexpected()),
        })?;
        Ok(self.shown(answer).await?)
    }

    /// Takes note of what a name leads to in a directory that is this mount's alone. If many are
    /// looked up in vain there, all names are read.
    fn learn_name(
        self: &Arc<Self>,
        directory: InodeId,
        name: &[u8],
        glance: Glance,
        answer: &Leased<reply::Result>,
    ) {
        let read = self.hand_over(answer, |result, freshness| {
            let known = match result {
                _ if freshness.recalled => return false,
                reply::Result::Absent(_) => Known::Absent,
                reply::Result::Entry(entry) => {
                    let Some(attributes) = &entry.attributes else {
                        return false;
                    };
                    Known::Present(InodeId(attributes.inode))
                }
                _ => return false,
            };
            self.exclusive.learn(directory, glance, name, known)
        });
        if read && let Some(glance) = self.exclusive.glance(directory) {
            let fs = Arc::clone(self);
            start(&Handle::current(), async move {
                let listed = fs.read_all_names(directory).await;
                fs.coherence
                    .steady(|| fs.exclusive.read(directory, glance, listed));
            });
        }
    }

    /// All names of a directory; none if they cannot be read.
    async fn read_all_names(&self, directory: InodeId) -> Option<Vec<(Box<[u8]>, InodeId)>> {
        let (mut names, mut cookie) = (Vec::new(), 0);
        loop {
            let request = ReadDirectory {
                inode: directory.0,
                cookie,
                entries_max: ALL_NAMES_PER_PAGE,
                with_attributes: false,
            };
            let answer = self.call(request::Operation::ReadDirectory(request)).await;
            let page = match answer.ok()?.value {
                reply::Result::ReadDirectory(page) => page,
                _ => return None,
            };
            cookie = page.entries.last().map_or(cookie, |last| last.cookie);
            let (end, entries) = (page.end || page.entries.is_empty(), page.entries);
            let named = entries.into_iter().filter(|listed| !is_dot(&listed.name));
            names.extend(named.map(|listed| (listed.name.to_vec().into(), InodeId(listed.inode))));
            if end {
                return Some(names);
            }
        }
    }

    /// Fetches the next names of a directory in which one name after another is looked up.
    fn read_names_ahead(self: &Arc<Self>, directory: InodeId) {
        if let Some(page) = self.names.looked_up(directory) {
            let fs = Arc::clone(self);
            start(
                &Handle::current(),
                async move { fs.read_page_ahead(page).await },
            );
        }
    }

    async fn read_page_ahead(&self, page: WantedPage) {
        let request = ReadDirectory {
            inode: page.directory.0,
            cookie: page.cookie,
            entries_max: NAMES_PER_PAGE,
            with_attributes: true,
        };
        let answer = self.call(request::Operation::ReadDirectory(request)).await;
        let answer = answer.and_then(|answer| {
            answer.map(|result| match result {
                reply::Result::ReadDirectory(read) => Ok(read),
                _ => Err(unexpected()),
            })
        });
        match answer {
            Ok(read) => self.learn_page(page, &read),
            Err(failure) => {
                // Whoever looks the next name up meets it, and is told.
                tracing::debug!(directory = %page.directory, %failure, "no names read ahead");
                self.names.give_up(page);
            }
        }
    }

    fn learn_page(&self, page: WantedPage, read: &Leased<ReadDirectoryReply>) {
        self.hand_over(read, |listed, freshness| {
            let names = listed.entries.iter().filter_map(|listed| {
                let entry = listed.entry.as_ref()?;
                self.keep(entry, freshness, read.since);
                Some(ReadName {
                    name: &listed.name,
                    inode: InodeId(listed.inode),
                    validity: freshness.lease_left(entry.name_valid_ms),
                })
            });
            let last = listed.entries.last().map(|listed| listed.cookie);
            self.names.learn(page, names, last.filter(|_| !listed.end));
        });
    }
}

fn is_dot(name: &[u8]) -> bool {
    name == b"." || name == b".."
}
