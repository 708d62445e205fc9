//! Status codes: what a request came to, on the wire and inside the roles.
//!
//! The file system core turns them into errno in one match (`fs/src/errno.rs`).

use std::fmt;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// Outcome of a request as it travels in a frame's header.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Status {
            $($(#[$doc])* $name = $code,)*
        }

        impl Status {
            /// The status of a code from the wire; an unknown one is [`Status::Internal`].
            pub fn from_code(code: u16) -> Self {
                match code {
                    $($code => Status::$name,)*
                    _ => Status::Internal,
                }
            }
        }
    };
}

statuses! {
    /// It was done.
    Ok = 0,
    /// No such name, block list, job or attribute target.
    NotFound = 1,
    /// The name is taken.
    Exists = 2,
    /// A path component is not a directory.
    NotDirectory = 3,
    /// The operation does not fit a directory.
    IsDirectory = 4,
    /// The directory has entries.
    NotEmpty = 5,
    /// A name is longer than 255 bytes or a symlink's target than 4095.
    NameTooLong = 6,
    /// The inode no longer exists.
    Stale = 7,
    /// No storage server has room.
    NoSpace = 8,
    /// The job's allocation is used up.
    QuotaExceeded = 9,
    /// The request makes no sense.
    Invalid = 10,
    /// The caller may not do that.
    NotPermitted = 11,
    /// Wrong credential, or another job's data.
    Denied = 12,
    /// The data were on a server that is gone.
    Lost = 13,
    /// The peer cannot be reached or did not answer in time.
    Unavailable = 14,
    /// An inode has as many links as it may.
    TooManyLinks = 15,
    /// No such extended attribute.
    NoAttribute = 16,
    /// A value does not fit (extended attributes).
    OutOfRange = 17,
    /// The file would grow past the largest size.
    TooLarge = 18,
    /// The job has ended, or this server never knew it.
    JobGone = 19,
    /// The session was ended by the server: its leases, locks and open files are gone.
    SessionEnded = 20,
    /// This storage server is full or leaving: ask for another place.
    ServerFull = 21,
    /// The peer speaks another version.
    VersionMismatch = 22,
    /// The request's frame or message cannot be understood.
    Malformed = 23,
    /// Not offered here.
    Unsupported = 24,
    /// Would wait.
    Again = 25,
    /// A defect, here or there.
    Internal = 26,
    /// More of something than a limit allows.
    LimitReached = 27,
    /// Waiting for the lock would never end.
    Deadlock = 40,
    /// As many locks are held or waited for as may be.
    NoLocks = 41,
    /// This storage server is leaving and does not speak for the block any more: ask the metadata
    /// server where it is.
    Moved = 42,
}

impl Status {
    /// The code for the wire.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// Whether trying again, perhaps elsewhere or later, can succeed.
    pub fn is_transient(self) -> bool {
        matches!(self, Status::Unavailable | Status::Again)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Ok => "ok",
            Status::NotFound => "not found",
            Status::Exists => "exists already",
            Status::NotDirectory => "not a directory",
            Status::IsDirectory => "is a directory",
            Status::NotEmpty => "directory not empty",
            Status::NameTooLong => "name too long",
            Status::Stale => "inode is gone",
            Status::NoSpace => "no storage server has room",
            Status::QuotaExceeded => "the job's allocation is used up",
            Status::Invalid => "invalid request",
            Status::NotPermitted => "not permitted",
            Status::Denied => "credential refused",
            Status::Lost => "data lost with their server",
            Status::Unavailable => "server unavailable",
            Status::TooManyLinks => "too many links",
            Status::NoAttribute => "no such attribute",
            Status::OutOfRange => "value does not fit",
            Status::TooLarge => "file too large",
            Status::JobGone => "the job has ended",
            Status::SessionEnded => "the session has ended",
            Status::ServerFull => "storage server full",
            Status::VersionMismatch => "protocol version mismatch",
            Status::Malformed => "malformed message",
            Status::Unsupported => "not supported",
            Status::Again => "would wait",
            Status::Internal => "internal error",
            Status::LimitReached => "limit reached",
            Status::Deadlock => "deadlock",
            Status::Moved => "the block has moved",
            Status::NoLocks => "no locks available",
        })
    }
}

/// A status other than [`Status::Ok`] with a sentence for people (may be empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened, for programs.
    pub status: Status,
    /// What happened, for people: lower case, no full stop, the values in it.
    pub message: String,
}

impl Failure {
    /// A failure with a message.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Failure {
            status,
            message: message.into(),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Failure {
            status,
            message: String::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            write!(f, "{}", self.status)
        } else {
            write!(f, "{}: {}", self.status, self.message)
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_as_its_status() {
        for code in (0..=27).chain(40..=41) {
            assert_eq!(Status::from_code(code).code(), code);
        }
        assert_eq!(Status::from_code(999), Status::Internal);
    }
}
