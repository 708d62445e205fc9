//! Directories that the kernel lists without asking the mount, and what ends that.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use nix::{dir::Dir, fcntl::OFlag, sys::stat::Mode};
use pocket_tests::{Mount, try_until, until, with_cluster};

/// A directory that another mount changed is leased again in seconds.
const LEASED_DEADLINE: Duration = Duration::from_secs(60);
/// More than one answer to READDIR holds.
const NAMES: usize = 1000;

/// Names, and the numbers of the inodes they lead to.
type Names = BTreeMap<String, u64>;

/// What changes a directory; the name that it gives, and the one that it takes away.
type Change = (&'static str, fn(&Path));

const CHANGES: [Change; 5] = [
    ("creat", |d| drop(File::create(d.join("new")).unwrap())),
    ("mkdir", |d| fs::create_dir(d.join("new")).unwrap()),
    ("symlink", |d| symlink("target", d.join("new")).unwrap()),
    ("unlink", |d| fs::remove_file(d.join("7")).unwrap()),
    ("rename", |d| {
        fs::rename(d.join("7"), d.join("new")).unwrap();
    }),
];

fn open(path: &Path) -> Dir {
    Dir::open(path, OFlag::O_RDONLY, Mode::empty()).unwrap()
}

/// Lists an open directory from its start on.
fn scan(directory: &mut Dir) -> Names {
    let entries = directory.iter().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().to_str().unwrap().to_owned(), entry.ino())
    });
    entries.collect()
}

fn list(path: &Path) -> Names {
    scan(&mut open(path))
}

/// How often the mount's kernel asked for names of directories.
fn listing_requests(mount: &Mount) -> u64 {
    let stats = fs::read_to_string(mount.join(".pocket/stats")).unwrap();
    let counts = stats.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let asked = matches!(words.next(), Some("readdir" | "readdirplus"));
        words.next().filter(|_| asked)
    });
    counts.map(|count| count.parse::<u64>().unwrap()).sum()
}

/// Waits until all of `directories` are listed without a request for names.
#[track_caller]
fn await_kept(mount: &Mount, directories: &[PathBuf]) {
    until(LEASED_DEADLINE, "listings to be kept", || {
        let before = listing_requests(mount);
        for directory in directories {
            list(directory);
        }
        listing_requests(mount) == before
    });
}

/// Directories of many names in the root of `maker`, one for each of `names`.
fn make(maker: &Mount, names: &[&str]) {
    for directory in names {
        let directory = maker.join(directory);
        fs::create_dir(&directory).unwrap();
        for name in 0..NAMES {
            File::create(directory.join(name.to_string())).unwrap();
        }
    }
}

#[test]
fn a_directory_listed_again_is_listed_by_the_kernel_alone() {
    with_cluster(|cluster| {
        let (maker, other) = (cluster.mount("kept"), cluster.mount("kept"));
        make(&maker, &["d"]);
        // Its own names, with no recall or change in between, from the second listing on.
        let first = list(&maker.join("d"));
        assert_eq!(first.len(), NAMES + 2);
        let before = listing_requests(&maker);
        assert!(before > 0);
        assert_eq!(list(&maker.join("d")), first);
        assert_eq!(listing_requests(&maker), before);

        await_kept(&other, &[other.join("d")]);
        maker.finish();
        other.finish();
    });
}

#[test]
fn what_either_mount_changes_is_in_the_next_listing_and_in_one_begun_anew() {
    with_cluster(|cluster| {
        let (one, other) = (cluster.mount("kept"), cluster.mount("kept"));
        let names = CHANGES.map(|(name, _)| name);
        make(&one, &names);
        for (changing, watching) in [(&other, &one), (&one, &one), (&one, &other)] {
            let watched = names.map(|name| watching.join(name));
            await_kept(watching, &watched);
            let mut open = watched.each_ref().map(|path| open(path));
            let before = open.each_mut().map(scan);
            for (index, (name, change)) in CHANGES.into_iter().enumerate() {
                change(&changing.join(name));
                let after = scan(&mut open[index]);
                assert_ne!(after, before[index], "{name}");
                assert_eq!(list(&watched[index]), after, "{name}");
                let removes = matches!(name, "unlink" | "rename");
                assert_eq!(after.contains_key("7"), !removes, "{name}");
                assert_eq!(after.contains_key("new"), name != "unlink", "{name}");
            }
            for name in names {
                let directory = changing.join(name);
                match name {
                    "mkdir" => fs::remove_dir(directory.join("new")).unwrap(),
                    "unlink" => drop(File::create(directory.join("7")).unwrap()),
                    "rename" => fs::rename(directory.join("new"), directory.join("7")).unwrap(),
                    _ => fs::remove_file(directory.join("new")).unwrap(),
                }
            }
            for (mut open, path) in open.into_iter().zip(&watched) {
                let names: Vec<_> = list(path).into_keys().collect();
                assert_eq!(names.len(), NAMES + 2);
                assert_eq!(scan(&mut open).into_keys().collect::<Vec<_>>(), names);
            }
        }
        one.finish();
        other.finish();
    });
}

