//! The operations, one file each, named as POSIX and the metadata server name them.

mod access;
mod create;
mod flush;
mod get_attributes;
mod link;
mod lock;
mod lookup;
mod make_node;
mod open;
mod read;
mod read_directory;
mod read_link;
mod release;
mod remove;
mod rename;
mod set_attributes;
mod status;
mod write;
mod xattr;

pub use access::{Access, Caller};
pub use create::CreateRequest;
pub use lock::{HeldLock, LockMode, LockPatience, LockRequest};
pub use make_node::{NewNode, NodeRequest};
pub use open::{OpenRequest, Opened};
pub use read_directory::DirectoryPage;
pub(crate) use read_directory::DirectoryStream;
pub use rename::RenameMode;
pub use set_attributes::{SetAttributesRequest, TimeChange};
pub use status::StatFs;
pub use write::WriteRequest;
pub use xattr::XattrMode;
