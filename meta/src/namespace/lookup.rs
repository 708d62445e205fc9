//! Finding what a name leads to.

use pocket_proto::{InodeId, Status};

use super::{Namespace, check_name};

impl Namespace {
    /// What `name` in `parent` leads to; `None` if there is no such name. "." and ".." are
    /// understood.
    pub(crate) fn lookup(&self, parent: InodeId, name: &[u8]) -> Result<Option<InodeId>, Status> {
        let directory = self.directory(parent)?;
        match name {
            b"." => Ok(Some(parent)),
            b".." => Ok(Some(directory.parent())),
            _ => {
                check_name(name)?;
                Ok(directory.get(name))
            }
        }
    }

    /// Whether `directory` is `inode` or lies below it.
    pub(super) fn is_below(&self, directory: InodeId, inode: InodeId) -> Result<bool, Status> {
        let mut at = directory;
        loop {
            if at == inode {
                return Ok(true);
            }
            if at == InodeId::ROOT {
                return Ok(false);
            }
            at = self.directory(at)?.parent();
        }
    }
}
