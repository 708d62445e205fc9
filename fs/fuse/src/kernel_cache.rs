//! Taking back what the kernel caches, through notifications on the FUSE device.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use fuser::{INodeNo, Notifier};
use pocket_fs::KernelCache;
use pocket_proto::InodeId;

/// FUSE_NOTIFY_INC_EPOCH of the kernel's include/uapi/linux/fuse.h (since 7.44, Linux 6.16).
const NOTIFY_INC_EPOCH: i32 = 8;
/// Bytes of `struct fuse_out_header`.
const OUT_HEADER_BYTES: u32 = 16;

/// See the module.
pub(crate) struct FuseKernelCache {
    notifier: Notifier,
    /// A second descriptor of the connection, for the notification that the library lacks.
    device: File,
}

impl FuseKernelCache {
    pub(crate) fn new(notifier: Notifier, device: File) -> Self {
        FuseKernelCache { notifier, device }
    }
}

impl KernelCache for FuseKernelCache {
    fn drop_name(&self, parent: InodeId, name: &[u8]) {
        let outcome = self
            .notifier
            .inval_entry(INodeNo(parent.0), OsStr::from_bytes(name));
        log("name", parent, outcome);
    }

    fn drop_attributes(&self, inode: InodeId) {
        // A negative offset spares the pages.
        log(
            "attributes",
            inode,
            self.notifier.inval_inode(INodeNo(inode.0), -1, 0),
        );
    }

    fn drop_data(&self, inode: InodeId) {
        log(
            "data",
            inode,
            self.notifier.inval_inode(INodeNo(inode.0), 0, 0),
        );
    }

    fn drop_all_names(&self) -> bool {
        let mut message = [0; OUT_HEADER_BYTES as usize];
        message[0..4].copy_from_slice(&OUT_HEADER_BYTES.to_ne_bytes());
        message[4..8].copy_from_slice(&NOTIFY_INC_EPOCH.to_ne_bytes());
        // The last eight bytes name a request: 0 says that this is a notification.
        (&self.device).write_all(&message).is_ok()
    }
}

/// Unmounting makes notifications fail, and then nothing is cached any more.
fn log(what: &str, inode: InodeId, outcome: std::io::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(%inode, %error, "kernel's {what} not dropped");
    }
}
