//! The kernel's requests, each one call and one reply.

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};
use pocket_fs::{
    CreateRequest, Errno, FileSystem, HandleId, NewNode, NodeRequest, OpenRequest, RenameMode,
    SetAttributesRequest, WriteRequest, XattrMode,
};

use crate::convert;
use crate::dispatch::Dispatcher;
use crate::reply::{
    GENERATION, STATFS_UNIT_BYTES, add_with_attributes, block_bytes, reply_attributes, reply_empty,
    reply_entry, reply_written, reply_xattr,
};

/// Largest write and read, bytes: one block of the default size.
const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// Requests that the kernel may have under way in the background (read-ahead, write-back).
const BACKGROUND_REQUESTS_MAX: u16 = 64;
/// Longest name, bytes.
const NAME_BYTES_MAX: u32 = 255;

/// Asked for one at a time: the library refuses a whole set for one flag the kernel lacks.
const WANTED: [InitFlags; 10] = [
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    InitFlags::FUSE_MAX_PAGES,
];

/// See the module.
pub(crate) struct Adapter {
    fs: Arc<FileSystem>,
    dispatcher: Dispatcher,
}

impl Adapter {
    pub(crate) fn new(fs: Arc<FileSystem>, dispatcher: Dispatcher) -> Self {
        Adapter { fs, dispatcher }
    }

    /// Runs one operation with a share of the file system.
    fn run<F: Future<Output = ()> + Send + 'static>(
        &self,
        operation: impl FnOnce(Arc<FileSystem>) -> F,
    ) {
        self.dispatcher.run(operation(Arc::clone(&self.fs)));
    }
}

fn owned(name: &OsStr) -> Vec<u8> {
    name.as_bytes().to_vec()
}

