//! Locks: fcntl(2)'s, flock(2)'s, and those that a process gives up by closing.

use pocket_fs::{
    Errno, HandleId, HeldLock, LockKind, LockMode, LockOwner, LockPatience, LockRequest,
};

use super::{Adapter, Call};
use crate::kernel::{FileLock, LockArguments, Until};
use crate::reply::reply_empty;

impl Adapter {
    pub(super) fn get_lock(&self, call: Call, lock: LockArguments) {
        let handle = HandleId(lock.handle);
        self.run(|fs| async move {
            let found = async {
                let request = request(lock)?;
                fs.get_lock(handle, request).await
            };
            match call.reply.or_drop(Until::Killed, found).await {
                Some((Ok(found), reply)) => reply.value(&file_lock(found)),
                Some((Err(errno), reply)) => reply.error(errno.0),
                None => {}
            }
        });
    }

    /// A lock that waits is given up with any signal; one that does not, only to die.
    pub(super) fn set_lock(&self, call: Call, lock: LockArguments, wait: bool) {
        let handle = HandleId(lock.handle);
        let (patience, until) = match wait {
            true => (LockPatience::Waits, Until::Signalled),
            false => (LockPatience::None, Until::Killed),
        };
        self.run(|fs| async move {
            let set = async {
                let request = request(lock)?;
                fs.set_lock(handle, request, patience).await
            };
            if let Some((outcome, reply)) = call.reply.or_drop(until, set).await {
                reply_empty(outcome, reply);
            }
        });
    }

    /// close(2): what was written is there before the locks of the process are gone.
    pub(super) fn flush(&self, call: Call, handle: u64, owner: u64) {
        let (handle, owner) = (HandleId(handle), owner_of(owner, LockKind::Record));
        self.run(|fs| async move {
            let outcome = fs.flush(handle).await;
            fs.release_locks(handle, owner).await;
            reply_empty(outcome, call.reply);
        });
    }
}

/// The kernel does not tell locks of open files (OFD) from those of processes: the owner's number
/// is an open file's then.
fn request(arguments: LockArguments) -> Result<LockRequest, Errno> {
    let kind = match arguments.whole_file {
        true => LockKind::Flock,
        false => LockKind::Record,
    };
    let mode = match arguments.lock.kind.cast_signed() {
        libc::F_RDLCK => Some(LockMode::Shared),
        libc::F_WRLCK => Some(LockMode::Exclusive),
        libc::F_UNLCK => None,
        _ => return Err(Errno(libc::EINVAL)),
    };
    Ok(LockRequest {
        owner: owner_of(arguments.owner, kind),
        first: arguments.lock.start,
        last: arguments.lock.end,
        mode,
        process: arguments.lock.pid,
    })
}

fn owner_of(id: u64, kind: LockKind) -> LockOwner {
    LockOwner { kind, id }
}

fn file_lock(found: Option<HeldLock>) -> FileLock {
    let kind = match found.map(|lock| lock.mode) {
        None => libc::F_UNLCK,
        Some(LockMode::Shared) => libc::F_RDLCK,
        Some(LockMode::Exclusive) => libc::F_WRLCK,
    };
    FileLock {
        start: found.map_or(0, |lock| lock.first),
        end: found.map_or(0, |lock| lock.last),
        kind: kind.cast_unsigned(),
        pid: found.map_or(0, |lock| lock.process),
    }
}
