//! Open files: opened, read, written, brought to the servers, closed.

use bytes::Bytes;
use pocket_fs::{
    CreateRequest, CreateTemporaryRequest, Errno, HandleId, OpenRequest, WriteData, WriteRequest,
};

use super::{Adapter, Call};
use crate::kernel::{OpenArguments, ReadArguments, WriteArguments};
use crate::reply::{
    reply_created, reply_data, reply_empty, reply_opened, reply_temporary, reply_written,
};

impl Adapter {
    pub(super) fn open(&self, call: Call, open: OpenArguments) {
        let inode = call.inode;
        let open = OpenRequest {
            flags: open.flags,
            clear_set_id: open.clear_set_id,
        };
        self.run(|fs| async move {
            let opened = fs.open(inode, open);
            // O_TRUNC changes the file.
            let (outcome, reply) = match open.flags & libc::O_TRUNC {
                0 => call.reply.unless_killed(opened).await,
                _ => (opened.await, Some(call.reply)),
            };
            match (outcome, reply) {
                (Ok(opened), Some(reply)) => {
                    reply_opened(opened, reply);
                    fs.prefetch(opened.handle).await;
                }
                (Err(errno), Some(reply)) => reply.error(errno.0),
                // Nobody is left who would close it.
                (Ok(opened), None) => fs.release(opened.handle).await,
                (Err(_), None) => {}
            }
        });
    }

    pub(super) fn create(&self, call: Call, name: &[u8], mode: (u32, u32), open: OpenArguments) {
        let (name, (mode, umask)) = (name.to_vec(), mode);
        self.run(|fs| async move {
            let create = CreateRequest {
                parent: call.inode,
                name: &name,
                mode,
                umask,
                flags: open.flags,
                clear_set_id: open.clear_set_id,
                caller: call.caller,
            };
            reply_created(&fs, fs.create(create).await, call.reply);
        });
    }

    pub(super) fn create_temporary(&self, call: Call, mode: (u32, u32), open: OpenArguments) {
        let (mode, umask) = mode;
        self.run(|fs| async move {
            let create = CreateTemporaryRequest {
                parent: call.inode,
                mode,
                umask,
                flags: open.flags,
                caller: call.caller,
            };
            reply_temporary(&fs, fs.create_temporary(create).await, call.reply);
        });
    }

    pub(super) fn read(&self, call: Call, read: ReadArguments) {
        self.run(|fs| async move {
            let data = fs.read(HandleId(read.handle), read.offset, read.length);
            if let (outcome, Some(reply)) = call.reply.unless_killed(data).await {
                reply_data(outcome, reply);
            }
        });
    }

    /// `data` may be kept if they lie in `shared` memory, and are copied otherwise.
    pub(super) fn write(
        &self,
        call: Call,
        arguments: WriteArguments,
        data: &[u8],
        shared: Option<&Bytes>,
    ) {
        let handle = HandleId(arguments.handle);
        let flags = arguments.flags;
        let write = WriteRequest {
            offset: arguments.offset,
            // Pages that the kernel writes back lie where they are, whatever the file was opened
            // for.
            append: flags & libc::O_APPEND != 0 && !arguments.from_cache,
            synchronous: flags & (libc::O_SYNC | libc::O_DSYNC) != 0,
            clear_set_id: arguments.clear_set_id,
            pages: arguments.from_cache,
        };
        let shared = shared.map(|memory| memory.slice_ref(data));
        let tried = match &shared {
            Some(shared) => WriteData::Shared(shared),
            None => WriteData::Borrowed(data),
        };
        if let Some(outcome) = self.try_write(handle, write, tried) {
            reply_written(outcome, call.reply);
            if self.fs.is_first_write(handle) {
                self.run(|fs| async move { fs.send_first_write(handle).await });
            }
            return;
        }
        let data = shared.unwrap_or_else(|| Bytes::copy_from_slice(data));
        self.run(|fs| async move {
            reply_written(fs.write(handle, write, data).await, call.reply);
        });
    }

    /// The way of most writes: straight into the buffer, with no task.
    fn try_write(
        &self,
        handle: HandleId,
        write: WriteRequest,
        data: WriteData<'_>,
    ) -> Option<Result<u32, Errno>> {
        // Sending a full block starts a task.
        let _runtime = self.dispatcher.enter();
        self.fs.try_write(handle, write, data)
    }

    pub(super) fn sync(&self, call: Call, handle: u64) {
        self.run(|fs| async move { reply_empty(fs.fsync(HandleId(handle)).await, call.reply) });
    }

    pub(super) fn release(&self, call: Call, handle: u64) {
        self.run(|fs| async move {
            fs.release(HandleId(handle)).await;
            call.reply.ok();
        });
    }

    pub(super) fn sync_fs(&self, call: Call) {
        self.run(|fs| async move { reply_empty(fs.sync_fs().await, call.reply) });
    }
}
