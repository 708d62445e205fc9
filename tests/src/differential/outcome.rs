//! What came of an operation, in a form that two file systems agree on when they behave alike.

use std::{
    fs::Metadata,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::{FileTypeExt, MetadataExt},
};

use nix::errno::Errno;

/// Bytes of data shown in messages.
const HEAD_BYTES: usize = 16;

/// Result of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Outcome {
    Done,
    /// The slot is empty, so that nothing was done.
    Nothing,
    Failed(Errno),
    /// Bytes written.
    Count(usize),
    Data(Data),
    Attributes(Attributes),
    /// Accessed and modified, nanoseconds since 1970.
    Times(i64, i64),
    /// Sorted names with what is compared of each.
    Names(Vec<(String, String)>),
    Text(String),
}

impl From<Errno> for Outcome {
    fn from(errno: Errno) -> Self {
        Outcome::Failed(errno)
    }
}

/// Data by their length, digest and first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    length: usize,
    digest: u64,
    head: Vec<u8>,
    // Where data begin after zeros helps to read a message about holes.
    first_nonzero: Option<usize>,
}

impl Data {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Data {
            length: bytes.len(),
            digest: hasher.finish(),
            head: bytes[..bytes.len().min(HEAD_BYTES)].to_vec(),
            first_nonzero: bytes.iter().position(|&byte| byte != 0),
        }
    }
}

/// A file's attributes but for times, inode numbers and what no standard fixes: a directory's
/// size, and blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    kind: &'static str,
    mode: u32,
    uid: u32,
    gid: u32,
    links: Option<u64>,
    size_bytes: u64,
}

impl Attributes {
    /// `directory_links`: whether a directory's link count is compared.
    pub(super) fn of(status: &Metadata, directory_links: bool) -> Self {
        let directory = status.is_dir();
        Attributes {
            kind: kind(status),
            mode: status.mode() & 0o7777,
            uid: status.uid(),
            gid: status.gid(),
            links: (!directory || directory_links).then(|| status.nlink()),
            size_bytes: if directory { 0 } else { status.size() },
        }
    }
}

/// What kind of file it is.
pub(super) fn kind(status: &Metadata) -> &'static str {
    let kind = status.file_type();
    match () {
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "symlink",
        () if kind.is_fifo() => "fifo",
        () if kind.is_file() => "file",
        () => "other",
    }
}
