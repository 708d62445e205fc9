//! lookup: a name to its inode.

use std::sync::Arc;

use pocket_proto::InodeId;
use pocket_proto::session::{Entry, Lookup, ReadDirectory, ReadDirectoryReply, reply, request};
use tokio::runtime::Handle;

use crate::filesystem::unexpected;
use crate::name_cache::{ReadName, WantedPage};
use crate::{Errno, FileSystem, Leased, start};

/// Names read ahead at once.
const NAMES_PER_PAGE: u32 = 256;

impl FileSystem {
    /// The entry of `name` in `parent`. An absent name is answered as an entry without
    /// attributes, whose name lease says for how long it may be remembered as absent.
    pub async fn lookup(
        self: &Arc<Self>,
        parent: InodeId,
        name: &[u8],
    ) -> Result<Leased<Entry>, Errno> {
        if let Some(known) = self.kept_name(parent, name) {
            self.read_names_ahead(parent);
            return Ok(self.shown(known));
        }
        let request = Lookup {
            parent: parent.0,
            name: name.to_vec().into(),
        };
        let answer = self.call(request::Operation::Lookup(request)).await?;
        answer.map(|result| match result {
            reply::Result::Entry(entry) => {
                self.read_names_ahead(parent);
                Ok(self.overlaid(entry))
            }
            reply::Result::Absent(absent) => Ok(Entry {
                name_valid_ms: absent.name_valid_ms,
                ..Entry::default()
            }),
            _ => Err(unexpected().into()),
        })
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
                    validity: freshness.validity(entry.name_valid_ms),
                })
            });
            let last = listed.entries.last().map(|listed| listed.cookie);
            self.names.learn(page, names, last.filter(|_| !listed.end));
        });
    }
}
