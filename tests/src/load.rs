//! A job under load by two mounts, and what may be read of it: whatever was acknowledged, or EIO
//! where the server that had it is away. Never zeros, and never older bytes.

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
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{Mount, ProcessCluster, content, errno_of, get_xattr, until};

const BLOCK_BYTES: usize = 64 << 10;
const FILE_BYTES_MAX: usize = 8 * BLOCK_BYTES;
/// Steps of each worker before an event, and behind it.
const STEPS: u64 = 40;
/// Files that a worker has at a time, at most.
const FILES: usize = 40;
/// Files that no worker touches, so that every server has something as long as the job lives.
const KEPT: usize = 40;
/// Every step ends in the time that a lost block may take, and a writer may meet several.
const STEPS_DEADLINE: Duration = Duration::from_secs(120);

/// Blocks of files: name and index.
pub type Blocks = HashSet<(String, usize)>;

/// What the workers may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Success alone.
    Whole,
    /// Also EIO: a server may be away.
    WholeOrEio,
}

/// A job on two mounts, and all of it that was acknowledged.
#[derive(Debug)]
pub struct Load {
    job: String,
    mounts: [Mount; 2],
    /// What the workers go on with.
    files: Vec<Acknowledged>,
    /// What they leave alone.
    kept: Vec<Acknowledged>,
    /// Of that, what was written anew while a server may have been away.
    rewritten: HashSet<String>,
    rounds: u64,
}

impl Load {
    /// Mounts `job` twice, with room for what the workers write.
    pub fn new(cluster: &mut ProcessCluster, job: &str) -> Self {
        Self::with(cluster, job, &[])
    }

    /// As [`Load::new`], with further arguments of `pocket-mount`.
    pub fn with(cluster: &mut ProcessCluster, job: &str, arguments: &[&str]) -> Self {
        let block = BLOCK_BYTES.to_string();
        let hints = ["--capacity", "64MiB", "--block-size", &block];
        let arguments = [&hints, arguments].concat();
        let mounts = [(); 2].map(|()| cluster.mount_with(job, &arguments));
        let kept = (0..KEPT).map(|number| {
            let file = Acknowledged {
                name: format!("kept-{number}"),
                content: number,
                length: (number + 1) * FILE_BYTES_MAX / KEPT,
            };
            let written = file.write(mounts[0].path());
            written.unwrap_or_else(|error| panic!("{file:?}: {error}"));
            file
        });
        Load {
            job: job.to_owned(),
            kept: kept.collect(),
            mounts,
            files: Vec::new(),
            rewritten: HashSet::new(),
            rounds: 0,
        }
    }

    /// The two mounts.
    pub fn mounts(&self) -> &[Mount; 2] {
        &self.mounts
    }

    /// Their directories.
    pub fn roots(&self) -> [PathBuf; 2] {
        self.mounts.each_ref().map(|mount| mount.path().to_owned())
    }

    /// Two workers write, write anew, read and remove files before `event`, meanwhile and behind it:
    /// those of earlier rounds as well, unless a server may be away. What they write then, others
    /// leave alone.
    #[track_caller]
    pub fn around<T>(&mut self, answers: Answers, event: impl FnOnce() -> T) -> T {
        self.rounds += 1;
        let roots = self.roots();
        let mut first = match answers {
            Answers::Whole => std::mem::take(&mut self.files),
            Answers::WholeOrEio => Vec::new(),
        };
        let second = first.split_off(first.len() / 2);
        let mut number = self.rounds * 2;
        let workers = [first, second].map(|files| {
            number += 1;
            Worker::start(number, roots.clone(), answers, files)
        });
        let go_on = || {
            for worker in &workers {
                worker.go_on();
            }
        };
        go_on();
        let outcome = event();
        go_on();
        for worker in workers {
            let (files, rewritten) = worker.finish();
            match answers {
                Answers::Whole => self.files.extend(files),
                Answers::WholeOrEio => {
                    self.kept.extend(files);
                    self.rewritten.extend(rewritten);
                }
            }
        }
        outcome
    }

