//! The controller: which jobs there are, what each was given, which servers live, and who tells
//! the metadata servers about it.
//!
//! What it knows comes from the servers' heartbeats, and a new controller learns it again within
//! seconds; only the peaks of earlier runs, which no server knows, are kept in a file, if one is
//! given. Data and names never pass through it. What jobs get
//! is decided in `pocket-policy`.

mod acting;
mod cluster;
mod config;
mod dashboard;
mod metadata;
mod server;
mod service;
mod state;

pub use config::ControllerConfig;
pub use server::{Controller, RunningController, StartError};
pub use state::StateError;
