//! Storage servers that come and go under readers and writers: nothing is lost, nothing lingers.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use pocket_proto::control::LeaveStage;
use pocket_tests::{Mount, ProcessCluster, Shape, content, get_xattr, until, with_shape};
use rand::{Rng, SeedableRng, rngs::StdRng};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// How long a server may take to leave: several heartbeats, and what it holds is little.
const LEAVE_DEADLINE: Duration = Duration::from_secs(20);
/// Contract: a new server takes new blocks within this.
const JOIN_DEADLINE: Duration = Duration::from_secs(2);
/// Figures of jobs and servers come with heartbeats.
const ACCOUNT_DEADLINE: Duration = Duration::from_secs(10);

fn shape(storage_servers: usize) -> Shape {
    Shape {
        storage_servers,
        storage_capacity: "256MiB",
        ..Shape::default()
    }
}

fn run(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{errors}");
    text
}

fn drain(cluster: &mut ProcessCluster, index: usize, options: &[&str]) {
    let endpoint = endpoint(cluster, index);
    run(cluster.command(&[&["node", "drain", &endpoint], options].concat()));
}

fn endpoint(cluster: &mut ProcessCluster, index: usize) -> String {
    cluster.storage(index).endpoint().to_owned()
}

/// Waits until a server that was drained has ended, in order.
#[track_caller]
fn wait_gone(cluster: &mut ProcessCluster, index: usize) {
    let ended = cluster.storage(index).process().wait(LEAVE_DEADLINE);
    assert!(ended.success(), "{ended}");
    assert!(
        cluster.storage_status(index).is_none(),
        "it is not listed as dead"
    );
}

/// Reads and writes files of its own through two mounts until it is stopped, and checks every byte.
struct Worker {
    stop: Arc<AtomicBool>,
    steps: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn start(number: u64, roots: [PathBuf; 2]) -> Self {
        let (stop, steps) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&steps));
        let thread = std::thread::spawn(move || {
            let mut files = Files::new(number, roots);
            while !stopped.load(Ordering::Relaxed) {
                files.step();
                count.fetch_add(1, Ordering::Relaxed);
            }
            files.check_all();
        });
        Worker {
            stop,
            steps,
            thread,
        }
    }

    /// Waits until it has done so many more steps: what was changed meanwhile was in use.
    #[track_caller]
    fn go_on(&self, steps: u64) {
        let goal = self.steps.load(Ordering::Relaxed) + steps;
        until(Duration::from_secs(60), "a worker to go on", || {
            self.steps.load(Ordering::Relaxed) >= goal || self.thread.is_finished()
        });
        assert!(!self.thread.is_finished(), "a worker has failed");
    }

    #[track_caller]
    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

const FILES: usize = 12;
const FILE_BYTES_MAX: usize = 3 * MIB;

/// A worker's files, with what they should hold.
struct Files {
    roots: [PathBuf; 2],
    names: Vec<String>,
    expected: Vec<Option<Vec<u8>>>,
    dice: StdRng,
    /// Stays open all the time.
    held: File,
    held_expected: Vec<u8>,
}

impl Files {
    fn new(number: u64, roots: [PathBuf; 2]) -> Self {
        let names = (0..FILES).map(|file| format!("w{number}-{file}"));
        let held_expected = content(number as usize + 1_000, 2 * MIB);
        let path = roots[0].join(format!("w{number}-held"));
        fs::write(&path, &held_expected).unwrap();
        Files {
            names: names.collect(),
            expected: vec![None; FILES],
            dice: StdRng::seed_from_u64(number),
            held: File::options().read(true).write(true).open(path).unwrap(),
            held_expected,
            roots,
        }
    }

