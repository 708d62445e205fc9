//! A job mounted by the real `pocket-mount`.

use std::{
    ops::Deref,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use nix::mount::{MntFlags, umount2};

use crate::{
    Process, Scratch, binary,
    cluster::CLUSTER_KEY,
    network::Namespace,
    process::END_DEADLINE,
    rights,
    scratch::{detach_below, device_minor, mounts_below},
    wait,
};

/// How long a mount may take until its root answers.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// A mounted job. [`Mount::finish`] unmounts it and checks what is left; a drop only cleans up.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    process: Process,
    job: String,
    arguments: Vec<String>,
    /// None: that of the suite.
    namespace: Option<Namespace>,
}

impl Mount {
    /// Runs `pocket-mount -f` for `job` with its mount point and log in `folder`, and waits until
    /// the root answers.
    #[track_caller]
    pub fn start(folder: &Path, job: &str, arguments: &[&str]) -> Self {
        Self::start_in(None, folder, job, arguments)
    }

    /// As [`Mount::start`], of a process in a network namespace.
    #[track_caller]
    pub(crate) fn start_in(
        namespace: Option<Namespace>,
        folder: &Path,
        job: &str,
        arguments: &[&str],
    ) -> Self {
        let path = folder.join("root");
        std::fs::create_dir(&path).expect("the folder is new");
        let mut mount = Mount {
            process: start_process(&path, job, arguments, namespace.as_ref()),
            path,
            job: job.to_owned(),
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            namespace,
        };
        mount.wait_ready();
        mount
    }

    /// Kills the process, if it lives, and starts another that mounts the job at the same place, and
    /// of which the same is expected. Files that are open stay those of the dead mount.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process.kill();
        // Else it would be taken for the new mount, until that clears it away.
        detach_below(&self.path);
        self.process.check_log();
        let expected = self.process.take_expected();
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        let namespace = self.namespace.as_ref();
        self.process = start_process(&self.path, &self.job, &arguments, namespace);
        for words in expected {
            self.process.expect_in_log(&words);
        }
        self.wait_ready();
    }

    fn wait_ready(&mut self) {
        let seen = wait::try_until(READY_DEADLINE, || {
            let served = is_mounted(&self.path) && self.process.log().contains(READY);
            (served || self.process.ended().is_some()).then_some(served)
        });
        match seen {
            Some(true) => {}
            Some(false) => panic!("pocket-mount ended\n{}", self.process.report()),
            None => panic!("no mount in {READY_DEADLINE:?}\n{}", self.process.report()),
        }
    }

    /// The mounted directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name below it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// The mount's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Where the process serves its metrics, if it was told to.
    #[track_caller]
    pub fn metrics(&self) -> String {
        let log = self.process.log();
        let served = log.split("http://").nth(1);
        let endpoint = served.and_then(|rest| rest.split("/metrics").next());
        endpoint.expect("--metrics was given").to_owned()
    }

    /// Excuses log lines with `words`.
    pub fn expect_in_log(&mut self, words: &str) {
        self.process.expect_in_log(words);
    }

    /// Unmounts; the process must end with success, say nothing bad and leave no mount behind.
    #[track_caller]
    pub fn finish(mut self) {
        self.unmount();
    }

    /// As [`Mount::finish`], of a mount whose job or metadata server is gone, so that it cannot
    /// leave in order: unmounting works all the same, and the process says what is wrong.
    #[track_caller]
    pub fn finish_orphaned(mut self) {
        let status = self.end();
        let code = status.code();
        assert!(
            matches!(code, Some(0 | 32)),
            "{status}\n{}",
            self.process.report()
        );
    }

    /// As [`Mount::finish`], of a mount that is looked at afterwards.
    #[track_caller]
    pub fn unmount(&mut self) {
        let status = self.end();
        assert!(
            status.success(),
            "pocket-mount ended with {status}\n{}",
            self.process.report()
        );
    }

    #[track_caller]
    fn end(&mut self) -> ExitStatus {
        if let Some(waiting) = self.requests_waiting() {
            let idle = || waiting() == 0;
            wait::until(END_DEADLINE, "the kernel's requests to be answered", idle);
        }
        // Whoever looked at the mount a moment ago may still hold it for an instant.
        let unmounted = || umount2(&self.path, MntFlags::empty()).ok();
        if wait::try_until(END_DEADLINE, unmounted).is_none() {
            panic!(
                "cannot unmount {}\n{}",
                self.path.display(),
                self.process.report()
            );
        }
        let status = self.process.wait(END_DEADLINE);
        assert_eq!(
            mounts_below(&self.path),
            Vec::<PathBuf>::new(),
            "a mount is left"
        );
        self.process.check_log();
        status
    }
}

