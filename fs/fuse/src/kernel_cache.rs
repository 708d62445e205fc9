//! Taking back what the kernel caches, through notifications on the FUSE device.

use std::io;

use pocket_fs::KernelCache;
use pocket_proto::InodeId;

use crate::kernel::Notifier;

/// See the module.
pub(crate) struct FuseKernelCache {
    notifier: Notifier,
}

impl FuseKernelCache {
    pub(crate) fn new(notifier: Notifier) -> Self {
        FuseKernelCache { notifier }
    }
}

impl KernelCache for FuseKernelCache {
    fn drop_name(&self, parent: InodeId, name: &[u8]) {
        let outcome = self.notifier.invalidate_name(parent.0, name);
        log("name", parent, outcome);
    }

    fn drop_attributes(&self, inode: InodeId) {
        let outcome = self.notifier.invalidate_attributes(inode.0);
        log("attributes", inode, outcome);
    }

    fn drop_data(&self, inode: InodeId) {
        log("data", inode, self.notifier.invalidate_data(inode.0));
    }

    fn drop_listing(&self, directory: InodeId) {
        let outcome = self.notifier.invalidate_listing(directory.0);
        log("listing", directory, outcome);
    }

    fn drop_all_names(&self) -> bool {
        self.notifier.begin_epoch().is_ok()
    }
}

/// Unmounting makes notifications fail, and then nothing is cached any more.
fn log(what: &str, inode: InodeId, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(%inode, %error, "kernel's {what} not dropped");
    }
}