    fn step(&mut self) {
        let file = self.dice.random_range(0..FILES);
        let path = self.roots[self.dice.random_range(0..2)].join(&self.names[file]);
        let kind = match self.expected[file] {
            None => 0,
            Some(_) => self.dice.random_range(0..6),
        };
        let length = self.dice.random_range(1..FILE_BYTES_MAX);
        match kind {
            0 => {
                let data = content(self.dice.random_range(0..1 << 20), length);
                fs::write(&path, &data).unwrap();
                self.expected[file] = Some(data);
            }
            1 => {
                let (at, piece) = self.piece();
                let open = File::options().write(true).open(&path).unwrap();
                open.write_all_at(&piece, at as u64).unwrap();
                lay_over(self.expected[file].as_mut().unwrap(), at, &piece);
            }
            2 => {
                let open = File::options().write(true).open(&path).unwrap();
                open.set_len(length as u64).unwrap();
                self.expected[file].as_mut().unwrap().resize(length, 0);
            }
            3 => {
                fs::remove_file(&path).unwrap();
                self.expected[file] = None;
            }
            4 => {
                let (at, piece) = self.piece();
                self.held.write_all_at(&piece, at as u64).unwrap();
                lay_over(&mut self.held_expected, at, &piece);
                self.check_held();
            }
            _ => self.check(file, &path),
        }
    }

    fn piece(&mut self) -> (usize, Vec<u8>) {
        let at = self.dice.random_range(0..2 * MIB);
        let length = self.dice.random_range(1..300 * KIB);
        (at, content(self.dice.random_range(0..1 << 20), length))
    }

    #[track_caller]
    fn check(&self, file: usize, path: &Path) {
        let found = fs::read(path).unwrap();
        let expected = self.expected[file].as_ref().unwrap();
        let differ = found.iter().zip(expected).position(|(a, b)| a != b);
        assert_eq!(found.len(), expected.len(), "{}", path.display());
        assert_eq!(differ, None, "{} is wrong there", path.display());
    }

    #[track_caller]
    fn check_held(&self) {
        let mut found = vec![0; self.held_expected.len()];
        self.held.read_exact_at(&mut found, 0).unwrap();
        assert!(found == self.held_expected, "the open file is wrong");
    }

    #[track_caller]
    fn check_all(&self) {
        self.check_held();
        for root in &self.roots {
            for file in (0..FILES).filter(|&file| self.expected[file].is_some()) {
                self.check(file, &root.join(&self.names[file]));
            }
        }
    }
}

fn lay_over(whole: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if whole.len() < at + piece.len() {
        whole.resize(at + piece.len(), 0);
    }
    whole[at..at + piece.len()].copy_from_slice(piece);
}

fn two_mounts(cluster: &mut ProcessCluster, job: &str) -> ([Mount; 2], [PathBuf; 2]) {
    let hint = &["--capacity", "200MiB"];
    let mounts = [cluster.mount_with(job, hint), cluster.mount_with(job, hint)];
    let roots = [0, 1].map(|index: usize| mounts[index].path().to_owned());
    (mounts, roots)
}

#[test]
fn a_new_storage_server_takes_new_blocks_within_two_seconds() {
    with_shape(shape(1), |cluster| {
        let mount = cluster.mount("joined");
        fs::write(mount.join("before"), content(0, MIB)).unwrap();
        let new = cluster.add_storage("256MiB");
        let mut number = 0;
        let taken = until(Duration::from_secs(10), "the new server to be used", || {
            number += 1;
            fs::write(mount.join(format!("f{number}")), content(number, 64 * KIB)).unwrap();
            cluster.storage_used(new) > 0
        });
        // The server says what it holds a second later.
        assert!(taken < JOIN_DEADLINE + Duration::from_secs(1), "{taken:?}");
        mount.finish();
    });
}

