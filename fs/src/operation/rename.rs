//! renameat2(2).

use std::time::Duration;

use pocket_proto::InodeId;
use pocket_proto::session::{FileKind, Rename, Time, request};

use super::Caller;
use crate::exclusive::{Known, Owned};
use crate::{Errno, FileSystem};

/// What becomes of a name that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// It is replaced.
    Replace,
    /// The rename fails with EEXIST.
    NoReplace,
    /// The two change places.
    Exchange,
}

impl FileSystem {
    /// Renames, atomically on every mount.
    pub async fn rename(
        &self,
        from: (InodeId, &[u8]),
        to: (InodeId, &[u8]),
        mode: RenameMode,
    ) -> Result<(), Errno> {
        self.refuse_if_read_only()?;
        self.refuse_to_move(from.0, from.1)?;
        self.refuse_to_move(to.0, to.1)?;
        if mode == RenameMode::Replace && self.rename_ahead(from, to) {
            return Ok(());
        }
        self.ask_to_rename(from, to, mode, None).await
    }

    /// As [`FileSystem::rename`], with a character device 0/0 of `owner` left at the old name in the
    /// same step: overlayfs's mark of a name that is absent. EINVAL with an exchange.
    pub async fn rename_leaving_whiteout(
        &self,
        from: (InodeId, &[u8]),
        to: (InodeId, &[u8]),
        mode: RenameMode,
        owner: Caller,
    ) -> Result<(), Errno> {
        self.refuse_if_read_only()?;
        self.refuse_to_move(from.0, from.1)?;
        self.refuse_to_move(to.0, to.1)?;
        self.ask_to_rename(from, to, mode, Some(owner)).await
    }

    async fn ask_to_rename(
        &self,
        from: (InodeId, &[u8]),
        to: (InodeId, &[u8]),
        mode: RenameMode,
        whiteout: Option<Caller>,
    ) -> Result<(), Errno> {
        if let Some(Known::Present(replaced)) = self.exclusive.find(to.0, to.1) {
            self.exclusive.give_back(replaced);
        }
        self.disown_name(from.0, from.1);
        self.disown_name(to.0, to.1);
        let request = Rename {
            parent: from.0.0,
            name: from.1.to_vec().into(),
            new_parent: to.0.0,
            new_name: to.1.to_vec().into(),
            no_replace: mode == RenameMode::NoReplace,
            exchange: mode == RenameMode::Exchange,
            ahead: None,
            whiteout: whiteout.map(|owner| owner.owner()),
        };
        let done = self.call_done(request::Operation::Rename(request)).await;
        self.name_asked(from.0, from.1, &done);
        self.name_asked(to.0, to.1, &done);
        Ok(done?)
    }

    /// Moves a name of a file within directories that are this mount's alone, over no name or
    /// another file's. False if too little is known.
    fn rename_ahead(&self, from: (InodeId, &[u8]), to: (InodeId, &[u8])) -> bool {
        if !self.is_in_touch() {
            return false;
        }
        let is_file = |inode| {
            let kind = self.inodes.kind(inode);
            kind.is_some_and(|kind| kind != FileKind::Directory)
        };
        self.coherence.steady(|| {
            let Some(Known::Present(moved)) = self.exclusive.find(from.0, from.1) else {
                return false;
            };
            let Some(target) = self.exclusive.owned_name(to.0, to.1) else {
                return false;
            };
            let replaced = match target.known {
                Known::Present(replaced) => Some(replaced),
                Known::Absent | Known::Unknown => None,
            };
            // Two names of one file: nothing happens, and the server is to say so.
            let fit = is_file(moved) && replaced.is_none_or(|it| it != moved && is_file(it));
            if !fit {
                return false;
            }
            let time = crate::file::now();
            let rename = Rename {
                parent: from.0.0,
                name: from.1.to_vec().into(),
                new_parent: to.0.0,
                new_name: to.1.to_vec().into(),
                no_replace: false,
                exchange: false,
                ahead: Some(FileSystem::ahead_at(time)),
                whiteout: None,
            };
            if self
                .metadata
                .tell(request::Operation::Rename(rename))
                .is_err()
            {
                return false;
            }
            self.show_name(from.0, from.1, Known::Absent, time, 0);
            self.show_name(to.0, to.1, Known::Present(moved), time, 0);
            if let Some(replaced) = replaced {
                self.inodes.forget(replaced);
            }
            self.show_moved(moved, target.owned, time);
            true
        })
    }

    /// A file has another name now, in a directory that is this mount's alone.
    fn show_moved(&self, moved: InodeId, now_in: Owned, time: Time) {
        let key = |time: Time| (time.seconds, time.nanoseconds);
        let validity = Duration::from_millis(u64::from(self.object_lease_ms));
        let updated = self.inodes.update_owned(moved, validity, |entry, owned| {
            let attributes = entry.attributes.as_mut()?;
            let later = attributes.changed.filter(|known| key(*known) > key(time));
            attributes.changed = later.or(Some(time));
            self.exclusive.is_owned(owned).then_some(now_in)
        });
        if updated.is_none() {
            self.inodes.forget(moved);
        }
    }

    /// Before the server is asked to move a name: what it leads to may come to be known to others.
    fn disown_name(&self, directory: InodeId, name: &[u8]) {
        match self.exclusive.find(directory, name) {
            Some(Known::Present(inode)) => {
                self.inodes.forget(inode);
                self.inodes.disown(inode);
            }
            Some(Known::Absent) => {}
            Some(Known::Unknown) | None => self.exclusive.disown_all(directory),
        }
        self.exclusive.doubt(directory, name);
    }
}
