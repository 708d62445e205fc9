//! Notifications: telling the kernel what it must not believe any longer.

use std::io;
use std::sync::Arc;

use zerocopy::IntoBytes;

use super::abi::{InvalEntryOut, InvalInodeOut, notification};
use super::device::Device;
use super::handouts::Handouts;

/// Whether the kernel knew what it was told to drop.
enum Known {
    Yes,
    No,
}

/// A way to notify the kernel, from any thread.
#[derive(Debug)]
pub(crate) struct Notifier {
    device: Device,
    handouts: Arc<Handouts>,
}

impl Notifier {
    pub(crate) fn new(device: Device, handouts: Arc<Handouts>) -> Self {
        Notifier { device, handouts }
    }

    /// Drops a name. Waits for operations in the directory.
    pub(crate) fn invalidate_name(&self, parent: u64, name: &[u8]) -> io::Result<()> {
        let namelen = u32::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let entry = InvalEntryOut {
            parent,
            namelen,
            flags: 0,
        };
        let pieces = [entry.as_bytes(), name, &[0]];
        self.send(notification::INVAL_ENTRY, &pieces).map(drop)
    }

    /// Drops an inode's attributes.
    pub(crate) fn invalidate_attributes(&self, inode: u64) -> io::Result<()> {
        // A negative offset spares the pages.
        self.invalidate_inode(inode, -1)
    }

    /// Drops an inode's attributes and all its pages.
    pub(crate) fn invalidate_data(&self, inode: u64) -> io::Result<()> {
        self.invalidate_inode(inode, 0)
    }

    fn invalidate_inode(&self, ino: u64, off: i64) -> io::Result<()> {
        let inode = InvalInodeOut { ino, off, len: 0 };
        match self.send(notification::INVAL_INODE, &[inode.as_bytes()])? {
            Known::No if self.handouts.is_recent(ino) => {
                // It may be made yet, of an answer from before: under a name of an epoch that is over
                // then, so that it is looked up anew. Kernels before 6.16 have no epochs.
                let _ = self.begin_epoch();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Drops an inode's attributes and a directory's first page, without which the kernel makes nothing of
    /// the others. It goes on filling these where it just does that, and so sees that the first one is
    /// missing; where it could not go on it would never keep that directory again (fs/fuse/readdir.c).
    pub(crate) fn invalidate_listing(&self, directory: u64) -> io::Result<()> {
        let first_page = InvalInodeOut {
            ino: directory,
            off: 0,
            len: 1,
        };
        // One that the kernel does not know it has no pages of.
        self.send(notification::INVAL_INODE, &[first_page.as_bytes()])
            .map(drop)
    }

    /// Makes every name that is known so far be looked up anew, since Linux 6.16.
    pub(crate) fn begin_epoch(&self) -> io::Result<()> {
        self.send(notification::INC_EPOCH, &[]).map(drop)
    }

    fn send(&self, kind: i32, pieces: &[&[u8]]) -> io::Result<Known> {
        match self.device.send(0, kind, pieces) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Known::No),
            outcome => outcome.map(|()| Known::Yes),
        }
    }
}
