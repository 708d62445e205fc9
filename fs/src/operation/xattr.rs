//! Extended attributes.

use std::sync::Arc;

use bytes::Bytes;
use pocket_proto::InodeId;
use pocket_proto::session::{GetXattr, ListXattr, RemoveXattr, SetXattr, reply, request};

use super::Caller;
use crate::control::is_control;
use crate::filesystem::unexpected;
use crate::{Errno, FileSystem};

/// Linux's limits (include/uapi/linux/limits.h).
const XATTR_NAME_MAX: usize = 255;
const XATTR_SIZE_MAX: usize = 65_536;
/// Namespaces that are kept as they come.
const NAMESPACES: [&[u8]; 3] = [b"user.", TRUSTED, b"security."];
/// For the eyes of the privileged alone.
const TRUSTED: &[u8] = b"trusted.";
/// Lost with the next change of the file's data.
const CAPABILITY: &[u8] = b"security.capability";

/// Whether an attribute must or must not be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Either.
    Set,
    /// EEXIST if it is there.
    Create,
    /// ENODATA if it is not.
    Replace,
    /// Fails either way, with one of the two.
    CreateAndReplace,
}

impl FileSystem {
    /// Sets an attribute. The namespaces `user`, `trusted` and `security` are kept as they come;
    /// in `system` there are only access control lists ([`FileSystem::set_acl`]).
    pub async fn set_xattr(
        self: &Arc<Self>,
        inode: InodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), Errno> {
        self.refuse_if_read_only()?;
        self.refuse_to_change(inode)?;
        check_name(name)?;
        if value.len() > XATTR_SIZE_MAX {
            return Err(Errno(libc::E2BIG));
        }
        // What was written before it was set takes nothing away.
        if name == CAPABILITY
            && let Some(file) = self.files.get(inode)
        {
            self.flush_file(&file).await?;
        }
        let request = SetXattr {
            inode: inode.0,
            name: name.to_vec().into(),
            value: value.to_vec().into(),
            create: matches!(mode, XattrMode::Create | XattrMode::CreateAndReplace),
            replace: matches!(mode, XattrMode::Replace | XattrMode::CreateAndReplace),
            ..SetXattr::default()
        };
        self.change_xattrs(inode, request::Operation::SetXattr(request))
            .await
    }

    /// An attribute's value; ENODATA if there is none.
    pub async fn get_xattr(&self, inode: InodeId, name: &[u8]) -> Result<Bytes, Errno> {
        check_name(name)?;
        if is_control(inode) {
            return Err(Errno(libc::ENODATA));
        }
        let request = GetXattr {
            inode: inode.0,
            name: name.to_vec().into(),
        };
        self.xattr(request::Operation::GetXattr(request)).await
    }

    /// The attributes' names, each ended by NUL; `trusted` ones for root alone.
    pub async fn list_xattr(&self, inode: InodeId, caller: Caller) -> Result<Bytes, Errno> {
        if is_control(inode) {
            return Ok(Bytes::new());
        }
        let request = request::Operation::ListXattr(ListXattr { inode: inode.0 });
        let names = self.xattr(request).await?;
        if caller.uid == 0 {
            return Ok(names);
        }
        let each = names.split_inclusive(|&byte| byte == 0);
        let shown = each.filter(|name| !name.starts_with(TRUSTED));
        Ok(shown.flatten().copied().collect())
    }

    /// Removes an attribute; ENODATA if there is none.
    pub async fn remove_xattr(&self, inode: InodeId, name: &[u8]) -> Result<(), Errno> {
        self.refuse_if_read_only()?;
        self.refuse_to_change(inode)?;
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
    let rest = |namespace: &&[u8]| name.strip_prefix(*namespace);
    match NAMESPACES.iter().find_map(rest) {
        None => Err(Errno(libc::EOPNOTSUPP)),
        Some([]) => Err(Errno(libc::EINVAL)),
        Some(_) => Ok(()),
    }
}
