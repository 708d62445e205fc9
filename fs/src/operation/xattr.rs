//! Extended attributes.

use bytes::Bytes;
use pocket_proto::InodeId;
use pocket_proto::session::{GetXattr, ListXattr, RemoveXattr, SetXattr, reply, request};

use crate::filesystem::unexpected;
use crate::{Errno, FileSystem};

/// Linux's limits (include/uapi/linux/limits.h).
const XATTR_NAME_MAX: usize = 255;
const XATTR_SIZE_MAX: usize = 65_536;

/// Whether an attribute must or must not be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Either.
    Set,
    /// EEXIST if it is there.
    Create,
    /// ENODATA if it is not.
    Replace,
}

impl FileSystem {
    /// Sets an attribute. The namespaces `user`, `trusted` and `security` are kept as they come;
    /// in `system` there are only access control lists ([`FileSystem::set_acl`]).
    pub async fn set_xattr(
        &self,
        inode: InodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), Errno> {
        self.refuse_if_read_only()?;
        check_name(name)?;
        if value.len() > XATTR_SIZE_MAX {
            return Err(Errno(libc::E2BIG));
        }
        let request = SetXattr {
            inode: inode.0,
            name: name.to_vec().into(),
            value: value.to_vec().into(),
            create: mode == XattrMode::Create,
            replace: mode == XattrMode::Replace,
            ..SetXattr::default()
        };
        self.change_xattrs(inode, request::Operation::SetXattr(request))
            .await
    }

    /// An attribute's value; ENODATA if there is none.
    pub async fn get_xattr(&self, inode: InodeId, name: &[u8]) -> Result<Bytes, Errno> {
        check_name(name)?;
        let request = GetXattr {
            inode: inode.0,
            name: name.to_vec().into(),
        };
        self.xattr(request::Operation::GetXattr(request)).await
    }

    /// The attributes' names, each ended by NUL.
    pub async fn list_xattr(&self, inode: InodeId) -> Result<Bytes, Errno> {
        self.xattr(request::Operation::ListXattr(ListXattr { inode: inode.0 }))
            .await
    }

    /// Removes an attribute; ENODATA if there is none.
    pub async fn remove_xattr(&self, inode: InodeId, name: &[u8]) -> Result<(), Errno> {
        self.refuse_if_read_only()?;
        check_name(name)?;
        let request = RemoveXattr {
            inode: inode.0,
            name: name.to_vec().into(),
        };
        self.change_xattrs(inode, request::Operation::RemoveXattr(request))
            .await
    }

    /// Asks for a change that other attributes follow: they are looked at anew.
    pub(crate) async fn change_xattrs(
        &self,
        inode: InodeId,
        operation: request::Operation,
    ) -> Result<(), Errno> {
        // What is made in a directory meanwhile may or may not inherit the change.
        self.exclusive.forget_attributes(inode, self.inodes.tick());
        self.inodes.forget(inode);
        let done = self.call_done(operation).await;
        self.inodes.forget(inode);
        self.exclusive.forget_attributes(inode, self.inodes.tick());
        Ok(done?)
    }

    async fn xattr(&self, request: request::Operation) -> Result<Bytes, Errno> {
        match self.call(request).await?.value {
            reply::Result::Xattr(xattr) => Ok(xattr.value),
            _ => Err(unexpected().into()),
        }
    }
}

fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name.is_empty() || name.len() > XATTR_NAME_MAX {
        return Err(Errno(libc::ERANGE));
    }
    if name.starts_with(b"system.") {
        return Err(Errno(libc::EOPNOTSUPP));
    }
    Ok(())
}
