//! The storage server: holds blocks, and knows nothing else of a job.
//!
//! A [`BlockEngine`] keeps the blocks of one medium; [`StorageServer`] offers it over the framed
//! transport, checks that callers speak of their own job only, have not been fenced and have not gone on to another
//! connection, and reports to the controller.
//! Names, files' sizes and placement are none of its business. Blocks in memory live as long as the
//! process: every start is a new incarnation. Those on a disk are there again after a restart, and the
//! incarnation stays what it was.

mod calibrate;
mod engine;
mod fences;
mod leaving;
mod metrics;
mod pace;
mod server;
mod service;
mod store;
mod turns;

pub use engine::{
    BlockEngine, BlockRead, Change, Completion, Doubt, DramEngine, EngineUsage, LogConfig,
    LogEngine, Medium, MediumReport, OpenError, OpenFailure, Opened, Survival,
};
pub use metrics::StorageMetrics;
pub use server::{RunningServer, StartError, StorageConfig, StorageServer, StoreBandwidth};
pub use store::Store;
