//! The kernel's requests, each one call and one answer.
//!
//! Only what changes nothing may be cut short when the process that waits for it is killed
//! ([`Reply::unless_killed`]); it runs to its end all the same, so that an open is undone and no
//! other reader of a block is let down. Whatever changes something is answered when it is done.

mod attributes;
mod directories;
mod files;
mod locks;
mod names;
mod space;

use std::future::Future;
use std::sync::Arc;

use pocket_fs::{AclKind, Caller, FileSystem};
use pocket_proto::InodeId;

use crate::dispatch::Dispatcher;
use crate::kernel::{Handler, Operation, Reply, Request};

/// See the module.
pub(crate) struct Adapter {
    fs: Arc<FileSystem>,
    dispatcher: Dispatcher,
    offers: Offers,
}

/// What a mount need not have: see [`crate::MountSettings`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offers {
    pub(crate) birth_times: bool,
    pub(crate) acls: bool,
}

/// What all operations come with.
struct Call {
    inode: InodeId,
    caller: Caller,
    reply: Reply,
}

impl Adapter {
    pub(crate) fn new(fs: Arc<FileSystem>, dispatcher: Dispatcher, offers: Offers) -> Self {
        Adapter {
            fs,
            dispatcher,
            offers,
        }
    }

    /// Runs one operation with a share of the file system.
    fn run<F: Future<Output = ()> + Send + 'static>(
        &self,
        operation: impl FnOnce(Arc<FileSystem>) -> F,
    ) {
        self.dispatcher.run(operation(Arc::clone(&self.fs)));
    }
}

impl Handler for Adapter {
    fn handle(&self, request: Request<'_>, reply: Reply) {
        let call = Call {
            inode: InodeId(request.inode),
            caller: Caller {
                uid: request.uid,
                gid: request.gid,
            },
            reply,
        };
        match request.operation {
            Operation::Lookup { name } => self.lookup(call, name),
            Operation::MakeNode {
                name,
                mode,
                umask,
                device,
            } => self.make_node(call, name, (mode, umask), device),
            Operation::MakeDirectory { name, mode, umask } => {
                self.make_directory(call, name, (mode, umask));
            }
            Operation::Symlink { name, target } => self.make_symlink(call, name, target),
            Operation::Unlink { name } => self.unlink(call, name),
            Operation::RemoveDirectory { name } => self.remove_directory(call, name),
            Operation::Rename {
                name,
                new_parent,
                new_name,
                flags,
            } => self.rename(call, name, (InodeId(new_parent), new_name), flags),
            Operation::Link { target, name } => self.link(call, InodeId(target), name),

            Operation::GetAttributes => self.get_attributes(call),
            Operation::Statx { .. } if self.offers.birth_times => self.statx(call),
            Operation::SetAttributes(set) => self.set_attributes(call, &set),
            Operation::ReadLink => self.read_link(call),
            Operation::SetXattr {
                name,
                value,
                flags,
                clear_set_group_id,
            } => match AclKind::of(name) {
                Some(kind) => self.set_acl(call, kind, value, clear_set_group_id),
                None => self.set_xattr(call, name, value, flags),
            },
            Operation::GetXattr { name, bytes_max } => match AclKind::of(name) {
                Some(kind) => self.get_acl(call, kind, bytes_max),
                None => self.get_xattr(call, name, bytes_max),
            },
            Operation::ListXattr { bytes_max } => self.list_xattr(call, bytes_max),
            Operation::RemoveXattr { name } => match AclKind::of(name) {
                Some(kind) => self.set_acl(call, kind, &[], false),
                None => self.remove_xattr(call, name),
            },
            Operation::StatFs => self.stat_fs(call),

            Operation::Open(open) => self.open(call, open),
            Operation::Create {
                name,
                mode,
                umask,
                open,
            } => self.create(call, name, (mode, umask), open),
            Operation::TemporaryFile { mode, umask, open } => {
                self.create_temporary(call, (mode, umask), open);
            }
            Operation::Read(read) => self.read(call, read),
            Operation::Write { arguments, data } => {
                self.write(call, arguments, data, request.shared);
            }
            Operation::Flush { handle, lock_owner } => self.flush(call, handle, lock_owner),
            Operation::Sync { handle, .. } => self.sync(call, handle),
            Operation::Release { handle, .. } => self.release(call, handle),
            Operation::SyncFs => self.sync_fs(call),

            Operation::OpenDirectory => self.open_directory(call),
            Operation::ReadDirectory {
                handle,
                cookie,
                bytes_max,
                with_attributes,
            } => self.read_directory(call, handle, (cookie, bytes_max), with_attributes),
            Operation::ReleaseDirectory { handle } => self.release_directory(call, handle),
            Operation::SyncDirectory => self.sync_directory(call),

            Operation::GetLock(lock) => self.get_lock(call, lock),
            Operation::SetLock { lock, wait } => self.set_lock(call, lock, wait),
            Operation::Allocate {
                handle,
                offset,
                length,
                mode,
            } => self.allocate(call, handle, (offset, length), mode),
            Operation::Seek {
                handle,
                offset,
                whence,
            } => self.seek(call, handle, offset, whence),
            Operation::Copy { from, wide } => self.copy_range(call, from, wide),
            // isatty(3) asks every file.
            Operation::Ioctl => call.reply.error(libc::ENOTTY),
            // For these the kernel has an answer of its own: a file is always ready, permissions
            // are its own to check, and GETATTR does for STATX.
            Operation::Statx { .. }
            | Operation::Poll
            | Operation::Access { .. }
            | Operation::BlockMap
            | Operation::Unknown => call.reply.error(libc::ENOSYS),

            // The session has dealt with them.
            Operation::Forget
            | Operation::NotifyReply
            | Operation::Interrupt { .. }
            | Operation::Init(_)
            | Operation::Destroy => call.reply.error(libc::EIO),
        }
    }
}
