//! Objects: files of a job named as "JOB/path" on the command line, used without a mount.

mod mounted;
mod path;
mod progress;
mod remove;

use std::sync::Arc;

use pocket_fs::{Errno, FileSystem};
use pocket_proto::InodeId;

pub(crate) use mounted::MountedPath;
pub(crate) use path::{ObjectPath, show_name};
pub(crate) use progress::Progress;
pub(crate) use remove::{remove, remove_tree};

/// The directory that holds an object, which must exist, and the object's name in it.
pub(crate) async fn parent_and_name<'a>(
    fs: &Arc<FileSystem>,
    path: &'a ObjectPath,
) -> Result<(InodeId, &'a [u8]), Errno> {
    let name = path.name().ok_or(Errno(libc::EINVAL))?;
    let above = &path.path[..path.path.len() - name.len()];
    let parent = fs.walk(above).await?;
    let attributes = parent.attributes.ok_or(Errno(libc::ENOENT))?;
    Ok((InodeId(attributes.inode), name))
}
