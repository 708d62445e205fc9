//! A price table as it is written: every value is looked at by its name, so that whatever is wrong, what
//! is missing and what is too much is answered with the field and the fix.

use std::{fmt::Display, str::FromStr};

use pocket_proto::{Bandwidth, ByteCount};
use toml::{Table, Value};

use super::{Catalogue, CatalogueError, Defaults, NodeType};
use crate::Price;

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

/// Ten seconds.
const LATENCY_US_MAX: u32 = 10_000_000;

/// Reads all of it.
pub(super) fn catalogue(text: &str) -> Result<Catalogue, CatalogueError> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| {
            1 + text[..span.start.min(text.len())].matches('\n').count()
        });
        CatalogueError::Malformed(format!("line {line}: {}", error.message()))
    })?;
    let mut all = Fields {
        of: String::new(),
        table,
    };
    let machine = machine(all.part("machine")?)?;
    let defaults = defaults(all.part("default")?)?;
    let nodes = nodes(all.list("node")?, machine)?;
    all.end()?;
    Ok(Catalogue {
        machine,
        defaults,
        nodes,
    })
}

fn machine(mut fields: Fields) -> Result<Price, CatalogueError> {
    let price: Price = fields.text("price_per_hour", "0.192")?;
    if price == Price(0) {
        let reason = "bandwidth costs what such a machine does, and not nothing: give what a machine \
                      costs that stores nothing";
        return Err(wrong(&fields.named("price_per_hour"), reason));
    }
    fields.end()?;
    Ok(price)
}

fn defaults(mut fields: Fields) -> Result<Defaults, CatalogueError> {
    let defaults = Defaults {
        nodes: fields.number("nodes", 50, NODES_MAX)?,
        node_bytes_per_second: fields.rate("node_bandwidth")?,
        node_capacity_bytes: fields.size("node_capacity")?,
        task_bytes_per_second: fields.rate("task_bandwidth")?,
    };
    fields.end()?;
    Ok(defaults)
}

