//! Ranges of files: allocated, looked for, copied.

use pocket_fs::{
    AllocateMode, AllocateRequest, Caller, CopyRequest, FilePlace, HandleId, SeekTarget,
};

use super::{Adapter, Call};
use crate::kernel::abi::CopyFileRangeIn;
use crate::reply::{reply_copied, reply_empty, reply_offset};

impl Adapter {
    pub(super) fn allocate(&self, call: Call, handle: u64, range: (u64, u64), mode: u32) {
        let (mode, keep_size) = match AllocateMode::from_flags(mode.cast_signed()) {
            Ok(mode) => mode,
            Err(errno) => return call.reply.error(errno.0),
        };
        let request = AllocateRequest {
            mode,
            keep_size,
            offset: range.0,
            length: range.1,
            clear_set_id: loses_set_id(call.caller),
        };
        self.run(|fs| async move {
            reply_empty(fs.allocate(HandleId(handle), request).await, call.reply);
        });
    }

    pub(super) fn seek(&self, call: Call, handle: u64, offset: u64, whence: u32) {
        let target = match whence.cast_signed() {
            libc::SEEK_DATA => SeekTarget::Data,
            libc::SEEK_HOLE => SeekTarget::Hole,
            _ => return call.reply.error(libc::EINVAL),
        };
        self.run(|fs| async move {
            let found = fs.seek(HandleId(handle), offset, target);
            if let (outcome, Some(reply)) = call.reply.unless_killed(found).await {
                reply_offset(outcome, reply);
            }
        });
    }

    /// `wide`: the answer may tell of more than 4 GiB.
    pub(super) fn copy_range(&self, call: Call, copy: CopyFileRangeIn, wide: bool) {
        let place = |handle, offset| FilePlace {
            handle: HandleId(handle),
            offset,
        };
        let request = CopyRequest {
            from: place(copy.fh_in, copy.off_in),
            to: place(copy.fh_out, copy.off_out),
            length: copy.len,
            clear_set_id: loses_set_id(call.caller),
        };
        self.run(|fs| async move {
            reply_copied(fs.copy_range(request).await, wide, call.reply);
        });
    }
}

/// Unlike a write, these requests do not say whether the caller may keep set-id bits. Root may, as
/// far as can be known.
fn loses_set_id(caller: Caller) -> bool {
    caller.uid != 0
}
