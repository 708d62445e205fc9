//! Mounts whose process is killed: no program waits for them, and no process of theirs is left.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{errno::Errno, sys::signal::Signal, unistd::Pid};
use pocket_tests::{Mount, ProcessCluster, errno_of, try_until, with_cluster};
use rand::Rng;

/// Programs hear of the death within about a second; twice that on a busy machine.
const HEARD_DEADLINE: Duration = Duration::from_secs(2);
/// How long it may take until a thread of a loaded mount waits for a directory.
const STUCK_DEADLINE: Duration = Duration::from_secs(30);
/// Names that programs on both mounts change.
const NAMES: usize = 6;
/// Mounts that are killed while they wait for a directory, and at any moment.
const ROUNDS_STUCK: usize = 4;
const ROUNDS_RANDOM: usize = 8;
/// The longest life of a mount that is killed at any moment, once the load is there.
const LIFE_MS_MAX: u64 = 300;

/// A program (here a thread) that does one thing after the other until the mount is dead, or it is
/// asked to stop.
type Program = JoinHandle<()>;

fn start(
    stop: &Arc<AtomicBool>,
    mut step: impl FnMut(usize) -> io::Result<()> + Send + 'static,
) -> Program {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        for turn in 0.. {
            let outcome = step(turn);
            let dead = outcome.is_err_and(|error| {
                matches!(errno_of(&error), Errno::ENOTCONN | Errno::ECONNABORTED)
            });
            if dead || stop.load(Ordering::Relaxed) {
                return;
            }
        }
    })
}

fn name(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("n{}", number % NAMES))
}

/// Programs that rename, make and look at the same names of a directory.
fn load(folder: &Path, stop: &Arc<AtomicBool>) -> Vec<Program> {
    let folder = || folder.to_owned();
    let (renaming, making, looking, removing) = (folder(), folder(), folder(), folder());
    vec![
        start(stop, move |turn| {
            fs::rename(name(&renaming, turn), name(&renaming, turn + 1))
        }),
        start(stop, move |turn| {
            File::create(name(&making, turn * 5)).map(drop)
        }),
        start(stop, move |turn| {
            fs::metadata(name(&looking, turn)).map(drop)
        }),
        start(stop, move |turn| fs::remove_file(name(&removing, turn * 3))),
    ]
}

/// Threads of a process that wait in the kernel and cannot be interrupted.
fn waiting_threads(pid: Pid) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let state = |path: PathBuf| fs::read_to_string(path.join("status")).unwrap_or_default();
    tasks
        .filter(|task| state(task.path()).contains("\nState:\tD"))
        .count()
}

/// Stops the mount at a moment when one of its threads waits for a directory whose lock a program
/// has that waits for the mount. It waits as long as the mount is stopped.
fn stop_while_stuck(mount: &mut Mount) {
    let process = mount.process();
    let pid = process.pid();
    let stuck = try_until(STUCK_DEADLINE, || {
        process.signal(Signal::SIGSTOP);
        let stuck = try_until(Duration::from_millis(30), || {
            (waiting_threads(pid) == 0).then_some(())
        });
        if stuck.is_none() {
            return Some(());
        }
        process.thaw();
        None
    });
    assert!(stuck.is_some(), "no thread of the mount ever waited");
}

/// Lets go of programs that wait for a dead mount, so that a failed test can end.
fn abort(connection: u64) {
    let _ = fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1");
}

/// Kills a mount that is under load from both sides, after `prepare`, and claims that its programs
/// and its process end.
fn kill_under_load(cluster: &mut ProcessCluster, others: &Mount, prepare: impl FnOnce(&mut Mount)) {
    let mut mount = cluster.mount("killed");
    let connection = nix::sys::stat::minor(fs::metadata(mount.path()).unwrap().dev());
    let stop = Arc::new(AtomicBool::new(false));
    let elsewhere = load(&others.join("shared"), &stop);
    let programs = load(&mount.join("shared"), &stop);
    prepare(&mut mount);
    mount.process().signal(Signal::SIGKILL);
    let killed = Instant::now();
    let heard = try_until(HEARD_DEADLINE, || {
        programs.iter().all(JoinHandle::is_finished).then_some(())
    });
    let reaped = try_until(HEARD_DEADLINE, || mount.process().ended());
    if heard.is_none() || reaped.is_none() {
        abort(connection);
    }
    stop.store(true, Ordering::Relaxed);
    for program in programs.into_iter().chain(elsewhere) {
        program.join().unwrap();
    }
    assert!(
        heard.is_some(),
        "programs waited for {:?}",
        killed.elapsed()
    );
    assert!(reaped.is_some(), "the process was not gone");
}

#[test]
fn a_mount_killed_under_load_leaves_no_program_waiting() {
    with_cluster(|cluster| {
        cluster.expect_in_logs("session");
        let others = cluster.mount("killed");
        fs::create_dir(others.join("shared")).unwrap();
        for _ in 0..ROUNDS_STUCK {
            kill_under_load(cluster, &others, stop_while_stuck);
        }
        for _ in 0..ROUNDS_RANDOM {
            let life = Duration::from_millis(rand::rng().random_range(0..LIFE_MS_MAX));
            kill_under_load(cluster, &others, |_| std::thread::park_timeout(life));
        }
        others.finish();
    });
}