#[test]
fn a_drained_server_hands_its_blocks_over_and_ends() {
    with_shape(shape(2), |cluster| {
        let ([writer, reader], _) = two_mounts(cluster, "moved");
        for number in 0..24 {
            let length = (number + 1) * 100 * KIB;
            fs::write(writer.join(format!("f{number}")), content(number, length)).unwrap();
        }
        // Read by the other mount, so that it knows layouts that become old.
        let open: Vec<File> = (0..24)
            .map(|number| File::open(reader.join(format!("f{number}"))).unwrap())
            .collect();
        let sparse = File::create(writer.join("sparse")).unwrap();
        sparse.set_len(64 * MIB as u64).unwrap();
        sparse.write_all_at(b"x", 33 * MIB as u64).unwrap();
        // 24 files of up to 2400 KiB.
        cluster.check_account(|bytes| bytes > 24 * 1200 * KIB as u64);
        assert!(cluster.storage_used(0) > 0);

        let (gone, left) = (endpoint(cluster, 0), endpoint(cluster, 1));
        let layout = || {
            let told = get_xattr(&reader.join("f23"), "user.pocket.layout").unwrap();
            String::from_utf8(told).unwrap()
        };
        assert!(layout().contains("blocks of 1048576 bytes"), "{}", layout());
        drain(cluster, 0, &["--deadline", "0s"]);
        wait_gone(cluster, 0);
        cluster.check_account(|_| true);
        let told = layout();
        assert!(told.contains(&left) && !told.contains(&gone), "{told}");
        for (number, file) in open.iter().enumerate() {
            let mut found = vec![0; (number + 1) * 100 * KIB];
            file.read_exact_at(&mut found, 0).unwrap();
            assert!(found == content(number, found.len()), "file {number}");
        }
        let holes = fs::read(reader.join("sparse")).unwrap();
        let data = holes.iter().enumerate().filter(|(_, byte)| **byte != 0);
        let data: Vec<_> = data.map(|(at, byte)| (at, *byte)).collect();
        assert_eq!(data, [(33 * MIB, b'x')]);
        // Old and new files are written as ever.
        sparse
            .write_all_at(&content(7, 2 * MIB), 5 * MIB as u64)
            .unwrap();
        fs::write(writer.join("f0"), content(99, 3 * MIB)).unwrap();
        assert!(fs::read(reader.join("f0")).unwrap() == content(99, 3 * MIB));
        drop((open, sparse));
        cluster.check_account(|_| true);
        writer.finish();
        reader.finish();
    });
}

#[test]
fn a_drained_server_that_moves_nothing_waits_until_it_is_empty() {
    with_shape(shape(2), |cluster| {
        let mount = cluster.mount("waits");
        for number in 0..16 {
            fs::write(
                mount.join(format!("old{number}")),
                content(number, 64 * KIB),
            )
            .unwrap();
        }
        cluster.check_account(|bytes| bytes == 16 * 64 * KIB as u64);
        let before = cluster.storage_used(0);
        drain(cluster, 0, &["--no-move"]);
        let stage = |cluster: &mut ProcessCluster| {
            let leave = cluster.storage_status(0).and_then(|server| server.leave);
            leave.map_or(LeaveStage::Stays, |leave| leave.stage())
        };
        assert_eq!(stage(cluster), LeaveStage::Closed);
        for number in 0..16 {
            fs::write(
                mount.join(format!("new{number}")),
                content(number, 64 * KIB),
            )
            .unwrap();
        }
        cluster.check_account(|bytes| bytes == 32 * 64 * KIB as u64);
        assert_eq!(cluster.storage_used(0), before, "new files go elsewhere");
        for number in 0..16 {
            let old = fs::read(mount.join(format!("old{number}"))).unwrap();
            assert!(old == content(number, 64 * KIB));
        }
        // It is seen for what it is, and can be had back.
        assert!(run(cluster.command(&["nodes"])).contains("draining for"));
        let endpoint = endpoint(cluster, 0);
        run(cluster.command(&["node", "undrain", &endpoint]));
        assert_eq!(stage(cluster), LeaveStage::Stays);
        drain(cluster, 0, &["--no-move"]);
        for number in 0..16 {
            fs::remove_file(mount.join(format!("old{number}"))).unwrap();
            fs::remove_file(mount.join(format!("new{number}"))).unwrap();
        }
        wait_gone(cluster, 0);
        fs::write(mount.join("after"), content(1, MIB)).unwrap();
        cluster.check_account(|_| true);
        mount.finish();
    });
}

#[test]
fn the_last_server_and_what_is_none_are_not_drained() {
    with_shape(shape(1), |cluster| {
        let endpoint = endpoint(cluster, 0);
        let metadata = cluster.metadata().endpoint().to_owned();
        for (server, words) in [
            (endpoint.as_str(), "start another one first"),
            (metadata.as_str(), "last metadata server that takes jobs"),
            ("nobody:1", "pocket nodes lists them"),
        ] {
            let output = cluster
                .command(&["node", "drain", server])
                .output()
                .unwrap();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                !output.status.success() && errors.contains(words),
                "{errors}"
            );
        }
    });
}

