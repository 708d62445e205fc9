//! Names that the server takes away by itself: of what has outlived its time or its use, and in a
//! directory that is removed as a whole.

use bytes::Bytes;
use pocket_proto::InodeId;

use super::Context;
use crate::job::{Awaited, Touches};

/// A name that is to go.
#[derive(Clone, Debug)]
pub(crate) struct Victim {
    pub(crate) parent: InodeId,
    pub(crate) name: Bytes,
    /// What it leads to; if it leads elsewhere it stays.
    pub(crate) inode: InodeId,
}

impl Context<'_> {
    /// Removes the names that can be removed, once nobody else counts on any of them: else what to
    /// wait for. Returns how many are gone.
    pub(crate) fn remove_victims(&mut self, victims: &[Victim]) -> Result<u64, Vec<Awaited>> {
        let names: Vec<_> = victims.iter().map(|one| (one.parent, &*one.name)).collect();
        let inodes: Vec<_> = victims.iter().map(|one| one.inode).collect();
        let mut directories = inodes.clone();
        directories.retain(|inode| self.is_directory(*inode));
        if let Some(awaited) = self.share_before_change(&names, &directories) {
            return Err(awaited);
        }
        let touches = Touches {
            names: &names,
            attributes: &inodes,
            ..Touches::default()
        };
        if let Some(awaited) = self.recall(touches) {
            return Err(awaited);
        }
        let mut removed = 0;
        for victim in victims {
            let (inode, directory) = (victim.inode, self.is_directory(victim.inode));
            let namespace = &mut self.state.namespace;
            let Ok(plan) = namespace.plan_remove(victim.parent, &victim.name, directory) else {
                continue;
            };
            if plan.inode != inode {
                continue;
            }
            namespace.remove(&plan, self.now.wall);
            if directory {
                self.state.forget_directory(inode);
            }
            self.state.drop_if_unused(inode);
            removed += 1;
        }
        Ok(removed)
    }

    fn is_directory(&self, inode: InodeId) -> bool {
        let inode = self.state.namespace.inode(inode);
        inode.is_ok_and(|inode| inode.is_directory())
    }
}
