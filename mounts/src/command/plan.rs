//! `pocket plan`: what a job would get and cost, without registering it.

use anyhow::Context;
use clap::Args;
use pocket_policy::{Catalogue, Plan, check_hints, plan, rate_text};
use pocket_proto::{ByteCount, control::Hints};
use serde::Serialize;

use super::tiers::TierArguments;
use crate::{
    arguments::HintArguments,
    output::{self, Column},
};

/// Show what a job with these hints would get and cost, beside what other hints would
#[derive(Args, Debug)]
pub(super) struct PlanArguments {
    #[command(flatten)]
    hints: HintArguments,

    #[command(flatten)]
    tiers: TierArguments,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The fields of `--json`.
#[derive(Serialize)]
struct PlanView {
    hints: String,
    capacity_bytes: u64,
    bandwidth_bytes_per_second: u64,
    dollars_per_hour: f64,
    dollars_per_hour_alone: f64,
    servers_alone: Vec<ServersView>,
    tiers: Vec<TierView>,
    reasons: Vec<String>,
    /// The same job with other hints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    beside: Vec<PlanView>,
}

#[derive(Serialize)]
struct ServersView {
    node: String,
    servers: u32,
}

#[derive(Serialize)]
struct TierView {
    node: String,
    tier: &'static str,
    capacity_bytes: u64,
    bandwidth_bytes_per_second: u64,
    servers: f64,
    dollars_per_hour: f64,
}

impl PlanArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let catalogue = self.tiers.read()?;
        let hints = self.hints.to_message();
        check_hints(&hints).context("these hints make no sense")?;
        let view = |(label, hints): (String, Hints)| view(label, &plan(&hints, &catalogue, None));
        let mut planned = view(("as given".to_owned(), hints));
        planned.beside = others(&hints, &catalogue).into_iter().map(view).collect();
        match self.json {
            true => output::json(&planned),
            false => print(&planned),
        }
    }
}

fn view(hints: String, plan: &Plan) -> PlanView {
    let tiers = plan.tiers.iter().map(|tier| TierView {
        node: tier.node.clone(),
        tier: tier.tier.name(),
        capacity_bytes: tier.needs.capacity_bytes,
        bandwidth_bytes_per_second: tier.needs.bytes_per_second,
        servers: tier.servers_permille as f64 / 1_000.0,
        dollars_per_hour: tier.price.dollars(),
    });
    let alone = plan.alone.iter().map(|(node, servers)| ServersView {
        node: node.clone(),
        servers: *servers,
    });
    PlanView {
        hints,
        capacity_bytes: plan.needs.capacity_bytes,
        bandwidth_bytes_per_second: plan.needs.bytes_per_second,
        dollars_per_hour: plan.price.dollars(),
        dollars_per_hour_alone: plan.price_alone.dollars(),
        servers_alone: alone.collect(),
        tiers: tiers.collect(),
        reasons: plan.reasons.clone(),
        beside: Vec::new(),
    }
}

/// The same job with one hint less, with the other answer on latency, and without any.
fn others(hints: &Hints, catalogue: &Catalogue) -> Vec<(String, Hints)> {
    let mut others: Vec<(String, Hints)> = Vec::new();
    let mut add = |label: &str, other: Hints| {
        let known = others.iter().any(|(_, known)| *known == other);
        if other != *hints && !known && check_hints(&other).is_ok() {
            others.push((label.to_owned(), other));
        }
    };
    let without_tasks = Hints {
        max_tasks: None,
        task_capacity_bytes: None,
        task_bandwidth_bytes_per_second: None,
        ..*hints
    };
    add("without --max-tasks", without_tasks);
    let without_capacity = Hints {
        capacity_bytes: None,
        task_capacity_bytes: None,
        ..*hints
    };
    add("without a capacity", without_capacity);
    let without_bandwidth = Hints {
        bandwidth_bytes_per_second: None,
        task_bandwidth_bytes_per_second: None,
        ..*hints
    };
    add("without a bandwidth", without_bandwidth);
    for answer in [true, false] {
        // To a table of one tier it makes no difference.
        if catalogue
            .nodes
            .iter()
            .any(|node| node.tier != catalogue.nodes[0].tier)
        {
            let other = Hints {
                latency_sensitive: Some(answer),
                ..*hints
            };
            add(&format!("--latency-sensitive={answer}"), other);
        }
    }
    add("no hints", Hints::default());
    others
}

fn print(planned: &PlanView) -> anyhow::Result<()> {
    let mut table = output::table(&[
        Column::Text("HINTS"),
        Column::Figure("CAPACITY"),
        Column::Figure("BANDWIDTH"),
        Column::Figure("SHARED $/H"),
        Column::Figure("ALONE $/H"),
        Column::Text("SERVERS"),
    ]);
    for row in std::iter::once(planned).chain(&planned.beside) {
        table.add_row([
            row.hints.clone(),
            ByteCount(row.capacity_bytes).to_string(),
            rate_text(row.bandwidth_bytes_per_second),
            format!("{:.4}", row.dollars_per_hour),
            format!("{:.4}", row.dollars_per_hour_alone),
            servers(row),
        ]);
    }
    output::print_table(&table)?;
    output::line("")?;
    for reason in &planned.reasons {
        output::line(format_args!("because  {reason}"))?;
    }
    Ok(())
}

/// "1.5 dram, 0.2 nvme".
fn servers(row: &PlanView) -> String {
    let tiers = row.tiers.iter();
    let tiers: Vec<_> = tiers
        .map(|tier| format!("{} {}", tier.servers, tier.node))
        .collect();
    tiers.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(hints: &Hints) -> Vec<String> {
        let others = others(hints, &Catalogue::default());
        others.into_iter().map(|(label, _)| label).collect()
    }

    #[test]
    fn a_plan_stands_beside_others_that_differ_and_make_sense() {
        let hints = Hints {
            max_tasks: Some(100),
            task_capacity_bytes: Some(1 << 30),
            latency_sensitive: Some(false),
            ..Hints::default()
        };
        let expected = [
            "without --max-tasks",
            "without a capacity",
            "--latency-sensitive=true",
            "no hints",
        ];
        assert_eq!(labels(&hints), expected);
        assert_eq!(
            labels(&Hints::default()),
            ["--latency-sensitive=true", "--latency-sensitive=false"]
        );
    }
}
