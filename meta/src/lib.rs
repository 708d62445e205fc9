//! The metadata server.

mod limits;
mod namespace;
mod now;
