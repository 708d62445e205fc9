//! Going into the background: the command returns when the mount serves, and the mount lives on.
//!
//! The command starts itself a second time, in a session of its own, with one end of a socket as
//! its standard input, and waits at the other end. Nothing is forked behind a running thread. The
//! second process (the daemon) reports notices and then either that it is ready or why it failed;
//! should it die without a word, the closed socket says so. The command acknowledges that the
//! daemon is ready; should the command die before that, the daemon takes everything down again.

use std::{
    env,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        socket::{MsgFlags, recv},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Set for the daemon alone: its standard input is the socket to the command that started it.
const DAEMON_VARIABLE: &str = "POCKET_MOUNT_DAEMON";
/// A report is a line; a longer one is not ours.
const REPORT_BYTES_MAX: u64 = 64 << 10;
/// How long a daemon that reported its failure may take to clean up before it is killed.
const EXIT_TIME_MAX: Duration = Duration::from_secs(15);
/// The command's answer to a daemon that is ready.
const ACKNOWLEDGEMENT: u8 = b'!';
/// How long the answer may take: the command only has to be scheduled.
const ACKNOWLEDGEMENT_TIME_MAX: Duration = Duration::from_secs(10);

/// What a daemon tells the command that started it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// A line for the user, on standard output.
    Notice(String),
    /// The mount serves. The last report.
    Ready,
    /// There is no mount. The last report.
    Failed {
        /// For the command to exit with.
        exit_code: u8,
        /// Why, in a sentence.
        message: String,
    },
}

/// Why there is no daemon.
#[derive(Debug, Error)]
pub(crate) enum DaemonError {
    /// It could not be started.
    #[error("cannot start the mount's process: {0}")]
    Start(io::Error),
    /// It said why it failed.
    #[error("{message}")]
    Failed {
        /// The exit code it wishes for.
        exit_code: u8,
        /// Why, in a sentence.
        message: String,
    },
    /// It ended without a word.
    #[error("the mount's process ended before the mount was ready ({0})")]
    Died(String),
    /// It did not become ready in time, and was killed.
    #[error("the mount was not ready within {} s", .0.as_secs())]
    Late(Duration),
}

/// Starts this program a second time with the same arguments, and waits until that one is ready.
/// Notices are passed to `notice` as they come. When this fails no process is left behind; a mount
/// that a killed process may have left is the caller's to detach.
pub(crate) fn start(deadline: Duration, notice: impl FnMut(&str)) -> Result<(), DaemonError> {
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    let program = env::current_exe().map_err(DaemonError::Start)?;
    let mut command = Command::new(program);
    command.arg0(name).args(arguments);
    supervise(command, deadline, notice)
}

fn supervise(
    mut command: Command,
    deadline: Duration,
    notice: impl FnMut(&str),
) -> Result<(), DaemonError> {
    let (ours, theirs) = UnixStream::pair().map_err(DaemonError::Start)?;
    let child = command
        .env(DAEMON_VARIABLE, "1")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .map_err(DaemonError::Start)?;
    // The other end must live in the daemon alone, or its death would go unnoticed.
    drop(command);
    let mut daemon = Daemon { child };
    let outcome = listen(ours, deadline, notice);
    match outcome {
        Ok(()) => Ok(()),
        Err(Heard::Failed { exit_code, message }) => {
            daemon.end(EXIT_TIME_MAX);
            Err(DaemonError::Failed { exit_code, message })
        }
        Err(Heard::Nothing) => Err(DaemonError::Died(daemon.end(EXIT_TIME_MAX))),
        Err(Heard::Late) => {
            daemon.end(Duration::ZERO);
            Err(DaemonError::Late(deadline))
        }
    }
}

/// How a daemon fell silent, or failed.
enum Heard {
    Failed { exit_code: u8, message: String },
    Nothing,
    Late,
}

