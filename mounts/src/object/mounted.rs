//! Objects named by a path on a mount.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use pocket_proto::{InodeId, session::Attributes};

use crate::mountpoint::mounted_on;

/// A directory of a job, as its mount shows it.
#[derive(Debug)]
pub(crate) struct MountedPath {
    /// The job's name, as the mount calls its source.
    pub(crate) job: String,
    /// The directory that holds it.
    pub(crate) parent: InodeId,
    /// Its name there.
    pub(crate) name: OsString,
    found: fs::Metadata,
}

impl MountedPath {
    /// Whether an argument is a path and not an object: it begins as no job's name does.
    pub(crate) fn is_meant_by(text: &OsStr) -> bool {
        let bytes = text.as_bytes();
        bytes.starts_with(b"/") || bytes.starts_with(b"./") || bytes.starts_with(b"../")
    }

    /// Finds out what a path on a mount names. A symbolic link at its end is not followed.
    pub(crate) fn find(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let cannot = || format!("cannot look at {shown}");
        let Some(name) = path.file_name() else {
            bail!("{shown} has no name of its own: name what is to be removed");
        };
        let above = match path.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        let above = fs::canonicalize(above).with_context(cannot)?;
        let path = above.join(name);
        let found = fs::symlink_metadata(&path).with_context(cannot)?;
        let parent = fs::symlink_metadata(&above).with_context(cannot)?;
        if found.dev() != parent.dev() {
            bail!(
                "{shown} is the root of a mount: pocket job deregister ends a job, umount a mount"
            );
        }
        let mount = mount_point(&above, parent.dev()).with_context(cannot)?;
        let mounted = mounted_on(&mount).with_context(cannot)?;
        let mounted = mounted.filter(|mounted| mounted.kind.starts_with("fuse.pocket"));
        let Some(mounted) = mounted else {
            bail!("{shown} is not on a mount of a job: rm removes it");
        };
        Ok(MountedPath {
            job: mounted.source,
            parent: InodeId(parent.ino()),
            name: name.to_owned(),
            found,
        })
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.found.is_dir()
    }

    /// Whether what a job has by that name is what was found on the mount.
    pub(crate) fn is(&self, attributes: &Attributes) -> bool {
        let changed = attributes.changed.unwrap_or_default();
        attributes.inode == self.found.ino()
            && changed.seconds == self.found.ctime()
            && i64::from(changed.nanoseconds) == self.found.ctime_nsec()
    }
}

/// Where the file system that holds a directory is mounted.
fn mount_point(directory: &Path, device: u64) -> io::Result<PathBuf> {
    let mut top = directory;
    while let Some(above) = top.parent()
        && fs::symlink_metadata(above)?.dev() == device
    {
        top = above;
    }
    Ok(top.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_objects_are_told_apart() {
        for path in ["/mnt/job/tree", "./tree", "../tree"] {
            assert!(MountedPath::is_meant_by(OsStr::new(path)), "{path}");
        }
        assert!(!MountedPath::is_meant_by(OsStr::new("job/tree")));
    }

    #[test]
    fn what_is_on_no_mount_of_a_job_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let refused = MountedPath::find(&tree).unwrap_err().to_string();
        assert!(refused.contains("not on a mount of a job"), "{refused}");
        for wrong in ["/", "/proc"] {
            MountedPath::find(Path::new(wrong)).unwrap_err();
        }
    }
}
