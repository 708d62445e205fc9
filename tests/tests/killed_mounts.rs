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
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{signal::Signal, stat::minor},
    unistd::Pid,
};
use pocket_tests::{Mount, ProcessCluster, errno_of, try_until, until, with_cluster};
use rand::Rng;

/// Programs hear of the death within about a second; twice that on a busy machine.
const HEARD_DEADLINE: Duration = Duration::from_secs(2);
/// How long it may take until a thread of a loaded mount waits for a directory.
const STUCK_DEADLINE: Duration = Duration::from_secs(30);
/// Who waits for longer than this while the mount is stopped waits for the mount.
const STOPPED: Duration = Duration::from_millis(50);
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

/// Whether a thread of the process has the kernel drop a name, and waits for the directory.
fn drops_a_name(pid: Pid) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let mut tasks = tasks.into_iter().flatten().flatten();
    tasks.any(|task| {
        let place = fs::read_to_string(task.path().join("wchan"));
        place.is_ok_and(|place| place == "fuse_reverse_inval_entry")
    })
}

/// Stops the mount at a moment when one of its threads waits for a directory whose lock a program
/// has that waits for the mount. It waits as long as the mount is stopped.
fn stop_while_stuck(mount: &mut Mount) {
    let process = mount.process();
    let pid = process.pid();
    let stuck = try_until(STUCK_DEADLINE, || {
        try_until(STUCK_DEADLINE, || drops_a_name(pid).then_some(()))?;
        process.signal(Signal::SIGSTOP);
        let passed = try_until(STOPPED, || (!drops_a_name(pid)).then_some(()));
        if passed.is_some() {
            process.thaw();
        }
        passed.is_none().then_some(())
    });
    assert!(stuck.is_some(), "no thread of the mount ever waited");
}

/// Lets go of programs that wait for a dead mount, so that a failed test can end.
fn abort(connection: u64) {
    let _ = fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1");
}

/// Kills a mount that is under load from both sides, after `prepare`, and claims that its programs
/// and its process end. Answers the programs on the other mount of the job, which are told to stop:
/// they may wait for the dead one until its lease has ended.
fn kill_under_load(
    cluster: &mut ProcessCluster,
    job: &str,
    prepare: impl FnOnce(&mut Mount),
) -> (Mount, Vec<Program>) {
    let other = cluster.mount_with(job, &["--capacity", "64MiB"]);
    fs::create_dir(other.join("shared")).unwrap();
    let mut mount = cluster.mount(job);
    let connection = minor(fs::metadata(mount.path()).unwrap().dev());
    let stop = Arc::new(AtomicBool::new(false));
    let elsewhere = load(&other.join("shared"), &stop);
    let programs = load(&mount.join("shared"), &stop);
    prepare(&mut mount);
    mount.process().signal(Signal::SIGKILL);
    let heard = try_until(HEARD_DEADLINE, || {
        programs.iter().all(JoinHandle::is_finished).then_some(())
    });
    let reaped = try_until(HEARD_DEADLINE, || mount.process().ended());
    if heard.is_none() || reaped.is_none() {
        abort(connection);
    }
    stop.store(true, Ordering::Relaxed);
    for program in programs {
        program.join().unwrap();
    }
    assert!(heard.is_some(), "programs waited for a dead mount");
    assert!(reaped.is_some(), "the process was not gone");
    (other, elsewhere)
}

fn kill_often(rounds: usize, prepare: impl Fn(&mut Mount)) {
    with_cluster(|cluster| {
        cluster.expect_in_logs("session");
        let others: Vec<_> = (0..rounds)
            .map(|round| kill_under_load(cluster, &format!("killed-{round}"), &prepare))
            .collect();
        for (other, programs) in others {
            for program in programs {
                program.join().unwrap();
            }
            other.finish();
        }
    });
}

#[test]
fn a_mount_killed_while_it_waits_for_a_directory_leaves_no_program_waiting() {
    kill_often(ROUNDS_STUCK, stop_while_stuck);
}

#[test]
fn a_mount_killed_at_any_moment_leaves_no_program_waiting() {
    kill_often(ROUNDS_RANDOM, |_| {
        let life = Duration::from_millis(rand::rng().random_range(0..LIFE_MS_MAX));
        std::thread::park_timeout(life);
    });
}

/// The guard of a process, if there is one.
fn guard_of(pid: Pid) -> Option<PathBuf> {
    let line = format!("pocket-guard\0{pid}\0");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut processes = processes.map(|process| process.path());
    processes.find(|process| {
        fs::read(process.join("cmdline")).is_ok_and(|found| found == line.as_bytes())
    })
}

#[test]
fn the_guard_of_a_mount_leaves_with_it() {
    with_cluster(|cluster| {
        let mut mount = cluster.mount("guarded");
        let pid = mount.process().pid();
        let guard = guard_of(pid).expect("a mount has a guard");
        let open = fs::read_dir(guard.join("fd")).unwrap();
        let open = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        assert!(open.into_iter().all(|file| file != Path::new("/dev/fuse")));
        mount.unmount();
        until(HEARD_DEADLINE, "the guard to leave", || {
            guard_of(pid).is_none()
        });
    });
}
