//! Many threads on two mounts at once: nothing hangs, nothing unheard of, both mounts agree in the
//! end, and nothing is leaked.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    sync::Mutex,
    thread,
    time::Duration,
};

use nix::errno::Errno;
use pocket_tests::{
    differential::{Focus, Operation, Outcome, Subject, World, generate},
    until, with_cluster, within,
};

const THREADS: u64 = 6;
const STEPS: usize = 1500;
/// All threads together; a minute is many times what they need.
const DEADLINE: Duration = Duration::from_secs(60);

const FOCUS: Focus = Focus {
    actors: 1,
    block_bytes: 16 << 10,
    local: false,
};

/// What random operations on few names come to when they work. EIO and its like are not among
/// them. ESTALE is, but seldom: a directory on the path was removed on the other mount, and again
/// while the kernel walked the path a second time.
const USUAL: [Errno; 16] = [
    Errno::EACCES,
    Errno::EBADF,
    Errno::EEXIST,
    Errno::EINVAL,
    Errno::EISDIR,
    Errno::ELOOP,
    Errno::ENODATA,
    Errno::ENODEV,
    Errno::ENOENT,
    Errno::ENOTDIR,
    Errno::ENOTEMPTY,
    Errno::ENXIO,
    Errno::EPERM,
    Errno::ESPIPE,
    Errno::EAGAIN,
    Errno::ESTALE,
];

#[test]
fn random_work_of_many_threads_on_two_mounts_leaves_a_sound_job() {
    with_cluster(|cluster| {
        let first = cluster.mount_with("stress", &["--block-size", "16KiB"]);
        let second = cluster.mount("stress");
        let root = |index: u64| match index % 2 {
            0 => first.join("work"),
            _ => second.join("work"),
        };
        fs::create_dir(root(0)).unwrap();
        let roots: Vec<_> = (0..THREADS).map(root).collect();
        let unusual = within(DEADLINE, "random work", move || work(&roots));
        assert_eq!(unusual, BTreeMap::new());
        let mut worlds = [root(0), root(1)].map(|root| World::new(vec![root]));
        let [one, other] = worlds.each_mut().map(|world| world.tree(0));
        assert!(!one.is_empty());
        for (path, node) in &one {
            assert_eq!(Some(node), other.get(path), "'{path}'");
        }
        assert_eq!(one.len(), other.len());
        let emptied = second.join("work");
        within(DEADLINE, "rm -r", move || fs::remove_dir_all(emptied)).unwrap();
        assert_eq!(fs::read_dir(first.path()).unwrap().count(), 0);
        until(DEADLINE, "names and space to be given back", || {
            let jobs = cluster.control().jobs().unwrap();
            jobs.iter()
                .all(|job| (job.inodes, job.used_bytes) == (1, 0))
        });
        until(DEADLINE, "the blocks to be dropped", || {
            let servers = cluster.control().servers().unwrap();
            let usages = servers.iter().filter_map(|server| server.usage);
            usages.map(|usage| usage.used_bytes).sum::<u64>() == 0
        });
        first.finish();
        second.finish();
    });
}

/// Applies a plan on each root at the same time; counts the errnos that are not usual.
fn work(roots: &[std::path::PathBuf]) -> BTreeMap<String, usize> {
    let unusual = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for (seed, root) in (0..).zip(roots) {
            let unusual = &unusual;
            scope.spawn(move || {
                let mut world = World::new(vec![root.clone()]);
                let plan = generate(seed, STEPS, FOCUS).into_iter();
                let plan = plan.filter(|step| step.operation != Operation::CompareTrees);
                for step in plan {
                    if let Outcome::Failed(errno) = world.apply(&step)
                        && !USUAL.contains(&errno)
                    {
                        let operation = format!("{:?}", step.operation);
                        let name = operation.split(' ').next().unwrap_or_default();
                        let mut unusual = unusual.lock().unwrap();
                        *unusual.entry(format!("{name}: {errno}")).or_default() += 1;
                    }
                }
            });
        }
    });
    unusual.into_inner().unwrap()
}

const CUT_ROUNDS: usize = 40;
const APPENDS: usize = 25;
const LINE: &[u8] = b"a line of a log that others cut\n";

/// `> log` on one mount while programs of both append to it.
#[test]
fn a_file_cut_on_one_mount_beside_appends_of_both_holds_whole_lines_only() {
    with_cluster(|cluster| {
        let mounts = [cluster.mount("cuts"), cluster.mount("cuts")];
        let logs = mounts.each_ref().map(|mount| mount.join("log"));
        fs::write(&logs[0], LINE).unwrap();
        within(DEADLINE, "cuts beside appends", move || {
            for _ in 0..CUT_ROUNDS {
                thread::scope(|scope| {
                    for log in &logs {
                        scope.spawn(|| append_lines(log));
                    }
                    scope.spawn(|| cut(&logs[0]));
                });
                let content = fs::read(&logs[1]).unwrap();
                let whole = content.chunks(LINE.len()).all(|line| line == LINE);
                assert!(whole, "{:?}", String::from_utf8_lossy(&content));
                assert_eq!(fs::read(&logs[0]).unwrap(), content);
            }
        });
    });
}

fn append_lines(log: &Path) {
    let mut log = OpenOptions::new().append(true).open(log).unwrap();
    for _ in 0..APPENDS {
        log.write_all(LINE).unwrap();
    }
}

fn cut(log: &Path) {
    let log = OpenOptions::new().write(true).open(log).unwrap();
    for _ in 0..APPENDS / 5 {
        log.set_len(0).unwrap();
    }
}
