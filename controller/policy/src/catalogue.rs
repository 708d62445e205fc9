//! The price table: node types and defaults, as data (`tiers.toml`).
//!
//! Every mistake in it is answered with the field and the fix.

use std::{fmt::Display, str::FromStr};

use pocket_proto::{Bandwidth, ByteCount};
use serde::Deserialize;
use thiserror::Error;

use super::{Price, Tier, packing::Needs};

/// The table that is used where no other is given.
const BUILT_IN: &str = include_str!("../tiers.toml");
/// Node types there may be; choosing among them takes time.
const NODE_TYPES_MAX: usize = 64;
/// A node holds at least 64 MiB and moves at least 1 kB/s, or sums over it lose their meaning.
const CAPACITY_BYTES_MIN: u64 = 64 << 20;
const BYTES_PER_SECOND_MIN: u64 = 1_000;
/// No node holds 2^53 bytes (8 PiB) or moves 10 Tb/s.
const CAPACITY_BYTES_MAX: u64 = 1 << 53;
const BYTES_PER_SECOND_MAX: u64 = 1_250_000_000_000;
/// More nodes by default than any cluster has.
const NODES_MAX: u32 = 100_000;

/// What is wrong with a price table.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CatalogueError {
    /// Not TOML, or a field is missing, unknown or of another kind.
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
        let parts = |amount: u64, of: u64| (u128::from(amount) << 40).div_ceil(u128::from(of));
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
        let raw: RawCatalogue = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| {
                1 + text[..span.start.min(text.len())].matches('\n').count()
            });
            CatalogueError::Malformed(format!("line {line}: {}", error.message()))
        })?;
        raw.check()
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCatalogue {
    machine: RawMachine,
    default: RawDefaults,
    node: Vec<RawNode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMachine {
    price_per_hour: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDefaults {
    nodes: u32,
    node_bandwidth: String,
    node_capacity: String,
    task_bandwidth: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    name: String,
    tier: String,
    capacity: String,
    bandwidth: String,
    get_us: u32,
    put_us: u32,
    price_per_hour: String,
}

impl RawCatalogue {
    fn check(self) -> Result<Catalogue, CatalogueError> {
        let machine: Price = read("machine.price_per_hour", &self.machine.price_per_hour)?;
        let defaults = self.default.check()?;
        if self.node.is_empty() || self.node.len() > NODE_TYPES_MAX {
            let reason = format!(
                "there are {} node types: list 1 to {NODE_TYPES_MAX}",
                self.node.len()
            );
            return Err(wrong("node", reason));
        }
        let mut nodes: Vec<NodeType> = Vec::with_capacity(self.node.len());
        for raw in self.node {
            let node = raw.check(machine)?;
            if nodes.iter().any(|other| other.name == node.name) {
                let reason = "two node types have this name: rename one";
                return Err(wrong(&format!("node '{}'", node.name), reason));
            }
            nodes.push(node);
        }
        Ok(Catalogue {
            machine,
            defaults,
            nodes,
        })
    }
}

impl RawDefaults {
    fn check(self) -> Result<Defaults, CatalogueError> {
        if self.nodes == 0 || self.nodes > NODES_MAX {
            let reason = format!("{} nodes: give 1 to {NODES_MAX}", self.nodes);
            return Err(wrong("default.nodes", reason));
        }
        Ok(Defaults {
            nodes: self.nodes,
            node_bytes_per_second: rate("default.node_bandwidth", &self.node_bandwidth)?,
            node_capacity_bytes: size("default.node_capacity", &self.node_capacity)?,
            task_bytes_per_second: rate("default.task_bandwidth", &self.task_bandwidth)?,
        })
    }
}

impl RawNode {
    fn check(self, machine: Price) -> Result<NodeType, CatalogueError> {
        if self.name.trim().is_empty() {
            return Err(wrong("node.name", "a node type needs a name: give it one"));
        }
        let field = |name: &str| format!("node '{}', {name}", self.name);
        let price: Price = read(&field("price_per_hour"), &self.price_per_hour)?;
        if price < machine || price == Price(0) {
            let reason = format!(
                "{price} contradicts machine.price_per_hour of {machine}: a node costs no less \
                 than a machine without its medium, and not nothing; correct one of them"
            );
            return Err(wrong(&field("price_per_hour"), reason));
        }
        for (name, latency_us) in [("get_us", self.get_us), ("put_us", self.put_us)] {
            if latency_us == 0 || latency_us > 10_000_000 {
                let reason = format!("{latency_us} us: give 1 to 10000000");
                return Err(wrong(&field(name), reason));
            }
        }
        Ok(NodeType {
            tier: read(&field("tier"), &self.tier)?,
            capacity_bytes: size(&field("capacity"), &self.capacity)?,
            bytes_per_second: rate(&field("bandwidth"), &self.bandwidth)?,
            get_us: self.get_us,
            put_us: self.put_us,
            price,
            name: self.name,
        })
    }
}

fn size(field: &str, text: &str) -> Result<u64, CatalogueError> {
    let ByteCount(bytes) = read(field, text)?;
    if !(CAPACITY_BYTES_MIN..=CAPACITY_BYTES_MAX).contains(&bytes) {
        let (least, most) = (ByteCount(CAPACITY_BYTES_MIN), ByteCount(CAPACITY_BYTES_MAX));
        let reason = format!("'{text}' is not from {least} to {most}: correct it");
        return Err(wrong(field, reason));
    }
    Ok(bytes)
}

fn rate(field: &str, text: &str) -> Result<u64, CatalogueError> {
    let Bandwidth { bytes_per_second } = read(field, text)?;
    if !(BYTES_PER_SECOND_MIN..=BYTES_PER_SECOND_MAX).contains(&bytes_per_second) {
        let reason = format!("'{text}' is not from 8kb/s to 10Tb/s: correct it");
        return Err(wrong(field, reason));
    }
    Ok(bytes_per_second)
}

fn read<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, CatalogueError> {
    text.parse()
        .map_err(|error: T::Err| wrong(field, error.to_string()))
}

fn wrong(field: &str, reason: impl Into<String>) -> CatalogueError {
    CatalogueError::Field {
        field: field.to_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_has_the_published_prices() {
        let table = Catalogue::default();
        let prices = table.nodes.iter().map(|node| (node.tier, node.price.0));
        let prices: Vec<_> = prices.collect();
        let expected = [
            (Tier::Dram, 532_000_000),
            (Tier::Nvme, 624_000_000),
            (Tier::Ssd, 1_705_000_000),
            (Tier::Hdd, 468_000_000),
        ];
        assert_eq!(prices, expected);
        assert_eq!(table.machine, Price(192_000_000));
        let nvme = table.named("nvme").expect("is there");
        assert_eq!(nvme.capacity_bytes, 1_960_000_000_000);
        assert_eq!(nvme.bytes_per_second, 1_000_000_000);
        assert_eq!(table.defaults.task_bytes_per_second, 75_000_000);
    }

    #[test]
    fn a_node_costs_its_shares_and_together_its_price() {
        let table = Catalogue::default();
        for node in &table.nodes {
            let all = Needs {
                capacity_bytes: node.capacity_bytes,
                bytes_per_second: node.bytes_per_second,
            };
            assert_eq!(table.share_price(node, all), node.price);
        }
        let nvme = table.typical(Tier::Nvme).expect("is there");
        let needs = Needs {
            capacity_bytes: 0,
            bytes_per_second: 500_000_000,
        };
        assert_eq!(table.share_price(nvme, needs), Price(96_000_000));
    }

    #[test]
    fn insensitive_jobs_take_the_cheapest_medium_for_their_shape() {
        let table = Catalogue::default();
        let order = |capacity_bytes, bytes_per_second| {
            table.cheapest_first(Needs {
                capacity_bytes,
                bytes_per_second,
            })
        };
        // Throughput is cheapest on NVMe, bare capacity on HDD; DRAM is last in either case.
        assert_eq!(order(1 << 30, 1 << 30)[0], Tier::Nvme);
        assert_eq!(order(1 << 43, 1 << 20)[0], Tier::Hdd);
        assert_eq!(order(1 << 30, 1 << 30)[3], Tier::Dram);
    }

    #[test]
    fn mistakes_are_named_with_the_fix() {
        for (from, to, parts) in [
            (
                "tier = \"hdd\"",
                "tier = \"tape\"",
                ["node 'hdd', tier", "use dram"],
            ),
            (
                "\"60GB\"",
                "\"lots\"",
                ["node 'dram', capacity", "as 10GiB"],
            ),
            (
                "\"60GB\"",
                "\"0GB\"",
                ["node 'dram', capacity", "from 64MiB"],
            ),
            (
                "\"60GB\"",
                "\"-60GB\"",
                ["node 'dram', capacity", "as 10GiB"],
            ),
            (
                "\"60GB\"",
                "\"7EB\"",
                ["node 'dram', capacity", "correct it"],
            ),
            (
                "\"1.2Gb/s\"",
                "\"0Gb/s\"",
                ["node 'hdd', bandwidth", "more than 0"],
            ),
            (
                "\"1.2Gb/s\"",
                "\"99Tb/s\"",
                ["node 'hdd', bandwidth", "10Tb/s"],
            ),
            (
                "\"0.532\"",
                "\"-1\"",
                ["node 'dram', price_per_hour", "dollars per hour"],
            ),
            (
                "\"0.532\"",
                "\"0.1\"",
                ["node 'dram', price_per_hour", "contradicts machine"],
            ),
            (
                "\"0.532\"",
                "\"5320000\"",
                ["node 'dram', price_per_hour", "per hour?"],
            ),
            (
                "get_us = 317",
                "get_us = 0",
                ["node 'dram', get_us", "give 1 to"],
            ),
            ("get_us = 317", "get_us = -1", ["line", "invalid value"]),
            (
                "name = \"ssd\"",
                "name = \"nvme\"",
                ["node 'nvme'", "rename one"],
            ),
            (
                "name = \"ssd\"",
                "name = \" \"",
                ["node.name", "give it one"],
            ),
            (
                "name = \"ssd\"",
                "nome = \"ssd\"",
                ["line", "unknown field `nome`"],
            ),
            ("nodes = 50", "nodes = 0", ["default.nodes", "give 1 to"]),
            ("[machine]", "[machine", ["cannot be read", "line 7"]),
        ] {
            assert!(BUILT_IN.contains(from), "{from}");
            let error = Catalogue::parse(&BUILT_IN.replacen(from, to, 1)).expect_err(to);
            for part in parts {
                let sentence = error.to_string();
                assert!(sentence.contains(part), "{part}: {sentence}");
            }
        }
        assert!(Catalogue::parse("").is_err());
        let none = BUILT_IN.split("[[node]]").next().expect("a head");
        let error = Catalogue::parse(&format!("node = []\n{none}")).expect_err("no types");
        assert!(error.to_string().contains("0 node types"), "{error}");
    }
}
