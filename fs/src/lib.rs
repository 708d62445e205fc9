//! The file system core: what files and directories do, with no kernel in sight.
//!
//! A [`FileSystem`] is one mount's view of one job. Operations come in as plain calls named after
//! their POSIX kin (`operation/`), names and attributes go to the metadata server, data straight
//! to the storage servers. It never names FUSE, sockets or tasks of a server; what it needs of the
//! kernel (dropping caches) it asks through [`KernelCache`].

mod ahead;
mod budget;
mod coherence;
mod config;
mod control;
mod errno;
mod exclusive;
mod file;
mod filesystem;
mod handle;
mod housekeeping;
mod inode_cache;
mod kernel_acls;
mod kernel_listings;
mod listings;
mod locks;
mod lost_names;
mod maps;
mod metrics;
mod name_cache;
mod operation;
mod path;
mod read_to_end;
mod renewal;
mod space;
mod start;
mod stores;

pub use coherence::{Freshness, KernelCache, Leased, NoKernelCache};
pub use config::FileSystemConfig;
pub use control::{CONTROL_DIRECTORY, ControlSource};
pub use errno::Errno;
pub use file::{ReadData, WriteData};
pub use filesystem::{FileSystem, Gauges};
pub use handle::HandleId;
pub use locks::{LockKind, LockOwner};
pub use operation::{
    Access, AclKind, AllocateMode, AllocateRequest, Caller, CopyRequest, CreateRequest,
    CreateTemporaryRequest, DirectoryEnd, DirectoryPage, FilePlace, HeldLock, LockMode,
    LockPatience, LockRequest, NewNode, NodeRequest, OpenRequest, Opened, OpenedDirectory,
    RenameMode, SeekTarget, SetAttributesRequest, SetGroupId, StatFs, TimeChange, WriteRequest,
    XattrMode,
};
pub use renewal::RecallInbox;
pub use start::start;
