//! Advisory locks over two mounts of a job: who is kept out, who waits, and when locks are free.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    sys::signal::Signal,
};
use pocket_tests::{Mount, Process, ProcessCluster, errno_of, until, with_cluster, within};

/// A lock that should be free is so within this: the lease time of five seconds, and some.
const FREE_DEADLINE: Duration = Duration::from_secs(10);
/// SQLite counts so far, half of it on each mount.
const COUNTED: u32 = 100;

/// Two mounts of a new job, and a file that both see.
fn two_mounts(cluster: &mut ProcessCluster) -> (Mount, Mount) {
    let (first, second) = (cluster.mount("locks"), cluster.mount("locks"));
    fs::write(first.join("f"), "content").unwrap();
    (first, second)
}

fn on_two_mounts(claim: impl FnOnce(&Mount, &Mount)) {
    with_cluster(|cluster| {
        let (first, second) = two_mounts(cluster);
        claim(&first, &second);
        first.finish();
        second.finish();
    });
}

fn open(mount: &Mount, name: &str) -> File {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(mount.join(name)).unwrap()
}

/// `length` bytes from `start`; 0 for all behind.
fn range(kind: i32, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}

fn try_lock(file: &File, kind: i32, start: i64, length: i64) -> Result<(), Errno> {
    let lock = range(kind, start, length);
    fcntl(file, FcntlArg::F_SETLK(&lock)).map(drop)
}

fn wait_lock(file: &File, kind: i32, start: i64, length: i64) -> Result<(), Errno> {
    let lock = range(kind, start, length);
    fcntl(file, FcntlArg::F_SETLKW(&lock)).map(drop)
}

fn unlock(file: &File, start: i64, length: i64) {
    try_lock(file, libc::F_UNLCK, start, length).unwrap();
}

/// What is in the way of an exclusive lock on the whole file.
fn in_the_way(file: &File) -> libc::flock {
    let mut lock = range(libc::F_WRLCK, 0, 0);
    fcntl(file, FcntlArg::F_GETLK(&mut lock)).unwrap();
    lock
}

/// Waits until a task, as /proc names it, waits in a system call.
#[track_caller]
fn await_call(task: &str, call: i64) {
    let number = format!("{call} ");
    until(FREE_DEADLINE, "a task to wait for a lock", || {
        let told = fs::read_to_string(format!("/proc/{task}/syscall"));
        told.is_ok_and(|told| told.starts_with(&number))
    });
}

/// Does what waits for a lock in a thread of its own, and returns when it waits.
#[track_caller]
fn waiting<T: Send + 'static>(
    call: i64,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let (sender, thread) = std::sync::mpsc::channel();
    let waiter = thread::spawn(move || {
        sender.send(nix::unistd::gettid()).unwrap();
        work()
    });
    await_call(&format!("self/task/{}", thread.recv().unwrap()), call);
    waiter
}

/// A process that locks all of a file in Python, says so and waits for its end; a signal keeps it
/// from locking.
fn python_locker(folder: &Path, path: &Path) -> Process {
    let script = "import fcntl, signal, sys\n\
        def handle(number, frame):\n\
        \x20   raise KeyError\n\
        signal.signal(signal.SIGUSR1, handle)\n\
        f = open(sys.argv[1], 'r+')\n\
        try:\n\
        \x20   fcntl.lockf(f, fcntl.LOCK_EX)\n\
        \x20   print('locked', flush=True)\n\
        except KeyError:\n\
        \x20   print('signalled', flush=True)\n\
        signal.pause()";
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(path);
    Process::start("locker", folder, command)
}

/// One that has the lock.
fn holder(folder: &Path, path: &Path) -> Process {
    let holder = python_locker(folder, path);
    until(FREE_DEADLINE, "the lock of the other process", || {
        holder.log().contains("locked")
    });
    holder
}

