//! Requests: from the bytes that the device gives to an operation with its arguments.
//!
//! Names and data stay where they were read to. Whatever the bytes are, decoding answers a request
//! or a refusal; lengths are checked before anything is looked at.

use bytes::Bytes;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::abi::{
    self, AccessIn, CreateIn, FallocateIn, FlushIn, FsyncIn, GetxattrIn, InHeader, InitIn,
    InitInExt, InterruptIn, LinkIn, LseekIn, MkdirIn, MknodIn, OpenIn, ReadIn, ReleaseIn,
    Rename2In, RenameIn, SetxattrIn, SetxattrInExt, StatxIn, WriteIn, capability, opcode,
};
use super::operation::{
    InitArguments, LockArguments, OpenArguments, Operation, ReadArguments, WriteArguments,
};

/// A request of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    /// Names the request in its answer; 0 where none is expected.
    pub(crate) unique: u64,
    /// Which operation, as the kernel numbers them.
    pub(crate) opcode: u32,
    /// The inode it is about: a directory, where the operation has a name.
    pub(crate) inode: u64,
    /// Who asks: the user, the group and the thread.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) thread: u32,
    pub(crate) operation: Operation<'a>,
    /// The memory it lies in, where that may be kept.
    pub(crate) shared: Option<&'a Bytes>,
}

/// What was agreed on, as far as requests look different by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) long_setxattr: bool,
}

/// Why bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0} bytes are no request")]
    NoHeader(usize),
    #[error("request {unique} of kind {opcode} is malformed")]
    Malformed { unique: u64, opcode: u32 },
}

impl<'a> Request<'a> {
    /// Decodes what one read(2) of the device gave.
    pub(crate) fn decode(bytes: &'a [u8], dialect: Dialect) -> Result<Self, Refusal> {
        let refused = || Refusal::NoHeader(bytes.len());
        let (header, body) = InHeader::read_from_prefix(bytes).map_err(|_| refused())?;
        let whole = usize::try_from(header.len).is_ok_and(|length| length == bytes.len());
        let extensions = usize::from(header.total_extlen) * 8;
        let body = body.len().checked_sub(extensions).map(|end| &body[..end]);
        let operation = match body {
            Some(body) if whole => Operation::decode(header.opcode, Body(body), dialect),
            _ => None,
        };
        let operation = operation.ok_or(Refusal::Malformed {
            unique: header.unique,
            opcode: header.opcode,
        })?;
        Ok(Request {
            unique: header.unique,
            opcode: header.opcode,
            inode: header.nodeid,
            uid: header.uid,
            gid: header.gid,
            thread: header.pid,
            operation,
            shared: None,
        })
    }
}

/// What is left of a request.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Option<T> {
        let (value, rest) = T::read_from_prefix(self.0).ok()?;
        self.0 = rest;
        Some(value)
    }

    /// A string up to its NUL.
    fn name(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        let name = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(name)
    }

    fn bytes(&mut self, length: u32) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length as usize)?;
        self.0 = rest;
        Some(bytes)
    }
}

