//! Removing one object, or a directory with all that is in it.

use std::sync::Arc;

use pocket_fs::{Errno, FileSystem};
use pocket_proto::{InodeId, session::FileKind};
use tokio::task::JoinSet;

use super::path::show_name;

/// Names taken from a directory at once.
const BATCH: usize = 1024;
/// Names removed at the same time.
const IN_FLIGHT_MAX: usize = 32;
/// A directory that others fill as fast as we empty it is given up after so many rounds in which
/// nothing was removed.
const IDLE_ROUNDS_MAX: u32 = 16;

/// What could not be removed, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove '{name}': {errno}")]
pub(crate) struct RemoveError {
    name: String,
    errno: Errno,
}

impl RemoveError {
    fn new(name: &[u8], errno: Errno) -> Self {
        RemoveError {
            name: show_name(name),
            errno,
        }
    }
}

/// A directory on the way down.
struct Level {
    parent: InodeId,
    name: Vec<u8>,
    inode: InodeId,
}

/// Removes a name that is not a directory.
pub(crate) async fn remove(
    fs: &Arc<FileSystem>,
    parent: InodeId,
    name: &[u8],
) -> Result<(), RemoveError> {
    let removed = fs.unlink(parent, name).await;
    removed.map_err(|errno| RemoveError::new(name, errno))
}

/// Removes the directory `inode`, which `parent` has as `name`, and everything below it. Says how
/// many names are gone. What others remove meanwhile is no error; what they add is removed too.
pub(crate) async fn remove_tree(
    fs: &Arc<FileSystem>,
    parent: InodeId,
    name: &[u8],
    inode: InodeId,
) -> Result<u64, RemoveError> {
    let (mut removed, mut idle_rounds) = (0, 0);
    let name = name.to_vec();
    let mut levels = vec![Level {
        parent,
        name,
        inode,
    }];
    while let Some(level) = levels.last() {
        let batch = names(fs, level.inode).await;
        let batch = batch.map_err(|errno| RemoveError::new(&level.name, errno))?;
        let before = removed;
        removed += unlink_all(fs, level.inode, batch.files).await?;
        if let Some((name, inode)) = batch.directory {
            let parent = level.inode;
            levels.push(Level {
                parent,
                name,
                inode,
            });
        } else if batch.is_end {
            match fs.rmdir(level.parent, &level.name).await {
                Ok(()) => removed += 1,
                Err(Errno(libc::ENOENT)) => {}
                // Somebody added a name: read on.
                Err(Errno(libc::ENOTEMPTY)) if idle_rounds < IDLE_ROUNDS_MAX => {
                    idle_rounds = if removed == before {
                        idle_rounds + 1
                    } else {
                        0
                    };
                    continue;
                }
                Err(errno) => return Err(RemoveError::new(&level.name, errno)),
            }
            levels.pop();
        }
    }
    Ok(removed)
}

/// Some of the names of a directory.
#[derive(Default)]
struct Batch {
    files: Vec<Vec<u8>>,
    directory: Option<(Vec<u8>, InodeId)>,
    /// There were no names behind these.
    is_end: bool,
}

/// Names from the start of a directory up to the first directory in it.
async fn names(fs: &FileSystem, inode: InodeId) -> Result<Batch, Errno> {
    let mut batch = Batch {
        is_end: true,
        ..Batch::default()
    };
    let read = fs.scan_directory(inode, false, |entry| {
        match entry.kind() {
            _ if matches!(&entry.name[..], b"." | b"..") => return true,
            FileKind::Directory => {
                batch.directory = Some((entry.name.to_vec(), InodeId(entry.inode)));
            }
            _ => batch.files.push(entry.name.to_vec()),
        }
        batch.is_end = batch.directory.is_none() && batch.files.len() < BATCH;
        batch.is_end
    });
    read.await?;
    Ok(batch)
}

async fn unlink_all(
    fs: &Arc<FileSystem>,
    parent: InodeId,
    names: Vec<Vec<u8>>,
) -> Result<u64, RemoveError> {
    let mut removed = 0;
    let mut under_way = JoinSet::new();
    let mut names = names.into_iter();
    loop {
        while under_way.len() < IN_FLIGHT_MAX
            && let Some(name) = names.next()
        {
            let fs = Arc::clone(fs);
            under_way.spawn(async move {
                match fs.unlink(parent, &name).await {
                    Ok(()) => Ok(1),
                    Err(Errno(libc::ENOENT)) => Ok(0),
                    Err(errno) => Err(RemoveError::new(&name, errno)),
                }
            });
        }
        match under_way.join_next().await {
            None => return Ok(removed),
            Some(outcome) => removed += outcome.expect("removals do not panic")?,
        }
    }
}
