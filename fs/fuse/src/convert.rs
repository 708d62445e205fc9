//! Between the kernel's vocabulary and Pocket's.

use bytes::Bytes;
use pocket_fs::{RenameMode, SetAttributesRequest, TimeChange, XattrMode};
use pocket_proto::ACL_PREFIX;
use pocket_proto::session::{Attributes, FileKind, Time};

use crate::kernel::abi::{Attr, SetattrIn, Statx, SxTime, fattr};

/// The type bits of a mode.
pub(crate) fn type_bits(kind: FileKind) -> u32 {
    match kind {
        FileKind::Unspecified | FileKind::Regular => libc::S_IFREG,
        FileKind::Directory => libc::S_IFDIR,
        FileKind::Symlink => libc::S_IFLNK,
        FileKind::Fifo => libc::S_IFIFO,
        FileKind::Socket => libc::S_IFSOCK,
        FileKind::CharacterDevice => libc::S_IFCHR,
        FileKind::BlockDevice => libc::S_IFBLK,
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

/// What renameat2(2)'s flags ask for; none for what is not offered.
pub(crate) fn rename_mode(flags: u32) -> Option<RenameMode> {
    Some(match flags {
        0 => RenameMode::Replace,
        libc::RENAME_NOREPLACE => RenameMode::NoReplace,
        libc::RENAME_EXCHANGE => RenameMode::Exchange,
        _ => return None,
    })
}

/// What setxattr(2)'s flags ask for.
pub(crate) fn xattr_mode(flags: u32) -> XattrMode {
    let has = |flag| flags.cast_signed() & flag != 0;
    match (has(libc::XATTR_CREATE), has(libc::XATTR_REPLACE)) {
        (false, false) => XattrMode::Set,
        (true, false) => XattrMode::Create,
        (false, true) => XattrMode::Replace,
        (true, true) => XattrMode::CreateAndReplace,
    }
}

/// What listxattr(2) tells where access control lists are not offered.
pub(crate) fn names_without_acls(names: &[u8]) -> Bytes {
    let names = names.split_inclusive(|byte| *byte == 0);
    let others = names.filter(|name| !name.starts_with(ACL_PREFIX));
    others.collect::<Vec<_>>().concat().into()
}

fn mode(attributes: &Attributes) -> u32 {
    type_bits(attributes.kind()) | (attributes.mode & 0o7777)
}

/// stat(2) counts in these.
fn sectors(attributes: &Attributes) -> u64 {
    attributes.allocated_bytes.div_ceil(512)
}

/// Attributes for the kernel. `block_bytes` is what stat(2) tells as the best size for I/O.
pub(crate) fn attr(attributes: &Attributes, block_bytes: u32) -> Attr {
    let (accessed, modified, changed) = (
        attributes.accessed.unwrap_or_default(),
        attributes.modified.unwrap_or_default(),
        attributes.changed.unwrap_or_default(),
    );
    Attr {
        ino: attributes.inode,
        size: attributes.size_bytes,
        blocks: sectors(attributes),
        // The kernel takes them for signed.
        atime: accessed.seconds.cast_unsigned(),
        mtime: modified.seconds.cast_unsigned(),
        ctime: changed.seconds.cast_unsigned(),
        atimensec: accessed.nanoseconds,
        mtimensec: modified.nanoseconds,
        ctimensec: changed.nanoseconds,
        mode: mode(attributes),
        nlink: attributes.link_count,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: attributes.device,
        blksize: block_bytes,
        flags: 0,
    }
}

/// As [`attr`], with the time of birth.
pub(crate) fn statx(attributes: &Attributes, block_bytes: u32) -> Statx {
    let born = match attributes.created {
        Some(_) => libc::STATX_BTIME,
        None => 0,
    };
    let device = attributes.device;
    Statx {
        mask: libc::STATX_BASIC_STATS | born,
        blksize: block_bytes,
        nlink: attributes.link_count,
        uid: attributes.uid,
        gid: attributes.gid,
        mode: mode(attributes) as u16,
        ino: attributes.inode,
        size: attributes.size_bytes,
        blocks: sectors(attributes),
        atime: statx_time(attributes.accessed),
        btime: statx_time(attributes.created),
        ctime: statx_time(attributes.changed),
        mtime: statx_time(attributes.modified),
        // As the kernel's new_encode_dev puts them together.
        rdev_major: (device >> 8) & 0xfff,
        rdev_minor: (device & 0xff) | ((device >> 12) & 0xf_ff00),
        ..Statx::default()
    }
}

fn statx_time(time: Option<Time>) -> SxTime {
    let time = time.unwrap_or_default();
    SxTime {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds,
        reserved: 0,
    }
}

/// What a SETATTR changes.
pub(crate) fn changes(set: &SetattrIn) -> SetAttributesRequest {
    let has = |flag| set.valid & flag != 0;
    let time = |given, now, seconds: u64, nanoseconds| match (has(given), has(now)) {
        (_, true) => Some(TimeChange::Now),
        (true, false) => Some(TimeChange::To(Time {
            seconds: seconds.cast_signed(),
            nanoseconds,
        })),
        (false, false) => None,
    };
    SetAttributesRequest {
        mode: has(fattr::MODE).then_some(set.mode & 0o7777),
        uid: has(fattr::UID).then_some(set.uid),
        gid: has(fattr::GID).then_some(set.gid),
        size_bytes: has(fattr::SIZE).then_some(set.size),
        accessed: time(fattr::ATIME, fattr::ATIME_NOW, set.atime, set.atimensec),
        modified: time(fattr::MTIME, fattr::MTIME_NOW, set.mtime, set.mtimensec),
        // A new owner clears set-id bits by itself.
        clear_set_id: has(fattr::SIZE) && has(fattr::KILL_SUIDGID),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1969-12-31T23:59:58.5Z.
    const BEFORE: Time = Time {
        seconds: -2,
        nanoseconds: 500_000_000,
    };

    #[test]
    fn times_before_the_epoch_go_both_ways() {
        let set = SetattrIn {
            valid: fattr::MTIME,
            mtime: u64::MAX - 1,
            mtimensec: 500_000_000,
            ..SetattrIn::default()
        };
        let changes = changes(&set);
        assert_eq!(changes.modified, Some(TimeChange::To(BEFORE)));
        assert_eq!(changes.accessed, None);
        let attributes = Attributes {
            modified: Some(BEFORE),
            created: Some(BEFORE),
            ..Attributes::default()
        };
        let attr = attr(&attributes, 0);
        assert_eq!((attr.mtime, attr.mtimensec), (set.mtime, set.mtimensec));
        let statx = statx(&attributes, 0);
        assert_eq!((statx.btime.tv_sec, statx.btime.tv_nsec), (-2, 500_000_000));
    }

    #[test]
    fn lists_that_are_not_offered_are_not_told() {
        let names = b"system.posix_acl_access\0user.a\0system.posix_acl_default\0user.b\0";
        assert_eq!(names_without_acls(names)[..], b"user.a\0user.b\0"[..]);
        assert_eq!(names_without_acls(b""), b""[..]);
    }

    #[test]
    fn now_is_stronger_than_a_time() {
        let set = SetattrIn {
            valid: fattr::ATIME | fattr::ATIME_NOW,
            ..SetattrIn::default()
        };
        assert_eq!(changes(&set).accessed, Some(TimeChange::Now));
    }

    #[test]
    fn set_id_bits_go_with_the_size_if_the_kernel_says_so() {
        let clears = |valid| {
            let set = SetattrIn {
                valid,
                ..SetattrIn::default()
            };
            changes(&set).clear_set_id
        };
        assert!(clears(fattr::SIZE | fattr::KILL_SUIDGID));
        assert!(!clears(fattr::SIZE));
        assert!(!clears(fattr::UID | fattr::KILL_SUIDGID));
    }

    #[test]
    fn a_birth_that_is_not_known_is_not_told() {
        let told = |created| {
            let attributes = Attributes {
                created,
                ..Attributes::default()
            };
            statx(&attributes, 0).mask & libc::STATX_BTIME != 0
        };
        assert!(told(Some(BEFORE)) && !told(None));
    }

    #[test]
    fn devices_are_taken_apart_as_the_kernel_puts_them_together() {
        let (major, minor) = (0xabc_u32, 0xd_ef12_u32);
        let attributes = Attributes {
            device: (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12),
            ..Attributes::default()
        };
        let statx = statx(&attributes, 0);
        assert_eq!((statx.rdev_major, statx.rdev_minor), (major, minor));
    }
}