fn listen(
    socket: UnixStream,
    deadline: Duration,
    mut notice: impl FnMut(&str),
) -> Result<(), Heard> {
    let end = Instant::now() + deadline;
    let mut reader = BufReader::new(socket.take(REPORT_BYTES_MAX));
    let mut line = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // A time limit of zero would mean none.
        let left = left.max(Duration::from_millis(1));
        let limit = reader.get_ref().get_ref().set_read_timeout(Some(left));
        limit.map_err(|_| Heard::Nothing)?;
        match reader.read_until(b'\n', &mut line) {
            Ok(_) if line.last() == Some(&b'\n') => {}
            Ok(_) => return Err(Heard::Nothing),
            Err(error) if is_timeout(&error) && Instant::now() >= end => return Err(Heard::Late),
            Err(error) if is_timeout(&error) => continue,
            Err(_) => return Err(Heard::Nothing),
        }
        match serde_json::from_slice(&line).map_err(|_| Heard::Nothing)? {
            Report::Notice(text) => notice(&text),
            Report::Ready => {
                let mut socket = reader.get_ref().get_ref();
                let answered = socket.write_all(&[ACKNOWLEDGEMENT]);
                return answered.map_err(|_| Heard::Nothing);
            }
            Report::Failed { exit_code, message } => {
                return Err(Heard::Failed { exit_code, message });
            }
        }
        line.clear();
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// The started process, seen from the command.
struct Daemon {
    child: Child,
}

impl Daemon {
    /// Waits for its end, kills it after `patience`, and says how it ended.
    fn end(&mut self, patience: Duration) -> String {
        let limit = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return describe(status),
                Ok(None) if Instant::now() < limit => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(None) | Err(_) => break,
            }
        }
        // Whatever these say, the process is gone or on its way.
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) => describe(status),
            Err(error) => error.to_string(),
        }
    }
}

/// How a process ended, for people: "exit status 3", "killed by SIGKILL".
pub(crate) fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {number}"),
        },
        (None, None) => status.to_string(),
    }
}

/// The daemon's side of the socket.
#[derive(Debug)]
pub(crate) struct Reporter {
    socket: UnixStream,
    /// The last report has been made, or is about to be.
    is_over: Arc<AtomicBool>,
}

impl Reporter {
    /// The socket to the command, if this process is a daemon. To be called once, first thing:
    /// the daemon becomes the leader of a session of its own, away from the terminal's signals,
    /// and standard input is `/dev/null` from here on.
    pub(crate) fn inherit() -> io::Result<Option<Self>> {
        if env::var_os(DAEMON_VARIABLE).is_none() {
            return Ok(None);
        }
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        // A variable left over by somebody else has no socket behind it.
        if socket.local_addr().is_err() {
            return Ok(None);
        }
        nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
        // Fails for a process that leads a group already, which then has what it needs.
        let _ = nix::unistd::setsid();
        // Relative paths were resolved by then, and no directory is kept busy.
        let is_over = Arc::default();
        watch_command(socket.try_clone()?, Arc::clone(&is_over))?;
        Ok(Some(Reporter { socket, is_over }))
    }

    /// Sends a report. An error: the command is gone, and nobody waits for this mount.
    pub(crate) fn send(&mut self, report: &Report) -> io::Result<()> {
        let mut line = serde_json::to_vec(report)?;
        line.push(b'\n');
        self.socket.write_all(&line)
    }

    /// Reports that the mount serves, and when the command has heard it lets go of the terminal:
    /// standard output and error go to `log`, or nowhere. An error: the command is gone, or the log
    /// cannot be written.
    pub(crate) fn ready(mut self, log: Option<&Path>) -> anyhow::Result<()> {
        let sink = match log {
            Some(path) => {
                open_log(path).with_context(|| format!("--log-file {}", path.display()))?
            }
            None => OpenOptions::new().write(true).open("/dev/null")?,
        };
        self.let_go(&sink)
            .context("is the command that asked for this mount gone?")
    }

    fn let_go(&mut self, sink: &File) -> io::Result<()> {
        self.is_over.store(true, Ordering::SeqCst);
        self.send(&Report::Ready)?;
        self.socket
            .set_read_timeout(Some(ACKNOWLEDGEMENT_TIME_MAX))?;
        self.socket.read_exact(&mut [0])?;
        env::set_current_dir("/")?;
        nix::unistd::dup2_stdout(sink)?;
        nix::unistd::dup2_stderr(sink)?;
        Ok(())
    }
}

