//! A simulator of clusters under policy: virtual time, simulated servers and jobs, and the very
//! functions of `pocket-policy` that the controller runs.
//!
//! A [`Trace`] says which jobs come when and what they turn out to need; [`generate`] makes traces
//! from a seed. [`simulate`] runs one and returns a [`Report`]; [`published`] sets the paper's figures
//! beside those of this policy; [`plot`] draws a report. Nothing here reads a clock, a file or a
//! socket, so a trace gives the same report on every machine.

mod bounds;
mod engine;
mod fleet;
mod generate;
mod job;
mod plot;
mod published;
mod random;
mod report;
mod running;
mod scenario;
mod trace;

pub use engine::simulate;
pub use generate::{Kind, generate};
pub use plot::plot;
pub use published::{Published, PublishedRow, published};
pub use report::{Losses, Report, Sample};
pub use scenario::{HintMode, Scenario};
pub use trace::{Setting, Shape, Trace, TraceError, TraceJob};
