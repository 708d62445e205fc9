//! The price table: node types and defaults, as data (`tiers.toml`).
//!
//! Every mistake in it is answered with the field and the fix.

mod read;

use thiserror::Error;

use super::{
    Price, Tier,
    packing::{Needs, WHOLE},
};

/// The table that is used where no other is given.
const BUILT_IN: &str = include_str!("../tiers.toml");
/// What is wrong with a price table.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CatalogueError {
    /// Not TOML.
    #[error("the price table cannot be read: {0}")]
    Malformed(String),
    /// A value that makes no sense.
    #[error("price table, {field}: {reason}")]
    Field {
        /// Which value.
        field: String,
        /// What is wrong and what to do about it.
        reason: String,
    },
}

/// A kind of machine that storage servers run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeType {
    /// As people call it; unique in a table.
    pub name: String,
    /// What its blocks are held on.
    pub tier: Tier,
    /// Bytes of blocks that it holds.
    pub capacity_bytes: u64,
    /// Bytes per second that it moves, in and out together.
    pub bytes_per_second: u64,
    /// Microseconds that a small get takes, unloaded.
    pub get_us: u32,
    /// Microseconds that a small put takes, unloaded.
    pub put_us: u32,
    /// What the whole machine costs.
    pub price: Price,
}

impl NodeType {
    /// How many nodes of this type `needs` take, in parts of [`crate::WHOLE`] nodes, rounded up.
    pub fn nodes_parts(&self, needs: Needs) -> u128 {
        let parts = |amount: u64, of: u64| {
            (u128::from(amount) * u128::from(WHOLE)).div_ceil(u128::from(of))
        };
        let capacity = parts(needs.capacity_bytes, self.capacity_bytes);
        capacity.max(parts(needs.bytes_per_second, self.bytes_per_second))
    }
}

/// What jobs without hints get (paper, table 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Nodes for a job that says nothing.
    pub nodes: u32,
    /// Throughput of a node in that table.
    pub node_bytes_per_second: u64,
    /// Capacity of a node in that table.
    pub node_capacity_bytes: u64,
    /// What one task moves at most.
    pub task_bytes_per_second: u64,
}

/// The price table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    /// A machine that stores nothing: the price of bandwidth.
    pub machine: Price,
    /// Of jobs without hints.
    pub defaults: Defaults,
    /// As they stand in the table.
    pub nodes: Vec<NodeType>,
}

impl Default for Catalogue {
    /// The built-in table: prices of April 2018, as the Pocket paper publishes them.
    fn default() -> Self {
        Catalogue::parse(BUILT_IN).expect("the built-in table is sound: a test reads it")
    }
}

impl Catalogue {
    /// Reads a table.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        read::catalogue(text)
    }

    /// The types of a tier.
    pub fn of_tier(&self, tier: Tier) -> impl Iterator<Item = &NodeType> {
        self.nodes.iter().filter(move |node| node.tier == tier)
    }

    /// The type that stands for a tier where it does not matter which: the first.
    pub fn typical(&self, tier: Tier) -> Option<&NodeType> {
        self.of_tier(tier).next()
    }

    /// The type of that name.
    pub fn named(&self, name: &str) -> Option<&NodeType> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// What `needs` of a job cost on this type, by what it takes and not by whole machines:
    /// bandwidth at the price of a bare machine, capacity at what the medium adds to it.
    pub fn share_price(&self, node: &NodeType, needs: Needs) -> Price {
        let medium = node.price.without(self.machine);
        medium.of(needs.capacity_bytes, node.capacity_bytes)
            + self
                .machine
                .of(needs.bytes_per_second, node.bytes_per_second)
    }

    /// The same for comparing: in nanodollars per hour times 2^10, so that nearly nothing is rounded. It is
    /// linear in `needs`: half of a job costs half of it.
    pub fn share_cost(&self, node: &NodeType, needs: Needs) -> u128 {
        let cost = |price: Price, amount: u64, of: u64| {
            ((u128::from(price.0) * u128::from(amount)) << 10) / u128::from(of.max(1))
        };
        let medium = node.price.without(self.machine);
        cost(medium, needs.capacity_bytes, node.capacity_bytes)
            + cost(self.machine, needs.bytes_per_second, node.bytes_per_second)
    }

    /// By how much longer a task's object of such a size takes on the fastest tier after DRAM than on
    /// DRAM, in thousandths.
    pub fn slow_down_permille(&self, object_bytes: u64) -> u64 {
        let typical = |tier| self.typical(tier);
        let next = Tier::FASTEST_FIRST[1..]
            .iter()
            .find_map(|tier| typical(*tier));
        match (typical(Tier::Dram), next) {
            (Some(dram), Some(next)) => {
                let task = self.defaults.task_bytes_per_second;
                let transfer_us = u128::from(object_bytes) * 1_000_000 / u128::from(task);
                let on = |node: &NodeType| transfer_us + u128::from(node.get_us.max(node.put_us));
                let permille = on(next).saturating_sub(on(dram)) * 1_000 / on(dram).max(1);
                permille as u64
            }
            _ => 0,
        }
    }

    /// The order in which a job that asks for these tiers of `needs` takes them when latency does
    /// not matter: by what all of it would cost there, DRAM last (paper, table 3: "no DRAM").
    pub fn cheapest_first(&self, needs: Needs) -> [Tier; 4] {
        let mut tiers = Tier::FASTEST_FIRST;
        tiers.sort_by_key(|tier| {
            let costs = self.of_tier(*tier).map(|node| self.share_cost(node, needs));
            // A tier that the table does not know stands last but one.
            (*tier == Tier::Dram, costs.min().unwrap_or(u128::MAX))
        });
        tiers
    }
}

#[cfg(test)]
mod tests;
