//! Open directories.

use pocket_fs::HandleId;

use super::{Adapter, Call};
use crate::kernel::Listing;
use crate::kernel::abi::OpenOut;
use crate::reply::{list, list_with_attributes, reply_empty};

impl Adapter {
    pub(super) fn open_directory(&self, call: Call) {
        let handle = self.fs.open_directory(call.inode);
        call.reply.value(&OpenOut {
            fh: handle.0,
            ..OpenOut::default()
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
            fs.hand_over_page(&page, |entries, freshness| {
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
                reply.listing(&listing);
            });
        });
    }

    pub(super) fn sync_names(&self, call: Call) {
        self.run(|fs| async move { reply_empty(fs.sync_names().await, call.reply) });
    }

    pub(super) fn release_directory(&self, call: Call, handle: u64) {
        self.fs.release_directory(HandleId(handle));
        call.reply.ok();
    }
}
