//! Between the kernel's vocabulary and Pocket's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use pocket_fs::{Caller, Errno, TimeChange};
use pocket_proto::InodeId;
use pocket_proto::session::{Attributes, FileKind, Time};

pub(crate) fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.0)
}

pub(crate) fn inode(inode: INodeNo) -> InodeId {
    InodeId(inode.0)
}

pub(crate) fn caller(request: &fuser::Request) -> Caller {
    Caller {
        uid: request.uid(),
        gid: request.gid(),
    }
}

pub(crate) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Unspecified | FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharacterDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// The kind that mknod(2)'s mode asks for; none for what mknod does not make.
pub(crate) fn node_kind(mode: u32) -> Option<FileKind> {
    Some(match mode & libc::S_IFMT {
        0 | libc::S_IFREG => FileKind::Regular,
        libc::S_IFIFO => FileKind::Fifo,
        libc::S_IFSOCK => FileKind::Socket,
        libc::S_IFCHR => FileKind::CharacterDevice,
        libc::S_IFBLK => FileKind::BlockDevice,
        _ => return None,
    })
}

/// Attributes for the kernel. `block_bytes` is what stat(2) tells as the best size for I/O.
pub(crate) fn attributes(attributes: &Attributes, block_bytes: u32) -> FileAttr {
    FileAttr {
        ino: INodeNo(attributes.inode),
        size: attributes.size_bytes,
        blocks: attributes.allocated_bytes.div_ceil(512),
        atime: system_time(attributes.accessed),
        mtime: system_time(attributes.modified),
        ctime: system_time(attributes.changed),
        crtime: system_time(attributes.created),
        kind: file_type(attributes.kind()),
        perm: (attributes.mode & 0o7777) as u16,
        nlink: attributes.link_count,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: attributes.device,
        blksize: block_bytes,
        flags: 0,
    }
}

/// A time from the wire; one that the host cannot express is the epoch.
fn system_time(time: Option<Time>) -> SystemTime {
    let time = time.unwrap_or_default();
    let nanoseconds = Duration::from_nanos(u64::from(time.nanoseconds));
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let seconds = if time.seconds >= 0 {
        UNIX_EPOCH.checked_add(whole)
    } else {
        UNIX_EPOCH.checked_sub(whole)
    };
    seconds
        .and_then(|seconds| seconds.checked_add(nanoseconds))
        .unwrap_or(UNIX_EPOCH)
}

/// A time from the kernel.
///
/// The library computes a time before the epoch as -(seconds + nanoseconds) where the kernel means
/// -seconds + nanoseconds; taking it apart the same way gives the kernel's two numbers back.
pub(crate) fn time_change(time: TimeOrNow) -> TimeChange {
    let time = match time {
        TimeOrNow::Now => return TimeChange::Now,
        TimeOrNow::SpecificTime(time) => time,
    };
    TimeChange::To(match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Time {
            seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: after.subsec_nanos(),
        },
        Err(before) => {
            let before = before.duration();
            Time {
                seconds: 0i64.saturating_sub_unsigned(before.as_secs()),
                nanoseconds: before.subsec_nanos(),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_keep_their_fraction() {
        let time = Time {
            seconds: -2,
            nanoseconds: 500_000_000,
        };
        assert_eq!(
            system_time(Some(time)),
            UNIX_EPOCH - Duration::from_millis(1500)
        );
        // What the library makes of the kernel's (-2, 500000000).
        let garbled = UNIX_EPOCH - Duration::new(2, 500_000_000);
        assert_eq!(
            time_change(TimeOrNow::SpecificTime(garbled)),
            TimeChange::To(time)
        );
    }

    #[test]
    fn times_out_of_range_do_not_panic() {
        for seconds in [i64::MIN, i64::MAX] {
            system_time(Some(Time {
                seconds,
                nanoseconds: u32::MAX,
            }));
        }
    }
}
