//! The ways in: what users run. `pocket-mount` puts a job on a directory, `pocket` runs servers,
//! asks clusters and copies files without a mount.
//!
//! Command lines are read here, processes started, watched and ended, and results shown to people
//! and programs. What files do is `pocket-fs`'s business, how the kernel reaches them
//! `pocket-fuse`'s; this crate only puts the pieces together ([`JobConnection`],
//! [`embedded::Cluster`]).

pub mod bench;
pub mod command_line;
pub mod embedded;

mod arguments;
mod cluster_key;
mod command;
mod connection;
mod control_source;
mod daemon;
mod endpoint;
mod guard;
mod job_mount;
mod logging;
mod machine;
mod metrics;
mod mount_command;
mod mountpoint;
mod object;
mod options;
mod output;
mod presentation;
mod runtime;
mod sentence;
mod signals;
mod units;
mod view;

pub use command::run_pocket;
pub use connection::{ConnectError, JobConnection, JobTerms};
pub use mount_command::run_mount;
pub use mountpoint::MountPointError;
pub use presentation::Presentation;
