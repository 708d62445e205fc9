//! Processes that get signals while they wait for a server that does not answer. Those that are
//! killed go at once, and what they waited for is as it was; for all others a signal ends nothing.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::Read,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pocket_tests::{Mount, ProcessCluster, try_until, until, with_cluster, within};

/// Files, each of one block; with two servers it is certain that the frozen one holds some.
const FILES: usize = 32;
static CONTENT: [u8; 64 << 10] = [7; 64 << 10];
/// How long a killed process may take. An operation whose server is silent takes seconds.
const GONE_DEADLINE: Duration = Duration::from_secs(3);
const END_DEADLINE: Duration = Duration::from_secs(30);

/// Runs a program that reads its input to the end, which is the file.
fn reader(program: &[&str], path: &Path) -> Child {
    Command::new(program[0])
        .args(&program[1..])
        .stdin(File::open(path).unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Whether the process waits in read(2).
fn is_reading(child: &Child) -> bool {
    is_in(child, libc::SYS_read)
}

fn is_in(child: &Child, call: i64) -> bool {
    let found = fs::read_to_string(format!("/proc/{}/syscall", child.id())).unwrap_or_default();
    found.starts_with(&format!("{call} "))
}

/// Whether the process has come to its handler of SIGUSR1: on its way there it makes system calls, too.
fn handles_usr1(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & 1 << (libc::SIGUSR1 - 1) != 0)
}

/// Runs lines of Perl on a file, with a handler of SIGUSR1 that restarts no system call. They exit
/// with 0 if the call did what it should.
fn perl(lines: &str, path: &Path) -> Child {
    Command::new("perl")
        .args([
            "-e",
            &format!("use Fcntl; $SIG{{USR1}} = sub {{}}; {lines}"),
        ])
        .arg(path)
        .spawn()
        .unwrap()
}

/// Signals processes once they are in a system call, which must go on.
#[track_caller]
fn signal_within(processes: &mut [Child], call: i64) {
    until(END_DEADLINE, "the processes to be in their call", || {
        let ready = |process| is_in(process, call) && handles_usr1(process);
        processes.iter().all(ready)
    });
    for process in processes.iter() {
        signal(process, Signal::SIGUSR1);
    }
    let ended = try_until(Duration::from_millis(300), || {
        let mut ends = processes
            .iter_mut()
            .map(|process| process.try_wait().unwrap());
        ends.find_map(|end| end)
    });
    assert_eq!(ended, None);
}

#[track_caller]
fn succeed(processes: Vec<Child>) {
    let ends = within(END_DEADLINE, "the calls to end", move || {
        let ends = processes
            .into_iter()
            .map(|mut process| process.wait().unwrap());
        ends.collect::<Vec<_>>()
    });
    assert!(ends.iter().all(|end| end.success()), "{ends:?}");
}

/// Starts a reader of every file, and answers those that wait for the frozen server.
#[track_caller]
fn stuck_readers(program: &[&str], mount: &Mount) -> Vec<Child> {
    let paths = (0..FILES).map(|index| mount.join(index.to_string()));
    let mut readers: Vec<_> = paths.map(|path| reader(program, &path)).collect();
    // Whoever was served has ended; all others are where they can go no further.
    until(END_DEADLINE, "readers to be served or stuck", || {
        readers.retain_mut(|reader| reader.try_wait().unwrap().is_none());
        readers.iter().all(is_reading)
    });
    assert!(!readers.is_empty(), "nobody had to wait");
    readers
}

/// A cluster with a frozen storage server, and a mount that has read nothing yet.
fn with_frozen_server(job: &str, body: impl FnOnce(&Mount)) {
    with_cluster(|cluster: &mut ProcessCluster| {
        for words in ["storage", "unavailable", "heartbeat", "lost", "server"] {
            cluster.expect_in_logs(words);
        }
        let (writer, mount) = (cluster.mount(job), cluster.mount(job));
        for index in 0..FILES {
            fs::write(writer.join(index.to_string()), CONTENT).unwrap();
        }
        cluster.storage(0).process().freeze();
        body(&mount);
        cluster.storage(0).process().thaw();
        until(END_DEADLINE, "every file to be readable", || {
            let paths = (0..FILES).map(|index| mount.join(index.to_string()));
            let mut found = paths.map(|path| fs::read(path).unwrap_or_default());
            found.all(|found| found == CONTENT)
        });
        writer.finish();
        mount.finish();
    });
}

fn signal(process: &Child, signal: Signal) {
    kill(Pid::from_raw(process.id().cast_signed()), signal).unwrap();
}

/// Kills each by one of the signals, and waits for them.
#[track_caller]
fn kill_all(mut processes: Vec<Child>, signals: &[Signal]) {
    let begun = Instant::now();
    for (process, &deadly) in processes.iter().zip(signals.iter().cycle()) {
        signal(process, deadly);
    }
    let ends = within(END_DEADLINE, "the killed", move || {
        let ends = processes.iter_mut().map(|process| process.wait().unwrap());
        ends.collect::<Vec<_>>()
    });
    let taken = begun.elapsed();
    assert!(taken < GONE_DEADLINE, "gone after {taken:?}");
    for (end, &deadly) in ends.iter().zip(signals.iter().cycle()) {
        assert_eq!(end.signal(), Some(deadly as i32));
    }
}

#[test]
fn a_process_killed_while_it_waits_for_a_silent_server_is_gone_at_once() {
    with_frozen_server("mortal", |mount| {
        let readers = stuck_readers(&["cat"], mount);
        // Not SIGINT, which whoever runs the tests in the background has them ignore.
        kill_all(readers, &[Signal::SIGKILL, Signal::SIGTERM]);
    });
}

#[test]
fn a_signal_that_a_process_handles_ends_no_read_but_a_later_deadly_one_does() {
    with_frozen_server("steadfast", |mount| {
        // Told by SIGUSR1 to say how far it is, dd does so as soon as its read ends.
        let mut readers = stuck_readers(&["dd", "bs=64k"], mount);
        for reader in &readers {
            signal(reader, Signal::SIGUSR1);
        }
        let mut told: Vec<_> = readers
            .iter_mut()
            .map(|reader| reader.stderr.take().unwrap())
            .collect();
        let ended = try_until(Duration::from_millis(300), || {
            let mut ends = readers.iter_mut().map(|reader| reader.try_wait().unwrap());
            ends.find_map(|end| end)
        });
        assert_eq!(ended, None);
        kill_all(readers, &[Signal::SIGKILL]);
        for told in &mut told {
            let mut words = String::new();
            told.read_to_string(&mut words).unwrap();
            assert_eq!(words, "");
        }
    });
}

#[test]
fn a_signal_that_a_process_handles_fails_no_write_in_flight() {
    const WRITE: &str = "sysopen(F, $ARGV[0], O_WRONLY | O_SYNC); \
                         exit(syswrite(F, 'x' x 65536) == 65536 ? 0 : 1)";
    with_cluster(|cluster| {
        for words in ["storage", "unavailable", "heartbeat", "lost", "server"] {
            cluster.expect_in_logs(words);
        }
        let mount = cluster.mount("writers");
        let paths: Vec<_> = (0..4).map(|index| mount.join(index.to_string())).collect();
        for path in &paths {
            fs::write(path, CONTENT).unwrap();
        }
        for server in 0..2 {
            cluster.storage(server).process().freeze();
        }
        let mut writers: Vec<_> = paths.iter().map(|path| perl(WRITE, path)).collect();
        signal_within(&mut writers, libc::SYS_write);
        for server in 0..2 {
            cluster.storage(server).process().thaw();
        }
        succeed(writers);
        for path in &paths {
            assert_eq!(fs::read(path).unwrap(), [b'x'; 64 << 10]);
        }
        mount.finish();
    });
}

#[test]
fn a_signal_that_a_process_handles_fails_no_create_in_flight() {
    const CREATE: &str = "exit(sysopen(F, $ARGV[0], O_WRONLY | O_CREAT) ? 0 : 1)";
    with_cluster(|cluster| {
        let (mount, other) = (cluster.mount("makers"), cluster.mount("makers"));
        fs::create_dir(mount.join("d")).unwrap();
        // Shared: what is made there is asked for.
        assert_eq!(fs::read_dir(other.join("d")).unwrap().count(), 0);
        cluster.metadata().process().freeze();
        let mut makers = vec![perl(CREATE, &mount.join("d/new"))];
        signal_within(&mut makers, libc::SYS_openat);
        cluster.metadata().process().thaw();
        succeed(makers);
        assert!(fs::exists(other.join("d/new")).unwrap());
        mount.finish();
        other.finish();
    });
}
