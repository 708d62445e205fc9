//! `pocket rm`: removes objects of a job.

use std::{ffi::OsString, fs, path::Path};

use anyhow::{Context, bail};
use clap::Args;
use pocket_fs::Errno;
use pocket_proto::session::{Attributes, FileKind};

use super::object::ObjectArguments;
use crate::{
    connection::JobConnection,
    object::{MountedPath, ObjectPath, parent_and_name, remove, remove_tree},
    output,
    runtime::block_on,
};

/// Remove an object of a job, or a directory with all that is in it
///
/// A directory is removed with one request to the metadata server, however much is in it: its name
/// is gone at once, for every mount, and what was in it is freed behind that. Files that are open
/// live on until they are closed.
#[derive(Args, Debug)]
pub(super) struct RmArguments {
    /// What to remove: an object of a job, or with -r a path on a mount, that begins with / or ./
    #[arg(value_name = "JOB/PATH")]
    path: OsString,

    /// Remove a directory and everything below it
    #[arg(short, long)]
    recursive: bool,

    #[command(flatten)]
    object: ObjectArguments,
}

impl RmArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if MountedPath::is_meant_by(&self.path) {
            return self.remove_mounted(Path::new(&self.path));
        }
        let path = ObjectPath::new(&self.path).map_err(anyhow::Error::msg)?;
        if path.name().is_none() {
            bail!(
                "{path} is the whole job: pocket job deregister {} ends it",
                path.job
            );
        }
        block_on(async {
            let work = async |connection: &JobConnection| self.remove(connection, &path).await;
            self.object.join(&path.job, work).await
        })
    }

    async fn remove(&self, connection: &JobConnection, path: &ObjectPath) -> anyhow::Result<()> {
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
        say(remove_tree(fs, parent, name).await?)
    }

    /// The one request asks for nobody's permissions, so it is made for root alone; what others may
    /// remove they remove name by name.
    fn remove_mounted(&self, path: &Path) -> anyhow::Result<()> {
        let shown = path.display();
        let mounted = MountedPath::find(path)?;
        if mounted.is_directory() && !self.recursive {
            bail!("{shown} is a directory: give -r to remove it with all that is in it");
        }
        let cannot = || format!("cannot remove {shown}");
        if !mounted.is_directory() {
            return fs::remove_file(path).with_context(cannot);
        }
        if !nix::unistd::geteuid().is_root() {
            return fs::remove_dir_all(path).with_context(cannot);
        }
        let name = std::os::unix::ffi::OsStrExt::as_bytes(&*mounted.name);
        block_on(async {
            let work = async |connection: &JobConnection| {
                let fs = connection.fs();
                let found = fs.lookup(mounted.parent, name).await;
                let found = found.ok().and_then(|entry| entry.value.attributes);
                if !found.is_some_and(|found: Attributes| mounted.is(&found)) {
                    bail!(
                        "job '{}' of this cluster has no such directory: name the mount's cluster \
                         with --controller",
                        mounted.job
                    );
                }
                say(remove_tree(fs, mounted.parent, name).await?)
            };
            self.object.join(&mounted.job, work).await
        })
    }
}

fn say(removed: u64) -> anyhow::Result<()> {
    Ok(output::line(format_args!("{removed} names removed"))?)
}