#[test]
fn a_record_lock_keeps_others_out_on_every_mount() {
    on_two_mounts(|a, b| {
        let (one, two) = (open(a, "f"), open(b, "f"));
        try_lock(&one, libc::F_WRLCK, 0, 10).unwrap();
        for kind in [libc::F_RDLCK, libc::F_WRLCK] {
            assert_eq!(try_lock(&two, kind, 5, 1), Err(Errno::EAGAIN));
            try_lock(&two, kind, 10, 5).unwrap();
        }
        try_lock(&one, libc::F_RDLCK, 0, 10).unwrap();
        try_lock(&two, libc::F_RDLCK, 5, 1).unwrap();
        assert_eq!(try_lock(&two, libc::F_WRLCK, 5, 1), Err(Errno::EAGAIN));
        unlock(&one, 5, 1);
        try_lock(&two, libc::F_WRLCK, 5, 1).unwrap();
        assert_eq!(try_lock(&two, libc::F_WRLCK, 4, 3), Err(Errno::EAGAIN));
        // To the end of all offsets.
        try_lock(&one, libc::F_WRLCK, 100, 0).unwrap();
        let refused = try_lock(&two, libc::F_RDLCK, i64::MAX - 1, 1);
        assert_eq!(refused, Err(Errno::EAGAIN));
    });
}

#[test]
fn a_lock_is_waited_for_until_the_other_mount_unlocks() {
    on_two_mounts(|a, b| {
        let one = open(a, "f");
        for round in 0..20 {
            try_lock(&one, libc::F_WRLCK, 0, 0).unwrap();
            let two = open(b, "f");
            let waiter = waiting(libc::SYS_fcntl, move || {
                wait_lock(&two, libc::F_WRLCK, 3, 1).unwrap();
                let mut found = [0; 4];
                two.read_exact_at(&mut found, 0).unwrap();
                found
            });
            assert!(!waiter.is_finished());
            let written = format!("{round:04}");
            one.write_all_at(written.as_bytes(), 0).unwrap();
            unlock(&one, 0, 0);
            let found = within(FREE_DEADLINE, "a granted lock", || waiter.join().unwrap());
            assert_eq!(found, written.as_bytes());
            // Closed with the thread, and so unlocked.
            try_lock(&one, libc::F_WRLCK, 0, 0).unwrap();
        }
    });
}

#[test]
fn a_deadlock_between_mounts_is_told_and_not_waited_out() {
    on_two_mounts(|a, b| {
        let (one, two) = (open(a, "f"), open(b, "g"));
        try_lock(&one, libc::F_WRLCK, 0, 1).unwrap();
        try_lock(&two, libc::F_WRLCK, 0, 1).unwrap();
        let one_of_g = open(a, "g");
        let waiter = waiting(libc::SYS_fcntl, move || {
            wait_lock(&one_of_g, libc::F_WRLCK, 0, 1)
        });
        let two_of_f = open(b, "f");
        let (told, two_of_f) = within(FREE_DEADLINE, "a deadlock", || {
            (wait_lock(&two_of_f, libc::F_WRLCK, 0, 1), two_of_f)
        });
        assert_eq!(told, Err(Errno::EDEADLK));
        assert!(!waiter.is_finished());
        unlock(&two, 0, 1);
        let granted = within(FREE_DEADLINE, "the other lock", || waiter.join().unwrap());
        assert_eq!(granted, Ok(()));
        drop(two_of_f);
    });
}

#[test]
fn more_locks_than_a_mount_may_have_are_enolck() {
    /// Pieces of files that a mount may have locked.
    const LOCKS_MAX: i64 = 16 << 10;
    on_two_mounts(|first, second| {
        let (file, other) = (open(first, "f"), open(second, "f"));
        for number in 0..LOCKS_MAX {
            try_lock(&file, libc::F_WRLCK, 2 * number, 1).unwrap();
        }
        let refused = try_lock(&file, libc::F_WRLCK, 2 * LOCKS_MAX, 1);
        assert_eq!(refused, Err(Errno::ENOLCK));
        try_lock(&other, libc::F_WRLCK, 2 * LOCKS_MAX, 1).unwrap();
        unlock(&file, 0, 1);
        try_lock(&file, libc::F_WRLCK, 2 * LOCKS_MAX + 2, 1).unwrap();
    });
}

