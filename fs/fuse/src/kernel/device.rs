//! Descriptors of a connection: /dev/fuse, and its clones.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use zerocopy::IntoBytes;

use super::abi::OutHeader;

/// Where connections come from.
pub(crate) const PATH: &str = "/dev/fuse";
/// FUSE_DEV_IOC_CLONE: makes a new descriptor of /dev/fuse one of this connection.
const CLONE: libc::Ioctl = libc::_IOR::<u32>(229, 0);
/// Pieces that one writev(2) takes, well below IOV_MAX; what has more is copied together.
const PIECES_MAX: usize = 32;

/// One descriptor. A request is answered through the descriptor that it was read from: the kernel
/// looks for it nowhere else.
#[derive(Debug)]
pub(crate) struct Device(File);

impl Device {
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Device(File::from(descriptor))
    }

    /// A descriptor with a queue of its own for the requests that it reads.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let clone = OpenOptions::new().read(true).write(true).open(PATH)?;
        let mut source = self.0.as_raw_fd().cast_unsigned();
        // SAFETY: both descriptors are open, and the kernel reads one u32 from `source`.
        match unsafe { libc::ioctl(clone.as_raw_fd(), CLONE, &raw mut source) } {
            0 => Ok(Device(clone)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Another descriptor of the same queue, to be written to. The connection ends with the last of
    /// them, so this must not outlive the session.
    pub(crate) fn try_share(&self) -> io::Result<Self> {
        Ok(Device(self.0.try_clone()?))
    }

    /// Waits for a request. 0 at the end of the connection.
    ///
    /// A request that was taken back before it could be read is ENOENT, and is passed over.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&self.0).read(buffer) {
                Ok(length) => return Ok(length),
                Err(error) => match error.raw_os_error() {
                    Some(libc::ENOENT | libc::EINTR | libc::EAGAIN) => {}
                    // Unmounted, or the connection was aborted.
                    Some(libc::ENODEV | libc::ECONNABORTED) => return Ok(0),
                    _ => return Err(error),
                },
            }
        }
    }

    /// Sends an answer, or with `unique` 0 a notification: the header and `pieces` behind it. The
    /// kernel takes it whole or not at all.
    pub(crate) fn send(&self, unique: u64, error: i32, pieces: &[&[u8]]) -> io::Result<()> {
        let length = size_of::<OutHeader>() + pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let header = OutHeader {
            len: u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?,
            error,
            unique,
        };
        let mut slices = [IoSlice::new(&[]); 1 + PIECES_MAX];
        slices[0] = IoSlice::new(header.as_bytes());
        let together;
        let count = if pieces.len() <= PIECES_MAX {
            for (slice, piece) in slices[1..].iter_mut().zip(pieces) {
                *slice = IoSlice::new(piece);
            }
            pieces.len()
        } else {
            together = pieces.concat();
            slices[1] = IoSlice::new(&together);
            1
        };
        match (&self.0).write_vectored(&slices[..=count])? {
            written if written == length => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}
