//! renameat2(2).

use pocket_proto::InodeId;
use pocket_proto::session::{Rename, request};

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
        let request = Rename {
            parent: from.0.0,
            name: from.1.to_vec().into(),
            new_parent: to.0.0,
            new_name: to.1.to_vec().into(),
            no_replace: mode == RenameMode::NoReplace,
            exchange: mode == RenameMode::Exchange,
        };
        let done = self.call_done(request::Operation::Rename(request)).await;
        self.name_changed(from.0, from.1);
        self.name_changed(to.0, to.1);
        Ok(done?)
    }
}