#[test]
fn who_asks_is_told_which_lock_is_in_the_way() {
    on_two_mounts(|a, b| {
        let scratch = tempfile::tempdir().unwrap();
        let mut holder = holder(scratch.path(), &a.join("f"));
        // The process is told on its own mount; on another its number would mean nothing.
        for (mount, process) in [(a, holder.pid().as_raw()), (b, 0)] {
            let found = in_the_way(&open(mount, "f"));
            assert_eq!(i32::from(found.l_type), libc::F_WRLCK);
            assert_eq!((found.l_start, found.l_len), (0, 0));
            assert_eq!(found.l_pid, process);
        }
        holder.kill();
        let one = open(a, "f");
        try_lock(&one, libc::F_RDLCK, 3, 4).unwrap();
        let found = in_the_way(&open(b, "f"));
        assert_eq!(i32::from(found.l_type), libc::F_RDLCK);
        assert_eq!((found.l_start, found.l_len), (3, 4));
        unlock(&one, 0, 0);
        let found = in_the_way(&open(b, "f"));
        assert_eq!(i32::from(found.l_type), libc::F_UNLCK);
    });
}

#[test]
fn a_process_gives_up_its_record_locks_with_any_descriptor_of_the_file() {
    on_two_mounts(|a, b| {
        let (one, two) = (open(a, "f"), open(b, "f"));
        try_lock(&one, libc::F_WRLCK, 0, 0).unwrap();
        assert_eq!(try_lock(&two, libc::F_RDLCK, 0, 1), Err(Errno::EAGAIN));
        drop(File::open(a.join("f")).unwrap());
        try_lock(&two, libc::F_WRLCK, 0, 1).unwrap();
        drop(two);
        try_lock(&one, libc::F_WRLCK, 0, 0).unwrap();
    });
}

#[test]
fn locks_of_a_killed_process_are_free() {
    on_two_mounts(|a, b| {
        let scratch = tempfile::tempdir().unwrap();
        let mut holder = holder(scratch.path(), &a.join("f"));
        let two = open(b, "f");
        assert_eq!(try_lock(&two, libc::F_WRLCK, 0, 1), Err(Errno::EAGAIN));
        holder.kill();
        within(FREE_DEADLINE, "the lock of a killed process", move || {
            wait_lock(&two, libc::F_WRLCK, 0, 1)
        })
        .unwrap();
    });
}

#[test]
fn locks_of_a_killed_mount_are_free_within_the_lease_time() {
    with_cluster(|cluster| {
        let (mut first, second) = two_mounts(cluster);
        let one = open(&first, "f");
        try_lock(&one, libc::F_WRLCK, 0, 0).unwrap();
        let two = open(&second, "f");
        assert_eq!(try_lock(&two, libc::F_WRLCK, 0, 1), Err(Errno::EAGAIN));
        first.process().kill();
        within(FREE_DEADLINE, "the lock of a killed mount", move || {
            wait_lock(&two, libc::F_WRLCK, 0, 1)
        })
        .unwrap();
        drop(one);
        second.finish();
    });
}

#[test]
fn a_handle_whose_locks_were_lost_is_eio_until_it_is_closed() {
    with_cluster(|cluster| {
        let (mut first, second) = two_mounts(cluster);
        let (locked, other) = (open(&first, "f"), open(&first, "g"));
        let reader = File::open(first.join("f")).unwrap();
        // What the other mount has seen is not lost with the session.
        assert_eq!(fs::read(second.join("g")).unwrap(), b"");
        try_lock(&locked, libc::F_WRLCK, 0, 0).unwrap();
        first.expect_in_log("session with the metadata server lost");
        first.process().freeze();
        let two = open(&second, "f");
        let granted = within(FREE_DEADLINE, "the lock of a frozen mount", || {
            wait_lock(&two, libc::F_WRLCK, 0, 0).map(|()| two)
        });
        let two = granted.unwrap();
        two.write_all_at(b"CONTENT", 0).unwrap();
        first.process().thaw();
        // Whatever it is asked for before it knows is answered when it knows.
        until(FREE_DEADLINE, "the mount to know", || {
            let told = locked
                .read_at(&mut [0], 0)
                .map_err(|error| errno_of(&error));
            assert!(matches!(told, Ok(1) | Err(Errno::EIO)), "{told:?}");
            told.is_err()
        });
        assert_eq!(
            locked.write_at(b"x", 0).map_err(|error| errno_of(&error)),
            Err(Errno::EIO)
        );
        assert_eq!(try_lock(&locked, libc::F_WRLCK, 0, 0), Err(Errno::EIO));
        assert_eq!(nix::unistd::fsync(&locked), Err(Errno::EIO));
        // The program may be the same, so that every descriptor of the file is.
        let told = reader
            .read_at(&mut [0], 0)
            .map_err(|error| errno_of(&error));
        assert_eq!(told, Err(Errno::EIO));
        // A file without locks, and the same file opened anew, are as they should be.
        until(FREE_DEADLINE, "the next session", || {
            other.write_all_at(b"x", 0).is_ok()
        });
        assert_eq!(fs::read(first.join("f")).unwrap(), b"CONTENT");
        let anew = open(&first, "f");
        assert_eq!(try_lock(&anew, libc::F_WRLCK, 0, 0), Err(Errno::EAGAIN));
        drop((locked, reader, two));
        try_lock(&anew, libc::F_WRLCK, 0, 0).unwrap();
        drop((anew, other));
        first.finish();
        second.finish();
    });
}

