//! Who asks, and what an open file is for.

use pocket_proto::session::Owner;

/// Who asks. Permissions are checked before an operation gets here (by the kernel).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// File system user id.
    pub uid: u32,
    /// File system group id.
    pub gid: u32,
}

impl Caller {
    pub(crate) fn owner(self) -> Owner {
        Owner {
            uid: self.uid,
            gid: self.gid,
        }
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only to read.
    Read,
    /// To write, and perhaps to read.
    Write,
}
