//! `pocket jobs`: every job, oldest first.

use clap::Args;

use super::control::ReadArguments;
use crate::{output, runtime::block_on, view::JobView};

/// List the jobs of a cluster
#[derive(Args, Debug)]
pub(super) struct JobsArguments {
    #[command(flatten)]
    read: ReadArguments,
}

impl JobsArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let jobs = block_on(async { Ok(self.read.connect()?.list_jobs("").await?) })?;
        let views: Vec<_> = jobs.into_iter().map(JobView::from).collect();
        if self.read.json {
            return output::json(&views);
        }
        let mut table = output::table(&JobView::COLUMNS);
        table.add_rows(views.iter().map(JobView::row));
        Ok(output::print_table(&table)?)
    }
}
