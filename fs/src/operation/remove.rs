//! unlink(2) and rmdir(2).

use pocket_proto::InodeId;
use pocket_proto::session::{FileKind, Remove, request};

use crate::exclusive::Known;
use crate::{Errno, FileSystem};

impl FileSystem {
    /// Removes a name that is not a directory. The inode goes with its last name and last open.
    pub async fn unlink(&self, parent: InodeId, name: &[u8]) -> Result<(), Errno> {
        self.remove(parent, name, false).await
    }

    /// Removes an empty directory.
    pub async fn rmdir(&self, parent: InodeId, name: &[u8]) -> Result<(), Errno> {
        self.remove(parent, name, true).await
    }

    async fn remove(&self, parent: InodeId, name: &[u8], directory: bool) -> Result<(), Errno> {
        self.refuse_if_read_only()?;
        self.refuse_to_move(parent, name)?;
        let request = Remove {
            parent: parent.0,
            name: name.to_vec().into(),
            directory,
            ahead: None,
        };
        if self.remove_ahead(parent, name, &request) {
            return Ok(());
        }
        if directory && let Some(Known::Present(removed)) = self.exclusive.find(parent, name) {
            self.exclusive.give_back(removed);
        }
        self.exclusive.doubt(parent, name);
        let done = self.call_done(request::Operation::Remove(request)).await;
        self.name_asked(parent, name, &done);
        Ok(done?)
    }

    /// Removes a name that is known to be there and to be what is to be removed, from a directory
    /// that is this mount's alone. False if too little is known.
    fn remove_ahead(&self, parent: InodeId, name: &[u8], request: &Remove) -> bool {
        if !self.is_in_touch() {
            return false;
        }
        self.coherence.steady(|| {
            let Some(Known::Present(inode)) = self.exclusive.find(parent, name) else {
                return false;
            };
            let kind = || self.inodes.kind(inode);
            let fit = match request.directory {
                // Nothing else can be this mount's own and empty.
                true => self.exclusive.is_empty(inode),
                false => kind().is_some_and(|kind| kind != FileKind::Directory),
            };
            if !fit {
                return false;
            }
            let time = crate::file::now();
            let remove = Remove {
                ahead: Some(FileSystem::ahead_at(time)),
                ..request.clone()
            };
            if self
                .metadata
                .tell(request::Operation::Remove(remove))
                .is_err()
            {
                return false;
            }
            let links = -i32::from(request.directory);
            self.show_name(parent, name, Known::Absent, time, links);
            if request.directory {
                self.exclusive.give_back(inode);
            }
            self.inodes.forget(inode);
            self.contents.forget(inode);
            true
        })
    }
}
