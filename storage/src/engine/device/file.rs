//! Opening what an operator names: a block device, or a directory that a file is kept in.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use thiserror::Error;
use tracing::{info, warn};

use super::{Device, threads::ThreadDevice, uring::UringDevice};

/// The file in a directory.
const FILE_NAME: &str = "pocket-blocks";
/// How long a process that is being ended may still have it.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Why a path cannot hold blocks.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It cannot be opened or made as long as needed.
    #[error("cannot keep blocks in {path}: {source}")]
    Open {
        /// The file or device.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has it.
    #[error("{path} is in use by another process: give each storage server a path of its own")]
    InUse {
        /// The file or device.
        path: PathBuf,
    },
}

/// An open file or device, for this process alone.
pub(super) struct Medium {
    pub(super) file: File,
    /// Opened apart: the kernel takes a ring down, and lets go of the file registered with it, some
    /// time after its process has ended.
    _lock: File,
    pub(super) is_block_device: bool,
}

/// Opens `path`, a directory or a block device.
pub(in crate::engine) fn open(path: &Path) -> Result<Arc<dyn Device>, OpenError> {
    let is_directory = path.is_dir();
    let path = match is_directory {
        true => path.join(FILE_NAME),
        false => path.to_owned(),
    };
    let failed = |source| OpenError::Open {
        path: path.clone(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(is_directory);
    options.mode(0o600).custom_flags(libc::O_DIRECT);
    let file = match options.open(&path) {
        // A file system without direct I/O, as tmpfs is on older kernels.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            warn!(path = %path.display(), "no direct I/O here: blocks pass the page cache");
            options.custom_flags(0).open(&path).map_err(failed)?
        }
        opened => opened.map_err(failed)?,
    };
    let lock = File::open(&path).map_err(failed)?;
    let start = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => {
                thread::sleep(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(OpenError::Open { path, source }),
        }
    }
    let is_block_device = file
        .metadata()
        .map_err(failed)?
        .file_type()
        .is_block_device();
    let medium = Arc::new(Medium {
        file,
        _lock: lock,
        is_block_device,
    });
    Ok(match UringDevice::start(Arc::clone(&medium)) {
        Ok(device) => Arc::new(device),
        Err(error) => {
            info!(%error, "io_uring is refused here: threads read and write instead");
            Arc::new(ThreadDevice::start(medium))
        }
    })
}

impl Medium {
    /// See [`Device::reach`]. A file grows, and takes room as it is written.
    pub(super) fn reach(&self, bytes: u64) -> io::Result<()> {
        let there = io::Seek::seek(&mut &self.file, io::SeekFrom::End(0))?;
        match there >= bytes {
            true => Ok(()),
            false if self.is_block_device => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("it has {there} bytes, {bytes} are needed: give a lower capacity"),
            )),
            false => self.file.set_len(bytes),
        }
    }

    /// See [`Device::sync`].
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// See [`Device::discard`].
    pub(super) fn discard(&self, at: u64, bytes: u64) -> io::Result<()> {
        if self.is_block_device {
            return discard_of_device(&self.file, at, bytes);
        }
        let mode = nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE
            | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
        nix::fcntl::fallocate(&self.file, mode, at as i64, bytes as i64)?;
        Ok(())
    }
}

#[allow(unsafe_code)]
fn discard_of_device(file: &File, at: u64, bytes: u64) -> io::Result<()> {
    /// `_IO(0x12, 119)` of linux/fs.h.
    const BLKDISCARD: libc::c_ulong = 0x1277;
    let range = [at, bytes];
    // SAFETY: the kernel reads two u64 from the pointer, which outlives the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), BLKDISCARD, range.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
