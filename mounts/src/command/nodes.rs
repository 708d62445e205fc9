//! `pocket nodes`: every server, with what it does and holds.

use clap::Args;

use super::control::ReadArguments;
use crate::{output, runtime::block_on, view::ServerView};

/// List the servers of a cluster
#[derive(Args, Debug)]
pub(super) struct NodesArguments {
    #[command(flatten)]
    read: ReadArguments,
}

impl NodesArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let reply = block_on(async { Ok(self.read.connect()?.list_servers().await?) })?;
        let views: Vec<_> = reply.servers.into_iter().map(ServerView::from).collect();
        if self.read.json {
            return output::json(&views);
        }
        let mut table = output::table(&ServerView::COLUMNS);
        table.add_rows(views.iter().map(ServerView::row));
        Ok(output::print_table(&table)?)
    }
}
