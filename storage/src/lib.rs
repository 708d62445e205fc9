//! The storage server: holds blocks, and knows nothing else of a job.
//!
//! A [`BlockEngine`] keeps the blocks of one medium; [`StorageServer`] offers it over the framed
//! transport, checks that callers speak of their own job only and have not been fenced, and reports to
//! the controller.
//! Names, files' sizes and placement are none of its business. A server's data live as long as its
//! process: every start is a new incarnation.

mod engine;
mod fences;
mod leaving;
mod pace;
mod server;
mod service;
mod traffic;

pub use engine::{BlockEngine, BlockRead, DramEngine, EngineUsage};
pub use server::{RunningServer, StartError, StorageConfig, StorageServer};
