//! The FUSE adapter: the only place that speaks the kernel's protocol.
//!
//! It holds no file system logic: a request of the kernel is decoded (`kernel/`), becomes one call
//! of [`pocket_fs::FileSystem`] (`adapter/`), and its outcome becomes one answer. Requests that need
//! no network are answered on the thread that read them; the others go on as tasks and are answered
//! by whoever has the data.

mod adapter;
mod convert;
mod direct;
mod dispatch;
mod helper;
mod kernel;
mod kernel_cache;
mod metrics;
mod mount;
mod reply;

pub use mount::{MountError, MountSettings, Mounted, Readers, mount};
