//! Runs of the programs under test, and what they leave on the machine.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test program uses a part of it"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub const POCKET: &str = env!("CARGO_BIN_EXE_pocket");
pub const POCKET_MOUNT: &str = env!("CARGO_BIN_EXE_pocket-mount");

/// Longer than anything under test may take.
pub const LONG: Duration = Duration::from_secs(30);

/// A finished run.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    #[track_caller]
    pub fn assert_code(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{self:?}");
    }
}

pub fn pocket(arguments: &[&str]) -> Run {
    run(POCKET, arguments)
}

pub fn pocket_mount(arguments: &[&str]) -> Run {
    run(POCKET_MOUNT, arguments)
}

/// Runs a program to its end, with none of our settings in its environment.
pub fn run(program: &str, arguments: &[&str]) -> Run {
    let output = command(program, arguments).output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POCKET_") {
            command.env_remove(name);
        }
    }
    command
}

/// Whether something is mounted on exactly this directory.
pub fn is_mounted(path: &Path) -> bool {
    let path = fs::canonicalize(path.parent().unwrap())
        .unwrap()
        .join(path.file_name().unwrap());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == path.to_str())
}

/// Processes, other than this one, that have `text` in their command line.
pub fn processes_naming(text: &str) -> Vec<i32> {
    let processes = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let id: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            (id != Pid::this().as_raw() && line.contains(text)).then_some(id)
        });
    processes.collect()
}

/// Waits until `condition` holds.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn signal(process: i32, signal: Signal) {
    kill(Pid::from_raw(process), signal).unwrap();
}

/// Whether these tests can mount here, which needs root. Elsewhere they fail, unless skipping is
/// allowed as it is for the suites of the test kit.
#[track_caller]
pub fn can_mount() -> bool {
    const ALLOW_SKIP: &str = "POCKET_TESTS_ALLOW_SKIP";
    let can = nix::unistd::geteuid().is_root() && Path::new("/dev/fuse").exists();
    if !can {
        let allowed = std::env::var_os(ALLOW_SKIP).is_some_and(|value| value == "1");
        assert!(
            allowed,
            "cannot mount here without root and /dev/fuse; {ALLOW_SKIP}=1 skips"
        );
        println!("SKIPPED: cannot mount here without root and /dev/fuse");
    }
    can
}

/// A directory to mount on. Whatever a failed test leaves mounted there is detached.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn text(&self) -> &str {
        self.path().to_str().unwrap()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        while is_mounted(self.path())
            && nix::mount::umount2(self.path(), nix::mount::MntFlags::MNT_DETACH).is_ok()
        {}
    }
}

/// A cluster of processes, `pocket up`, ended with the value.
pub struct Up {
    child: Child,
    pub output: BufReader<ChildStdout>,
    pub controller: String,
    pub servers: Vec<(String, i32)>,
}

impl Up {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// With variables of its environment.
    pub fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let all = ["up", "--listen", "127.0.0.1:0", "--json"];
        let mut command = command(POCKET, &[&all, arguments].concat());
        command.envs(variables.iter().copied());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let servers = ready["servers"].as_array().unwrap().iter().map(|server| {
            let role = server["role"].as_str().unwrap().to_owned();
            (role, server["pid"].as_i64().unwrap() as i32)
        });
        Up {
            child,
            output,
            controller: ready["controller"].as_str().unwrap().to_owned(),
            servers: servers.collect(),
        }
    }

    pub fn process(&self) -> i32 {
        self.child.id() as i32
    }

    /// A run of `pocket` on this cluster.
    pub fn pocket(&self, arguments: &[&str]) -> Run {
        pocket(&[arguments, &["--controller", &self.controller]].concat())
    }

    /// A run of `pocket-mount` on this cluster.
    pub fn mount(&self, arguments: &[&str]) -> Run {
        pocket_mount(&[arguments, &["--controller", &self.controller]].concat())
    }

    /// Waits for the end of `pocket up` itself.
    pub fn wait(&mut self) -> Option<i32> {
        let mut code = None;
        until("pocket up has ended", || {
            let status = self.child.try_wait().unwrap();
            code = status.and_then(|status| status.code());
            status.is_some()
        });
        code
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.process()), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

pub fn is_alive(process: i32) -> bool {
    // A zombie is as dead as a process can be.
    let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = state.rsplit(')').next().unwrap_or_default().trim_start();
    !state.is_empty() && !state.starts_with('Z')
}