impl<'a> Operation<'a> {
    /// None if the body is too short for the kind.
    fn decode(kind: u32, mut body: Body<'a>, dialect: Dialect) -> Option<Self> {
        Some(match kind {
            opcode::LOOKUP..=opcode::LINK => Self::decode_name(kind, body)?,
            opcode::OPEN..=opcode::FSYNC
            | opcode::FLUSH
            | opcode::CREATE
            | opcode::TMPFILE
            | opcode::FALLOCATE
            | opcode::LSEEK
            | opcode::COPY_FILE_RANGE
            | opcode::COPY_FILE_RANGE_64 => Self::decode_file(kind, body)?,
            opcode::RENAME2 => {
                let Rename2In { newdir, flags, .. } = body.take()?;
                Self::rename(newdir, flags, body)?
            }
            opcode::STATX => {
                let StatxIn { sx_mask: mask, .. } = body.take()?;
                Operation::Statx { mask }
            }
            opcode::SETXATTR => Self::decode_set_xattr(body, dialect)?,
            opcode::GETXATTR..=opcode::REMOVEXATTR => Self::decode_xattr(kind, body)?,
            opcode::OPENDIR => Operation::OpenDirectory,
            opcode::READDIR | opcode::READDIRPLUS => {
                let read: ReadIn = body.take()?;
                Operation::ReadDirectory {
                    handle: read.fh,
                    cookie: read.offset,
                    bytes_max: read.size,
                    with_attributes: kind == opcode::READDIRPLUS,
                }
            }
            opcode::RELEASEDIR => {
                let ReleaseIn { fh: handle, .. } = body.take()?;
                Operation::ReleaseDirectory { handle }
            }
            opcode::FSYNCDIR => Operation::SyncDirectory,
            opcode::SYNCFS => Operation::SyncFs,
            opcode::ACCESS => {
                let AccessIn { mask, .. } = body.take()?;
                Operation::Access { mask }
            }
            opcode::GETLK => Operation::GetLock(LockArguments::new(body.take()?)),
            opcode::SETLK | opcode::SETLKW => Operation::SetLock {
                lock: LockArguments::new(body.take()?),
                wait: kind == opcode::SETLKW,
            },
            opcode::INTERRUPT => {
                let InterruptIn { unique } = body.take()?;
                Operation::Interrupt { unique }
            }
            opcode::INIT => Operation::Init(InitArguments::decode(body)?),
            opcode::DESTROY => Operation::Destroy,
            opcode::BATCH_FORGET => Operation::Forget,
            opcode::NOTIFY_REPLY => Operation::NotifyReply,
            opcode::IOCTL => Operation::Ioctl,
            opcode::BMAP => Operation::BlockMap,
            opcode::POLL => Operation::Poll,
            _ => Operation::Unknown,
        })
    }

    fn decode_name(kind: u32, mut body: Body<'a>) -> Option<Self> {
        Some(match kind {
            opcode::LOOKUP => Operation::Lookup { name: body.name()? },
            opcode::FORGET => Operation::Forget,
            opcode::GETATTR => Operation::GetAttributes,
            opcode::SETATTR => Operation::SetAttributes(body.take()?),
            opcode::READLINK => Operation::ReadLink,
            opcode::SYMLINK => Operation::Symlink {
                name: body.name()?,
                target: body.name()?,
            },
            opcode::MKNOD => {
                let MknodIn {
                    mode, rdev, umask, ..
                } = body.take()?;
                Operation::MakeNode {
                    name: body.name()?,
                    mode,
                    umask,
                    device: rdev,
                }
            }
            opcode::MKDIR => {
                let MkdirIn { mode, umask } = body.take()?;
                let name = body.name()?;
                Operation::MakeDirectory { name, mode, umask }
            }
            opcode::UNLINK => Operation::Unlink { name: body.name()? },
            opcode::RMDIR => Operation::RemoveDirectory { name: body.name()? },
            opcode::RENAME => {
                let RenameIn { newdir } = body.take()?;
                Self::rename(newdir, 0, body)?
            }
            opcode::LINK => {
                let LinkIn { oldnodeid: target } = body.take()?;
                let name = body.name()?;
                Operation::Link { target, name }
            }
            _ => Operation::Unknown,
        })
    }

    fn rename(new_parent: u64, flags: u32, mut body: Body<'a>) -> Option<Self> {
        Some(Operation::Rename {
            name: body.name()?,
            new_parent,
            new_name: body.name()?,
            flags,
        })
    }

