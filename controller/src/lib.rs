//! The controller: which jobs there are, what each was given, which servers live, and who tells
//! the metadata servers about it.
//!
//! It keeps no durable state: what it knows comes from the servers' heartbeats, and a new
//! controller learns it again within seconds. Data and names never pass through it. What jobs get
//! is decided in `pocket-policy`.

mod acting;
mod cluster;
mod config;
mod metadata;
mod server;
mod service;

pub use config::ControllerConfig;
pub use server::{Controller, RunningController, StartError};
