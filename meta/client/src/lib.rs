//! How to reach a metadata server: the session of a mount, and the controller's commands.
//!
//! [`Metadata`] is what the file system core needs of a session; [`MetaClient`] is the session over
//! the wire (`pocket-meta` has one in the same process). [`MetaControlClient`] is for controllers.
//! This crate holds no file system logic and caches nothing.

mod client;
mod control;
mod metadata;

pub use client::MetaClient;
pub use control::{CREDENTIAL_HEADER, MetaControlClient};
pub use metadata::{Answered, Metadata, RecallHandler, SessionInfo};
