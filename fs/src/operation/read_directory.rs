//! readdir(3).

use std::sync::Arc;

use pocket_proto::InodeId;
use pocket_proto::session::{DirectoryEntry, Entry, ReadDirectory, reply, request};

use crate::filesystem::unexpected;
use crate::listings::{Found, Page, is_dot};
use crate::{Errno, FileSystem, Freshness, HandleId, Leased};

/// Entries asked for at once: about 32 KiB with attributes, as much as a program reads at once.
const ENTRIES_PER_REQUEST: u32 = 256;

/// What a directory handle has fetched and not yet given out.
#[derive(Default)]
pub(crate) struct DirectoryStream {
    page: Option<Leased<Arc<Page>>>,
}

/// Entries of a directory from some cookie on, to be handed over by
/// [`FileSystem::hand_over_page`]. Empty at the end of the directory.
pub struct DirectoryPage {
    page: Arc<Page>,
    from: usize,
}

impl DirectoryPage {
    /// All of a page.
    pub(crate) fn new(page: Arc<Page>) -> Self {
        DirectoryPage { page, from: 0 }
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
            let usable = cookie != 0
                && (!with_attributes
                    || (page.value.with_attributes && !self.inodes.changed_since(page.since)));
            let from = usable.then(|| page.value.position(cookie)).flatten()?;
            Some(page.with(DirectoryPage {
                page: Arc::clone(&page.value),
                from,
            }))
        });
        if let Some(held) = held {
            return Ok(held);
        }
        let listed = match self.kept_page(handle.inode, cookie, with_attributes) {
            Some(kept) => kept,
            None => {
                let page = self.fetch_page(handle.inode, cookie, with_attributes);
                let page = page.await?;
                page.with(DirectoryPage::new(Arc::clone(&page.value)))
            }
        };
        stream.page = Some(listed.with(Arc::clone(&listed.value.page)));
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
        if !with_attributes {
            return Some(found.with(DirectoryPage {
                page: Arc::clone(page),
                from: *from,
            }));
        }
        if !found.value.has_leased_names {
            return None;
        }
        let name_valid_ms = u32::try_from(found.value.left.as_millis()).unwrap_or(u32::MAX);
        let entries = page.entries.iter().map(|listed| {
            let mut listed = listed.clone();
            if !is_dot(&listed) {
                let entry = self.kept_entry(InodeId(listed.inode))?.value;
                listed.entry = Some(Entry {
                    name_valid_ms,
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
        Some(found.with(DirectoryPage {
            page: Arc::new(page),
            from: *from,
        }))
    }

    /// Hands entries over to the kernel (in `give`), each with what this mount has buffered shown
    /// in it, while no recall can begin.
    pub fn hand_over_page<R>(
        &self,
        leased: &Leased<DirectoryPage>,
        give: impl FnOnce(&mut dyn Iterator<Item = DirectoryEntry>, Freshness) -> R,
    ) -> R {
        self.hand_over(leased, |listed, freshness| {
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
            give(&mut shown, freshness)
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
