//! What a process counts, as Prometheus reads it: metrics are declared once as [`Metric`]s, counted
//! by [`Counter`]s and [`Histogram`]s, told on a [`Page`], and served over plain HTTP by
//! [`MetricsServer`], which adds what every process tells of itself.
//!
//! docs/metrics.md lists every metric of the project; each crate that declares some tests that its
//! part of the list is right, with [`check_document`].

mod http;
mod measure;
mod metric;
mod page;
mod process;
mod server;

pub use http::{Content, HttpServer};
pub use measure::{BOUNDS, ByCode, Counter, Distribution, Histogram};
pub use metric::{Kind, Metric, check_document, snake_case, table_rows};
pub use page::Page;
pub use server::MetricsServer;