    /// Reads every block of every file through a mount that has seen none of them: it is what was
    /// acknowledged, or EIO. Those that are EIO.
    #[track_caller]
    pub fn lost_blocks(&self, cluster: &mut ProcessCluster) -> Blocks {
        let judge = cluster.mount(&self.job);
        let mut lost = HashSet::new();
        for file in self.all() {
            let whole = file.bytes();
            let open = File::open(judge.join(&file.name)).expect("names are not on those servers");
            let length = open.metadata().expect("nor are attributes").len();
            assert_eq!(length, whole.len() as u64, "{file:?}");
            for (block, expected) in whole.chunks(BLOCK_BYTES).enumerate() {
                let mut found = vec![0; expected.len()];
                match open.read_exact_at(&mut found, (block * BLOCK_BYTES) as u64) {
                    Ok(()) => assert!(found == expected, "block {block} of {file:?} is wrong"),
                    Err(error) => {
                        assert_eq!(errno_of(&error), Errno::EIO, "{file:?}");
                        lost.insert((file.name.clone(), block));
                    }
                }
            }
        }
        judge.finish();
        lost
    }

    fn all(&self) -> impl Iterator<Item = &Acknowledged> {
        self.files.iter().chain(&self.kept)
    }

    /// The blocks that the layouts say are on the server at `endpoint`.
    pub fn blocks_on(&self, endpoint: &str) -> Blocks {
        let mut blocks = HashSet::new();
        for file in self.all() {
            let layout = get_xattr(&self.mounts[0].join(&file.name), "user.pocket.layout");
            let layout = layout.expect("every file has a layout");
            let layout = String::from_utf8_lossy(&layout);
            let mut described = 0;
            // After a line of figures: "first-last endpoint tier".
            for line in layout.lines().skip(1) {
                let (run, server) = run_of(line).unwrap_or_else(|| panic!("layout {layout}"));
                described += run.clone().count();
                if server == endpoint {
                    blocks.extend(run.map(|block| (file.name.clone(), block)));
                }
            }
            assert_eq!(described, file.length.div_ceil(BLOCK_BYTES), "{layout}");
        }
        blocks
    }

    /// Removes what was written anew while a server may have been away. What such files hold can be
    /// said too high until then.
    pub fn remove_rewritten(&mut self) {
        let rewritten = std::mem::take(&mut self.rewritten);
        self.remove(|file| rewritten.contains(&file.name));
    }

    /// Has workers leave the files of these blocks alone from now on.
    pub fn leave_alone(&mut self, blocks: &Blocks) {
        let names: HashSet<_> = blocks.iter().map(|(name, _)| name).collect();
        let left = self.files.extract_if(.., |file| names.contains(&file.name));
        self.kept.extend(left);
    }

    /// Removes the files of these blocks.
    pub fn remove_files_of(&mut self, blocks: &Blocks) {
        let names: HashSet<_> = blocks.iter().map(|(name, _)| name).collect();
        self.remove(|file| names.contains(&file.name));
    }

    /// Removes every file.
    pub fn remove_files(&mut self) {
        self.remove(|_| true);
    }

    fn remove(&mut self, is_gone: impl Fn(&Acknowledged) -> bool) {
        let root = self.mounts[0].path().to_owned();
        let goes = |file: &mut Acknowledged| {
            let goes = is_gone(file);
            if goes {
                let removed = fs::remove_file(root.join(&file.name));
                removed.unwrap_or_else(|error| panic!("removing {file:?}: {error}"));
            }
            goes
        };
        self.files.extract_if(.., goes).for_each(drop);
        self.kept.extract_if(.., goes).for_each(drop);
    }

    /// Unmounts both mounts; see [`Mount::finish`].
    #[track_caller]
    pub fn finish(self) {
        let [first, second] = self.mounts;
        first.finish();
        second.finish();
    }
}

fn run_of(line: &str) -> Option<(std::ops::RangeInclusive<usize>, &str)> {
    let mut words = line.split_whitespace();
    let (first, last) = words.next()?.split_once('-')?;
    Some((first.parse().ok()?..=last.parse().ok()?, words.next()?))
}

