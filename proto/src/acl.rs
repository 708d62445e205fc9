//! POSIX access control lists: the bytes that setxattr(2) brings, and what they do to a mode.
//!
//! The rules are those of the withdrawn POSIX.1e draft as Linux has them (acl(5),
//! fs/posix_acl.c). An access list and the permission bits of a mode say the same: owner, others,
//! and for the group's bits the mask, or the owning group's entry where there is no mask. Whoever
//! changes one changes the other. Who may do what is checked by the kernel alone.

#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::Status;
use crate::session::{Acls, FileKind};

/// Name of the extended attribute that is a file's access list.
pub const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
/// Name of the one that is a directory's default list: what is made in it begins with that.
pub const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
/// What both names begin with.
pub const ACL_PREFIX: &[u8] = b"system.posix_acl_";

/// POSIX_ACL_XATTR_VERSION, in the header.
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;
/// The kernel's FUSE keeps no list that is longer than a page of 4 KiB.
const ACL_BYTES_MAX: usize = 4096;
/// The id in entries that need none (ACL_UNDEFINED_ID); nobody has it.
const NO_ID: u32 = u32::MAX;
/// Read, write and execute.
const PERMISSIONS: u32 = 0o7;
/// The bits of a mode that an access list says as well.
const MODE_PERMISSIONS: u32 = 0o777;

/// A list that Linux would take. Its bytes are always the same for the same list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl(Vec<AclEntry>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AclEntry {
    tag: Tag,
    permissions: u32,
    id: u32,
}

/// Whom an entry is about, in the order in which entries stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    Owner,
    User,
    OwningGroup,
    Group,
    Mask,
    Others,
}

/// What a new inode begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Its mode, the set-id and sticky bits as they were asked for.
    pub mode: u32,
    /// Its lists.
    pub acls: Acls,
}

impl Tag {
    const ALL: [Tag; 6] = [
        Tag::Owner,
        Tag::User,
        Tag::OwningGroup,
        Tag::Group,
        Tag::Mask,
        Tag::Others,
    ];

    /// As include/uapi/linux/posix_acl.h has it: a bit for each.
    fn code(self) -> u16 {
        1 << self as u16
    }

    fn decode(code: u16) -> Option<Self> {
        Tag::ALL.into_iter().find(|tag| tag.code() == code)
    }

    /// Whether entries of this kind say whose they are.
    fn is_named(self) -> bool {
        matches!(self, Tag::User | Tag::Group)
    }
}

impl Acl {
    /// Reads what setxattr(2) brings. None: it has no entries, which removes the list.
    ///
    /// [`Status::Invalid`] for what is no list: another version, not exactly one entry for the
    /// owner, the owning group and others, a named entry of nobody or without a mask, entries out
    /// of order. [`Status::OutOfRange`] for more entries than the kernel's FUSE takes.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, Status> {
        let Some((version, entries)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return match bytes {
                [] => Ok(None),
                _ => Err(Status::Invalid),
            };
        };
        let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
        if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
            return Err(Status::Invalid);
        }
        if bytes.len() > ACL_BYTES_MAX {
            return Err(Status::OutOfRange);
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let entries = entries.iter().map(AclEntry::decode);
        let acl = Acl(entries.collect::<Option<_>>().ok_or(Status::Invalid)?);
        acl.is_valid().then_some(Some(acl)).ok_or(Status::Invalid)
    }

    /// The list as getxattr(2) gives it.
    pub fn encode(&self) -> Bytes {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            bytes.extend_from_slice(&entry.tag.code().to_le_bytes());
            bytes.extend_from_slice(&(entry.permissions as u16).to_le_bytes());
            bytes.extend_from_slice(&entry.id.to_le_bytes());
        }
        bytes.into()
    }

    /// The permission bits that say the same, as far as a mode can.
    pub fn mode(&self) -> u32 {
        [Tag::Owner, self.group_class(), Tag::Others]
            .into_iter()
            .fold(0, |mode, tag| (mode << 3) | self.permissions(tag))
    }

    /// Whether a mode says all of it: such a list is not kept.
    pub fn is_minimal(&self) -> bool {
        let in_mode = |tag| matches!(tag, Tag::Owner | Tag::OwningGroup | Tag::Others);
        self.0.iter().all(|entry| in_mode(entry.tag))
    }

    /// Follows a change of the mode, as chmod(2) makes it. Named entries, and with a mask the
    /// owning group's, stay as they are.
    pub fn set_mode(&mut self, mode: u32) {
        let group = self.group_class();
        self.set(Tag::Owner, mode >> 6);
        self.set(group, mode >> 3);
        self.set(Tag::Others, mode);
    }

    /// The entry that is the group's bits of a mode.
    fn group_class(&self) -> Tag {
        match self.0.iter().any(|entry| entry.tag == Tag::Mask) {
            true => Tag::Mask,
            false => Tag::OwningGroup,
        }
    }

    fn permissions(&self, tag: Tag) -> u32 {
        let entry = self.0.iter().find(|entry| entry.tag == tag);
        entry.map_or(0, |entry| entry.permissions)
    }

    fn set(&mut self, tag: Tag, permissions: u32) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.tag == tag) {
            entry.permissions = permissions & PERMISSIONS;
        }
    }

    fn is_valid(&self) -> bool {
        let count = |tag| self.0.iter().filter(|entry| entry.tag == tag).count();
        let named = count(Tag::User) + count(Tag::Group) > 0;
        let base = [Tag::Owner, Tag::OwningGroup, Tag::Others];
        self.0.is_sorted_by_key(|entry| entry.tag)
            && base.into_iter().all(|tag| count(tag) == 1)
            && (usize::from(named)..=1).contains(&count(Tag::Mask))
    }
}

impl AclEntry {
    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let [tag, tag_high, permissions, permissions_high, id @ ..] = *bytes;
        let tag = Tag::decode(u16::from_le_bytes([tag, tag_high]))?;
        let permissions = u32::from(u16::from_le_bytes([permissions, permissions_high]));
        let id = match tag.is_named() {
            true => u32::from_le_bytes(id),
            // Whatever stands there.
            false => NO_ID,
        };
        let of_nobody = tag.is_named() && id == NO_ID;
        (permissions <= PERMISSIONS && !of_nobody).then_some(AclEntry {
            tag,
            permissions,
            id,
        })
    }
}

impl Acls {
    /// What an inode that is made with `mode` begins with in a directory with these lists. The
    /// umask counts where the directory has no default list (umask(2)).
    pub fn hand_on(&self, kind: FileKind, mode: u32, umask: u32) -> Inherited {
        let plain = |mode| Inherited {
            mode,
            acls: Acls::default(),
        };
        if kind == FileKind::Symlink {
            return plain(mode);
        }
        let Ok(Some(mut acl)) = Acl::decode(&self.default) else {
            return plain(mode & !(umask & MODE_PERMISSIONS));
        };
        acl.set_mode(acl.mode() & mode);
        Inherited {
            mode: (mode & !MODE_PERMISSIONS) | acl.mode(),
            acls: Acls {
                access: match acl.is_minimal() {
                    true => Bytes::new(),
                    false => acl.encode(),
                },
                default: match kind {
                    FileKind::Directory => self.default.clone(),
                    _ => Bytes::new(),
                },
            },
        }
    }

    /// The mode was set, by chmod(2): the access list, where there is one, says the same now.
    pub fn set_mode(&mut self, mode: u32) {
        if let Ok(Some(mut acl)) = Acl::decode(&self.access) {
            acl.set_mode(mode);
            self.access = acl.encode();
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.access.is_empty() && self.default.is_empty()
    }
}
