//! One server process of a local cluster, seen from the process that started it.

use std::{
    env,
    ffi::OsStr,
    fmt, io,
    path::Path,
    process::{self, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use nix::{sys::signal::Signal, unistd::Pid};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;

use crate::{cluster_key::KEY_VARIABLE, command::server::Announcement, daemon};

/// How long a server may take from its start until it listens.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// How long a server may take to stop before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// A server process.
pub(super) struct ChildServer {
    name: String,
    child: Child,
}

/// How a server process ended.
#[derive(Debug)]
pub(super) struct Ended {
    name: String,
    process: u32,
    how: String,
    /// It was asked to, and did without an error.
    pub(super) in_order: bool,
    /// Without an error: if it was not asked to, it was drained.
    pub(super) success: bool,
}

impl ChildServer {
    /// Starts a program as a server. Dropping it kills the process, which also ends when this
    /// one does, however that comes about.
    pub(super) fn start(
        program: &Path,
        name: &str,
        arguments: &[impl AsRef<OsStr>],
        key: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(["--json", "--parent", &process::id().to_string()])
            // A Ctrl-C is for this process alone, which then ends the others in order.
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(key) = key {
            command.env(KEY_VARIABLE, key);
        }
        if env::var_os("POCKET_LOG").is_none() {
            command.env("POCKET_LOG", "warn");
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start the {name}"))?;
        let name = name.to_owned();
        Ok(ChildServer { name, child })
    }

    /// Waits until it says where it listens.
    pub(super) async fn announcement(&mut self) -> anyhow::Result<Announcement> {
        let name = &self.name;
        let output = self
            .child
            .stdout
            .take()
            .expect("the output was piped and is taken once");
        let mut line = String::new();
        let mut reader = BufReader::new(output);
        let read = tokio::time::timeout(START_DEADLINE, reader.read_line(&mut line));
        match read.await {
            Err(_) => bail!(
                "the {name} did not start within {} s",
                START_DEADLINE.as_secs()
            ),
            Ok(Err(error)) => Err(error).with_context(|| format!("cannot hear the {name}")),
            Ok(Ok(0)) => {
                let status = self.child.wait().await?;
                bail!("the {name} did not start ({})", daemon::describe(status))
            }
            Ok(Ok(_)) => serde_json::from_str(&line)
                .with_context(|| format!("the {name} said '{}'", line.trim_end())),
        }
    }

    /// Waits for its end; when `stop` is cancelled, asks for it and after a while insists.
    pub(super) async fn supervise(mut self, stop: CancellationToken) -> Ended {
        let process = self.child.id().unwrap_or_default();
        let outcome = tokio::select! {
            outcome = self.child.wait() => outcome,
            () = stop.cancelled() => self.stop(process).await,
        };
        let success = outcome.as_ref().is_ok_and(ExitStatus::success);
        let in_order = stop.is_cancelled() && success;
        Ended {
            name: self.name,
            process,
            how: match outcome {
                Ok(status) => daemon::describe(status),
                Err(error) => error.to_string(),
            },
            in_order,
            success,
        }
    }

    async fn stop(&mut self, process: u32) -> io::Result<ExitStatus> {
        if let Ok(id) = i32::try_from(process)
            && id > 0
        {
            // It fails only for a process that has ended, which is what was wanted.
            let _ = nix::sys::signal::kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        match tokio::time::timeout(STOP_DEADLINE, self.child.wait()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.child.start_kill()?;
                self.child.wait().await
            }
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ended {
            name, process, how, ..
        } = self;
        write!(f, "the {name} (process {process}) ended: {how}")
    }
}