fn nodes(tables: Vec<Value>, machine: Price) -> Result<Vec<NodeType>, CatalogueError> {
    if tables.is_empty() || tables.len() > NODE_TYPES_MAX {
        let reason = format!(
            "there are {} node types: list 1 to {NODE_TYPES_MAX}",
            tables.len()
        );
        return Err(wrong("node", reason));
    }
    let mut nodes: Vec<NodeType> = Vec::with_capacity(tables.len());
    for (number, table) in (1..).zip(tables) {
        let Value::Table(table) = table else {
            let reason = format!("the {number}. is no table: write each node type under [[node]]");
            return Err(wrong("node", reason));
        };
        let node = node(number, table, machine)?;
        if let Some(other) = nodes.iter().find(|other| are_contradictory(other, &node)) {
            let reason = match other.name == node.name {
                true => "two node types have this name: rename one".to_owned(),
                false => format!(
                    "it is the same machine as node '{}', which costs {} and not {}: remove one",
                    other.name, other.price, node.price
                ),
            };
            return Err(wrong(&format!("node '{}'", node.name), reason));
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// One name for two, or two prices for one.
fn are_contradictory(one: &NodeType, other: &NodeType) -> bool {
    let machine = |node: &NodeType| {
        let latency = (node.get_us, node.put_us);
        (
            node.tier,
            node.capacity_bytes,
            node.bytes_per_second,
            latency,
        )
    };
    one.name == other.name || machine(one) == machine(other) && one.price != other.price
}

fn node(number: usize, table: Table, machine: Price) -> Result<NodeType, CatalogueError> {
    let mut fields = Fields {
        of: format!("the {number}. node"),
        table,
    };
    let name: String = fields.text("name", "nvme")?;
    if name.trim().is_empty() {
        return Err(wrong(
            &fields.named("name"),
            "a node type needs a name: give it one",
        ));
    }
    fields.of = format!("node '{name}'");
    let price: Price = fields.text("price_per_hour", "0.532")?;
    if price < machine || price == Price(0) {
        let reason = format!(
            "{price} contradicts machine.price_per_hour of {machine}: a node costs no less than a \
             machine without its medium, and not nothing; correct one of them"
        );
        return Err(wrong(&fields.named("price_per_hour"), reason));
    }
    let node = NodeType {
        tier: fields.text("tier", "nvme")?,
        capacity_bytes: fields.size("capacity")?,
        bytes_per_second: fields.rate("bandwidth")?,
        get_us: fields.number("get_us", 317, LATENCY_US_MAX)?,
        put_us: fields.number("put_us", 437, LATENCY_US_MAX)?,
        price,
        name,
    };
    fields.end()?;
    Ok(node)
}

/// A table, and what it is of.
struct Fields {
    of: String,
    table: Table,
}

impl Fields {
    /// "machine.price_per_hour", "node 'dram', capacity".
    fn named(&self, key: &str) -> String {
        match self.of.as_str() {
            "" => key.to_owned(),
            of if of.contains(' ') => format!("{of}, {key}"),
            of => format!("{of}.{key}"),
        }
    }

    fn take(&mut self, key: &str, example: impl Display) -> Result<Value, CatalogueError> {
        let found = self.table.remove(key);
        found.ok_or_else(|| {
            wrong(
                &self.named(key),
                format!("is missing: add {key} = {example}"),
            )
        })
    }

    fn part(&mut self, key: &str) -> Result<Fields, CatalogueError> {
        match self.table.remove(key) {
            Some(Value::Table(table)) => Ok(Fields {
                of: key.to_owned(),
                table,
            }),
            Some(_) => Err(wrong(
                key,
                format!("is no table: write its values under [{key}]"),
            )),
            None => Err(wrong(key, format!("is missing: add a table [{key}]"))),
        }
    }

    fn list(&mut self, key: &str) -> Result<Vec<Value>, CatalogueError> {
        match self.table.remove(key) {
            Some(Value::Array(values)) => Ok(values),
            Some(_) => Err(wrong(
                key,
                format!("is no list: write each under [[{key}]]"),
            )),
            None => Err(wrong(
                key,
                format!("is missing: add a table [[{key}]] for each"),
            )),
        }
    }

    /// A value that is written as text, in quotes.
    fn text<T: FromStr<Err: Display>>(
        &mut self,
        key: &str,
        example: &str,
    ) -> Result<T, CatalogueError> {
        let value = self.take(key, format!("\"{example}\""))?;
        let Value::String(text) = value else {
            let value = shown(&value);
            let reason = format!("{value} is not text: write it in quotes, as \"{example}\"");
            return Err(wrong(&self.named(key), reason));
        };
        text.parse()
            .map_err(|error: T::Err| wrong(&self.named(key), error.to_string()))
    }

    /// A whole number from 1.
    fn number(&mut self, key: &str, example: u32, most: u32) -> Result<u32, CatalogueError> {
        let value = self.take(key, example)?;
        let number = value
            .as_integer()
            .and_then(|number| u32::try_from(number).ok());
        match number {
            Some(number) if (1..=most).contains(&number) => Ok(number),
            _ => {
                let value = shown(&value);
                let reason = format!("{value}: give 1 to {most}, as {key} = {example}");
                Err(wrong(&self.named(key), reason))
            }
        }
    }

    fn size(&mut self, key: &str) -> Result<u64, CatalogueError> {
        let ByteCount(bytes) = self.text(key, "60GB")?;
        if !(CAPACITY_BYTES_MIN..=CAPACITY_BYTES_MAX).contains(&bytes) {
            let (least, most) = (ByteCount(CAPACITY_BYTES_MIN), ByteCount(CAPACITY_BYTES_MAX));
            let reason = format!(
                "{} is not from {least} to {most}: correct it",
                ByteCount(bytes)
            );
            return Err(wrong(&self.named(key), reason));
        }
        Ok(bytes)
    }

    fn rate(&mut self, key: &str) -> Result<u64, CatalogueError> {
        let rate: Bandwidth = self.text(key, "8Gb/s")?;
        if !(BYTES_PER_SECOND_MIN..=BYTES_PER_SECOND_MAX).contains(&rate.bytes_per_second) {
            let reason = format!("{rate} is not from 8kb/s to 10Tb/s: correct it");
            return Err(wrong(&self.named(key), reason));
        }
        Ok(rate.bytes_per_second)
    }

    /// Nothing may be left.
    fn end(self) -> Result<(), CatalogueError> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => Err(wrong(
                &self.named(key),
                "is not known: correct or remove it",
            )),
        }
    }
}

/// As it stands in the table, if it is short.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{text:.40}\""),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(answer) => answer.to_string(),
        Value::Datetime(_) => "a date".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

fn wrong(field: &str, reason: impl Into<String>) -> CatalogueError {
    CatalogueError::Field {
        field: field.to_owned(),
        reason: reason.into(),
    }
}
