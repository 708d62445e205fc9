//! The `pocket-mount` program: from a command line to a mounted job, in the foreground or behind
//! the command's back, until it is unmounted.

mod serve;

use std::{ffi::OsString, process::ExitCode, time::Duration};

use anyhow::Context;

use crate::{
    arguments::{ArgumentError, MountRequest},
    daemon::{self, DaemonError, Report, Reporter},
    guard,
    logging::{Log, Verbosity},
    mountpoint::{MountPoint, MountPointError},
    output,
    sentence::sentence,
};

/// Everything before readiness but the queue has deadlines of its own, which add up to less than this.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// The exit codes of mount(8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum MountExit {
    /// The command line is wrong.
    Usage = 1,
    /// The system refused something: no memory, no process.
    System = 2,
    /// Everything else: there is no mount.
    Failure = 32,
}

/// Why `pocket-mount` fails, and with which code.
#[derive(Debug)]
pub(crate) struct MountFailure {
    exit: MountExit,
    error: anyhow::Error,
}

impl MountFailure {
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        MountFailure {
            exit: MountExit::Usage,
            error: error.into(),
        }
    }

    pub(crate) fn system(error: impl Into<anyhow::Error>) -> Self {
        MountFailure {
            exit: MountExit::System,
            error: error.into(),
        }
    }

    pub(crate) fn mount(error: impl Into<anyhow::Error>) -> Self {
        MountFailure {
            exit: MountExit::Failure,
            error: error.into(),
        }
    }
}

impl From<MountPointError> for MountFailure {
    fn from(error: MountPointError) -> Self {
        MountFailure::mount(error)
    }
}

/// Runs the command line, the program's name first, and says with what to exit.
pub fn run_mount(arguments: Vec<OsString>) -> ExitCode {
    if let Some(code) = guard::inherit() {
        return code;
    }
    let request = match MountRequest::parse(arguments) {
        Ok(request) => request,
        Err(ArgumentError::Clap(error)) => {
            // If the terminal is gone there is nobody to tell.
            let _ = error.print();
            let is_help = ArgumentError::Clap(error).is_help();
            return if is_help {
                ExitCode::SUCCESS
            } else {
                exit(MountExit::Usage)
            };
        }
        Err(error) => return complain(&MountFailure::usage(error)),
    };
    match Reporter::inherit() {
        Ok(Some(reporter)) => run_daemon(&request, reporter),
        Ok(None) if request.foreground => conclude(run_foreground(&request)),
        Ok(None) => conclude(run_background(&request)),
        Err(error) => complain(&MountFailure::system(error)),
    }
}

/// Checks the mount point: mistakes are told before anything is started.
fn prepare(request: &MountRequest) -> Result<MountPoint, MountFailure> {
    let mountpoint = MountPoint::prepare(&request.mountpoint)?;
    if mountpoint.cleaned {
        notice("a dead mount was in the way and has been removed").map_err(MountFailure::system)?;
    }
    Ok(mountpoint)
}

/// Starts the daemon and waits until it serves.
fn run_background(request: &MountRequest) -> Result<(), MountFailure> {
    let mountpoint = prepare(request)?;
    if request.dry_run {
        return Ok(());
    }
    let deadline = READY_DEADLINE + request.terms.queue_wait();
    let outcome = daemon::start(deadline, |line| {
        // The mount is what was asked for; a closed terminal does not undo it.
        let _ = notice(line);
    });
    match outcome {
        Ok(()) => Ok(()),
        Err(DaemonError::Failed { exit_code, message }) => Err(MountFailure {
            exit: MountExit::from_code(exit_code),
            error: anyhow::Error::msg(message),
        }),
        Err(error) => {
            // It may have left a mount, which is dead now; preparing removes it.
            if let Err(left) = MountPoint::prepare(&mountpoint.path) {
                eprintln!("pocket-mount: {left}");
            }
            Err(match error {
                DaemonError::Start(_) => MountFailure::system(error),
                _ => MountFailure::mount(error),
            })
        }
    }
}

/// Serves in this process, with the terminal for notices and the log.
fn run_foreground(request: &MountRequest) -> Result<(), MountFailure> {
    let log = Log::start(Verbosity::Warnings, request.verbosity);
    let log = log.map_err(MountFailure::usage)?;
    let mountpoint = prepare(request)?;
    if request.dry_run {
        return Ok(());
    }
    let ready = format!(
        "job '{}' is mounted on {}; Ctrl-C unmounts it",
        request.job,
        mountpoint.path.display()
    );
    serve::run(request, &log, &mut Terminal { ready })
}

/// Serves behind the command, and tells it how that began.
fn run_daemon(request: &MountRequest, reporter: Reporter) -> ExitCode {
    let mut audience = Command {
        reporter: Some(reporter),
        log_file: request.log_file.clone(),
    };
    let log = Log::start(Verbosity::Warnings, request.verbosity).map_err(MountFailure::usage);
    let outcome = log.and_then(|log| serve::run(request, &log, &mut audience));
    let Err(failure) = outcome else {
        return ExitCode::SUCCESS;
    };
    match audience.reporter {
        Some(mut reporter) => {
            let report = Report::Failed {
                exit_code: failure.exit as u8,
                message: sentence(&failure.error),
            };
            // Where the command is gone the exit code has to do.
            let _ = reporter.send(&report);
            exit(failure.exit)
        }
        None => complain(&failure),
    }
}

/// Who is told what happens until the mount serves.
pub(crate) trait Audience {
    /// A line for the user.
    fn notice(&mut self, line: &str) -> anyhow::Result<()>;
    /// The mount serves. An error: nobody wants it any more.
    fn ready(&mut self) -> anyhow::Result<()>;
}

/// The user, directly.
struct Terminal {
    ready: String,
}

impl Audience for Terminal {
    fn notice(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(notice(line)?)
    }

    fn ready(&mut self) -> anyhow::Result<()> {
        Ok(notice(&self.ready)?)
    }
}

/// The command that started this daemon.
struct Command {
    reporter: Option<Reporter>,
    log_file: Option<std::path::PathBuf>,
}

impl Audience for Command {
    fn notice(&mut self, line: &str) -> anyhow::Result<()> {
        match &mut self.reporter {
            Some(reporter) => {
                let sent = reporter.send(&Report::Notice(line.to_owned()));
                sent.context("the command that asked for this mount is gone")
            }
            None => Ok(()),
        }
    }

    fn ready(&mut self) -> anyhow::Result<()> {
        match self.reporter.take() {
            Some(reporter) => {
                let heard = reporter.ready(self.log_file.as_deref());
                heard.context("cannot go into the background")
            }
            None => Ok(()),
        }
    }
}

impl MountExit {
    fn from_code(code: u8) -> Self {
        match code {
            1 => MountExit::Usage,
            2 => MountExit::System,
            _ => MountExit::Failure,
        }
    }
}

fn notice(line: &str) -> std::io::Result<()> {
    output::line(format_args!("pocket-mount: {line}"))
}

fn conclude(outcome: Result<(), MountFailure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => complain(&failure),
    }
}

fn complain(failure: &MountFailure) -> ExitCode {
    eprintln!("pocket-mount: {}", sentence(&failure.error));
    exit(failure.exit)
}

fn exit(code: MountExit) -> ExitCode {
    ExitCode::from(code as u8)
}