/// A file of which all that was written was synchronised without an error.
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

    /// Writes all of the file, over what is there.
    fn write(&self, root: &Path) -> io::Result<()> {
        let mut options = File::options();
        let open = options.write(true).create(true).truncate(false);
        let mut file = open.open(root.join(&self.name))?;
        file.write_all(&self.bytes())?;
        file.sync_all()
    }
}

/// A thread at work, and how far it is.
struct Worker {
    stop: Arc<AtomicBool>,
    steps: Arc<AtomicU64>,
    thread: JoinHandle<(Vec<Acknowledged>, HashSet<String>)>,
}

impl Worker {
    fn start(number: u64, roots: [PathBuf; 2], answers: Answers, files: Vec<Acknowledged>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let steps = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&steps));
        let thread = std::thread::spawn(move || {
            let mut work = Work {
                number,
                roots,
                answers,
                files,
                rewritten: HashSet::new(),
                dice: StdRng::seed_from_u64(number),
            };
            while !stopped.load(Ordering::Relaxed) {
                work.step(count.fetch_add(1, Ordering::Relaxed));
            }
            (work.files, work.rewritten)
        });
        Worker {
            stop,
            steps,
            thread,
        }
    }

    #[track_caller]
    fn go_on(&self) {
        let goal = self.steps.load(Ordering::Relaxed) + STEPS;
        until(STEPS_DEADLINE, "a worker to go on", || {
            self.steps.load(Ordering::Relaxed) >= goal || self.thread.is_finished()
        });
        assert!(!self.thread.is_finished(), "a worker has failed");
    }

    /// Its files, and the names of those that it wrote anew.
    fn finish(self) -> (Vec<Acknowledged>, HashSet<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a worker has failed")
    }
}

/// What a worker does: it writes through one of the mounts, and reads through the other.
struct Work {
    number: u64,
    roots: [PathBuf; 2],
    answers: Answers,
    files: Vec<Acknowledged>,
    rewritten: HashSet<String>,
    dice: StdRng,
}

impl Work {
    fn step(&mut self, step: u64) {
        let writer = self.dice.random_range(0..2);
        let mut file = Acknowledged {
            name: format!("{}-{step}", self.number),
            content: self.dice.random_range(0..1 << 20),
            length: self.dice.random_range(1..FILE_BYTES_MAX),
        };
        // Of two steps one writes a file anew that is there, once there are some.
        if let Some(old) = self.any().filter(|_| step.is_multiple_of(2)) {
            let old = self.files.swap_remove(old);
            (file.name, file.length) = (old.name, old.length);
            self.rewritten.insert(file.name.clone());
        }
        match file.write(&self.roots[writer]) {
            Ok(()) => self.files.push(file),
            // What it holds now nobody has acknowledged.
            Err(error) => {
                self.check(&file, &error);
                self.remove(writer, &file);
            }
        }
        if self.files.len() > FILES {
            let gone = self.dice.random_range(0..FILES);
            let gone = self.files.swap_remove(gone);
            self.remove(writer, &gone);
        }
        if let Some(read) = self.any() {
            let file = &self.files[read];
            match fs::read(self.roots[1 - writer].join(&file.name)) {
                Ok(found) => assert!(found == file.bytes(), "{file:?} is wrong"),
                Err(error) => self.check(file, &error),
            }
        }
    }

    /// The place of any of the files, if there are some.
    fn any(&mut self) -> Option<usize> {
        let count = self.files.len();
        (count > 0).then(|| self.dice.random_range(0..count))
    }

    fn check(&self, file: &Acknowledged, error: &io::Error) {
        let is_right = self.answers == Answers::WholeOrEio && errno_of(error) == Errno::EIO;
        assert!(is_right, "{file:?}: {error}");
    }

    fn remove(&self, root: usize, file: &Acknowledged) {
        let removed = fs::remove_file(self.roots[root].join(&file.name));
        removed.unwrap_or_else(|error| panic!("removing {file:?}: {error}"));
    }
}
