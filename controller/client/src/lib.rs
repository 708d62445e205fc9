//! How the other roles reach the controller: [`ControllerClient`] for mounts and people,
//! [`ServerAgent`] for metadata and storage servers.
//!
//! Every call has a deadline and every failure names the endpoint. Nothing here decides anything.

mod agent;
mod client;
mod endpoint;
mod error;
mod usage;

pub use agent::{Report, ServerAgent, ServerIdentity};
pub use client::ControllerClient;
pub use endpoint::{DEFAULT_PORT, parse as parse_endpoint};
pub use error::ControllerError;
pub use usage::{Totals, UsageMeter};
