//! The one place where a status becomes an errno.

use pocket_proto::{Failure, Status};

/// An errno of the host (`libc::E*`), never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl From<Status> for Errno {
    fn from(status: Status) -> Self {
        Errno(match status {
            Status::NotFound => libc::ENOENT,
            Status::Exists => libc::EEXIST,
            Status::NotDirectory => libc::ENOTDIR,
            Status::IsDirectory => libc::EISDIR,
            Status::NotEmpty => libc::ENOTEMPTY,
            Status::NameTooLong => libc::ENAMETOOLONG,
            // ESTALE makes the kernel walk the path once more; a job that is gone stays ESTALE,
            // which `ls` spells "Stale file handle".
            Status::Stale | Status::JobGone => libc::ESTALE,
            Status::NoSpace | Status::ServerFull => libc::ENOSPC,
            Status::QuotaExceeded => libc::EDQUOT,
            Status::Invalid => libc::EINVAL,
            Status::NotPermitted => libc::EPERM,
            Status::Denied => libc::EACCES,
            Status::TooManyLinks => libc::EMLINK,
            Status::NoAttribute => libc::ENODATA,
            Status::OutOfRange => libc::ERANGE,
            Status::TooLarge => libc::EFBIG,
            Status::Unsupported => libc::EOPNOTSUPP,
            Status::Again => libc::EAGAIN,
            // More inodes, attributes or opens than a limit allows.
            Status::LimitReached => libc::ENOSPC,
            Status::Deadlock => libc::EDEADLK,
            Status::NoLocks => libc::ENOLCK,
            // Lost data, dead or unintelligible servers; Ok is no failure and never gets here.
            Status::Lost
            | Status::Unavailable
            | Status::SessionEnded
            | Status::VersionMismatch
            | Status::Malformed
            | Status::Moved
            | Status::Internal
            | Status::Ok => libc::EIO,
        })
    }
}

impl From<Failure> for Errno {
    fn from(failure: Failure) -> Self {
        match failure.status {
            Status::Lost
            | Status::Unavailable
            | Status::SessionEnded
            | Status::VersionMismatch
            | Status::Malformed
            | Status::Moved
            | Status::Internal => tracing::debug!(%failure, "answered with EIO"),
            _ => {}
        }
        failure.status.into()
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.0))
    }
}

impl std::error::Error for Errno {}