impl Mount {
    /// Counts the kernel's requests to this mount that have no answer yet; none where the kernel
    /// does not tell.
    fn requests_waiting(&self) -> Option<impl Fn() -> u64 + use<>> {
        let connection = device_minor(&self.path)?;
        let file = format!("/sys/fs/fuse/connections/{connection}/waiting");
        let count = move || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            text.trim().parse().unwrap_or(0)
        };
        Some(count)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Process first: a mount whose process is gone can always be detached.
        self.process.kill();
        detach_below(&self.path);
    }
}

/// A job on a cluster of its own inside the mount's process: `pocket-mount` without a controller.
#[derive(Debug)]
pub struct EmbeddedMount {
    mount: Mount,
    _scratch: Scratch,
}

impl EmbeddedMount {
    /// Mounts a new job with further arguments of `pocket-mount`.
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Self {
        let scratch = Scratch::new();
        EmbeddedMount {
            mount: Mount::start(scratch.path(), "embedded", arguments),
            _scratch: scratch,
        }
    }

    /// The mount's process.
    pub fn process(&mut self) -> &mut Process {
        self.mount.process()
    }

    /// See [`Mount::finish`].
    #[track_caller]
    pub fn finish(mut self) {
        self.mount.unmount();
    }
}

impl Deref for EmbeddedMount {
    type Target = Mount;

    fn deref(&self) -> &Mount {
        &self.mount
    }
}

/// Runs `body` on the directory of a new embedded mount and finishes it.
#[track_caller]
pub fn with_mount(body: impl FnOnce(&Path)) {
    with_mount_and(&[], body);
}

/// As [`with_mount`], with further arguments of `pocket-mount`.
#[track_caller]
pub fn with_mount_and(arguments: &[&str], body: impl FnOnce(&Path)) {
    if rights::can_mount() {
        let mount = EmbeddedMount::start(arguments);
        body(mount.path());
        mount.finish();
    }
}

/// What `pocket-mount -f` says when its root has answered. Before that it gives up, and unmounts, if
/// a server goes away.
const READY: &str = "is mounted on";

/// Runs `pocket-mount -f` with its log beside the mount point.
fn start_process(
    path: &Path,
    job: &str,
    arguments: &[&str],
    namespace: Option<&Namespace>,
) -> Process {
    let folder = path.parent().expect("a mount point is within a folder");
    let mut command = mount_command(job, path, arguments);
    command.arg("-f");
    if let Some(namespace) = namespace {
        namespace.hold(&mut command);
    }
    Process::start("mount", folder, command)
}

/// `pocket-mount JOB PATH ARGUMENTS` with the environment of the suites, not yet started.
pub fn mount_command(job: &str, path: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("pocket-mount"));
    command
        .arg(job)
        .arg(path)
        .args(arguments)
        .env_remove("POCKET_CONTROLLER")
        .env("POCKET_CLUSTER_KEY", CLUSTER_KEY)
        .env("NO_COLOR", "1");
    command
}

/// Whether something is mounted at `path` itself. Asks the kernel's list, never the mount.
pub fn is_mounted(path: &Path) -> bool {
    mounts_below(path).iter().any(|mount| mount == path)
}
