//! The FUSE adapter: the only place that names the FUSE library.
//!
//! It holds no file system logic: a request of the kernel is parsed, becomes one call of
//! [`pocket_fs::FileSystem`], and its outcome becomes one reply. Requests that need no network are
//! answered on the thread that read them; the others go on as tasks and are answered by whoever
//! has the data.

mod adapter;
mod convert;
mod direct;
mod dispatch;
mod kernel_cache;
mod mount;
mod reply;

pub use mount::{MountError, MountSettings, Mounted, Readers, mount};
