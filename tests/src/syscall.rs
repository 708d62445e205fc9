//! System calls that neither std nor nix offers in a safe form: extended attributes, and memory
//! maps as byte slices that are copied out of and into.

#![allow(unsafe_code)]

use std::{
    ffi::{CString, OsStr},
    io,
    num::NonZeroUsize,
    os::{
        fd::{AsFd, AsRawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    ptr::NonNull,
};

use nix::{
    errno::Errno,
    sys::mman::{MapFlags, MmapAdvise, MsFlags, ProtFlags, madvise, mmap, msync, munmap},
};

/// Room for a value or a list; the kernel's own limit is 64 KiB.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// Sets an extended attribute, without following a symlink. `flags` as setxattr(2) takes them.
pub fn set_xattr(path: &Path, name: &str, value: &[u8], flags: i32) -> Result<(), Errno> {
    let (path, name) = (c_path(path), c_name(name));
    // SAFETY: both strings end in NUL and the value is as long as said; all outlive the call.
    let result = unsafe {
        let value_at = value.as_ptr().cast();
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), value_at, value.len(), flags)
    };
    Errno::result(result).map(drop)
}

/// An extended attribute's value, without following a symlink.
pub fn get_xattr(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let (path, name) = (c_path(path), c_name(name));
    let mut value = vec![0u8; XATTR_BYTES_MAX];
    // SAFETY: both strings end in NUL; the kernel writes no more than the buffer's length.
    let length = unsafe {
        let value_at = value.as_mut_ptr().cast();
        libc::lgetxattr(path.as_ptr(), name.as_ptr(), value_at, value.len())
    };
    value.truncate(Errno::result(length)? as usize);
    Ok(value)
}

/// How long an extended attribute's value is, read into so many bytes; 0 asks for the length alone.
pub fn get_xattr_into(path: &Path, name: &str, room: usize) -> Result<usize, Errno> {
    let (path, name) = (c_path(path), c_name(name));
    let mut value = vec![0u8; room];
    // SAFETY: both strings end in NUL; the kernel writes no more than the buffer's length.
    let length = unsafe {
        let value_at = value.as_mut_ptr().cast();
        libc::lgetxattr(path.as_ptr(), name.as_ptr(), value_at, room)
    };
    Ok(Errno::result(length)? as usize)
}

/// How long the list of names is, read into so many bytes; 0 asks for the length alone.
pub fn list_xattr_into(path: &Path, room: usize) -> Result<usize, Errno> {
    let path = c_path(path);
    let mut names = vec![0u8; room];
    // SAFETY: the path ends in NUL; the kernel writes no more than the buffer's length.
    let length = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), room) };
    Ok(Errno::result(length)? as usize)
}

/// Names of extended attributes, sorted, without following a symlink.
pub fn list_xattr(path: &Path) -> Result<Vec<String>, Errno> {
    let path = c_path(path);
    let mut names = vec![0u8; XATTR_BYTES_MAX];
    // SAFETY: the path ends in NUL; the kernel writes no more than the buffer's length.
    let length = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(Errno::result(length)? as usize);
    let names = names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    let mut names: Vec<_> = names
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// Removes an extended attribute, without following a symlink.
pub fn remove_xattr(path: &Path, name: &str) -> Result<(), Errno> {
    let (path, name) = (c_path(path), c_name(name));
    // SAFETY: both strings end in NUL and outlive the call.
    let result = unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) };
    Errno::result(result).map(drop)
}

fn c_path(path: &Path) -> CString {
    c_name(path.as_os_str())
}

fn c_name(name: impl AsRef<OsStr>) -> CString {
    CString::new(name.as_ref().as_bytes()).expect("names of the suites have no NUL")
}

/// How a map shares with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Stores reach the file.
    Shared,
    /// Stores stay with the map.
    Private,
}

/// A memory map of a file. Access is by copying, with bounds checked against the map's length; a
/// page behind the file's end still raises SIGBUS, as it does for everyone.
#[derive(Debug)]
pub struct Map {
    start: NonNull<libc::c_void>,
    bytes: usize,
}

impl Map {
    /// Maps the first `bytes` of a file that is open for reading and, where shared, writing.
    pub fn new(file: impl AsFd, bytes: usize, sharing: Sharing) -> Result<Self, Errno> {
        let length = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
        let flags = match sharing {
            Sharing::Shared => MapFlags::MAP_SHARED,
            Sharing::Private => MapFlags::MAP_PRIVATE,
        };
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses the address, so that nothing of ours is replaced.
        let start = unsafe { mmap(None, length, access, flags, file, 0) }?;
        Ok(Map { start, bytes })
    }

    /// Copies out of the map.
    pub fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        assert!(offset + length <= self.bytes, "outside of the map");
        let mut copy = vec![0; length];
        // SAFETY: the range lies within the map (asserted), which lives as long as `self`; the
        // copy is memory of our own. Others may change the bytes meanwhile, which a copy of plain
        // bytes bears.
        unsafe {
            let from = self.start.as_ptr().cast::<u8>().add(offset);
            std::ptr::copy_nonoverlapping(from, copy.as_mut_ptr(), length);
        }
        copy
    }

    /// Copies into the map.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        assert!(offset + data.len() <= self.bytes, "outside of the map");
        // SAFETY: as in `read`, the other way round.
        unsafe {
            let to = self.start.as_ptr().cast::<u8>().add(offset);
            std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len());
        }
    }

    /// Writes changed pages of a shared map to the file and waits for that.
    pub fn sync(&self) -> Result<(), Errno> {
        // SAFETY: the range is the map's own.
        unsafe { msync(self.start, self.bytes, MsFlags::MS_SYNC) }
    }

    /// Forgets pages that the map holds, so that the next access asks the file again.
    pub fn forget(&self) -> Result<(), Errno> {
        // SAFETY: dropping pages of a file's map loses nothing but private stores.
        unsafe { madvise(self.start, self.bytes, MmapAdvise::MADV_DONTNEED) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: nobody holds a reference into the map; it is only ever copied from and to.
        let unmapped = unsafe { munmap(self.start, self.bytes) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

/// The number of the last system call's error, of std's error type.
pub fn errno_of(error: &io::Error) -> Errno {
    error
        .raw_os_error()
        .map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// One entry as getdents64(2) tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEntry {
    /// The name.
    pub name: Vec<u8>,
    /// Where reading goes on behind this entry: an offset for lseek(2).
    pub next: i64,
    /// The kind, as DT_REG and its like.
    pub kind: u8,
}

/// Reads entries of an open directory from its current offset, as many as fit `room` bytes.
/// Empty at the end.
pub fn read_entries(directory: impl AsFd, room: usize) -> Result<Vec<RawEntry>, Errno> {
    let mut buffer = vec![0u8; room];
    let descriptor = directory.as_fd().as_raw_fd();
    // SAFETY: the kernel writes no more than the buffer's length.
    let length = unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            descriptor,
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    };
    buffer.truncate(Errno::result(length)? as usize);
    let mut entries = Vec::new();
    let mut rest = buffer.as_slice();
    // struct linux_dirent64: inode u64, offset i64, length u16, kind u8, name up to a NUL.
    while rest.len() > 19 {
        let next = i64::from_ne_bytes(rest[8..16].try_into().expect("eight bytes"));
        let length = u16::from_ne_bytes([rest[16], rest[17]]) as usize;
        let name = rest[19..length].split(|&byte| byte == 0).next();
        entries.push(RawEntry {
            name: name.unwrap_or_default().to_vec(),
            next,
            kind: rest[18],
        });
        rest = &rest[length..];
    }
    Ok(entries)
}
