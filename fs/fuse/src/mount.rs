//! Mounting a file system and taking it down again.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use fuser::{Config, MountOption, Session, SessionACL, SessionUnmounter};
use parking_lot::Mutex;
use pocket_fs::{FileSystem, NoKernelCache};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::adapter::Adapter;
use crate::direct;
use crate::dispatch::Dispatcher;
use crate::kernel_cache::FuseKernelCache;

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
    /// Unmount when the process is gone (through fusermount3).
    pub auto_unmount: bool,
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
            auto_unmount: false,
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
enum Unmounter {
    Direct(PathBuf),
    Library(Mutex<SessionUnmounter>),
}

impl Unmounter {
    /// Where this process has mounted by itself.
    fn direct(&self) -> Option<PathBuf> {
        match self {
            Unmounter::Direct(mount_point) => Some(mount_point.clone()),
            Unmounter::Library(_) => None,
        }
    }
}

impl Mounted {
    /// Waits until the mount has ended: unmounted by anyone, or its connection aborted.
    pub async fn wait(&self) {
        let mut ended = self.ended.clone();
        // An error says that the serving thread is gone, which is the same.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Unmounts. The mount point is free when this returns, unless files are open.
    pub fn unmount(&self) -> io::Result<()> {
        // What lies on the mount point after the end is another's.
        if *self.ended.borrow() {
            return Ok(());
        }
        match &self.unmounter {
            Unmounter::Direct(mount_point) => direct::unmount(mount_point),
            Unmounter::Library(unmounter) => unmounter.lock().unmount(),
        }
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
    let config = config(settings)?;
    let adapter = Adapter::new(Arc::clone(fs), Dispatcher::new(Handle::current()));
    let (session, unmounter) = match direct::mount(mount_point, settings).map_err(system)? {
        Some(device) => {
            let session = Session::from_fd(adapter, device, config.acl, config);
            let session = session.inspect_err(|_| {
                if let Err(error) = direct::detach(mount_point) {
                    tracing::warn!(%error, "a mount that never served was left behind");
                }
            });
            (
                session.map_err(system)?,
                Unmounter::Direct(mount_point.to_owned()),
            )
        }
        None => {
            let mut session = Session::new(adapter, mount_point, &config).map_err(system)?;
            let unmounter = Mutex::new(session.unmount_callable());
            (session, Unmounter::Library(unmounter))
        }
    };
    let device = session.as_fd().try_clone_to_owned().map_err(system)?;
    fs.attach_kernel(Arc::new(FuseKernelCache::new(
        session.notifier(),
        File::from(device),
    )));
    let (end, ended) = watch::channel(false);
    let (served, direct) = (Arc::clone(fs), unmounter.direct());
    let serve = move || {
        let outcome = session.run();
        // The last descriptor of the connection goes with this: nobody waits for an answer now.
        served.attach_kernel(Arc::new(NoKernelCache));
        if let Err(error) = outcome {
            tracing::debug!(%error, "fuse session ended");
            if let Some(mount_point) = direct
                && let Err(error) = direct::detach(&mount_point)
            {
                tracing::debug!(%error, "nothing left to detach");
            }
        }
        let _ = end.send(true);
    };
    thread::Builder::new()
        .name("fuse-session".to_owned())
        .spawn(serve)
        .map_err(system)?;
    Ok(Mounted { unmounter, ended })
}

fn config(settings: &MountSettings) -> Result<Config, MountError> {
    let mut options = vec![
        MountOption::FSName(settings.source.clone()),
        MountOption::Subtype(settings.subtype.clone()),
        MountOption::DefaultPermissions,
    ];
    if settings.auto_unmount {
        options.push(MountOption::AutoUnmount);
    }
    for option in &settings.options {
        options.push(mount_option(option)?);
    }
    let mut config = Config::default();
    config.mount_options = options;
    config.acl = match settings.readers {
        Readers::Everyone => SessionACL::All,
        Readers::Owner => SessionACL::Owner,
    };
    config.n_threads = Some(settings.threads.max(1));
    config.clone_fd = true;
    Ok(config)
}

fn mount_option(name: &str) -> Result<MountOption, MountError> {
    Ok(match name {
        "ro" => MountOption::RO,
        "rw" => MountOption::RW,
        "suid" => MountOption::Suid,
        "nosuid" => MountOption::NoSuid,
        "dev" => MountOption::Dev,
        "nodev" => MountOption::NoDev,
        "exec" => MountOption::Exec,
        "noexec" => MountOption::NoExec,
        "atime" => MountOption::Atime,
        "noatime" => MountOption::NoAtime,
        "sync" => MountOption::Sync,
        "async" => MountOption::Async,
        "dirsync" => MountOption::DirSync,
        other => return Err(MountError::UnknownOption(other.to_owned())),
    })
}
