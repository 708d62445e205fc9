//! Files by handle: name_to_handle_at(2) and open_by_handle_at(2), as an NFS server uses them.

#![allow(unsafe_code)]

use std::{
    ffi::CString,
    fs::File,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::errno::Errno;

/// A file's handle, good on every mount of the same file system.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct FileHandle {
    bytes: u32,
    kind: i32,
    handle: [u8; FileHandle::BYTES_MAX],
}

impl FileHandle {
    /// `MAX_HANDLE_SZ` of linux/exportfs.h.
    const BYTES_MAX: usize = 128;

    /// The handle of what a path leads to.
    pub fn of(path: &Path) -> Result<Self, Errno> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
        let mut handle = FileHandle {
            bytes: Self::BYTES_MAX as u32,
            kind: 0,
            handle: [0; Self::BYTES_MAX],
        };
        let mut mount_id = 0i32;
        // SAFETY: the path ends in NUL; the handle has the layout of `struct file_handle` with as much
        // room as it says.
        let result = unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                libc::AT_FDCWD,
                path.as_ptr(),
                &raw mut handle,
                &raw mut mount_id,
                0,
            )
        };
        Errno::result(result)?;
        Ok(handle)
    }

    /// Opens it for reading on the mount that `mount` is on. Needs CAP_DAC_READ_SEARCH.
    pub fn open(&self, mount: &Path) -> Result<File, Errno> {
        let mount = File::open(mount)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
        // SAFETY: the handle has the layout of `struct file_handle` and outlives the call.
        let descriptor = unsafe {
            libc::syscall(
                libc::SYS_open_by_handle_at,
                mount.as_raw_fd(),
                &raw const *self,
                libc::O_RDONLY | libc::O_CLOEXEC,
            )
        };
        let descriptor = Errno::result(descriptor)? as i32;
        // SAFETY: the kernel has just given this descriptor to this process, and to nobody else.
        Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }
}