#[test]
fn locks_of_open_files_belong_to_the_open_file() {
    on_two_mounts(|a, b| {
        let (one, two, third) = (open(a, "f"), open(b, "f"), open(a, "f"));
        let set = |file: &File, kind| {
            let lock = range(kind, 0, 0);
            fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).map(drop)
        };
        set(&one, libc::F_WRLCK).unwrap();
        // Not even its own process has it through another descriptor.
        for other in [&two, &third] {
            assert_eq!(set(other, libc::F_RDLCK), Err(Errno::EAGAIN));
            assert_eq!(try_lock(other, libc::F_RDLCK, 0, 0), Err(Errno::EAGAIN));
        }
        let shared = one.try_clone().unwrap();
        drop(one);
        assert_eq!(set(&two, libc::F_RDLCK), Err(Errno::EAGAIN));
        drop(shared);
        // Soon after the last close: the kernel tells of that behind it.
        until(FREE_DEADLINE, "the lock of a closed file", || {
            set(&two, libc::F_WRLCK).is_ok()
        });
        drop(third);
    });
}

#[test]
fn flock_keeps_others_out_on_every_mount() {
    on_two_mounts(|a, b| {
        let (one, two, third) = (open(a, "f"), open(b, "f"), open(a, "f"));
        one.try_lock().unwrap();
        for other in [&two, &third] {
            assert!(matches!(
                other.try_lock_shared(),
                Err(TryLockError::WouldBlock)
            ));
            assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        }
        // fcntl's locks are others, and closing another descriptor frees none of these.
        try_lock(&two, libc::F_WRLCK, 0, 0).unwrap();
        drop(third);
        assert!(two.try_lock().is_err());
        one.try_lock_shared().unwrap();
        two.try_lock_shared().unwrap();
        one.unlock().unwrap();
        two.try_lock().unwrap();
        let shared = two.try_clone().unwrap();
        drop(two);
        assert!(one.try_lock().is_err());
        drop(shared);
        // Soon after the last close: the kernel tells of that behind it.
        until(FREE_DEADLINE, "the lock of a closed file", || {
            one.try_lock().is_ok()
        });
    });
}

#[test]
fn flock_waits_until_the_other_mount_unlocks() {
    on_two_mounts(|a, b| {
        let one = open(a, "f");
        one.lock().unwrap();
        let two = open(b, "f");
        let waiter = waiting(libc::SYS_flock, move || two.lock().map(|()| two));
        assert!(!waiter.is_finished());
        one.unlock().unwrap();
        let two = within(FREE_DEADLINE, "a granted lock", || waiter.join().unwrap());
        assert!(one.try_lock_shared().is_err());
        drop(two);
    });
}

#[test]
fn a_killed_process_waits_for_no_lock_and_gets_none() {
    on_two_mounts(|a, b| {
        let one = open(a, "f");
        try_lock(&one, libc::F_WRLCK, 0, 0).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let mut waiter = python_locker(scratch.path(), &b.join("f"));
        await_call(&waiter.pid().to_string(), libc::SYS_fcntl);
        assert_eq!(waiter.ended(), None);
        let begun = Instant::now();
        waiter.kill();
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        unlock(&one, 0, 0);
        try_lock(&open(b, "f"), libc::F_WRLCK, 0, 0).unwrap();
        assert!(!waiter.log().contains("locked"));
    });
}

