//! How storage servers are reached: blocks for a job's mounts, clean-up for metadata servers.
//!
//! [`BlockStore`] is what the file system core asks for; [`StorageClient`] is that over the wire,
//! with a few shared connections per server, opened on demand. Nothing here decides where a block
//! lies or what to do when its server is gone: the answer says which ([`Status::Lost`],
//! [`Status::ServerFull`], [`Status::Unavailable`]) and the caller decides.
//!
//! [`Status::Lost`]: pocket_proto::Status::Lost
//! [`Status::ServerFull`]: pocket_proto::Status::ServerFull
//! [`Status::Unavailable`]: pocket_proto::Status::Unavailable

mod block_store;
mod client;
mod cluster;
mod link;
mod options;
mod pool;

pub use block_store::{BlockData, BlockStore};
pub use client::StorageClient;
pub use cluster::ClusterStorage;
pub use options::StorageClientOptions;
pub use pocket_wire::Payload;
