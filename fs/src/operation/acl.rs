//! Access control lists: extended attributes that come with an inode's attributes, so that the
//! kernel's questions for them cost no request.

use bytes::Bytes;
use pocket_proto::session::{Entry, SetXattr, request};
use pocket_proto::{ACCESS_ACL, DEFAULT_ACL, InodeId};

use crate::{Errno, FileSystem, Leased};

/// A list of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclKind {
    /// Who may do what with it.
    Access,
    /// What is made in a directory begins with.
    Default,
}

/// Whether the setter of a list may keep the set-group-id bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetGroupId {
    /// It stays as it is.
    Keep,
    /// An access list clears it: the setter is not in the file's group, and has no privilege.
    Clear,
}

impl AclKind {
    /// The list that the extended attribute of this name is; none for any other.
    pub fn of(name: &[u8]) -> Option<Self> {
        [AclKind::Access, AclKind::Default]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    fn name(self) -> &'static [u8] {
        match self {
            AclKind::Access => ACCESS_ACL,
            AclKind::Default => DEFAULT_ACL,
        }
    }
}

impl FileSystem {
    /// An inode's lists, with its attributes: to be told by [`FileSystem::hand_over_acl`].
    pub async fn get_acls(&self, inode: InodeId) -> Result<Leased<Entry>, Errno> {
        if let Some(entry) = self.control_entry(inode) {
            return entry;
        }
        match self.kept_entry(inode) {
            Some(kept) => Ok(kept),
            None => Ok(self.fetch_attributes(inode).await?),
        }
    }

    /// Hands a list to the kernel (in `give`); an empty one is none. The kernel drops it when its
    /// lease ends.
    pub fn hand_over_acl<R>(
        &self,
        inode: InodeId,
        leased: &Leased<Entry>,
        kind: AclKind,
        give: impl FnOnce(&Bytes) -> R,
    ) -> R {
        let (given, drop) = self.hand_over_entry(leased, |entry, freshness| {
            let acls = entry.acls.as_deref().cloned().unwrap_or_default();
            let given = give(match kind {
                AclKind::Access => &acls.access,
                AclKind::Default => &acls.default,
            });
            let validity = freshness.validity(entry.attributes_valid_ms);
            (given, self.kernel_acls.given(inode, validity))
        });
        if let Some(inode) = drop {
            self.kernel().drop_attributes(inode);
        }
        given
    }

    /// Sets a list, or removes it if `value` has no entries. EINVAL for what is none, EOPNOTSUPP on
    /// symbolic links, EACCES for a default list of anything but a directory.
    ///
    /// The mode follows an access list; one that a mode says as well is not kept.
    pub async fn set_acl(
        &self,
        inode: InodeId,
        kind: AclKind,
        value: &[u8],
        set_group_id: SetGroupId,
    ) -> Result<(), Errno> {
        self.refuse_if_read_only()?;
        self.refuse_to_change(inode)?;
        let request = SetXattr {
            inode: inode.0,
            name: Bytes::from_static(kind.name()),
            value: value.to_vec().into(),
            clear_set_group_id: set_group_id == SetGroupId::Clear,
            ..SetXattr::default()
        };
        self.change_xattrs(inode, request::Operation::SetXattr(request))
            .await
    }
}
