//! Access control lists: extended attributes that the mode follows, and that follow the mode.

use pocket_proto::session::Acls;
use pocket_proto::{ACCESS_ACL, Acl, DEFAULT_ACL, InodeId, Status};

use super::inode::SET_GROUP_ID;
use super::{Content, Inode, Namespace};
use crate::now::Timestamp;

/// Bits of a mode that an access list says as well.
const PERMISSION_BITS: u32 = 0o777;

/// A list that can be set, or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AclPlan {
    name: &'static [u8],
    acl: Option<Acl>,
}

impl Namespace {
    /// Checks that the attribute `name` can be set to a list; one without entries removes it.
    /// [`Status::Denied`] for a default list of anything but a directory, as Linux has it.
    pub(crate) fn plan_set_acl(
        &self,
        id: InodeId,
        name: &[u8],
        value: &[u8],
    ) -> Result<AclPlan, Status> {
        let inode = self.inode(id)?;
        let names = [ACCESS_ACL, DEFAULT_ACL];
        let name = names.into_iter().find(|known| *known == name);
        let name = match (name, &inode.content) {
            (None, _) | (_, Content::Symlink(_)) => return Err(Status::Unsupported),
            (Some(name), _) => name,
        };
        let acl = Acl::decode(value)?;
        if acl.is_some() {
            if name == DEFAULT_ACL && !inode.is_directory() {
                return Err(Status::Denied);
            }
            inode.xattrs.check_room(name, value)?;
        }
        Ok(AclPlan { name, acl })
    }

    /// Sets a list, and the mode after an access list. What the mode says alone is not kept.
    /// `clear_set_group_id`: the setter may not keep that bit.
    pub(crate) fn set_acl(
        &mut self,
        id: InodeId,
        plan: &AclPlan,
        clear_set_group_id: bool,
        now: Timestamp,
    ) {
        let inode = self.planned(id);
        inode.changed = now;
        let mut kept = plan.acl.as_ref();
        if let (ACCESS_ACL, Some(acl)) = (plan.name, kept) {
            inode.mode = (inode.mode & !PERMISSION_BITS) | acl.mode();
            if clear_set_group_id {
                inode.mode &= !SET_GROUP_ID;
            }
            kept = kept.filter(|acl| !acl.is_minimal());
        }
        match kept {
            Some(acl) => inode.xattrs.insert(plan.name, acl.encode()),
            None => inode.xattrs.remove(plan.name),
        }
    }
}

impl Inode {
    /// The lists there are.
    pub(crate) fn acls(&self) -> Acls {
        let list = |name| self.xattrs.get(name).cloned().unwrap_or_default();
        Acls {
            access: list(ACCESS_ACL),
            default: list(DEFAULT_ACL),
        }
    }

    /// Takes over the lists that a new inode begins with, or that follow a mode.
    pub(super) fn take_acls(&mut self, acls: Acls) {
        for (name, list) in [(ACCESS_ACL, acls.access), (DEFAULT_ACL, acls.default)] {
            if !list.is_empty() {
                self.xattrs.insert(name, list);
            }
        }
    }
}