#[test]
fn a_drained_metadata_server_lets_its_jobs_end_and_ends_itself() {
    with_shape(shape(1), |cluster| {
        let kept = ["--persist", "--ttl", "1h"];
        let kept = cluster.mount_with("kept", &kept);
        fs::write(kept.join("f"), content(1, MIB)).unwrap();
        let running = cluster.mount("running");
        let new = cluster.add_metadata().endpoint().to_owned();
        let old = cluster.metadata().endpoint().to_owned();
        let told = run(cluster.command(&["node", "drain", &old]));
        assert!(
            told.contains("takes no new jobs") && told.contains("after 2 jobs"),
            "{told}"
        );
        let second = cluster.mount("second");
        fs::write(second.join("f"), content(2, MIB)).unwrap();
        let jobs_of = |cluster: &ProcessCluster, endpoint: &str| {
            let servers = cluster.control().servers().unwrap();
            let found = servers
                .into_iter()
                .find(|server| server.endpoint == endpoint);
            found.map(|server| server.jobs)
        };
        assert_eq!(
            (jobs_of(cluster, &old), jobs_of(cluster, &new)),
            (Some(2), Some(1))
        );
        // Its jobs go on, and who mounts them finds them.
        fs::write(running.join("f"), content(3, MIB)).unwrap();
        let beside = cluster.mount("running");
        assert!(fs::read(beside.join("f")).unwrap() == content(3, MIB));
        run(cluster.command(&["node", "undrain", &old]));
        assert!(!run(cluster.command(&["nodes"])).contains("draining"));
        run(cluster.command(&["node", "drain", &old]));
        beside.finish();
        running.finish();
        assert!(cluster.control().deregister("running").unwrap());
        // Nobody has the other one mounted, and it is there all the same.
        kept.finish();
        let nodes = run(cluster.command(&["nodes"]));
        assert!(
            nodes.contains("draining for") && nodes.contains(", 1 job"),
            "{nodes}"
        );
        let again = cluster.mount("kept");
        assert!(fs::read(again.join("f")).unwrap() == content(1, MIB));
        again.finish();
        assert!(cluster.control().deregister("kept").unwrap());
        let ended = cluster.metadata().process().wait(LEAVE_DEADLINE);
        assert!(ended.success(), "{ended}");
        assert_eq!(jobs_of(cluster, &old), None, "it is not listed as dead");
        assert!(fs::read(second.join("f")).unwrap() == content(2, MIB));
        cluster.check_account(|bytes| bytes == MIB as u64);
        second.finish();
    });
}

#[test]
fn nothing_is_lost_while_servers_come_and_go_and_the_controller_dies() {
    with_shape(shape(2), |cluster| {
        for words in ["controller", "unavailable", "still trying"] {
            cluster.expect_in_logs(words);
        }
        let (mounts, roots) = two_mounts(cluster, "busy");
        let workers: Vec<Worker> = (0..2)
            .map(|number| Worker::start(number, roots.clone()))
            .collect();
        let go_on = || workers.iter().for_each(|worker| worker.go_on(30));
        go_on();
        let third = cluster.add_storage("256MiB");
        go_on();
        drain(cluster, 0, &["--deadline", "0s"]);
        go_on();
        wait_gone(cluster, 0);
        go_on();
        // The controller dies in the middle of a drain, and the new one ends it.
        drain(cluster, 1, &["--deadline", "2s"]);
        cluster.controller().restart();
        go_on();
        wait_gone(cluster, 1);
        let fourth = cluster.add_storage("256MiB");
        go_on();
        drain(cluster, third, &["--deadline", "0s"]);
        wait_gone(cluster, third);
        go_on();
        workers.into_iter().for_each(Worker::finish);
        cluster.check_account(|bytes| bytes > 0);
        assert!(cluster.storage_used(fourth) > 0);
        for mount in mounts {
            mount.finish();
        }
        assert!(cluster.control().deregister("busy").unwrap());
        until(ACCOUNT_DEADLINE, "everything to be given back", || {
            cluster.storage_used(fourth) == 0
        });
    });
}
