//! Names in directories: looked up, made, removed, moved.

use pocket_fs::{NewNode, NodeRequest};
use pocket_proto::InodeId;

use super::{Adapter, Call};
use crate::convert;
use crate::reply::{reply_empty, reply_entry};

impl Adapter {
    pub(super) fn lookup(&self, call: Call, name: &[u8]) {
        let name = name.to_vec();
        self.run(|fs| async move {
            let found = fs.lookup(call.inode, &name);
            if let (outcome, Some(reply)) = call.reply.unless_killed(found).await {
                reply_entry(&fs, outcome, reply);
            }
        });
    }

    /// `mode` comes with the umask, here as in the following.
    pub(super) fn make_node(&self, call: Call, name: &[u8], mode: (u32, u32), device: u32) {
        let (mode, umask) = mode;
        let Some(kind) = convert::node_kind(mode) else {
            return call.reply.error(libc::EINVAL);
        };
        let name = name.to_vec();
        self.run(|fs| async move {
            let node = NodeRequest {
                parent: call.inode,
                name: &name,
                node: NewNode::Other(kind, device),
                mode,
                umask,
                caller: call.caller,
            };
            reply_entry(&fs, fs.make_node(node).await, call.reply);
        });
    }

    pub(super) fn make_directory(&self, call: Call, name: &[u8], mode: (u32, u32)) {
        let (name, (mode, umask)) = (name.to_vec(), mode);
        self.run(|fs| async move {
            let node = NodeRequest {
                parent: call.inode,
                name: &name,
                node: NewNode::Directory,
                mode,
                umask,
                caller: call.caller,
            };
            reply_entry(&fs, fs.make_node(node).await, call.reply);
        });
    }

    pub(super) fn make_symlink(&self, call: Call, name: &[u8], target: &[u8]) {
        let (name, target) = (name.to_vec(), target.to_vec());
        self.run(|fs| async move {
            let node = NodeRequest {
                parent: call.inode,
                name: &name,
                node: NewNode::Symlink(&target),
                mode: 0o777,
                umask: 0,
                caller: call.caller,
            };
            reply_entry(&fs, fs.make_node(node).await, call.reply);
        });
    }

    pub(super) fn unlink(&self, call: Call, name: &[u8]) {
        let name = name.to_vec();
        self.run(|fs| async move { reply_empty(fs.unlink(call.inode, &name).await, call.reply) });
    }

    pub(super) fn remove_directory(&self, call: Call, name: &[u8]) {
        let name = name.to_vec();
        self.run(|fs| async move { reply_empty(fs.rmdir(call.inode, &name).await, call.reply) });
    }

    pub(super) fn rename(&self, call: Call, name: &[u8], to: (InodeId, &[u8]), flags: u32) {
        let whiteout = flags & libc::RENAME_WHITEOUT != 0;
        let Some(mode) = convert::rename_mode(flags & !libc::RENAME_WHITEOUT) else {
            return call.reply.error(libc::EINVAL);
        };
        let (name, new_parent, new_name) = (name.to_vec(), to.0, to.1.to_vec());
        self.run(|fs| async move {
            let (from, to) = ((call.inode, &name[..]), (new_parent, &new_name[..]));
            let outcome = match whiteout {
                false => fs.rename(from, to, mode).await,
                true => {
                    fs.rename_leaving_whiteout(from, to, mode, call.caller)
                        .await
                }
            };
            reply_empty(outcome, call.reply);
        });
    }

    pub(super) fn link(&self, call: Call, target: InodeId, name: &[u8]) {
        let name = name.to_vec();
        self.run(|fs| async move {
            reply_entry(&fs, fs.link(target, call.inode, &name).await, call.reply);
        });
    }
}
