//! A job mounted on a directory: the connection to the job, and the kernel's side of it.

use std::{
    io,
    path::{Path, PathBuf},
    process,
    sync::Arc,
    time::Duration,
};

use pocket_fs::FileSystemConfig;
use pocket_fuse::{MountSettings, Mounted, Readers};
use pocket_metrics::MetricsServer;
use pocket_proto::{ByteCount, Failure, control::RegisterJobReply};
use thiserror::Error;
use tracing::{debug, warn};

use crate::{
    connection::{ConnectError, JobConnection, JobTerms},
    control_source::MountControl,
    guard::Guard,
    metrics,
    mountpoint::{self, MountPoint, MountPointError},
    presentation::Presentation,
};

/// The root answers within this time or the mount has failed.
const ROOT_DEADLINE: Duration = Duration::from_secs(10);
/// After an unmount the kernel lets go of the connection at once.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What to mount, where and how.
#[derive(Clone, Debug)]
pub(crate) struct JobMountConfig {
    /// The cluster's controller, "host:port".
    pub(crate) controller: String,
    /// The job.
    pub(crate) terms: JobTerms,
    /// An existing directory.
    pub(crate) mountpoint: PathBuf,
    /// How the kernel mounts it.
    pub(crate) settings: MountSettings,
    /// Memory and read-only.
    pub(crate) filesystem: FileSystemConfig,
    /// Take the mount out of the tree when the process is dead, however it died.
    pub(crate) auto_unmount: bool,
    /// How files are shown.
    pub(crate) presentation: Presentation,
    /// Where to serve metrics, "host:port"; nowhere unless given.
    pub(crate) metrics: Option<String>,
}

impl JobMountConfig {
    /// The settings for people, each with its name.
    fn shown(&self, path: &Path, metrics: Option<String>) -> Vec<(&'static str, String)> {
        let either = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let FileSystemConfig {
            memory_bytes,
            read_ahead_blocks_max,
            read_only,
        } = self.filesystem;
        vec![
            ("mount point", path.display().to_string()),
            ("job", self.terms.name.clone()),
            ("controller", self.controller.clone()),
            ("options", self.settings.options.join(",")),
            ("read-only", either(read_only)),
            (
                "for everyone",
                either(self.settings.readers == Readers::Everyone),
            ),
            ("access lists", either(self.settings.acls)),
            ("memory budget", ByteCount(memory_bytes).to_string()),
            ("read ahead", format!("{read_ahead_blocks_max} blocks")),
            ("threads", self.settings.threads.to_string()),
            (
                "metrics",
                metrics.unwrap_or_else(|| "not served".to_owned()),
            ),
            ("process", process::id().to_string()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ]
    }
}

/// Why there is no mount. None is left behind.
#[derive(Debug, Error)]
pub(crate) enum JobMountError {
    /// The mount point cannot be used.
    #[error(transparent)]
    MountPoint(#[from] MountPointError),
    /// The job cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The kernel refused.
    #[error(transparent)]
    Mount(#[from] pocket_fuse::MountError),
    /// It is mounted, and nothing would end it if this process died.
    #[error("the mount's guard does not answer: {0}")]
    Guard(io::Error),
    /// Metrics cannot be served; the job has been left.
    #[error("{0:#}")]
    Metrics(anyhow::Error),
    /// It is mounted and does not answer.
    #[error("the mounted root does not answer: {0}")]
    Root(io::Error),
}

/// A job mounted on a directory, with its root answering. To be unmounted; dropping it leaves the
/// mount to the end of the process.
pub(crate) struct JobMount {
    connection: JobConnection,
    mounted: Mounted,
    path: PathBuf,
    metrics: Option<MetricsServer>,
    /// Dropped last: what is still connected then has lost its file system.
    _guard: Guard,
}

/// A mount that is not complete: it is taken out of the tree should it be given up half way.
struct Unfinished<'a>(Option<&'a Path>);

impl JobMount {
    /// Mounts under the eyes of `guard`, and returns when the root has answered. A dead mount in
    /// the way is removed first. `told` is the place in the queue, where the job waits for room.
    pub(crate) async fn start(
        config: JobMountConfig,
        mut guard: Guard,
        told: impl FnMut(&str),
    ) -> Result<Self, JobMountError> {
        let path = MountPoint::prepare(&config.mountpoint)?.path;
        let connection = JobConnection::open(
            &config.controller,
            &config.terms,
            config.filesystem.clone(),
            config.presentation,
            told,
        );
        let connection = connection.await?;
        let served = Arc::clone(connection.fs());
        let metrics = metrics::serve(config.metrics.as_deref(), move || served.metrics()).await;
        let metrics = match metrics {
            Ok(metrics) => metrics,
            Err(error) => {
                connection.abandon().await;
                return Err(JobMountError::Metrics(error));
            }
        };
        connection.fs().attach_control(Arc::new(MountControl {
            job: config.terms.name.clone(),
            settings: config.shown(&path, metrics::endpoint(metrics.as_ref())),
            registration: connection.registration().clone(),
            controller: connection.controller().clone(),
        }));
        let mounted = match pocket_fuse::mount(connection.fs(), &path, &config.settings) {
            Ok(mounted) => mounted,
            Err(error) => {
                connection.abandon().await;
                return Err(error.into());
            }
        };
        // Whoever waits for this may lose patience.
        let mut unfinished = Unfinished(Some(&path));
        let answered = match watched(&mut guard, &path, &mounted, config.auto_unmount) {
            Ok(()) => root_answers(path.clone())
                .await
                .map_err(JobMountError::Root),
            Err(error) => Err(JobMountError::Guard(error)),
        };
        if let Err(error) = answered {
            drop(unfinished);
            connection.abandon().await;
            return Err(error);
        }
        unfinished.0 = None;
        drop(unfinished);
        Ok(JobMount {
            connection,
            mounted,
            path,
            metrics,
            _guard: guard,
        })
    }

    /// Where it is mounted, absolute and without symbolic links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where its metrics are, if they are served: "host:port".
    pub(crate) fn metrics_endpoint(&self) -> Option<String> {
        metrics::endpoint(self.metrics.as_ref())
    }

    /// What the controller answered to the registration.
    pub(crate) fn registration(&self) -> &RegisterJobReply {
        self.connection.registration()
    }

    /// Waits until somebody else has unmounted it.
    pub(crate) async fn unmounted(&self) {
        self.mounted.wait().await;
    }

    /// Unmounts where that has not happened yet, writes back what is buffered and leaves the job.
    /// A mount that is in use is detached: programs that have files open there lose them.
    pub(crate) async fn unmount(self) -> Result<(), Failure> {
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

/// Has the guard watch, until the mount has ended.
fn watched(
    guard: &mut Guard,
    path: &Path,
    mounted: &Mounted,
    auto_unmount: bool,
) -> io::Result<()> {
    guard.watch(path, auto_unmount)?;
    let (notice, ended) = (guard.end_notice()?, mounted.wait());
    tokio::spawn(async move {
        ended.await;
        notice.send();
    });
    Ok(())
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
