//! `pocket put`: a local file, or standard input, to a job.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use nix::sys::stat::{Mode, umask};
use pocket_fs::{Caller, CreateRequest, FileSystem, HandleId, RenameMode, WriteRequest};
use pocket_proto::{InodeId, ServerId};

use super::object::ObjectArguments;
use crate::{
    arguments::JobArguments,
    connection::JobConnection,
    object::{ObjectPath, Progress},
    runtime::block_on,
};

/// Bytes read and written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Copy a local file, or standard input, to a job
///
/// Missing directories are made, and so is the job. Whoever reads the object sees the former one or
/// the whole new one, never a part.
#[derive(Args, Debug)]
pub(super) struct PutArguments {
    /// Where to; with a slash at the end, the file keeps its name
    #[arg(value_name = "JOB/PATH")]
    to: ObjectPath,

    /// The local file; '-' is standard input
    #[arg(value_name = "FILE|-")]
    from: PathBuf,

    #[command(flatten)]
    object: ObjectArguments,

    #[command(flatten)]
    job: JobArguments,
}

/// What is copied.
struct Source {
    reader: Box<dyn Read>,
    bytes: Option<u64>,
    mode: u32,
}

impl PutArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        // Before anything is asked of the cluster.
        let mut source = Source::open(&self.from)?;
        let to = self.target()?;
        block_on(async {
            let work = async |connection: &JobConnection| {
                let notice = &connection.registration().notice;
                if !notice.is_empty() && self.job != JobArguments::default() {
                    eprintln!("pocket: {notice}");
                }
                let progress = Progress::new(&to.to_string(), source.bytes, false);
                put(connection.fs(), &to, &mut source, &progress).await
            };
            self.object.join_or_create(&to.job, &self.job, work).await
        })
    }

    fn target(&self) -> anyhow::Result<ObjectPath> {
        if !self.to.is_directory {
            return Ok(self.to.clone());
        }
        match self.from.file_name() {
            Some(name) if self.from != Path::new("-") => Ok(self.to.join(name.as_bytes())),
            _ => bail!(
                "{} is a directory: name the object, as {}name",
                self.to,
                self.to
            ),
        }
    }
}

impl Source {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let mask = umask(Mode::empty());
        umask(mask);
        let allowed = !mask.bits();
        if path == Path::new("-") {
            return Ok(Source {
                reader: Box::new(io::stdin().lock()),
                bytes: None,
                mode: 0o666 & allowed,
            });
        }
        let open = || format!("cannot open {}", path.display());
        let file = File::open(path).with_context(open)?;
        let found = file.metadata().with_context(open)?;
        if found.is_dir() {
            bail!("{} is a directory: put copies one file", path.display());
        }
        Ok(Source {
            bytes: found.is_file().then_some(found.len()),
            mode: found.permissions().mode() & 0o777 & allowed,
            reader: Box::new(file),
        })
    }
}

async fn put(
    fs: &Arc<FileSystem>,
    to: &ObjectPath,
    source: &mut Source,
    progress: &Progress,
) -> anyhow::Result<()> {
    let caller = Caller {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
    };
    let cannot = || format!("cannot write {to}");
    let (parent, name) = fs
        .walk_to_parent(&to.path, caller)
        .await
        .with_context(cannot)?;
    // Under a name of its own until it is whole.
    let draft = format!(".pocket-put-{}", ServerId::random()).into_bytes();
    let create = CreateRequest {
        parent,
        name: &draft,
        mode: source.mode,
        umask: 0,
        flags: libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL,
        clear_set_id: false,
        caller,
    };
    let (_, opened) = fs.create(create).await.with_context(cannot)?.value;
    let written = write_all(fs, opened.handle, source, progress).await;
    let flushed = fs.flush(opened.handle).await;
    fs.release(opened.handle).await;
    let outcome = match written.and_then(|()| flushed.with_context(cannot)) {
        Ok(()) => publish(fs, parent, &draft, name).await.with_context(cannot),
        failed => failed,
    };
    if outcome.is_err() {
        // If this fails too the job's end takes the rest away.
        let _ = fs.unlink(parent, &draft).await;
    }
    outcome
}

async fn publish(
    fs: &Arc<FileSystem>,
    parent: InodeId,
    draft: &[u8],
    name: &[u8],
) -> Result<(), pocket_fs::Errno> {
    fs.rename((parent, draft), (parent, name), RenameMode::Replace)
        .await
}

async fn write_all(
    fs: &Arc<FileSystem>,
    handle: HandleId,
    source: &mut Source,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut offset = 0;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let mut part = source.reader.by_ref().take(CHUNK_BYTES as u64);
        part.read_to_end(&mut chunk)
            .context("cannot read the file")?;
        let length = chunk.len() as u64;
        if length == 0 {
            return Ok(());
        }
        let mut rest = Bytes::from(chunk);
        while !rest.is_empty() {
            let write = WriteRequest {
                offset,
                ..WriteRequest::default()
            };
            let written = fs.write(handle, write, rest.clone()).await;
            let written = written.context("cannot write the object")?;
            offset += u64::from(written);
            rest = rest.slice(written as usize..);
        }
        progress.add(length);
    }
}
