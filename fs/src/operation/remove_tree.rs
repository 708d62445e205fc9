//! Removing a directory with all that is in it, by one request.

use pocket_proto::InodeId;
use pocket_proto::session::{GetRemoval, Removal, RemoveTree, reply, request};

use crate::exclusive::Known;
use crate::filesystem::unexpected;
use crate::{Errno, FileSystem};

impl FileSystem {
    /// Removes a directory and everything below it: its name is gone for everyone when this
    /// returns, what was in it is freed behind that ([`FileSystem::removal`] tells how far it is).
    /// Nobody's permissions are asked for.
    pub async fn remove_tree(&self, parent: InodeId, name: &[u8]) -> Result<Removal, Errno> {
        self.refuse_if_read_only()?;
        if let Some(Known::Present(removed)) = self.exclusive.find(parent, name) {
            self.exclusive.give_back(removed);
        }
        self.exclusive.doubt(parent, name);
        let request = request::Operation::RemoveTree(RemoveTree {
            parent: parent.0,
            name: name.to_vec().into(),
        });
        let answer = self.call(request).await;
        self.name_asked(parent, name, &answer);
        told(answer?.value)
    }

    /// How far a removal has come.
    pub async fn removal(&self, removal: u64) -> Result<Removal, Errno> {
        let request = request::Operation::GetRemoval(GetRemoval { removal });
        told(self.call(request).await?.value)
    }
}

fn told(answer: reply::Result) -> Result<Removal, Errno> {
    match answer {
        reply::Result::Removal(removal) => Ok(removal),
        _ => Err(unexpected().into()),
    }
}