#[test]
fn a_directory_that_moved_lists_the_one_that_it_is_in() {
    with_cluster(|cluster| {
        let (one, other) = (cluster.mount("kept"), cluster.mount("kept"));
        make(&one, &["d"]);
        fs::create_dir(one.join("above")).unwrap();
        let above = fs::metadata(one.join("above")).unwrap().ino();
        for mover in [&other, &one] {
            await_kept(&one, &[one.join("d")]);
            let mut open = open(&one.join("d"));
            assert_ne!(scan(&mut open)[".."], above);
            fs::rename(mover.join("d"), mover.join("above/d")).unwrap();
            assert_eq!(scan(&mut open)[".."], above);
            assert_eq!(list(&one.join("above/d"))[".."], above);
            fs::rename(mover.join("above/d"), mover.join("d")).unwrap();
        }
        one.finish();
        other.finish();
    });
}

/// Sets what it holds, however its scope ends.
struct Finally<'a>(&'a AtomicBool);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Names are made while others list the directories without a pause, so that recalls find answers
/// on their way to the kernel.
#[test]
fn a_listing_begun_behind_a_change_has_it_however_many_list() {
    const DIRECTORIES: usize = 8;
    const ROUNDS: usize = 3;
    const KEPT_PATIENCE: Duration = Duration::from_secs(10);
    with_cluster(|cluster| {
        let (maker, watcher) = (cluster.mount("kept"), cluster.mount("kept"));
        let directories: Vec<_> = (0..DIRECTORIES).map(|index| index.to_string()).collect();
        make(
            &maker,
            &directories.iter().map(|name| &**name).collect::<Vec<_>>(),
        );
        let made: Vec<_> = (0..DIRECTORIES).map(|_| AtomicUsize::new(0)).collect();
        let done = AtomicBool::new(false);
        let watch = || {
            let paths = directories.iter().map(|name| watcher.join(name));
            let paths: Vec<_> = paths.collect();
            while !done.load(Ordering::Relaxed) {
                let mut open: Vec<_> = paths.iter().map(|path| open(path)).collect();
                for _ in 0..4 {
                    for (open, made) in open.iter_mut().zip(&made) {
                        let least = made.load(Ordering::SeqCst);
                        let names = scan(open);
                        let missing: Vec<_> = (0..least)
                            .filter(|number| !names.contains_key(&format!("new{number}")))
                            .collect();
                        assert_eq!(missing, Vec::<usize>::new());
                    }
                }
            }
        };
        thread::scope(|scope| {
            let _done = Finally(&done);
            (0..3).for_each(|_| drop(scope.spawn(watch)));
            for number in 0..ROUNDS {
                let paths: Vec<_> = directories.iter().map(|name| watcher.join(name)).collect();
                // Not all of them come to be: the kernel gives some up that were dropped while it kept them.
                try_until(KEPT_PATIENCE, || {
                    let before = listing_requests(&watcher);
                    paths.iter().for_each(|path| drop(list(path)));
                    (listing_requests(&watcher) == before).then_some(())
                });
                for (directory, made) in directories.iter().zip(&made) {
                    let name = format!("new{number}");
                    File::create(maker.join(directory).join(name)).unwrap();
                    made.store(number + 1, Ordering::SeqCst);
                }
            }
        });
        maker.finish();
        watcher.finish();
    });
}