    fn decode_file(kind: u32, mut body: Body<'a>) -> Option<Self> {
        Some(match kind {
            opcode::OPEN => {
                let OpenIn { flags, open_flags } = body.take()?;
                Operation::Open(OpenArguments::new(flags, open_flags))
            }
            opcode::CREATE => {
                let create: CreateIn = body.take()?;
                Operation::Create {
                    name: body.name()?,
                    mode: create.mode,
                    umask: create.umask,
                    open: OpenArguments::new(create.flags, create.open_flags),
                }
            }
            opcode::TMPFILE => {
                let create: CreateIn = body.take()?;
                Operation::TemporaryFile {
                    mode: create.mode,
                    umask: create.umask,
                    open: OpenArguments::new(create.flags, create.open_flags),
                }
            }
            opcode::READ => Operation::Read(ReadArguments::new(body.take()?)),
            opcode::WRITE => {
                let write: WriteIn = body.take()?;
                Operation::Write {
                    data: body.bytes(write.size)?,
                    arguments: WriteArguments::new(write),
                }
            }
            opcode::FLUSH => {
                let FlushIn { fh, lock_owner, .. } = body.take()?;
                Operation::Flush {
                    handle: fh,
                    lock_owner,
                }
            }
            opcode::RELEASE => {
                let release: ReleaseIn = body.take()?;
                let unlock = release.release_flags & abi::RELEASE_FLOCK_UNLOCK != 0;
                Operation::Release {
                    handle: release.fh,
                    flock_owner: unlock.then_some(release.lock_owner),
                }
            }
            opcode::FSYNC => {
                let FsyncIn {
                    fh, fsync_flags, ..
                } = body.take()?;
                Operation::Sync {
                    handle: fh,
                    data_only: fsync_flags & abi::FSYNC_FDATASYNC != 0,
                }
            }
            opcode::STATFS => Operation::StatFs,
            opcode::FALLOCATE => {
                let allocate: FallocateIn = body.take()?;
                Operation::Allocate {
                    handle: allocate.fh,
                    offset: allocate.offset,
                    length: allocate.length,
                    mode: allocate.mode,
                }
            }
            opcode::LSEEK => {
                let seek: LseekIn = body.take()?;
                Operation::Seek {
                    handle: seek.fh,
                    offset: seek.offset,
                    whence: seek.whence,
                }
            }
            opcode::COPY_FILE_RANGE | opcode::COPY_FILE_RANGE_64 => Operation::Copy {
                from: body.take()?,
                wide: kind == opcode::COPY_FILE_RANGE_64,
            },
            _ => Operation::Unknown,
        })
    }

    fn decode_set_xattr(mut body: Body<'a>, dialect: Dialect) -> Option<Self> {
        let SetxattrIn { size, flags } = body.take()?;
        let more = match dialect.long_setxattr {
            true => body.take()?,
            false => SetxattrInExt::default(),
        };
        Some(Operation::SetXattr {
            name: body.name()?,
            value: body.bytes(size)?,
            flags,
            clear_set_group_id: more.setxattr_flags & abi::SETXATTR_ACL_KILL_SGID != 0,
        })
    }

    fn decode_xattr(kind: u32, mut body: Body<'a>) -> Option<Self> {
        Some(match kind {
            opcode::GETXATTR => {
                let get: GetxattrIn = body.take()?;
                Operation::GetXattr {
                    name: body.name()?,
                    bytes_max: get.size,
                }
            }
            opcode::LISTXATTR => {
                let list: GetxattrIn = body.take()?;
                Operation::ListXattr {
                    bytes_max: list.size,
                }
            }
            opcode::REMOVEXATTR => Operation::RemoveXattr { name: body.name()? },
            _ => Operation::Unknown,
        })
    }
}

impl InitArguments {
    fn decode(mut body: Body<'_>) -> Option<Self> {
        let init: InitIn = body.take()?;
        let mut capabilities = u64::from(init.flags);
        if capabilities & capability::INIT_EXT != 0 {
            let InitInExt { flags2, .. } = body.take()?;
            capabilities |= u64::from(flags2) << 32;
        }
        Some(InitArguments {
            major: init.major,
            minor: init.minor,
            read_ahead_bytes_max: init.max_readahead,
            capabilities,
        })
    }
}

#[cfg(test)]
mod tests;
