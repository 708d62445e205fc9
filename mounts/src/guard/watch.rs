//! The guard's side: waits for the end of the process that started it, and ends its connection.
//!
//! It has a session of its own and nothing open but what it needs, blocks every signal, and lives
//! until the process is dead, or drops its end of the socket.
//!
//! The death is told twice. The socket ends with the last thread of the process. The kernel's
//! signal at a parent's death comes when the main thread is gone, though others may be stuck. A
//! process that is stopped does neither.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::{ffi::OsStringExt, fs::OpenOptionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::ExitCode,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{Pid, getppid},
};

use super::{ACKNOWLEDGEMENT, ENDED, GUARD_VARIABLE, NAME, Order};
use crate::mountpoint;

/// A path of PATH_MAX bytes, each written in decimal, and the rest.
const ORDER_BYTES_MAX: u64 = 32 << 10;
/// Where the kernel lets the user who mounted end connections.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";
/// What the kernel is asked to send when the parent's main thread is gone.
const DEATH: Signal = Signal::SIGUSR1;
/// Standard input, output and error.
const KEPT_DESCRIPTORS: std::ops::RangeInclusive<RawFd> = 0..=2;

/// If this process is a guard: watches to the end, and says with what to exit.
pub(crate) fn inherit() -> Option<ExitCode> {
    env::var_os(GUARD_VARIABLE)?;
    let socket = io::stdin().as_fd().try_clone_to_owned().ok()?;
    let socket = UnixStream::from(socket);
    // A variable left over by somebody else has no socket behind it.
    socket.local_addr().ok()?;
    Some(match run(&socket) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody is there to be told.
        Err(_) => ExitCode::FAILURE,
    })
}

fn run(socket: &UnixStream) -> io::Result<()> {
    // Fails for a process that leads a group already, which then has what it needs.
    let _ = nix::unistd::setsid();
    env::set_current_dir("/")?;
    let _ = prctl::set_name(&std::ffi::CString::new(NAME)?);
    close_inherited(socket.as_raw_fd())?;
    let parent = getppid();
    let death = Death::listen(parent)?;
    // The parent died before it could be asked after: then the socket ends, or nothing is mounted.
    let Some(watch) = Watch::receive(socket)? else {
        return Ok(());
    };
    (&mut &*socket).write_all(&[ACKNOWLEDGEMENT])?;
    let ended = wait(socket, &death)?;
    watch.end(ended);
    Ok(())
}

/// Closes what the parent was started with, which its own children should not keep open.
fn close_inherited(socket: RawFd) -> io::Result<()> {
    let descriptors: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor != socket && !KEPT_DESCRIPTORS.contains(descriptor))
        .collect();
    for descriptor in descriptors {
        // The one by which they were listed is closed already.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}

/// The kernel's word that the parent is dead.
struct Death {
    signals: SignalFd,
    parent: Pid,
}

impl Death {
    /// Blocks all signals, which is to ignore them, and asks for the one.
    fn listen(parent: Pid) -> io::Result<Self> {
        SigSet::all().thread_block()?;
        let mut mask = SigSet::empty();
        mask.add(DEATH);
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC)?;
        prctl::set_pdeathsig(DEATH)?;
        Ok(Death { signals, parent })
    }

    /// Takes a signal; whether it came from the parent that dies, and from nobody else.
    fn is_told(&self) -> io::Result<bool> {
        let signal = self.signals.read_signal()?;
        let sender = signal.map(|signal| signal.ssi_pid.cast_signed());
        Ok(sender == Some(self.parent.as_raw()))
    }
}

/// Waits until the parent is dead or has let go of the socket; whether it told before that the
/// mount had ended.
fn wait(mut socket: &UnixStream, death: &Death) -> io::Result<bool> {
    let mut ended = false;
    loop {
        let mut sources = [
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(death.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut sources, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let [told, signalled] = sources.map(|source| source.any().unwrap_or(true));
        if signalled && death.is_told()? {
            return Ok(ended);
        }
        if told {
            let mut word = [0];
            match socket.read(&mut word) {
                Ok(1) => ended |= word == [ENDED],
                Ok(_) | Err(_) => return Ok(ended),
            }
        }
    }
}

/// A mount that is watched.
struct Watch {
    order: Order,
    path: PathBuf,
    /// Ends this connection and never another, whatever number that may have. None where the kernel
    /// does not show connections.
    abort: Option<File>,
}

impl Watch {
    /// Waits for the order. None: the parent is gone, or nothing was mounted.
    fn receive(socket: &UnixStream) -> io::Result<Option<Self>> {
        let mut line = Vec::new();
        BufReader::new(socket.take(ORDER_BYTES_MAX)).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        let mut order: Order = serde_json::from_slice(&line)?;
        let path = OsString::from_vec(std::mem::take(&mut order.path)).into();
        let abort = Path::new(CONNECTIONS).join(format!("{}/abort", order.device_minor));
        let abort = OpenOptions::new().write(true).open(abort).ok();
        Ok(Some(Watch { order, path, abort }))
    }

    /// Ends the connection, and takes the mount out of the tree if that was asked for. Of what has
    /// `ended` only a dead mount may be left.
    fn end(mut self, ended: bool) {
        let aborted = match &mut self.abort {
            Some(abort) => abort.write_all(b"1").is_ok(),
            None => false,
        };
        if !aborted && !ended {
            // Without the right to do so there is no other way.
            let _ = self.force();
        }
        if self.order.auto_unmount && self.is_there() && mountpoint::is_dead_at(&self.path) {
            let _ = mountpoint::detach(&self.path);
        }
    }

    /// Ends the connection by unmounting with force, which leaves the mount where it is: in use.
    fn force(&self) -> io::Result<()> {
        let mount = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
            .open(&self.path)?;
        if !self.is_there() {
            return Ok(());
        }
        let itself = format!("/proc/self/fd/{}", mount.as_raw_fd());
        Ok(umount2(itself.as_str(), MntFlags::MNT_FORCE)?)
    }

    /// Whether the watched mount is still what lies on its place. Asks the kernel's table, never
    /// the mount.
    fn is_there(&self) -> bool {
        let found = mountpoint::mounted_on(&self.path).ok().flatten();
        found.is_some_and(|found| {
            (found.id, found.device_minor) == (self.order.mount_id, self.order.device_minor)
        })
    }
}
