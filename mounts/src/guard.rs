//! The guard: a small process beside the mount's, which ends the mount's connection with the kernel
//! as soon as the mount's process is dead.
//!
//! The kernel ends a connection when its last descriptor is closed, and a killed process closes
//! them only when its last thread is gone. A thread that drops a name waits, deaf to any signal,
//! for the lock of a directory; a program that waits for this very mount may hold it. Without a
//! guard both would wait for good.
//!
//! The mount's process starts its program a second time and holds one end of a socket, whose other
//! end is the guard's standard input ([`watch`] is the guard's side). It tells what to watch, is
//! answered, and later tells that the mount has ended. The end of the socket is the process's end.

mod watch;

use std::{
    env,
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::mountpoint::{self, MountedHere};

pub(crate) use watch::inherit;

/// Set for the guard alone: its standard input is the socket to the process that it watches.
const GUARD_VARIABLE: &str = "POCKET_MOUNT_GUARD";
/// What `ps` shows.
const NAME: &str = "pocket-guard";
/// The guard's answer: it watches.
const ACKNOWLEDGEMENT: u8 = b'!';
/// Tells the guard that the mount has ended, and that another may be in its place.
const ENDED: u8 = b'.';
/// How long the answer may take: the guard only has to be scheduled.
const ACKNOWLEDGEMENT_TIME_MAX: Duration = Duration::from_secs(10);

/// What the guard is to watch, a line on the socket.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Order {
    /// Where it is mounted: absolute, without symbolic links, any bytes.
    path: Vec<u8>,
    /// The mount in the kernel's table.
    mount_id: u32,
    /// The device's minor number, which for FUSE is the connection's.
    device_minor: u32,
    /// Whether the mount is to be taken out of the tree when the process is dead.
    auto_unmount: bool,
}

/// A guard of this process, seen from it. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    socket: UnixStream,
    /// Its end comes after this process's, so that nobody waits for it.
    _child: Child,
}

impl Guard {
    /// Starts the guard. To be called on the main thread: the guard hears of that thread's end.
    pub(crate) fn start() -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        // This very program, though it may have been replaced meanwhile. Secrets stay here.
        let child = Command::new("/proc/self/exe")
            .arg0(NAME)
            .arg(std::process::id().to_string())
            .env_clear()
            .envs(env::var_os("PATH").map(|path| ("PATH", path)))
            .env(GUARD_VARIABLE, "1")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Guard {
            socket: ours,
            _child: child,
        })
    }

    /// Has the guard watch over what is mounted on `path`, which has just been mounted and has no
    /// symbolic links. It does when this returns, unless somebody was quick to unmount it.
    pub(crate) fn watch(&mut self, path: &Path, auto_unmount: bool) -> io::Result<()> {
        let Some(mounted) = mountpoint::mounted_on(path)? else {
            return Ok(());
        };
        match self.order(path, &mounted, auto_unmount) {
            Err(_) if mountpoint::mounted_on(path)?.is_none() => Ok(()),
            told => told,
        }
    }

    fn order(&mut self, path: &Path, mounted: &MountedHere, auto_unmount: bool) -> io::Result<()> {
        let order = Order {
            path: path.as_os_str().as_bytes().to_vec(),
            mount_id: mounted.id,
            device_minor: mounted.device_minor,
            auto_unmount,
        };
        let mut line = serde_json::to_vec(&order)?;
        line.push(b'\n');
        self.socket.write_all(&line)?;
        self.socket
            .set_read_timeout(Some(ACKNOWLEDGEMENT_TIME_MAX))?;
        self.socket.read_exact(&mut [0])
    }

    /// A way to tell the guard that the mount has ended, whatever this process still does.
    pub(crate) fn end_notice(&self) -> io::Result<EndNotice> {
        Ok(EndNotice(self.socket.try_clone()?))
    }
}

/// See [`Guard::end_notice`].
#[derive(Debug)]
pub(crate) struct EndNotice(UnixStream);

impl EndNotice {
    /// Tells it.
    pub(crate) fn send(mut self) {
        if let Err(error) = self.0.write_all(&[ENDED]) {
            tracing::debug!(%error, "the mount's guard is gone");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A notice may still have the socket open.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}
