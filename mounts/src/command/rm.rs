//! `pocket rm`: removes objects of a job.

use anyhow::{Context, bail};
use clap::Args;
use pocket_fs::Errno;
use pocket_proto::{InodeId, session::FileKind};

use super::object::ObjectArguments;
use crate::{
    connection::JobConnection,
    object::{ObjectPath, parent_and_name, remove, remove_tree},
    runtime::block_on,
};

/// Remove an object of a job, or a directory with all that is in it
#[derive(Args, Debug)]
pub(super) struct RmArguments {
    /// What to remove
    #[arg(value_name = "JOB/PATH")]
    path: ObjectPath,

    /// Remove a directory and everything below it
    #[arg(short, long)]
    recursive: bool,

    #[command(flatten)]
    object: ObjectArguments,
}

impl RmArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.path.name().is_none() {
            bail!(
                "{} is the whole job: pocket job deregister {} ends it",
                self.path,
                self.path.job
            );
        }
        block_on(async {
            let work = async |connection: &JobConnection| self.remove(connection).await;
            self.object.join(&self.path.job, work).await
        })
    }

    async fn remove(&self, connection: &JobConnection) -> anyhow::Result<()> {
        let path = &self.path;
        let fs = connection.fs();
        let cannot = || format!("cannot remove {path}");
        let (parent, name) = parent_and_name(fs, path).await.with_context(cannot)?;
        let entry = fs.lookup(parent, name).await.with_context(cannot)?.value;
        let attributes = entry
            .attributes
            .ok_or(Errno(libc::ENOENT))
            .with_context(cannot)?;
        if attributes.kind() != FileKind::Directory {
            return Ok(remove(fs, parent, name).await?);
        }
        if !self.recursive {
            bail!("{path} is a directory: give -r to remove it with all that is in it");
        }
        remove_tree(fs, parent, name, InodeId(attributes.inode)).await?;
        Ok(())
    }
}
