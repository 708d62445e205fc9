//! `pocket plan`: what a job would get and cost, without registering it.

mod persistence;

use anyhow::Context;
use clap::Args;
use pocket_controller_client::ControllerClient;
use pocket_policy::{
    Catalogue, Forecast, History, Plan, Price, Run, check_hints, check_profile, plan, rate_text,
};
use pocket_proto::{ByteCount, control::Hints};
use serde::Serialize;

use self::persistence::{LongRunning, without_a_cluster};
use super::tiers::TierArguments;
use crate::{
    arguments::HintArguments,
    endpoint::ControllerAddress,
    output::{self, Column},
    runtime::block_on,
};

/// Show what a job with these hints would get and cost, beside what other hints would
#[derive(Args, Debug)]
pub(super) struct PlanArguments {
    #[command(flatten)]
    hints: HintArguments,

    /// For a job that persists: say whether it goes to long-running servers, as far as that is known
    #[arg(long)]
    persist: bool,

    /// Whose earlier runs stand in for missing hints, as the controller remembers them
    #[arg(
        long,
        value_name = "NAME",
        env = "POCKET_PROFILE",
        requires = "controller"
    )]
    profile: Option<String>,

    /// The cluster's controller, to be asked for earlier runs and long-running servers
    #[arg(long, value_name = "HOST:PORT", env = "POCKET_CONTROLLER")]
    controller: Option<ControllerAddress>,

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
    /// Absent if no number of servers suffices.
    #[serde(skip_serializing_if = "Option::is_none")]
    dollars_per_hour_alone: Option<f64>,
    /// What of the capacity and bandwidth fits nowhere.
    missing_capacity_bytes: u64,
    missing_bandwidth_bytes_per_second: u64,
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
        let past = self.past()?;
        let planned = |label: &str, hints: &Hints, past: Option<&Forecast>| {
            view(label.to_owned(), &plan(hints, &catalogue, past))
        };
        let mut beside: Vec<_> = others(&hints, &catalogue)
            .iter()
            .map(|(label, hints)| planned(label, hints, past.as_ref()))
            .collect();
        if past.is_some() {
            beside.push(planned("without earlier runs", &hints, None));
        }
        let mut planned = planned("as given", &hints, past.as_ref());
        planned.beside = beside;
        if let (Some(profile), None) = (&self.profile, &past) {
            let reason = format!("no run of '{profile}' is remembered: planned without");
            planned.reasons.push(reason);
        }
        if self.persist {
            planned.reasons.push(self.persistence(&hints)?);
        }
        match self.json {
            true => output::json(&planned),
            false => print(&planned),
        }
    }
}

impl PlanArguments {
    /// Which servers a job that persists goes to.
    fn persistence(&self, hints: &Hints) -> anyhow::Result<String> {
        let Some(controller) = &self.controller else {
            return Ok(without_a_cluster());
        };
        let reply = block_on(async {
            let client = ControllerClient::connect(controller.as_str())?;
            Ok(client.list_servers().await?)
        })?;
        let long_running = LongRunning::among(&reply.servers);
        Ok(long_running.sentence(hints.capacity_bytes))
    }

    /// What the controller's memory foretells of the profile, where one is named.
    fn past(&self) -> anyhow::Result<Option<Forecast>> {
        let (Some(profile), Some(controller)) = (&self.profile, &self.controller) else {
            return Ok(None);
        };
        check_profile(profile)?;
        let runs = block_on(async {
            let client = ControllerClient::connect(controller.as_str())?;
            Ok(client.list_runs(profile).await?)
        })?;
        let mut history = History::default();
        for run in runs {
            let run = Run {
                capacity_bytes: run.capacity_bytes,
                bytes_per_second: run.bytes_per_second,
                object_bytes: run.object_bytes,
            };
            history.record(profile, run);
        }
        Ok(history.forecast(profile))
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
        dollars_per_hour_alone: plan.price_alone.map(Price::dollars),
        missing_capacity_bytes: plan.missing.capacity_bytes,
        missing_bandwidth_bytes_per_second: plan.missing.bytes_per_second,
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
        capacity_bytes_max: None,
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
            row.dollars_per_hour_alone
                .map_or("-".to_owned(), |dollars| format!("{dollars:.4}")),
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
