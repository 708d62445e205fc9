//! What is known of an inode: attributes, links' targets, extended attributes; and of the job.

use pocket_fs::{AclKind, SetGroupId};

use super::{Adapter, Call};
use crate::convert;
use crate::kernel::abi::SetattrIn;
use crate::reply::{
    reply_attributes, reply_empty, reply_stat_fs, reply_statx, reply_target, reply_xattr,
};

impl Adapter {
    pub(super) fn get_attributes(&self, call: Call) {
        self.run(|fs| async move {
            let known = fs.get_attributes(call.inode);
            if let (outcome, Some(reply)) = call.reply.unless_killed(known).await {
                reply_attributes(&fs, outcome, reply);
            }
        });
    }

    /// All that is known, whatever was asked for.
    pub(super) fn statx(&self, call: Call) {
        self.run(|fs| async move {
            let known = fs.get_attributes(call.inode);
            if let (outcome, Some(reply)) = call.reply.unless_killed(known).await {
                reply_statx(&fs, outcome, reply);
            }
        });
    }

    pub(super) fn set_attributes(&self, call: Call, set: &SetattrIn) {
        let changes = convert::changes(set);
        self.run(|fs| async move {
            reply_attributes(
                &fs,
                fs.set_attributes(call.inode, changes).await,
                call.reply,
            );
        });
    }

    pub(super) fn read_link(&self, call: Call) {
        self.run(|fs| async move {
            let target = fs.read_link(call.inode);
            if let (outcome, Some(reply)) = call.reply.unless_killed(target).await {
                reply_target(outcome, reply);
            }
        });
    }

    pub(super) fn set_xattr(&self, call: Call, name: &[u8], value: &[u8], flags: u32) {
        let (name, value, mode) = (name.to_vec(), value.to_vec(), convert::xattr_mode(flags));
        self.run(|fs| async move {
            let outcome = fs.set_xattr(call.inode, &name, &value, mode).await;
            reply_empty(outcome, call.reply);
        });
    }

    pub(super) fn get_xattr(&self, call: Call, name: &[u8], bytes_max: u32) {
        let name = name.to_vec();
        self.run(|fs| async move {
            let value = fs.get_xattr(call.inode, &name);
            if let (outcome, Some(reply)) = call.reply.unless_killed(value).await {
                reply_xattr(outcome, bytes_max, reply);
            }
        });
    }

    pub(super) fn list_xattr(&self, call: Call, bytes_max: u32) {
        let acls = self.offers.acls;
        self.run(|fs| async move {
            let names = fs.list_xattr(call.inode, call.caller);
            if let (outcome, Some(reply)) = call.reply.unless_killed(names).await {
                let outcome = match acls {
                    true => outcome,
                    false => outcome.map(|names| convert::names_without_acls(&names)),
                };
                reply_xattr(outcome, bytes_max, reply);
            }
        });
    }

    pub(super) fn remove_xattr(&self, call: Call, name: &[u8]) {
        let name = name.to_vec();
        self.run(|fs| async move {
            reply_empty(fs.remove_xattr(call.inode, &name).await, call.reply);
        });
    }

    /// An inode without a list is asked about whenever another than its owner uses it: what is at
    /// hand is answered on the spot.
    pub(super) fn get_acl(&self, call: Call, kind: AclKind, bytes_max: u32) {
        if !self.offers.acls {
            return call.reply.error(libc::EOPNOTSUPP);
        }
        self.run(|fs| async move {
            let acls = fs.get_acls(call.inode);
            match call.reply.unless_killed(acls).await {
                (Ok(leased), Some(reply)) => {
                    fs.hand_over_acl(call.inode, &leased, kind, |acl| match acl.is_empty() {
                        true => reply.error(libc::ENODATA),
                        false => reply_xattr(Ok(acl.clone()), bytes_max, reply),
                    });
                }
                (Err(errno), Some(reply)) => reply.error(errno.0),
                (_, None) => {}
            }
        });
    }

    /// Without entries, removes the list.
    pub(super) fn set_acl(&self, call: Call, kind: AclKind, value: &[u8], clear_set_id: bool) {
        if !self.offers.acls {
            return call.reply.error(libc::EOPNOTSUPP);
        }
        let value = value.to_vec();
        let set_group_id = match clear_set_id {
            true => SetGroupId::Clear,
            false => SetGroupId::Keep,
        };
        self.run(|fs| async move {
            let outcome = fs.set_acl(call.inode, kind, &value, set_group_id).await;
            reply_empty(outcome, call.reply);
        });
    }

    pub(super) fn stat_fs(&self, call: Call) {
        self.run(|fs| async move {
            if let (outcome, Some(reply)) = call.reply.unless_killed(fs.stat_fs()).await {
                reply_stat_fs(outcome, reply);
            }
        });
    }
}
