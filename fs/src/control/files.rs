//! The files of `.pocket`, and the calls that find and read them.

use std::sync::Arc;

use bytes::Bytes;
use pocket_proto::InodeId;
use pocket_proto::session::{Attributes, DirectoryEntry, Entry, FileKind};

use super::CONTROL_DIRECTORY;
use crate::file::ReadData;
use crate::listings::Page;
use crate::operation::{Access, DirectoryPage, Flags, Opened, SeekTarget};
use crate::{Errno, FileSystem, HandleId, Leased};

/// The directory. A metadata server counts inode numbers up from the root's, and would reach this
/// one after 146,000 years with a million files made in each second. It fits signed integers.
const DIRECTORY: InodeId = InodeId(1 << 62);
/// The kernel may keep the names for so long: they are always there.
const NAMES_VALID_MS: u32 = 1000;

/// A file, in the order of its inode's number behind the directory's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ControlFile {
    Stats,
    Config,
    Job,
}

const FILES: [(ControlFile, &[u8]); 3] = [
    (ControlFile::Stats, b"stats"),
    (ControlFile::Config, b"config"),
    (ControlFile::Job, b"job"),
];

/// Whether the inode is the directory or in it.
pub(crate) fn is_control(inode: InodeId) -> bool {
    inode.0 >= DIRECTORY.0
}

fn inode_of(index: usize) -> InodeId {
    InodeId(DIRECTORY.0 + 1 + index as u64)
}

fn file_of(inode: InodeId) -> Option<ControlFile> {
    let index = inode.0.checked_sub(DIRECTORY.0 + 1)?;
    let (file, _) = FILES.get(usize::try_from(index).ok()?)?;
    Some(*file)
}

fn entry(inode: InodeId) -> Result<Entry, Errno> {
    let (kind, mode, link_count) = match file_of(inode) {
        Some(_) => (FileKind::Regular, 0o444, 1),
        None if inode == DIRECTORY => (FileKind::Directory, 0o555, 2),
        None => return Err(Errno(libc::ESTALE)),
    };
    Ok(Entry {
        attributes: Some(Attributes {
            inode: inode.0,
            kind: kind.into(),
            mode,
            link_count,
            ..Attributes::default()
        }),
        name_valid_ms: NAMES_VALID_MS,
        ..Entry::default()
    })
}

impl FileSystem {
    /// The entry of a name that is this directory's, or is looked for in it; none for any other.
    pub(crate) fn find_control(
        &self,
        parent: InodeId,
        name: &[u8],
    ) -> Option<Result<Leased<Entry>, Errno>> {
        let found = match parent {
            InodeId::ROOT if name == CONTROL_DIRECTORY => Some(DIRECTORY),
            _ if !is_control(parent) => return None,
            _ => FILES
                .iter()
                .position(|(_, file)| *file == name)
                .map(inode_of),
        };
        let found = match found {
            Some(inode) => entry(inode),
            None => Ok(Entry::default()),
        };
        Some(found.map(|entry| self.told_here(entry)))
    }

    /// The attributes of the directory or of a file in it; none for any other inode.
    pub(crate) fn control_entry(&self, inode: InodeId) -> Option<Result<Leased<Entry>, Errno>> {
        is_control(inode).then(|| Ok(self.told_here(entry(inode)?)))
    }

    /// Opens a file of the directory to be read; none for any other inode.
    pub(crate) async fn open_control(
        &self,
        inode: InodeId,
        flags: Flags,
    ) -> Option<Result<Opened, Errno>> {
        if !is_control(inode) {
            return None;
        }
        if flags.access() == Access::Write || flags.truncates() {
            return Some(Err(Errno(libc::EPERM)));
        }
        let Some(file) = file_of(inode) else {
            return Some(Err(Errno(libc::ESTALE)));
        };
        let source = self.control.source.get();
        let text = match (file, source) {
            (ControlFile::Stats, _) => self.metrics().into_readable(),
            (ControlFile::Config, Some(source)) => source.config(),
            (ControlFile::Job, Some(source)) => source.job().await,
            (_, None) => String::new(),
        };
        let opened = self.control.insert(text);
        Some(opened.map(|handle| Opened {
            handle,
            read_only: true,
        }))
    }

    /// Reads what a handle tells; none for any other handle.
    pub(crate) fn read_control(
        &self,
        handle: HandleId,
        offset: u64,
        length: u32,
    ) -> Option<ReadData> {
        let text = self.control.text(handle)?;
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(text.len());
        let to = from.saturating_add(length as usize).min(text.len());
        Some(ReadData::from(text.slice(from..to)))
    }

    /// As lseek(2) to data and holes, of which there is one at the end; none for any other handle.
    pub(crate) fn seek_control(
        &self,
        handle: HandleId,
        offset: u64,
        target: SeekTarget,
    ) -> Option<Result<u64, Errno>> {
        let end = self.control.text(handle)?.len() as u64;
        Some(match target {
            _ if offset >= end => Err(Errno(libc::ENXIO)),
            SeekTarget::Data => Ok(offset),
            SeekTarget::Hole => Ok(end),
        })
    }

    /// The names in the directory behind `cookie`; none for any other directory.
    pub(crate) fn list_control(
        &self,
        directory: InodeId,
        cookie: u64,
        with_attributes: bool,
    ) -> Option<Leased<DirectoryPage>> {
        if directory != DIRECTORY {
            return None;
        }
        let dots = [(DIRECTORY, &b"."[..]), (InodeId::ROOT, b"..")];
        let files = FILES.iter().enumerate();
        let files = files.map(|(index, (_, name))| (inode_of(index), *name));
        let entries = (1..).zip(dots.into_iter().chain(files));
        let listed = entries.map(|(cookie, (inode, name))| DirectoryEntry {
            name: Bytes::from_static(name),
            inode: inode.0,
            kind: match file_of(inode) {
                Some(_) => FileKind::Regular.into(),
                None => FileKind::Directory.into(),
            },
            cookie,
            entry: match with_attributes && file_of(inode).is_some() {
                true => entry(inode).ok(),
                false => None,
            },
        });
        let page = Page {
            behind: cookie,
            with_attributes,
            entries: listed.filter(|listed| listed.cookie > cookie).collect(),
            end: true,
            valid_ms: 0,
        };
        Some(self.told_here(DirectoryPage::new(Arc::new(page))))
    }

    fn told_here<T>(&self, value: T) -> Leased<T> {
        self.coherence.stamped(|stamp, session| {
            self.answered_here(value, self.inodes.tick(), (stamp, session))
        })
    }
}