/// Has this process end, as SIGTERM does, if the command dies before the mount is ready: somebody
/// may wait for the place in a queue that it holds.
fn watch_command(socket: UnixStream, is_over: Arc<AtomicBool>) -> io::Result<()> {
    let watch = move || loop {
        match recv(socket.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK) {
            // The command has hung up, or been killed.
            Ok(0) if !is_over.load(Ordering::SeqCst) => {
                // To the process, whichever thread hears it. It can fail for none of its own.
                let _ = kill(Pid::this(), Signal::SIGTERM);
                return;
            }
            Err(Errno::EINTR | Errno::EAGAIN) if !is_over.load(Ordering::SeqCst) => {}
            Ok(_) | Err(_) => return,
        }
    };
    let thread = std::thread::Builder::new().name("command".to_owned());
    thread.spawn(watch).map(drop)
}

/// Opens a log for appending.
pub(crate) fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn notices_are_passed_on_until_ready() {
        let mut notices = Vec::new();
        let script = r#"echo '{"notice":"one"}' >&0; echo '{"notice":"two"}' >&0;
            echo '"ready"' >&0; head -c 1 > /dev/null"#;
        supervise(shell(script), LONG, |text| notices.push(text.to_owned())).unwrap();
        assert_eq!(notices, ["one", "two"]);
    }

    #[test]
    fn a_failure_is_told_in_its_own_words() {
        let script = r#"echo '{"failed":{"exit_code":32,"message":"no such job"}}' >&0; exit 32"#;
        let error = supervise(shell(script), LONG, |_| ()).unwrap_err();
        assert!(matches!(error, DaemonError::Failed { exit_code: 32, .. }));
        assert_eq!(error.to_string(), "no such job");
    }

    #[test]
    fn a_death_without_a_word_is_told() {
        for (script, how) in [
            ("exit 7", "exit status 7"),
            ("kill -9 $$", "killed by SIGKILL"),
            ("echo garbage >&0; exit 3", "exit status 3"),
            (r#"printf '"ready"' >&0; exit 4"#, "exit status 4"),
        ] {
            let error = supervise(shell(script), LONG, |_| ()).unwrap_err();
            assert!(
                matches!(&error, DaemonError::Died(found) if found == how),
                "{script}: {error}"
            );
        }
    }

    #[test]
    fn a_daemon_that_is_never_ready_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("pid");
        let script = format!(
            "echo $$ > {}; echo '{{\"notice\":\"x\"}}' >&0; exec sleep 1000",
            pid_file.display()
        );
        let deadline = Duration::from_millis(300);
        let error = supervise(shell(&script), deadline, |_| ()).unwrap_err();
        assert!(matches!(error, DaemonError::Late(_)), "{error}");
        let pid = std::fs::read_to_string(pid_file).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap());
        assert_eq!(kill(pid, None), Err(Errno::ESRCH));
    }

    #[test]
    fn reports_survive_the_socket() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut reporter = Reporter {
            socket: theirs,
            is_over: Arc::default(),
        };
        let told = Report::Failed {
            exit_code: 1,
            message: "two\nlines".to_owned(),
        };
        reporter.send(&Report::Notice("hello".to_owned())).unwrap();
        reporter.send(&told).unwrap();
        let mut notices = Vec::new();
        let heard = listen(ours, LONG, |text| notices.push(text.to_owned()));
        assert_eq!(notices, ["hello"]);
        assert!(matches!(heard, Err(Heard::Failed { message, .. }) if message == "two\nlines"));
    }

    #[test]
    fn a_command_that_is_gone_is_noticed() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // Its death between the report and the acknowledgement counts too.
        let survivor = ours.try_clone().unwrap();
        drop(ours);
        let reporter = Reporter {
            socket: theirs,
            is_over: Arc::default(),
        };
        survivor.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(reporter.ready(None).is_err());
    }
}
