//! `pocket simulate`: a trace run against the policy in virtual time.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use pocket_simulator::{
    Kind, Published, Report, Scenario, Trace, generate, plot, published, simulate,
};

use super::tiers::{TierArguments, read_text};
use crate::output::{self, Column};

/// A million jobs and more.
const TRACE_BYTES_MAX: u64 = 1 << 28;

const FORMAT: &str = "\
A trace is text, a line each; # begins a comment:
  pocket-trace 1
  set servers-max 5000
  ran nightly capacity=10GB bandwidth=3GB/s object=1600KB
  job nightly-7 at=12s for=60s tasks=100 capacity=10GB bandwidth=3GB/s object=1600KB latency=no
      shape=shuffle profile=nightly
'job' (one line) tells what a job turns out to need, 'ran' an earlier run of a profile, 'set' a
setting: hints (none, tasks, latency, full or a percentage as 60%), servers-min, servers-min-type,
servers-max, TYPE-max (as dram-max), start-ms, down-ms, cool-down-ms, low-permille, high-permille,
learn (yes or no). Shapes are shuffle, stream and steady.

Examples:
  pocket simulate --generate bursts --seed 1 > bursts.trace
  pocket simulate bursts.trace --set hints=none --plot bursts.svg
  pocket simulate --published
      The figures of the Pocket paper beside this policy's.";

/// Run a trace of jobs against the policy, in virtual time
#[derive(Args, Debug)]
#[command(after_help = FORMAT)]
pub(super) struct SimulateArguments {
    /// The trace, a text file
    #[arg(value_name = "TRACE", required_unless_present_any = ["generate", "published"])]
    trace: Option<PathBuf>,

    /// A setting that overrides the trace's
    #[arg(long = "set", value_name = "NAME=VALUE", conflicts_with_all = ["generate", "published"])]
    settings: Vec<String>,

    /// Draw the course of the run
    #[arg(long, value_name = "FILE.svg", conflicts_with_all = ["generate", "published"])]
    plot: Option<PathBuf>,

    /// Print a trace instead: bursts, diurnal, recurring, applications or elasticity
    #[arg(long, value_name = "KIND", conflicts_with_all = ["trace", "published"])]
    generate: Option<Kind>,

    /// Of the trace that is printed: the same seed gives the same trace
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = parse_seed,
        allow_negative_numbers = true,
        requires = "generate",
        conflicts_with = "published"
    )]
    seed: u64,

    /// Print the published figures beside this policy's instead
    #[arg(long, conflicts_with = "trace")]
    published: bool,

    #[command(flatten)]
    tiers: TierArguments,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl SimulateArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if let Some(kind) = self.generate {
            let trace = generate(kind, self.seed).to_string();
            return Ok(output::line(trace.trim_end())?);
        }
        let catalogue = self.tiers.read()?;
        if self.published {
            let figures = published(&catalogue);
            return match self.json {
                true => output::json(&figures),
                false => print_published(&figures),
            };
        }
        let Some(path) = self.trace else {
            bail!("name a trace");
        };
        let trace = read_trace(&path, &self.settings)?;
        let scenario = Scenario {
            catalogue,
            ..Scenario::default()
        };
        let report = simulate(&trace, scenario).map_err(|reason| anyhow!("settings: {reason}"))?;
        if let Some(file) = self.plot {
            let named = || format!("cannot write {}", file.display());
            fs::write(&file, plot(&report)).with_context(named)?;
        }
        match self.json {
            true => output::json(&report),
            false => print(&report),
        }?;
        match report.shortfall() {
            Some(why) => bail!(why),
            None => Ok(()),
        }
    }
}

fn parse_seed(text: &str) -> Result<u64, String> {
    let number = text.parse();
    number.map_err(|_| {
        format!(
            "'{text}' is not a seed: give a number from 0 to {}",
            u64::MAX
        )
    })
}

/// The trace with the command line's settings after its own.
fn read_trace(path: &Path, settings: &[String]) -> anyhow::Result<Trace> {
    let text = read_text(path, TRACE_BYTES_MAX)?;
    let mut trace: Trace = text.parse().with_context(|| path.display().to_string())?;
    for setting in settings {
        let Some((name, value)) = setting.split_once('=') else {
            bail!("--set '{setting}': write NAME=VALUE");
        };
        trace.push_setting(name, value);
    }
    Ok(trace)
}

fn print(report: &Report) -> anyhow::Result<()> {
    for (label, value) in report.rows() {
        output::line(format_args!("{label:<32}{value}"))?;
    }
    Ok(())
}

fn print_published(figures: &Published) -> anyhow::Result<()> {
    let mut table = output::table(&[
        Column::Text("JOB"),
        Column::Text("HINT ADDED"),
        Column::Figure("PUBLISHED"),
        Column::Figure("ITS RULE"),
        Column::Figure("THIS POLICY"),
        Column::Figure("$/H"),
    ]);
    for row in &figures.relative {
        table.add_row([
            row.application.clone(),
            row.hint.to_owned(),
            format!("{:.3}", row.published),
            format!("{:.3}", row.original),
            format!("{:.3}", row.policy),
            format!("{:.3}", row.policy_dollars_per_hour),
        ]);
    }
    output::print_table(&table)?;
    output::line("")?;
    let mut table = output::table(&[
        Column::Text("JOB"),
        Column::Figure("REDIS $/H"),
        Column::Figure("PUBLISHED $/H"),
        Column::Figure("THIS POLICY $/H"),
        Column::Figure("PUBLISHED SAVES"),
        Column::Figure("THIS POLICY SAVES"),
    ]);
    for row in &figures.redis {
        table.add_row([
            row.application.clone(),
            format!("{:.3}", row.redis),
            format!("{:.4}", row.published),
            format!("{:.4}", row.policy),
            format!("{:.1}%", row.published_percent()),
            format!("{:.1}%", row.saved_percent()),
        ]);
    }
    Ok(output::print_table(&table)?)
}
