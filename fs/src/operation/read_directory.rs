//! readdir(3).

use pocket_proto::session::{DirectoryEntry, ReadDirectory, reply, request};

use crate::filesystem::unexpected;
use crate::{Errno, FileSystem, HandleId, Leased};

/// Entries asked for at once: about 64 KiB with attributes.
const ENTRIES_PER_REQUEST: u32 = 512;

/// What a directory handle has fetched and not yet given out.
#[derive(Default)]
pub(crate) struct DirectoryStream {
    page: Option<Leased<Page>>,
}

#[derive(Clone)]
struct Page {
    /// The cookie behind which the page begins.
    behind: u64,
    with_attributes: bool,
    entries: Vec<DirectoryEntry>,
    end: bool,
}

impl Page {
    /// Index of the first entry behind `cookie`, if the page reaches there.
    fn position(&self, cookie: u64) -> Option<usize> {
        if cookie == self.behind {
            return Some(0);
        }
        self.entries
            .iter()
            .position(|entry| entry.cookie == cookie)
            .map(|index| index + 1)
    }
}

impl FileSystem {
    /// Gives the entries behind `cookie` (0: from the start) to `take`, one by one with what is
    /// left of its lease, until that answers false or there are no more.
    ///
    /// Every entry that is there from beginning to end of a scan comes exactly once; a scan from
    /// the start sees all that was there when it began.
    pub async fn read_directory(
        &self,
        handle: HandleId,
        cookie: u64,
        with_attributes: bool,
        mut take: impl FnMut(&DirectoryEntry, crate::Freshness) -> bool + Send,
    ) -> Result<(), Errno> {
        let handle = self.handles.directory(handle).ok_or(Errno(libc::EBADF))?;
        let mut stream = handle.stream.lock().await;
        let mut cookie = cookie;
        loop {
            let held = stream.page.as_ref().and_then(|page| {
                let usable = page.value.with_attributes || !with_attributes;
                // A rewound scan starts afresh.
                (usable && cookie != 0).then(|| page.value.position(cookie))?
            });
            let at_end = stream.page.as_ref().is_some_and(|page| page.value.end);
            let index = match held {
                Some(index) if index < stream.page_len() => index,
                Some(_) if at_end => return Ok(()),
                _ => {
                    stream.page = Some(
                        self.fetch_page(handle.inode.0, cookie, with_attributes)
                            .await?,
                    );
                    0
                }
            };
            let Some(page) = &stream.page else {
                return Ok(());
            };
            if page.value.entries.is_empty() {
                return Ok(());
            }
            for entry in &page.value.entries[index..] {
                if !self.give(page, entry, &mut take) {
                    return Ok(());
                }
                cookie = entry.cookie;
            }
            if page.value.end {
                return Ok(());
            }
        }
    }

    fn give(
        &self,
        page: &Leased<Page>,
        entry: &DirectoryEntry,
        take: &mut (impl FnMut(&DirectoryEntry, crate::Freshness) -> bool + Send),
    ) -> bool {
        match &entry.entry {
            None => self.hand_over(page, |_, freshness| take(entry, freshness)),
            Some(inner) => {
                let leased = Leased {
                    value: self.overlaid(inner.clone()),
                    stamp: page.stamp,
                    asked: page.asked,
                    since: page.since,
                };
                self.hand_over_entry(&leased, |shown, freshness| {
                    let entry = DirectoryEntry {
                        entry: Some(shown.clone()),
                        ..entry.clone()
                    };
                    take(&entry, freshness)
                })
            }
        }
    }

    async fn fetch_page(
        &self,
        inode: u64,
        cookie: u64,
        with_attributes: bool,
    ) -> Result<Leased<Page>, Errno> {
        let request = request::Operation::ReadDirectory(ReadDirectory {
            inode,
            cookie,
            entries_max: ENTRIES_PER_REQUEST,
            with_attributes,
        });
        self.call(request).await?.map(|result| match result {
            reply::Result::ReadDirectory(page) => Ok(Page {
                behind: cookie,
                with_attributes,
                entries: page.entries,
                end: page.end,
            }),
            _ => Err(unexpected().into()),
        })
    }
}

impl DirectoryStream {
    fn page_len(&self) -> usize {
        self.page
            .as_ref()
            .map_or(0, |page| page.value.entries.len())
    }
}