/// Data bypass the page cache, which costs more than the network; closing needs a flush only
/// where something can have been written.
fn open_flags(read_only: bool) -> FopenFlags {
    let direct = FopenFlags::FOPEN_DIRECT_IO;
    if read_only {
        direct | FopenFlags::FOPEN_NOFLUSH
    } else {
        direct
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for flag in WANTED {
            // An older kernel does without.
            let _ = config.add_capabilities(flag);
        }
        let _ = config.set_max_write(REQUEST_BYTES_MAX);
        let _ = config.set_max_readahead(REQUEST_BYTES_MAX);
        let _ = config.set_max_background(BACKGROUND_REQUESTS_MAX);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (parent, name) = (convert::inode(parent), owned(name));
        self.run(|fs| async move {
            reply_entry(&fs, fs.lookup(parent, &name).await, reply);
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let inode = convert::inode(ino);
        self.run(|fs| async move {
            reply_attributes(&fs, fs.get_attributes(inode).await, reply);
        });
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let inode = convert::inode(ino);
        let change = SetAttributesRequest {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size_bytes: size,
            accessed: atime.map(convert::time_change),
            modified: mtime.map(convert::time_change),
            // The kernel leaves set-id bits to us, and the library does not pass on its flag that
            // says when; root keeps them (it has CAP_FSETID).
            clear_set_id: size.is_some() && request.uid() != 0,
        };
        self.run(|fs| async move {
            reply_attributes(&fs, fs.set_attributes(inode, change).await, reply);
        });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let inode = convert::inode(ino);
        self.run(|fs| async move {
            match fs.read_link(inode).await {
                Ok(target) => reply.data(&target),
                Err(errno) => reply.error(convert::errno(errno)),
            }
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let Some(kind) = convert::node_kind(mode) else {
            return reply.error(fuser::Errno::EINVAL);
        };
        let (parent, name, caller) = (
            convert::inode(parent),
            owned(name),
            convert::caller(request),
        );
        self.run(|fs| async move {
            let node = NewNode::Other(kind, rdev);
            let node = NodeRequest {
                parent,
                name: &name,
                node,
                mode,
                caller,
            };
            reply_entry(&fs, fs.make_node(node).await, reply);
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (parent, name, caller) = (
            convert::inode(parent),
            owned(name),
            convert::caller(request),
        );
        self.run(|fs| async move {
            let node = NodeRequest {
                parent,
                name: &name,
                node: NewNode::Directory,
                mode,
                caller,
            };
            reply_entry(&fs, fs.make_node(node).await, reply);
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (parent, name) = (convert::inode(parent), owned(name));
        self.run(|fs| async move { reply_empty(fs.unlink(parent, &name).await, reply) });
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (parent, name) = (convert::inode(parent), owned(name));
        self.run(|fs| async move { reply_empty(fs.rmdir(parent, &name).await, reply) });
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (parent, name, caller) = (
            convert::inode(parent),
            owned(link_name),
            convert::caller(request),
        );
        let target = owned(target.as_os_str());
        self.run(|fs| async move {
            let node = NewNode::Symlink(&target);
            let node = NodeRequest {
                parent,
                name: &name,
                node,
                mode: 0o777,
                caller,
            };
            reply_entry(&fs, fs.make_node(node).await, reply);
        });
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            flags if flags.is_empty() => RenameMode::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            RenameFlags::RENAME_EXCHANGE => RenameMode::Exchange,
            _ => return reply.error(fuser::Errno::EINVAL),
        };
        let (from, to) = (convert::inode(parent), convert::inode(newparent));
        let (name, newname) = (owned(name), owned(newname));
        self.run(|fs| async move {
            reply_empty(fs.rename((from, &name), (to, &newname), mode).await, reply);
        });
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let (inode, parent) = (convert::inode(ino), convert::inode(newparent));
        let name = owned(newname);
        self.run(|fs| async move {
            reply_entry(&fs, fs.link(inode, parent, &name).await, reply);
        });
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let inode = convert::inode(ino);
        self.run(|fs| async move {
            match fs.open(inode, OpenRequest { flags: flags.0 }).await {
                Ok(opened) => {
                    reply.opened(FileHandle(opened.handle.0), open_flags(opened.read_only));
                    fs.prefetch(opened.handle).await;
                }
                Err(errno) => reply.error(convert::errno(errno)),
            }
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (parent, name, caller) = (
            convert::inode(parent),
            owned(name),
            convert::caller(request),
        );
        self.run(|fs| async move {
            let create = CreateRequest {
                parent,
                name: &name,
                mode,
                flags,
                caller,
            };
            let leased = match fs.create(create).await {
                Ok(leased) => leased,
                Err(errno) => return reply.error(convert::errno(errno)),
            };
            fs.hand_over(&leased, |(entry, opened), freshness| {
                let attributes = entry.attributes.unwrap_or_default();
                // The library has one validity for both.
                let ttl = freshness.validity(entry.attributes_valid_ms.min(entry.name_valid_ms));
                reply.created(
                    &ttl,
                    &convert::attributes(&attributes, block_bytes(entry)),
                    GENERATION,
                    FileHandle(opened.handle.0),
                    open_flags(opened.read_only),
                );
            });
        });
    }

    fn read(
        &self,
        _: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.run(|fs| async move {
            match fs.read(HandleId(fh.0), offset, size).await {
                Ok(data) => reply.data(&data.into_bytes()),
                Err(errno) => reply.error(convert::errno(errno)),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let handle = HandleId(fh.0);
        // Pages that the kernel writes back lie where they are, whatever the file was opened for.
        let from_cache = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let write = WriteRequest {
            offset,
            append: flags.0 & libc::O_APPEND != 0 && !from_cache,
            synchronous: flags.0 & (libc::O_SYNC | libc::O_DSYNC) != 0,
            clear_set_id: write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
        };
        if let Some(outcome) = self.try_write(handle, write, data) {
            reply_written(outcome, reply);
            if self.fs.is_first_write(handle) {
                self.run(|fs| async move { fs.send_first_write(handle).await });
            }
            return;
        }
        let data = Bytes::copy_from_slice(data);
        self.run(|fs| async move { reply_written(fs.write(handle, write, data).await, reply) });
    }

    fn flush(&self, _: &Request, _: INodeNo, fh: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.run(|fs| async move { reply_empty(fs.flush(HandleId(fh.0)).await, reply) });
    }

    fn release(
        &self,
        _: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.run(|fs| async move {
            fs.release(HandleId(fh.0)).await;
            reply.ok();
        });
    }

    fn fsync(&self, _: &Request, _: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.run(|fs| async move { reply_empty(fs.fsync(HandleId(fh.0)).await, reply) });
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let handle = self.fs.open_directory(convert::inode(ino));
        reply.opened(FileHandle(handle.0), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.run(|fs| async move {
            let page = match fs.read_directory(HandleId(fh.0), offset, false).await {
                Ok(page) => page,
                Err(errno) => return reply.error(convert::errno(errno)),
            };
            fs.hand_over_page(&page, |entries, _| {
                for entry in entries {
                    let name = OsStr::from_bytes(&entry.name);
                    let kind = convert::file_type(entry.kind());
                    if reply.add(INodeNo(entry.inode), entry.cookie, kind, name) {
                        break;
                    }
                }
                reply.ok();
            });
        });
    }

    fn readdirplus(
        &self,
        _: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.run(|fs| async move {
            let page = match fs.read_directory(HandleId(fh.0), offset, true).await {
                Ok(page) => page,
                Err(errno) => return reply.error(convert::errno(errno)),
            };
            fs.hand_over_page(&page, |entries, freshness| {
                for entry in entries {
                    if add_with_attributes(&mut reply, &entry, freshness) {
                        break;
                    }
                }
                reply.ok();
            });
        });
    }

    fn releasedir(
        &self,
        _: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.fs.release_directory(HandleId(fh.0));
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        // Names are on the metadata server when the call that made them returns.
        reply.ok();
    }

    fn statfs(&self, _: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.run(|fs| async move {
            match fs.stat_fs().await {
                Ok(status) => {
                    let unit = u64::from(STATFS_UNIT_BYTES);
                    let free = status.capacity_bytes.saturating_sub(status.used_bytes) / unit;
                    let files_free = status.inodes_max.saturating_sub(status.inodes);
                    reply.statfs(
                        status.capacity_bytes.div_ceil(unit),
                        free,
                        free,
                        status.inodes_max,
                        files_free,
                        STATFS_UNIT_BYTES,
                        NAME_BYTES_MAX,
                        STATFS_UNIT_BYTES,
                    );
                }
                Err(errno) => reply.error(convert::errno(errno)),
            }
        });
    }

    fn setxattr(
        &self,
        _: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => XattrMode::Set,
        };
        let (inode, name, value) = (convert::inode(ino), owned(name), value.to_vec());
        self.run(|fs| async move {
            reply_empty(fs.set_xattr(inode, &name, &value, mode).await, reply);
        });
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (inode, name) = (convert::inode(ino), owned(name));
        self.run(|fs| async move { reply_xattr(fs.get_xattr(inode, &name).await, size, reply) });
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let inode = convert::inode(ino);
        self.run(|fs| async move { reply_xattr(fs.list_xattr(inode).await, size, reply) });
    }

    fn ioctl(
        &self,
        _: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_bytes: u32,
        reply: ReplyIoctl,
    ) {
        // isatty(3) asks every file.
        reply.error(fuser::Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        _: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(fuser::Errno::EOPNOTSUPP);
    }

    fn lseek(
        &self,
        _: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        // The kernel then takes the whole file for data, which is allowed.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _ino_in: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        _ino_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The kernel then copies by reading and writing.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn poll(
        &self,
        _: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _handle: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        // The kernel then answers that files are always ready.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (inode, name) = (convert::inode(ino), owned(name));
        self.run(|fs| async move { reply_empty(fs.remove_xattr(inode, &name).await, reply) });
    }
}

impl Adapter {
    /// The way of most writes: straight into the buffer, with no task.
    fn try_write(
        &self,
        handle: HandleId,
        write: WriteRequest,
        data: &[u8],
    ) -> Option<Result<u32, Errno>> {
        // Sending a full block starts a task.
        let _runtime = self.dispatcher.enter();
        self.fs.try_write(handle, write, WriteData::Borrowed(data))
    }
}
