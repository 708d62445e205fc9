//! `pocket get`: an object to a local file, or to standard output.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::Args;
use pocket_fs::{FileSystem, HandleId, OpenRequest};
use pocket_proto::{
    InodeId,
    session::{Attributes, FileKind},
};

use super::object::ObjectArguments;
use crate::{
    connection::JobConnection,
    object::{ObjectPath, Progress},
    runtime::block_on,
};

/// Bytes read at once.
const CHUNK_BYTES: u32 = 1 << 20;

/// Copy an object of a job to a local file, or to standard output
#[derive(Args, Debug)]
pub(super) struct GetArguments {
    /// What to copy
    #[arg(value_name = "JOB/PATH")]
    from: ObjectPath,

    /// The local file, replaced where it exists; '-' is standard output
    #[arg(value_name = "FILE|-", default_value = "-")]
    to: PathBuf,

    #[command(flatten)]
    object: ObjectArguments,
}

impl GetArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        block_on(async {
            let work = async |connection: &JobConnection| self.get(connection.fs()).await;
            self.object.join(&self.from.job, work).await
        })
    }

    async fn get(&self, fs: &Arc<FileSystem>) -> anyhow::Result<()> {
        let from = &self.from;
        let cannot = || format!("cannot read {from}");
        let entry = fs.walk(&from.path).await.with_context(cannot)?;
        let attributes = entry.attributes.with_context(cannot)?;
        refuse_unless_regular(from, &attributes)?;
        let inode = InodeId(attributes.inode);
        let flags = libc::O_RDONLY;
        let opened = fs
            .open(
                inode,
                OpenRequest {
                    flags,
                    clear_set_id: false,
                },
            )
            .await
            .with_context(cannot)?;
        let outcome = self.copy(fs, opened.handle, attributes.size_bytes).await;
        fs.release(opened.handle).await;
        outcome
    }

    async fn copy(
        &self,
        fs: &Arc<FileSystem>,
        handle: HandleId,
        size_bytes: u64,
    ) -> anyhow::Result<()> {
        let to_terminal = self.to == Path::new("-") && io::stdout().is_terminal();
        let progress = Progress::new(&self.from.to_string(), Some(size_bytes), to_terminal);
        // Only once there is something to put there.
        let mut target: Box<dyn Write> = match self.to.as_path() {
            path if path == Path::new("-") => Box::new(io::stdout().lock()),
            path => Box::new(File::create(path).with_context(|| self.cannot_write())?),
        };
        let mut offset = 0;
        loop {
            let data = fs.read(handle, offset, CHUNK_BYTES).await;
            let data = data.with_context(|| format!("cannot read {}", self.from))?;
            if data.is_empty() {
                return target.flush().with_context(|| self.cannot_write());
            }
            for piece in data.pieces() {
                match target.write_all(piece) {
                    // As with cat: whoever reads has had enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    outcome => outcome.with_context(|| self.cannot_write())?,
                }
            }
            offset += data.len() as u64;
            progress.add(data.len() as u64);
        }
    }

    fn cannot_write(&self) -> String {
        format!("cannot write {}", self.to.display())
    }
}

fn refuse_unless_regular(from: &ObjectPath, attributes: &Attributes) -> anyhow::Result<()> {
    match attributes.kind() {
        FileKind::Regular => Ok(()),
        FileKind::Directory => bail!("{from} is a directory: get copies one file"),
        FileKind::Symlink => bail!("{from} is a symbolic link: name the file it leads to"),
        _ => bail!("{from} is not a regular file"),
    }
}
