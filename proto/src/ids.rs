//! Ids as types of their own, so that an inode is never passed for a job.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

id!(
    /// A job: a namespace, its data and its share of the cluster. Random, never reused.
    JobId(u64), "{:016x}"
);
id!(
    /// An inode within a job. Never reused within the job; the root is [`InodeId::ROOT`].
    InodeId(u64), "{}"
);
id!(
    /// Index of a block within a file: byte offset divided by the job's block size.
    BlockIndex(u64), "{}"
);
id!(
    /// A metadata or storage server. Random, chosen by the server itself.
    ServerId(u64), "{:016x}"
);
id!(
    /// A life of a server's data: another incarnation means that the blocks of the former are lost.
    Incarnation(u64), "{:016x}"
);
id!(
    /// A mount's session with its metadata server.
    SessionId(u64), "{}"
);
id!(
    /// An edition of a job's weight map. Grows by one; a map once published never changes.
    Epoch(u32), "{}"
);

impl InodeId {
    /// The root directory of a job; FUSE expects 1.
    pub const ROOT: InodeId = InodeId(1);
}

impl JobId {
    /// A new random id. 63 bits, so that it also fits signed integers of other systems.
    pub fn random() -> Self {
        JobId((rand::random::<u64>() >> 1).max(1))
    }
}

impl ServerId {
    /// A new random id, never 0.
    pub fn random() -> Self {
        ServerId((rand::random::<u64>() >> 1).max(1))
    }
}

impl Incarnation {
    /// A new random incarnation, never 0.
    pub fn random() -> Self {
        Incarnation((rand::random::<u64>() >> 1).max(1))
    }
}
