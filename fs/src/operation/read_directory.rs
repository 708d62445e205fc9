//! readdir(3).

use std::sync::Arc;

use pocket_proto::InodeId;
use pocket_proto::session::{DirectoryEntry, ReadDirectory, reply, request};

use crate::filesystem::unexpected;
use crate::{Errno, FileSystem, Freshness, HandleId, Leased};

/// Entries asked for at once: about 32 KiB with attributes, as much as a program reads at once.
const ENTRIES_PER_REQUEST: u32 = 256;

/// What a directory handle has fetched and not yet given out.
#[derive(Default)]
pub(crate) struct DirectoryStream {
    page: Option<Leased<Arc<Page>>>,
}

struct Page {
    /// The cookie behind which the page begins.
    behind: u64,
    with_attributes: bool,
    entries: Vec<DirectoryEntry>,
    end: bool,
}

impl Page {
    /// Index of the first entry behind `cookie`, if the page has one or knows that there is none.
    fn position(&self, cookie: u64) -> Option<usize> {
        let index = if cookie == self.behind {
            0
        } else {
            let at = self
                .entries
                .iter()
                .position(|entry| entry.cookie == cookie)?;
            at + 1
        };
        (index < self.entries.len() || self.end).then_some(index)
    }
}

/// Entries of a directory from some cookie on, to be handed over by
/// [`FileSystem::hand_over_page`]. Empty at the end of the directory.
pub struct DirectoryPage {
    page: Arc<Page>,
    from: usize,
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
        let page = self
            .fetch_page(handle.inode.0, cookie, with_attributes)
            .await?;
        let fresh = page.with(DirectoryPage {
            page: Arc::clone(&page.value),
            from: 0,
        });
        stream.page = Some(page);
        Ok(fresh)
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

    async fn fetch_page(
        &self,
        inode: u64,
        cookie: u64,
        with_attributes: bool,
    ) -> Result<Leased<Arc<Page>>, Errno> {
        let request = request::Operation::ReadDirectory(ReadDirectory {
            inode,
            cookie,
            entries_max: ENTRIES_PER_REQUEST,
            with_attributes,
        });
        self.call(request).await?.map(|result| match result {
            reply::Result::ReadDirectory(page) => Ok(Arc::new(Page {
                behind: cookie,
                with_attributes,
                entries: page.entries,
                end: page.end,
            })),
            _ => Err(unexpected().into()),
        })
    }
}
