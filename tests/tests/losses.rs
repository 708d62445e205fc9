//! Storage servers that are paused and killed under writers and readers: what was acknowledged and
//! is not on a killed server reads back whole, what was on it is EIO, and nobody ever reads
//! anything else. What jobs hold is what servers hold after every step.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use nix::errno::Errno;
use pocket_tests::{
    Mount, ProcessCluster, Shape, content, errno_of, get_xattr, try_until, until, with_cluster,
    with_shape,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

const BLOCK_BYTES: usize = 64 << 10;
const FILE_BYTES_MAX: usize = 8 * BLOCK_BYTES;
/// Steps of each worker between two events.
const STEPS: u64 = 40;
/// Files that a worker has at a time, at most.
const FILES: usize = 40;
/// Every step ends in the time that a lost block may take, and a writer may meet several.
const STEPS_DEADLINE: Duration = Duration::from_secs(120);
/// A server that is back is used again, and its blocks are read, within this.
const BACK_DEADLINE: Duration = Duration::from_secs(20);

/// A file that was written, synchronised and closed without an error.
#[derive(Clone, Debug)]
struct Acknowledged {
    name: String,
    content: usize,
    length: usize,
}

impl Acknowledged {
    fn bytes(&self) -> Vec<u8> {
        content(self.content, self.length)
    }

    fn blocks(&self) -> usize {
        self.length.div_ceil(BLOCK_BYTES)
    }
}

/// Writes new files through one of two mounts, reads older ones through the other, and removes some.
struct Worker {
    stop: Arc<AtomicBool>,
    steps: Arc<AtomicU64>,
    thread: JoinHandle<Vec<Acknowledged>>,
}

impl Worker {
    /// `lossy`: a server may be away, so that EIO is an answer.
    fn start(name: String, seed: u64, roots: [PathBuf; 2], lossy: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let steps = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&steps));
        let thread = std::thread::spawn(move || {
            let mut dice = StdRng::seed_from_u64(seed);
            let mut files: Vec<Acknowledged> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let step = count.fetch_add(1, Ordering::Relaxed);
                let writer = dice.random_range(0..2);
                let file = Acknowledged {
                    name: format!("{name}-{step}"),
                    content: dice.random_range(0..1 << 20),
                    length: dice.random_range(1..FILE_BYTES_MAX),
                };
                match write(&roots[writer].join(&file.name), &file.bytes()) {
                    Ok(()) => files.push(file),
                    Err(error) => {
                        assert!(lossy && errno_of(&error) == Errno::EIO, "{error}");
                        fs::remove_file(roots[writer].join(&file.name)).unwrap();
                    }
                }
                if files.len() > FILES {
                    let gone = files.swap_remove(dice.random_range(0..FILES));
                    fs::remove_file(roots[writer].join(gone.name)).unwrap();
                }
                if files.is_empty() {
                    continue;
                }
                let file = &files[dice.random_range(0..files.len())];
                match fs::read(roots[1 - writer].join(&file.name)) {
                    Ok(found) => assert!(found == file.bytes(), "{file:?} is wrong"),
                    Err(error) => {
                        assert!(lossy && errno_of(&error) == Errno::EIO, "{file:?}: {error}");
                    }
                }
            }
            files
        });
        Worker {
            stop,
            steps,
            thread,
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The job under load, and all that was acknowledged of it.
struct Load {
    mounts: [Mount; 2],
    files: Vec<Acknowledged>,
    rounds: u64,
}

impl Load {
    fn new(cluster: &mut ProcessCluster) -> Self {
        let block = BLOCK_BYTES.to_string();
        let hints = ["--capacity", "256MiB", "--block-size", &block];
        Load {
            mounts: [(); 2].map(|()| cluster.mount_with("lossy", &hints)),
            files: Vec::new(),
            rounds: 0,
        }
    }

    /// Both workers at work, before `event` and after it.
    #[track_caller]
    fn around(&mut self, lossy: bool, event: impl FnOnce()) {
        self.rounds += 1;
        let roots = [0, 1].map(|index: usize| self.mounts[index].path().to_owned());
        let workers = [0, 1].map(|number| {
            let name = format!("{}-{number}", self.rounds);
            Worker::start(name, self.rounds * 2 + number, roots.clone(), lossy)
        });
        let go_on = || {
            for worker in &workers {
                let goal = worker.steps.load(Ordering::Relaxed) + STEPS;
                until(STEPS_DEADLINE, "a worker to go on", || {
                    worker.steps.load(Ordering::Relaxed) >= goal || worker.thread.is_finished()
                });
                assert!(!worker.thread.is_finished(), "a worker has failed");
            }
        };
        go_on();
        event();
        go_on();
        for worker in workers {
            worker.stop.store(true, Ordering::Relaxed);
            self.files.extend(worker.thread.join().unwrap());
        }
    }

    /// Every block of every file, as a mount that has seen none of them reads it: right, or EIO.
    /// Those that are EIO.
    #[track_caller]
    fn lost_blocks(&self, cluster: &mut ProcessCluster) -> HashSet<(String, usize)> {
        let judge = cluster.mount("lossy");
        let mut lost = HashSet::new();
        for file in &self.files {
            let (whole, open) = (file.bytes(), File::open(judge.join(&file.name)).unwrap());
            assert_eq!(open.metadata().unwrap().len(), whole.len() as u64);
            for (block, expected) in whole.chunks(BLOCK_BYTES).enumerate() {
                let mut found = vec![0; expected.len()];
                match open.read_exact_at(&mut found, (block * BLOCK_BYTES) as u64) {
                    Ok(()) => assert!(found == expected, "block {block} of {file:?} is wrong"),
                    Err(error) => {
                        assert_eq!(errno_of(&error), Errno::EIO);
                        lost.insert((file.name.clone(), block));
                    }
                }
            }
        }
        judge.finish();
        lost
    }

    /// The blocks that the layouts say are on the server at `endpoint`.
    fn blocks_on(&self, endpoint: &str) -> HashSet<(String, usize)> {
        let mut blocks = HashSet::new();
        for file in &self.files {
            let path = self.mounts[0].join(&file.name);
            let layout = get_xattr(&path, "user.pocket.layout").unwrap();
            let layout = String::from_utf8(layout).unwrap();
            let mut described = 0;
            // After a line of figures: "first-last endpoint tier".
            for line in layout.lines().skip(1) {
                let words: Vec<&str> = line.split_whitespace().collect();
                let (first, last) = words[0].split_once('-').unwrap();
                let run = first.parse::<usize>().unwrap()..=last.parse().unwrap();
                described += run.clone().count();
                if words[1] == endpoint {
                    blocks.extend(run.map(|block| (file.name.clone(), block)));
                }
            }
            assert_eq!(described, file.blocks(), "{layout}");
        }
        blocks
    }
}

#[test]
fn what_was_acknowledged_is_whole_or_eio_while_servers_are_paused_and_killed() {
    let shape = Shape {
        storage_servers: 3,
        storage_capacity: "256MiB",
        ..Shape::default()
    };
    with_shape(shape, |cluster| {
        cluster.expect_loss();
        let mut load = Load::new(cluster);
        load.around(false, || ());
        cluster.check_account(|bytes| bytes > 0);

        // A pause that everybody notices loses nothing.
        load.around(true, || cluster.storage(0).process().freeze());
        cluster.storage(0).process().thaw();
        let back = try_until(BACK_DEADLINE, || {
            load.lost_blocks(cluster).is_empty().then_some(())
        });
        assert!(back.is_some(), "{:?}", load.lost_blocks(cluster));
        cluster.check_account(|bytes| bytes > 0);

        // A death loses what was on the server, and nothing else.
        let endpoint = cluster.storage(1).endpoint().to_owned();
        load.around(true, || cluster.storage(1).kill());
        let lost = load.lost_blocks(cluster);
        assert_eq!(lost, load.blocks_on(&endpoint));
        assert!(!lost.is_empty(), "the server held something");

        // It comes back with nothing: what is lost stays so, and it is used again.
        load.around(true, || cluster.storage(1).restart());
        until(BACK_DEADLINE, "the new server to be used", || {
            cluster.storage_used(1) > 0 || {
                load.around(true, || ());
                false
            }
        });
        assert_eq!(load.lost_blocks(cluster), lost);

        for file in &load.files {
            fs::remove_file(load.mounts[0].join(&file.name)).unwrap();
        }
        cluster.check_account(|bytes| bytes == 0);
        let [first, second] = load.mounts;
        first.finish();
        second.finish();
    });
}

/// The bytes of a file that are not 0, by where they are.
fn data_in(path: &Path) -> Vec<(usize, u8)> {
    let found = fs::read(path).unwrap();
    let data = found.into_iter().enumerate().filter(|(_, byte)| *byte != 0);
    data.collect()
}

#[test]
fn what_was_cut_while_a_server_was_away_stays_cut_when_it_is_back() {
    with_cluster(|cluster| {
        cluster.expect_loss();
        let block = BLOCK_BYTES.to_string();
        let hints = ["--block-size", &block];
        let mounts = [(); 2].map(|()| cluster.mount_with("cut", &hints));
        const FILES: usize = 8;
        let name = |number: usize| format!("f{number}");
        let length = 16 * BLOCK_BYTES as u64;
        for number in 0..FILES {
            let path = mounts[0].join(name(number));
            write(&path, &vec![1; length as usize]).unwrap();
        }
        cluster.check_account(|bytes| bytes == length * FILES as u64);
        cluster.storage(0).process().freeze();
        let alive = |cluster: &ProcessCluster| cluster.storage_status(0).is_some_and(|s| s.alive);
        until(BACK_DEADLINE, "the server to be missed", || !alive(cluster));
        for number in 0..FILES {
            let path = mounts[number % 2].join(name(number));
            let file = File::options().write(true).open(path).unwrap();
            // Half are cut within a block and made longer again, half are removed.
            match number < FILES / 2 {
                true => {
                    file.set_len(1).unwrap();
                    file.set_len(length).unwrap();
                }
                false => fs::remove_file(mounts[1].join(name(number))).unwrap(),
            }
        }
        cluster.storage(0).process().thaw();
        until(BACK_DEADLINE, "the server to be back", || alive(cluster));
        for mount in &mounts {
            for number in 0..FILES / 2 {
                let path = mount.join(name(number));
                until(BACK_DEADLINE, "its blocks to be data", || {
                    fs::read(&path).is_ok()
                });
                let data = data_in(&path);
                assert!(data == [(0, 1)], "{number}: {} bytes are there", data.len());
            }
        }
        for number in 0..FILES / 2 {
            fs::remove_file(mounts[0].join(name(number))).unwrap();
        }
        // Nothing of what was removed meanwhile is held.
        cluster.check_account(|bytes| bytes == 0);
        mounts.into_iter().for_each(Mount::finish);
    });
}
