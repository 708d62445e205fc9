//! What a process counts, as Prometheus reads it: metrics are declared once as [`Metric`]s, written
//! as text on a [`Page`], and served over plain HTTP by [`MetricsServer`]. Nothing here measures.
//!
//! docs/metrics.md lists every metric of the project; each crate that declares some tests that its
//! part of the list is right, with [`table_rows`].

mod exposition;
mod server;

pub use exposition::{Kind, Metric, Page, table_rows};
pub use server::MetricsServer;
