//! Open directories.

use pocket_fs::{DirectoryEnd, HandleId};

use super::{Adapter, Call};
use crate::kernel::Listing;
use crate::kernel::abi::{FOPEN_CACHE_DIR, FOPEN_KEEP_CACHE, OpenOut};
use crate::reply::{list, list_with_attributes, reply_empty};

/// Too short for an entry: the kernel finds none and ends the scan, but takes what it has kept of the
/// directory for the whole of it only where an answer is empty (fs/fuse/readdir.c).
const PASSING_END: [u8; 8] = [0; 8];

impl Adapter {
    pub(super) fn open_directory(&self, call: Call) {
        let opened = self.fs.open_directory_for_kernel(call.inode);
        call.reply.value(&OpenOut {
            fh: opened.handle.0,
            open_flags: match opened.kept {
                true => FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE,
                false => 0,
            },
            backing_id: 0,
        });
    }

    /// `from`: the cookie to go on behind, and the bytes that the answer may have.
    pub(super) fn read_directory(
        &self,
        call: Call,
        handle: u64,
        from: (u64, u32),
        with_attributes: bool,
    ) {
        let (cookie, bytes_max) = from;
        self.run(|fs| async move {
            let page = fs.read_directory(HandleId(handle), cookie, with_attributes);
            let (page, reply) = match call.reply.unless_killed(page).await {
                (Ok(page), Some(reply)) => (page, reply),
                (Err(errno), Some(reply)) => return reply.error(errno.0),
                (_, None) => return,
            };
            fs.hand_over_page(&page, |entries, freshness, end| {
                let mut listing = Listing::new(bytes_max);
                for entry in entries {
                    let added = match with_attributes {
                        true => list_with_attributes(&mut listing, &entry, freshness),
                        false => list(&mut listing, &entry),
                    };
                    if !added {
                        break;
                    }
                }
                match listing.is_empty() && end == DirectoryEnd::Passing {
                    true => reply.bytes(&PASSING_END),
                    false => reply.listing(&listing),
                }
            });
        });
    }

    pub(super) fn sync_directory(&self, call: Call) {
        self.run(|fs| async move { reply_empty(fs.sync_directory(call.inode).await, call.reply) });
    }

    pub(super) fn release_directory(&self, call: Call, handle: u64) {
        self.run(|fs| async move {
            fs.release_directory(HandleId(handle)).await;
            call.reply.ok();
        });
    }
}
