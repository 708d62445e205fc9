//! A job mounted on a directory: the connection to the job, and the kernel's side of it.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use pocket_fs::FileSystemConfig;
use pocket_fuse::{MountSettings, Mounted};
use pocket_proto::{Failure, control::RegisterJobReply};
use thiserror::Error;
use tracing::{debug, warn};

use crate::{
    connection::{ConnectError, JobConnection, JobTerms},
    mountpoint::{self, MountPoint, MountPointError},
    presentation::Presentation,
};

/// The root answers within this time or the mount has failed.
const ROOT_DEADLINE: Duration = Duration::from_secs(10);
/// After an unmount the kernel lets go of the connection at once.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What to mount, where and how.
#[derive(Clone, Debug)]
pub struct JobMountConfig {
    /// The cluster's controller, "host:port".
    pub controller: String,
    /// The job.
    pub terms: JobTerms,
    /// An existing directory.
    pub mountpoint: PathBuf,
    /// How the kernel mounts it.
    pub settings: MountSettings,
    /// Memory and read-only.
    pub filesystem: FileSystemConfig,
    /// How files are shown.
    pub presentation: Presentation,
}

/// Why there is no mount. None is left behind.
#[derive(Debug, Error)]
pub enum JobMountError {
    /// The mount point cannot be used.
    #[error(transparent)]
    MountPoint(#[from] MountPointError),
    /// The job cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The kernel refused.
    #[error(transparent)]
    Mount(#[from] pocket_fuse::MountError),
    /// It is mounted and does not answer.
    #[error("the mounted root does not answer: {0}")]
    Root(io::Error),
}

/// A job mounted on a directory, with its root answering. To be unmounted; dropping it leaves the
/// mount to the end of the process.
pub struct JobMount {
    connection: JobConnection,
    mounted: Mounted,
    path: PathBuf,
}

/// A mount that is not complete: it is taken out of the tree should it be given up half way.
struct Unfinished<'a>(Option<&'a Path>);

impl JobMount {
    /// Mounts, and returns when the root has answered. A dead mount in the way is removed first.
    pub async fn start(config: JobMountConfig) -> Result<Self, JobMountError> {
        let path = MountPoint::prepare(&config.mountpoint)?.path;
        let connection = JobConnection::open(
            &config.controller,
            &config.terms,
            config.filesystem,
            config.presentation,
        );
        let connection = connection.await?;
        let mounted = match pocket_fuse::mount(connection.fs(), &path, &config.settings) {
            Ok(mounted) => mounted,
            Err(error) => {
                connection.abandon().await;
                return Err(error.into());
            }
        };
        // Whoever waits for this may lose patience.
        let mut unfinished = Unfinished(Some(&path));
        if let Err(error) = root_answers(path.clone()).await {
            drop(unfinished);
            connection.abandon().await;
            return Err(JobMountError::Root(error));
        }
        unfinished.0 = None;
        drop(unfinished);
        Ok(JobMount {
            connection,
            mounted,
            path,
        })
    }

    /// Where it is mounted, absolute and without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the controller answered to the registration.
    pub fn registration(&self) -> &RegisterJobReply {
        self.connection.registration()
    }

    /// The job's files.
    pub fn connection(&self) -> &JobConnection {
        &self.connection
    }

    /// Waits until somebody else has unmounted it.
    pub async fn unmounted(&self) {
        self.mounted.wait().await;
    }

    /// Unmounts where that has not happened yet, writes back what is buffered and leaves the job.
    /// A mount that is in use is detached: programs that have files open there lose them.
    pub async fn unmount(self) -> Result<(), Failure> {
        match self.mounted.unmount() {
            Ok(()) => {
                let ended = tokio::time::timeout(END_PATIENCE, self.mounted.wait());
                if ended.await.is_err() {
                    debug!("the kernel keeps the connection");
                }
            }
            Err(error) => {
                let mountpoint = self.path.display();
                warn!(%mountpoint, "detached while in use: {error}");
                detach(&self.path);
            }
        }
        self.connection.close().await
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.inspect(|path| detach(path));
    }
}

/// Takes a mount that is known to live out of the tree.
fn detach(path: &Path) {
    if let Err(error) = mountpoint::detach(path) {
        warn!("{error}");
    }
}

/// Asks the mounted root twice, as `df` and `ls` would: from a thread, since it may hang.
async fn root_answers(path: PathBuf) -> io::Result<()> {
    let asked = tokio::task::spawn_blocking(move || {
        nix::sys::statvfs::statvfs(&path)?;
        std::fs::metadata(&path).map(drop)
    });
    match tokio::time::timeout(ROOT_DEADLINE, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panicked)) => Err(io::Error::other(panicked)),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} s", ROOT_DEADLINE.as_secs()),
        )),
    }
}
