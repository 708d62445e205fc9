//! The metadata server: names and attributes of jobs, sessions of mounts, leases, layouts, space.
//!
//! [`MetaServer`] serves them over the wire; [`LocalJob`] is one job in this process, for tests.
//! Blocks are not its business, but for dropping those of removed files, and for saying whose
//! sessions may change them ([`BlockRemover`]).
//! The modules, from the plain values inwards to the sockets outwards: `namespace`, `leases`,
//! `opens`, `locks`, `space`, `layouts` and `session` know neither clock nor I/O; `job` puts them behind a
//! lock, `operation` says what each request does to them; `reaper`, `vouching`, `service`,
//! `control` and `server` are the ways in and out.

mod blocks;
mod control;
mod environment;
mod evacuation;
mod growth;
mod job;
mod jobs;
mod layouts;
mod leases;
mod leaving;
mod limits;
mod local;
mod locks;
mod metrics;
mod namespace;
mod now;
mod opens;
mod operation;
mod reaper;
mod server;
mod service;
mod session;
mod space;
mod vouching;

pub use blocks::{BlockRemover, NoBlocks};
pub use local::{LocalJob, LocalJobConfig, LocalMetadata};
pub use metrics::MetaMetrics;
pub use server::{MetaConfig, MetaServer, RunningMeta, StartError};
