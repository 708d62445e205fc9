//! Mounting a file system and taking it down again.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use pocket_fs::{FileSystem, NoKernelCache};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::adapter::{Adapter, Offers};
use crate::direct;
use crate::dispatch::Dispatcher;
use crate::helper;
use crate::kernel::Session;
use crate::kernel_cache::FuseKernelCache;

/// Options that are passed on to the kernel.
const OPTIONS: [&str; 13] = [
    "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "atime", "noatime", "sync",
    "async", "dirsync",
];

/// Who may use the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Everyone, as permissions allow (allow_other). Needs root, or user_allow_other in fuse.conf.
    Everyone,
    /// Only the user who mounts.
    Owner,
}

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountSettings {
    /// What `mount` and `df` show as the source.
    pub source: String,
    /// The type is shown as `fuse.SUBTYPE`.
    pub subtype: String,
    /// Who may use it.
    pub readers: Readers,
    /// Tell statx(2) when a file was born. Costs a request more for every inode that a program asks
    /// about which always asks for that (those in Rust, Node.js): the kernel learns it from nothing
    /// but STATX, and leaves that away for good once it was refused.
    pub birth_times: bool,
    /// Access control lists (acl(5)) are obeyed, and can be read and set.
    pub acls: bool,
    /// Further options for the kernel, by their usual names (ro, nosuid, noexec, ...).
    pub options: Vec<String>,
    /// Threads that read the kernel's requests.
    pub threads: usize,
}

impl Default for MountSettings {
    fn default() -> Self {
        MountSettings {
            source: "pocket".to_owned(),
            subtype: "pocket".to_owned(),
            readers: Readers::Everyone,
            birth_times: true,
            acls: true,
            options: Vec::new(),
            threads: 2,
        }
    }
}

/// Why a mount did not come about; nothing is left mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// An option that this adapter does not pass on.
    #[error("unknown mount option '{0}'")]
    UnknownOption(String),
    /// The system refused.
    #[error("cannot mount on {mount_point}: {source}", mount_point = mount_point.display())]
    System {
        /// Where.
        mount_point: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A mount that serves. Dropping it does not unmount.
pub struct Mounted {
    unmounter: Unmounter,
    ended: watch::Receiver<bool>,
}

/// Who takes the mount down: whoever made it.
#[derive(Clone)]
enum Unmounter {
    Direct(PathBuf),
    Helper(PathBuf),
}

impl Unmounter {
    /// Frees the mount point.
    fn unmount(&self) -> io::Result<()> {
        match self {
            Unmounter::Direct(mount_point) => direct::unmount(mount_point),
            Unmounter::Helper(mount_point) => helper::unmount(mount_point),
        }
    }

    /// Takes what never served, or no longer does, out of the tree.
    fn detach(&self) -> io::Result<()> {
        match self {
            Unmounter::Direct(mount_point) => direct::detach(mount_point),
            Unmounter::Helper(mount_point) => helper::unmount(mount_point),
        }
    }
}

impl Mounted {
    /// Waits until the mount has ended: unmounted by anyone, or its connection aborted.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            // An error says that the serving thread is gone, which is the same.
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }

    /// Unmounts. The mount point is free when this returns, unless files are open.
    pub fn unmount(&self) -> io::Result<()> {
        // What lies on the mount point after the end is another's.
        if *self.ended.borrow() {
            return Ok(());
        }
        self.unmounter.unmount()
    }
}

/// Mounts `fs` at `mount_point`, served from threads of its own; what needs the network runs on
/// the calling runtime. Must be called from within one. Blocks until the kernel has shaken hands.
pub fn mount(
    fs: &Arc<FileSystem>,
    mount_point: &Path,
    settings: &MountSettings,
) -> Result<Mounted, MountError> {
    let system = |source| MountError::System {
        mount_point: mount_point.to_owned(),
        source,
    };
    if let Some(unknown) = unknown_option(&settings.options) {
        return Err(MountError::UnknownOption(unknown.clone()));
    }
    let (device, unmounter) = match direct::mount(mount_point, settings).map_err(system)? {
        Some(device) => (device, Unmounter::Direct(mount_point.to_owned())),
        None => {
            let (device, mount_point) = helper::mount(mount_point, settings).map_err(system)?;
            (device, Unmounter::Helper(mount_point))
        }
    };
    serve(fs, device, unmounter.clone(), settings)
        .inspect_err(|_| {
            if let Err(error) = unmounter.detach() {
                tracing::warn!(%error, "a mount that never served was left behind");
            }
        })
        .map(|ended| Mounted { unmounter, ended })
        .map_err(system)
}

/// Shakes hands and starts to serve. What it answers becomes true when the mount has ended.
fn serve(
    fs: &Arc<FileSystem>,
    device: OwnedFd,
    unmounter: Unmounter,
    settings: &MountSettings,
) -> io::Result<watch::Receiver<bool>> {
    let runtime = Handle::current();
    let session = Session::begin(device, runtime.clone(), settings.acls)?;
    let dispatcher = Dispatcher::new(runtime);
    let offers = Offers {
        birth_times: settings.birth_times,
        acls: session.has_acls(),
    };
    let adapter = Adapter::new(Arc::clone(fs), dispatcher, offers);
    let threads = settings.threads.max(1);
    let (end, ended) = watch::channel(false);
    let served = Arc::clone(fs);
    let requests = session.requests();
    fs.attach_page(move |page| requests.add_to(page));
    fs.attach_kernel(Arc::new(FuseKernelCache::new(session.notifier()?)));
    let run = move || {
        let outcome = session.run(threads, Arc::new(adapter));
        // The last descriptor of the connection goes with this: nobody waits for an answer now.
        served.attach_kernel(Arc::new(NoKernelCache));
        if let Err(error) = outcome {
            // It ends for all who use it: unmounting is no error.
            tracing::error!(%error, "the kernel's requests are served no more");
            if let Err(error) = unmounter.detach() {
                tracing::debug!(%error, "nothing left to detach");
            }
        }
        let _ = end.send(true);
    };
    thread::Builder::new()
        .name("fuse-session".to_owned())
        .spawn(run)?;
    Ok(ended)
}

fn unknown_option(options: &[String]) -> Option<&String> {
    let known = |option: &&String| OPTIONS.contains(&option.as_str());
    options.iter().find(|option| !known(option))
}
