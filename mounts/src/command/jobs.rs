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
        let (jobs, waiting) = block_on(async {
            let client = self.read.connect()?;
            Ok((client.list_jobs("").await?, client.waiting_jobs().await?))
        })?;
        let views: Vec<_> = jobs.into_iter().map(JobView::from).collect();
        if self.read.json {
            return output::json(&views);
        }
        let mut table = output::table(&JobView::COLUMNS);
        table.add_rows(views.iter().map(JobView::row));
        output::print_table(&table)?;
        for sentence in waiting {
            output::line(format_args!("waiting: {sentence}"))?;
        }
        Ok(())
    }
}
