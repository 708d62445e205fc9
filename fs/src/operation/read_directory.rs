//! readdir(3).

use std::sync::Arc;

use pocket_proto::InodeId;
use pocket_proto::session::{DirectoryEntry, Entry, ReadDirectory, reply, request};

use crate::filesystem::unexpected;
use crate::kernel_listings::Era;
use crate::listings::{Found, Page, is_dot};
use crate::{Errno, FileSystem, Freshness, HandleId, Leased};

/// Entries asked for at once: about 32 KiB with attributes, as much as a program reads at once.
const ENTRIES_PER_REQUEST: u32 = 256;

/// What a directory handle has fetched and not yet given out.
#[derive(Default)]
pub(crate) struct DirectoryStream {
    page: Option<Leased<DirectoryPage>>,
}

/// Entries of a directory from some cookie on, to be handed over by
/// [`FileSystem::hand_over_page`]. Empty at the end of the directory.
#[derive(Clone)]
pub struct DirectoryPage {
    page: Arc<Page>,
    from: usize,
    /// The lease on the list of names, from when the page was asked for.
    listing_valid_ms: u32,
    reader: Option<Reader>,
}

/// Through which handle a page was asked for.
#[derive(Clone, Copy)]
struct Reader {
    directory: InodeId,
    kept: Option<Era>,
}

/// What it says of a directory that there are no more entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryEnd {
    /// The kernel may take for the whole directory what it has kept of it.
    Certain,
    /// This scan is at its end.
    Passing,
}

impl DirectoryPage {
    /// All of a page.
    pub(crate) fn new(page: Arc<Page>) -> Self {
        DirectoryPage {
            listing_valid_ms: page.valid_ms,
            page,
            from: 0,
            reader: None,
        }
    }
}

impl FileSystem {
    /// The entries behind `cookie` (0: from the start), some of them at least.
    ///
    /// Every entry that is there from beginning to end of a scan comes exactly once; a scan from
    /// the start sees all that was there when it began.
    pub async fn read_directory(
        &self,
        handle: HandleId,
        cookie: u64,
        with_attributes: bool,
    ) -> Result<Leased<DirectoryPage>, Errno> {
        let handle = self.handles.directory(handle).ok_or(Errno(libc::EBADF))?;
        if let Some(told) = self.list_control(handle.inode, cookie, with_attributes) {
            return Ok(told);
        }
        // Calls on one directory stream are one after another in any case.
        let mut stream = handle.stream.lock().await;
        let held = stream.page.as_ref().and_then(|page| {
            // A scan that begins anew must not see an old page, and attributes must not be older
            // than what this mount itself has changed since.
            let held = &page.value.page;
            let usable = cookie != 0
                && (!with_attributes
                    || (held.with_attributes && !self.inodes.changed_since(page.since)));
            let from = usable.then(|| held.position(cookie)).flatten()?;
            Some(page.with(DirectoryPage {
                from,
                ..page.value.clone()
            }))
        });
        if let Some(held) = held {
            return Ok(held);
        }
        let mut listed = match self.kept_page(handle.inode, cookie, with_attributes) {
            Some(kept) => kept,
            None => {
                let page = self.fetch_page(handle.inode, cookie, with_attributes);
                let page = page.await?;
                page.with(DirectoryPage::new(Arc::clone(&page.value)))
            }
        };
        listed.value.reader = Some(Reader {
            directory: handle.inode,
            kept: handle.kept,
        });
        stream.page = Some(listed.clone());
        Ok(listed)
    }

    /// What this mount knows of the directory without asking; with attributes only if it may cache
    /// each name, and knows the attributes of each.
    fn kept_page(
        &self,
        directory: InodeId,
        cookie: u64,
        with_attributes: bool,
    ) -> Option<Leased<DirectoryPage>> {
        if !self.is_in_touch() {
            return None;
        }
        let found = self.coherence.stamped(|stamp, session| {
            let since = self.inodes.tick();
            let found = self.listings.find(directory, cookie)?;
            Some(self.answered_here(found, since, (stamp, session)))
        })?;
        let Found { page, from, .. } = &found.value;
        let left_ms = u32::try_from(found.value.left.as_millis()).unwrap_or(u32::MAX);
        let from_there = |page| {
            found.with(DirectoryPage {
                from: *from,
                listing_valid_ms: left_ms,
                ..DirectoryPage::new(page)
            })
        };
        if !with_attributes {
            return Some(from_there(Arc::clone(page)));
        }
        if !found.value.has_leased_names {
            return None;
        }
        let entries = page.entries.iter().map(|listed| {
            let mut listed = listed.clone();
            if !is_dot(&listed) {
                let entry = self.kept_entry(InodeId(listed.inode))?.value;
                listed.entry = Some(Entry {
                    name_valid_ms: left_ms,
                    ..entry
                });
            }
            Some(listed)
        });
        let page = Page {
            behind: page.behind,
            with_attributes,
            entries: entries.collect::<Option<_>>()?,
            ..**page
        };
        Some(from_there(Arc::new(page)))
    }

    /// Hands entries over to the kernel (in `give`), each with what this mount has buffered shown
    /// in it, while no recall can begin; and what it says if there are none.
    pub fn hand_over_page<R>(
        &self,
        leased: &Leased<DirectoryPage>,
        give: impl FnOnce(&mut dyn Iterator<Item = DirectoryEntry>, Freshness, DirectoryEnd) -> R,
    ) -> R {
        self.hand_over(leased, |listed, freshness| {
            let end = match listed.reader {
                Some(reader) => {
                    let left = freshness.lease_left_unless_recalled(listed.listing_valid_ms);
                    self.kernel_listings
                        .told(reader.directory, reader.kept, left)
                }
                None => DirectoryEnd::Certain,
            };
            let entries = &listed.page.entries[listed.from..];
            let mut shown = entries.iter().map(|listed| {
                let mut entry = listed.clone();
                if let Some(inner) = entry.entry.take() {
                    self.keep(&inner, freshness, leased.since);
                    let inode = InodeId(listed.inode);
                    let shown = self.overlaid(inner);
                    // What this mount has changed since is looked up when it is wanted.
                    entry.entry = (!self.inodes.is_newer(inode, leased.since)).then_some(shown);
                }
                entry
            });
            give(&mut shown, freshness, end)
        })
    }

    /// Asks for the entries behind `cookie`, and keeps them as long as they are leased.
    async fn fetch_page(
        &self,
        directory: InodeId,
        cookie: u64,
        with_attributes: bool,
    ) -> Result<Leased<Arc<Page>>, Errno> {
        let request = request::Operation::ReadDirectory(ReadDirectory {
            inode: directory.0,
            cookie,
            entries_max: ENTRIES_PER_REQUEST,
            with_attributes,
        });
        let answer = self.call(request).await?.map(|result| match result {
            reply::Result::ReadDirectory(page) => Ok(page),
            _ => Err(Errno::from(unexpected())),
        })?;
        let page = answer.map(|page| {
            Ok::<_, Errno>(Arc::new(Page {
                behind: cookie,
                with_attributes,
                entries: page.entries,
                end: page.end,
                valid_ms: page.valid_ms,
            }))
        })?;
        self.hand_over(&page, |kept, freshness| {
            let left = freshness.lease_left(kept.valid_ms);
            let is_late = || self.inodes.changed_since(page.since);
            self.listings.keep(directory, kept, left, is_late);
        });
        Ok(page)
    }
}
