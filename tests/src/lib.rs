//! The test kit: real processes, real mounts, and the tools to compare them with what POSIX says.
//!
//! The suites are in `tests/tests/`. They reach the system as its users do: through commands,
//! mounted directories and bytes on sockets. This crate starts those processes, waits for the real
//! condition, reads what they said, and cleans up after them.

mod acl;
mod binaries;
mod cluster;
mod content;
mod control;
pub mod differential;
mod file_handle;
mod frames;
pub mod history;
pub mod load;
mod log;
pub mod metrics;
mod mount;
mod network;
mod process;
mod rights;
mod scratch;
mod shell;
pub mod soak;
mod syscall;
mod wait;

pub use acl::{acl, acl_text};
pub use binaries::{binary, workspace};
pub use cluster::{CLUSTER_KEY, Endpoint, ProcessCluster, Server, Shape, with_cluster, with_shape};
pub use content::content;
pub use control::Control;
pub use file_handle::FileHandle;
pub use frames::{Answer, Peer, welcome};
pub use mount::{EmbeddedMount, Mount, is_mounted, mount_command, with_mount, with_mount_and};
pub use network::{Cut, Network};
pub use process::Process;
pub use rights::{can_mount, is_root};
pub use scratch::{Scratch, mounts_below};
pub use shell::{may, may_not, shell_as};
pub use syscall::{
    Map, RawEntry, Sharing, errno_of, get_xattr, get_xattr_into, list_xattr, list_xattr_into,
    read_entries, remove_xattr, set_xattr,
};
pub use wait::{try_until, until, within};
