//! Differential testing: the same random operations on two directory trees, one of them tmpfs,
//! with every result, errno, content and attribute compared.
//!
//! A [`Plan`] is a list of steps drawn from a seed, without looking at what they do. A [`Subject`]
//! applies steps; [`compare`] walks two of them in step and stops at the first difference, which
//! [`minimize`] reduces to a few steps that still differ. Steps are printed as lines of JSON, and
//! such lines are read back for a replay.

mod apply;
mod belief;
mod calls;
mod compare;
mod dice;
mod generate;
mod minimize;
mod operation;
mod outcome;
mod run;
mod tree;

pub use apply::World;
pub use compare::{Difference, compare};
pub use generate::{Focus, generate};
pub use minimize::minimize;
pub use operation::{Access, Allocation, Exchange, Operation, Step};
pub use outcome::{Attributes, Outcome};
pub use run::{Arena, Seeds, differential};
pub use tree::{Node, Tree};

/// Something that steps are applied to.
pub trait Subject {
    /// Applies a step and says what came of it.
    fn apply(&mut self, step: &Step) -> Outcome;

    /// Everything there is, seen through root `actor`.
    fn tree(&mut self, actor: usize) -> Tree;
}
