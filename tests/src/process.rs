//! A process under test: its log is captured, it can be killed or frozen, and it never outlives
//! the suite.

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{log, wait};

/// How long a process may take to end once it was asked to.
pub(crate) const END_DEADLINE: Duration = Duration::from_secs(10);
/// Lines of a log that go into the message of a failed test.
const TAIL_LINES: usize = 60;

/// A child process whose output goes to a file. Killed on drop; [`Process::finish`] ends it in
/// an orderly way and checks what it said.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Bytes of the log that were checked before.
    checked: usize,
    expected: Vec<String>,
    ended: Option<ExitStatus>,
    killed: bool,
}

impl Process {
    /// Starts `command`; output and errors go to `name`.log in `folder`, behind what an earlier
    /// process of that name left there.
    pub fn start(name: &str, folder: &Path, mut command: Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.expect("the scratch folder is writable");
        // What stands there already was said by an earlier process.
        let checked = file.metadata().map_or(0, |status| status.len() as usize);
        let copy = file.try_clone().expect("a descriptor can be cloned");
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        let program = command.get_program().to_owned();
        let child = spawn(command)
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        Process {
            name: name.to_owned(),
            child,
            checked,
            log,
            expected: Vec::new(),
            ended: None,
            killed: false,
        }
    }

    /// The process's id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        log::read(&self.log)
    }

    /// Excuses log lines that contain `words`: the test means to cause them.
    pub fn expect_in_log(&mut self, words: &str) {
        self.expected.push(words.to_owned());
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            kill(self.pid(), signal).expect("a child not waited for can be signalled");
        }
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
            self.killed = true;
        }
    }

    /// SIGSTOP, and waits until every thread has stopped: it keeps its sockets and answers nothing.
    #[track_caller]
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        wait::until(END_DEADLINE, "the process to stop", || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
            let mut tasks = tasks.into_iter().flatten().flatten();
            tasks.all(|task| {
                let status = log::read(&task.path().join("status"));
                status.lines().any(|line| line.starts_with("State:\tT"))
            })
        });
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("it is our child");
        }
        self.ended
    }

    /// Waits for its end; panics with its log if that takes longer than `deadline`.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        match wait::try_until(deadline, || self.ended()) {
            Some(status) => status,
            None => panic!(
                "{} did not end within {deadline:?}\n{}",
                self.name,
                self.report()
            ),
        }
    }

    /// Takes the words that excuse lines of the log; from now on nothing is expected.
    pub(crate) fn take_expected(&mut self) -> Vec<String> {
        std::mem::take(&mut self.expected)
    }

    /// SIGTERM, and what [`Process::finish_signalled`] demands. A process that a test killed is
    /// only asked for its log.
    #[track_caller]
    pub fn finish(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::SIGTERM);
        }
        self.finish_signalled();
    }

    /// Waits for the end of a process that was asked to end: it must come soon and with success,
    /// unless the test killed it, and leave a log without alarms.
    #[track_caller]
    pub fn finish_signalled(&mut self) {
        if !self.killed {
            let status = self.wait(END_DEADLINE);
            assert!(
                status.success(),
                "{} ended with {status}\n{}",
                self.name,
                self.report()
            );
        }
        self.check_log();
    }

    /// Panics if the log has a warning or an error that was not expected, in what came since the
    /// last check.
    #[track_caller]
    pub fn check_log(&mut self) {
        let log = log::read(&self.log);
        let new = log.get(self.checked..).unwrap_or_default();
        self.checked = log.len();
        let alarms = log::unexpected_alarms(new, &self.expected);
        assert!(
            alarms.is_empty(),
            "unexpected lines in the log of {}:\n{}",
            self.name,
            alarms.join("\n")
        );
    }

    /// Name and last lines of the log, for messages.
    pub fn report(&self) -> String {
        let tail = log::tail(&self.log(), TAIL_LINES);
        format!("--- log of {} ---\n{tail}\n---", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        }
    }
}

/// Starts a command whose process is killed when this one dies, however it dies.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    // The kernel sends the signal when the *thread* that forked ends, and a test's thread ends
    // with its test: so one thread, which lives as long as the process, forks for all.
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                die_with_parent(&mut command);
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, child) = mpsc::channel();
    spawner
        .send((command, answer))
        .expect("the spawner lives as long as the process");
    child.recv().expect("the spawner answers every order")
}

#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command) {
    let die = || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        Ok(())
    };
    // SAFETY: the closure makes one system call and touches no memory of the parent.
    unsafe { command.pre_exec(die) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_process_that_says_nothing_bad_finishes() {
        let scratch = Scratch::new();
        let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done";
        let mut process = Process::start("quiet", scratch.path(), shell(script));
        wait::until(END_DEADLINE, "its first line", || {
            process.log() == "ready\n"
        });
        process.finish();
    }

    #[test]
    #[should_panic(expected = "unexpected lines in the log of loud")]
    fn a_warning_fails_the_test_that_caused_it() {
        let scratch = Scratch::new();
        let mut process = Process::start("loud", scratch.path(), shell("echo now WARN it: is bad"));
        process.wait(END_DEADLINE);
        process.finish();
    }

    #[test]
    fn an_expected_warning_does_not() {
        let scratch = Scratch::new();
        let mut process = Process::start("loud", scratch.path(), shell("echo now WARN it: is bad"));
        process.expect_in_log("is bad");
        process.wait(END_DEADLINE);
        process.finish();
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let scratch = Scratch::new();
        let process = Process::start("sleeper", scratch.path(), shell("exec sleep 3600"));
        let pid = process.pid();
        drop(process);
        assert!(kill(pid, None).is_err());
    }
}
