//! `pocket jobs`: every job, oldest first.

use clap::Args;

use super::control::ReadArguments;
use crate::{output, runtime::block_on, view::JobView};

/// List the jobs of a cluster
#[derive(Args, Debug)]
pub(super) struct JobsArguments {
    #[command(flatten)]
    read: ReadArguments,

    /// Also those that ended lately, with what they cost in all
    #[arg(long)]
    ended: bool,
}

impl JobsArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let found = block_on(async { Ok(self.read.connect()?.survey("").await?) })?;
        let ended = if self.ended { found.ended } else { Vec::new() };
        let jobs = found.jobs.into_iter().chain(ended);
        let views: Vec<_> = jobs.map(JobView::from).collect();
        if self.read.json {
            return output::json(&views);
        }
        let mut table = output::table(&JobView::COLUMNS);
        table.add_rows(views.iter().map(JobView::row));
        output::print_table(&table)?;
        for sentence in found.waiting {
            output::line(format_args!("waiting: {sentence}"))?;
        }
        Ok(())
    }
}