#[test]
fn a_signal_ends_the_wait_for_a_lock() {
    on_two_mounts(|a, b| {
        let one = open(a, "f");
        try_lock(&one, libc::F_WRLCK, 0, 0).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let mut waiter = python_locker(scratch.path(), &b.join("f"));
        await_call(&waiter.pid().to_string(), libc::SYS_fcntl);
        waiter.signal(Signal::SIGUSR1);
        until(FREE_DEADLINE, "the signal to be handled", || {
            waiter.log().contains("signalled")
        });
        // It has the file open still, and waits for nothing.
        unlock(&one, 0, 0);
        let two = open(b, "f");
        try_lock(&two, libc::F_WRLCK, 0, 0).unwrap();
        assert!(!waiter.log().contains("locked"));
        waiter.kill();
    });
}

#[test]
fn a_wait_for_a_lock_ends_when_the_metadata_server_is_gone() {
    with_cluster(|cluster| {
        for words in ["metadata", "unavailable", "lost", "server"] {
            cluster.expect_in_logs(words);
        }
        let (first, second) = two_mounts(cluster);
        let (one, two) = (open(&first, "f"), open(&second, "f"));
        try_lock(&one, libc::F_WRLCK, 0, 0).unwrap();
        let waiter = waiting(libc::SYS_fcntl, move || {
            wait_lock(&two, libc::F_WRLCK, 0, 0)
        });
        let begun = Instant::now();
        cluster.metadata().process().freeze();
        let told = within(3 * FREE_DEADLINE, "an errno", || waiter.join().unwrap());
        assert_eq!(told, Err(Errno::EIO));
        assert!(begun.elapsed() < FREE_DEADLINE, "{:?}", begun.elapsed());
        cluster.metadata().process().thaw();
        // Whoever was told that it has no lock has none.
        until(2 * FREE_DEADLINE, "the server to serve again", || {
            let anew = File::options().read(true).write(true).open(first.join("f"));
            anew.is_ok_and(|anew| try_lock(&anew, libc::F_WRLCK, 0, 0).is_ok())
        });
        drop(one);
        first.finish();
        second.finish();
    });
}

#[test]
fn sqlite_counts_on_two_mounts_without_loss() {
    on_two_mounts(|a, b| {
        let script = "import sqlite3, sys\n\
            path, times = sys.argv[1], int(sys.argv[2])\n\
            db = sqlite3.connect(path, timeout=60, isolation_level=None)\n\
            db.execute('pragma journal_mode=delete')\n\
            for _ in range(times):\n\
            \x20   db.execute('begin immediate')\n\
            \x20   (n,) = db.execute('select n from counter').fetchone()\n\
            \x20   db.execute('update counter set n = ?', (n + 1,))\n\
            \x20   db.execute('commit')\n";
        let python = |script: &str| {
            let mut command = Command::new("python3");
            command.args(["-c", script]);
            command
        };
        let make = "import sqlite3, sys\n\
            db = sqlite3.connect(sys.argv[1])\n\
            db.execute('create table counter (n integer)')\n\
            db.execute('insert into counter values (0)')\n\
            db.commit()";
        let made = python(make).arg(a.join("db")).status().unwrap();
        assert!(made.success());
        let counters = [a, b].map(|mount| {
            let mut command = python(script);
            command.arg(mount.join("db")).arg((COUNTED / 2).to_string());
            command.spawn().unwrap()
        });
        for mut counter in counters {
            let ended = within(Duration::from_secs(120), "counting", move || counter.wait());
            assert!(ended.unwrap().success());
        }
        let read = "import sqlite3, sys\n\
            print(sqlite3.connect(sys.argv[1]).execute('select n from counter').fetchone()[0])";
        for mount in [a, b] {
            let told = python(read).arg(mount.join("db")).output().unwrap();
            std::io::stderr().write_all(&told.stderr).unwrap();
            let told = String::from_utf8(told.stdout).unwrap();
            assert_eq!(told.trim(), COUNTED.to_string());
        }
    });
}
