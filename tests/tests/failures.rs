//! Servers, mounts and networks that fail: an errno in time, never a hang, never wrong data.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, copy_file_range, fallocate},
    unistd::{Whence, lseek},
};
use pocket_tests::{
    Mount, ProcessCluster, errno_of, is_mounted, try_until, until, with_cluster, within,
};

const KIB: usize = 1 << 10;
/// Contract of the file system: a lost block is known to be lost within this.
const LOST_DEADLINE: Duration = Duration::from_secs(5);
/// Contract: an operation that needs a lost metadata server or controller ends within this.
const GONE_DEADLINE: Duration = Duration::from_secs(10);
/// Files of the tests below; with two servers it is certain that each holds some.
const FILES: usize = 32;
/// Files made while the metadata server is about to be stopped.
const AHEAD: usize = 500;

fn content(index: usize) -> Vec<u8> {
    vec![index as u8 + 1; 64 * KIB]
}

fn write_files(root: &Path, prefix: &str) {
    for index in 0..FILES {
        fs::write(root.join(format!("{prefix}{index}")), content(index)).unwrap();
    }
}

/// Reads every file, each in the time that a lost block may take; how many were lost.
#[track_caller]
fn count_lost(root: &Path, prefix: &str) -> usize {
    count_lost_within(LOST_DEADLINE, root, prefix)
}

/// Reads every file, each within the deadline; how many were lost. What is not lost must be right.
#[track_caller]
fn count_lost_within(deadline: Duration, root: &Path, prefix: &str) -> usize {
    let mut lost = 0;
    for index in 0..FILES {
        let path = root.join(format!("{prefix}{index}"));
        match read_within(deadline, &path) {
            Ok(found) => assert!(found == content(index), "{} is wrong", path.display()),
            Err(error) => {
                assert_eq!(errno_of(&error), Errno::EIO, "{}", path.display());
                lost += 1;
            }
        }
    }
    lost
}

#[track_caller]
fn read_within(deadline: Duration, path: &Path) -> io::Result<Vec<u8>> {
    let (begun, owned) = (Instant::now(), path.to_owned());
    // Twice the deadline before the thread is given up, so that the time taken is in the message.
    let result = within(2 * deadline, "a read", move || fs::read(owned));
    let taken = begun.elapsed();
    assert!(
        taken < deadline,
        "reading {} took {taken:?}",
        path.display()
    );
    result
}

/// Two mounts, files written through the first and never read by the second.
fn written(cluster: &mut ProcessCluster, job: &str) -> (Mount, Mount) {
    cluster.expect_loss();
    let (first, second) = (cluster.mount(job), cluster.mount(job));
    write_files(first.path(), "old-");
    (first, second)
}

#[test]
fn blocks_of_a_killed_storage_server_are_eio_and_the_rest_works() {
    with_cluster(|cluster| {
        let (first, second) = written(cluster, "killed");
        cluster.storage(0).kill();
        let lost = count_lost(second.path(), "old-");
        assert!((1..FILES).contains(&lost), "{lost} of {FILES} lost");
        // Names and attributes are not on storage servers.
        assert_eq!(fs::read_dir(second.path()).unwrap().count(), FILES);
        for mount in [&first, &second] {
            fs::write(mount.join("new"), content(7)).unwrap();
            assert!(fs::read(mount.join("new")).unwrap() == content(7));
        }
        for index in 0..FILES {
            fs::remove_file(second.join(format!("old-{index}"))).unwrap();
        }
        first.finish();
        second.finish();
    });
}

#[test]
fn new_files_avoid_a_killed_storage_server() {
    with_cluster(|cluster| {
        let (first, second) = written(cluster, "avoid");
        cluster.storage(1).kill();
        // At once, before anyone has noticed, and again when everyone has.
        for round in ["soon-", "later-"] {
            let root = first.path().to_owned();
            within(4 * GONE_DEADLINE, "writing files", move || {
                write_files(&root, round)
            });
            assert_eq!(count_lost(second.path(), round), 0, "{round}");
            let control = cluster.control();
            until(GONE_DEADLINE, "the controller to notice", || {
                let servers = control.servers().unwrap_or_default();
                servers.iter().filter(|server| !server.alive).count() == 1
            });
        }
        first.finish();
        second.finish();
    });
}

#[test]
fn holes_and_copies_of_lost_blocks_are_eio_and_allocations_go_elsewhere() {
    const MIB: usize = 1 << 20;
    with_cluster(|cluster| {
        let mount = cluster.mount("ranges");
        let file = Arc::new(
            File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(mount.join("f"))
                .unwrap(),
        );
        file.write_all_at(&vec![7; FILES * MIB], 0).unwrap();
        file.sync_all().unwrap();
        cluster.storage(0).kill();
        let half = (FILES * MIB) as i64;
        let (grown, other) = (
            Arc::clone(&file),
            File::create(mount.join("other")).unwrap(),
        );
        within(GONE_DEADLINE, "allocating", move || {
            fallocate(&grown, FallocateFlags::empty(), half, half)
        })
        .unwrap();
        let mut found = vec![1; FILES * MIB];
        file.read_exact_at(&mut found, half as u64).unwrap();
        assert!(found.iter().all(|byte| *byte == 0));
        let source = Arc::clone(&file);
        let copied = within(GONE_DEADLINE, "copying", move || {
            let (mut from, mut to) = (0, 0);
            while from < half {
                copy_file_range(&source, Some(&mut from), &other, Some(&mut to), 1 << 30)?;
            }
            Ok(())
        });
        assert_eq!(copied, Err(Errno::EIO));
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let punched = Arc::clone(&file);
        let punched = within(GONE_DEADLINE, "punching", move || {
            fallocate(&punched, punch, 5, half - 10)
        });
        assert_eq!(punched, Err(Errno::EIO));
        // There are holes now, perhaps, and what was lost is none of them.
        let sought = Arc::clone(&file);
        let data = within(LOST_DEADLINE, "seeking", move || {
            lseek(&*sought, 0, Whence::SeekHole)
        });
        assert_eq!(data, Err(Errno::EIO));
        let mut lost = 0;
        for index in 0..FILES {
            let mut found = vec![1; MIB - 20];
            match file.read_exact_at(&mut found, (index * MIB + 10) as u64) {
                Ok(()) => assert!(found.iter().all(|byte| *byte == found[0]) && found[0] != 1),
                Err(error) => {
                    assert_eq!(errno_of(&error), Errno::EIO);
                    lost += 1;
                }
            }
        }
        assert!((1..FILES).contains(&lost), "{lost} of {FILES} lost");
        drop(file);
        mount.finish();
    });
}

#[test]
fn a_lost_file_can_be_written_anew() {
    with_cluster(|cluster| {
        let (first, second) = written(cluster, "anew");
        cluster.storage(0).kill();
        for index in 0..FILES {
            let path = first.join(format!("old-{index}"));
            within(GONE_DEADLINE, "writing anew", move || {
                fs::write(path, content(index))
            })
            .unwrap();
        }
        assert_eq!(count_lost(second.path(), "old-"), 0);
        first.finish();
        second.finish();
    });
}

#[test]
fn a_restarted_storage_server_does_not_serve_zeros_for_what_it_lost() {
    with_cluster(|cluster| {
        let (first, second) = written(cluster, "restarted");
        cluster.storage(0).restart();
        cluster.wait_ready();
        let lost = count_lost(second.path(), "old-");
        assert!((1..FILES).contains(&lost), "{lost} of {FILES} lost");
        write_files(first.path(), "new-");
        assert_eq!(count_lost(second.path(), "new-"), 0);
        first.finish();
        second.finish();
    });
}

#[test]
fn a_frozen_storage_server_is_eio_in_time_and_serves_again_when_thawed() {
    with_cluster(|cluster| {
        let (first, second) = written(cluster, "frozen");
        cluster.storage(0).process().freeze();
        // One read that must ask the frozen server and one that must not: whichever they are, each
        // is over in time.
        let lost = count_lost(second.path(), "old-");
        assert!((1..FILES).contains(&lost), "{lost} of {FILES} lost");
        cluster.storage(0).process().thaw();
        until(2 * GONE_DEADLINE, "the blocks to be readable again", || {
            (0..FILES).all(|index| {
                let found = fs::read(second.join(format!("old-{index}")));
                found.is_ok_and(|found| found == content(index))
            })
        });
        first.finish();
        second.finish();
    });
}

#[test]
fn writing_while_storage_servers_die_ends_with_success_or_an_errno() {
    with_cluster(|cluster| {
        cluster.expect_loss();
        let mount = cluster.mount("dying");
        let path = mount.join("large");
        let writer = std::thread::spawn(move || -> io::Result<()> {
            let file = File::create(path)?;
            for index in 0..200_u64 {
                file.write_all_at(&vec![index as u8; 1 << 20], index << 20)?;
            }
            nix::unistd::close(file).map_err(io::Error::from)
        });
        until(GONE_DEADLINE, "the writer to be under way", || {
            fs::metadata(mount.join("large")).is_ok_and(|status| status.len() > 10 << 20)
        });
        cluster.storage(0).kill();
        cluster.storage(1).kill();
        let ended = within(4 * GONE_DEADLINE, "the writer", move || {
            writer.join().unwrap()
        });
        if let Err(error) = ended {
            assert!(
                matches!(errno_of(&error), Errno::EIO | Errno::ENOSPC),
                "{error}"
            );
        }
        mount.finish();
    });
}

#[test]
fn unmounting_works_with_every_storage_server_gone() {
    with_cluster(|cluster| {
        let (first, second) = written(cluster, "alone");
        let file = File::create(first.join("unfinished")).unwrap();
        file.write_all_at(&content(1), 0).unwrap();
        cluster.storage(0).kill();
        cluster.storage(1).kill();
        drop(file);
        first.finish();
        second.finish();
    });
}

#[test]
fn a_killed_metadata_server_is_an_errno_in_time() {
    with_cluster(|cluster| {
        let (first, second) = written(cluster, "headless");
        cluster.metadata().kill();
        for (what, operate) in operations() {
            let root = second.path().to_owned();
            let begun = Instant::now();
            let result = within(2 * GONE_DEADLINE, what, move || operate(&root));
            let taken = begun.elapsed();
            assert!(taken < GONE_DEADLINE, "{what} took {taken:?}");
            assert!(result.is_err(), "{what} cannot have worked");
        }
        first.finish_orphaned();
        second.finish_orphaned();
    });
}

type Operate = fn(&Path) -> io::Result<()>;

/// Operations that need the metadata server.
fn operations() -> [(&'static str, Operate); 5] {
    [
        ("stat", |root| fs::metadata(root.join("old-1")).map(drop)),
        ("open", |root| File::open(root.join("old-2")).map(drop)),
        ("create", |root| File::create(root.join("new")).map(drop)),
        ("mkdir", |root| fs::create_dir(root.join("new-folder"))),
        ("unlink", |root| fs::remove_file(root.join("old-3"))),
    ]
}

#[test]
fn a_frozen_metadata_server_is_an_errno_in_time_and_serves_again_when_thawed() {
    with_cluster(|cluster| {
        let (first, second) = written(cluster, "pause");
        // A directory that one mount has to itself is changed ahead of the server.
        let ahead = |mount: &Mount, number: usize| mount.join(format!("ahead/{number}"));
        fs::create_dir(first.join("ahead")).unwrap();
        for number in 0..AHEAD {
            File::create(ahead(&first, number)).unwrap();
        }
        cluster.metadata().process().freeze();
        let root = second.path().to_owned();
        let begun = Instant::now();
        let result = within(2 * GONE_DEADLINE, "stat", move || {
            fs::metadata(root.join("old-1"))
        });
        assert!(begun.elapsed() < GONE_DEADLINE, "{:?}", begun.elapsed());
        assert!(result.is_err());
        cluster.metadata().process().thaw();
        until(2 * GONE_DEADLINE, "names to be served again", || {
            fs::metadata(second.join("old-1")).is_ok()
        });
        assert_eq!(count_lost(second.path(), "old-"), 0);
        // The mounts were silent for no fault of theirs, and have lost nothing.
        for number in 0..AHEAD {
            fs::metadata(ahead(&second, number)).unwrap();
        }
        fs::write(first.join("new"), content(1)).unwrap();
        first.finish();
        second.finish();
    });
}

#[test]
fn after_a_metadata_servers_restart_the_mount_works_or_says_that_its_job_is_gone() {
    with_cluster(|cluster| {
        let (first, mut second) = written(cluster, "reborn");
        cluster.metadata().restart();
        cluster.wait_ready();
        let root = second.path().to_owned();
        let seen = try_until(2 * GONE_DEADLINE, || {
            let root = root.clone();
            let result = within(GONE_DEADLINE, "stat", move || {
                fs::metadata(root.join("old-1"))
            });
            match result {
                Ok(_) => Some(true),
                Err(_) => {
                    let log = second.process().log();
                    log.contains("job has ended").then_some(false)
                }
            }
        });
        let seen = seen.unwrap_or_else(|| panic!("neither\n{}", second.process().report()));
        println!(
            "the mount {}",
            if seen {
                "works again"
            } else {
                "says that its job is gone"
            }
        );
        // The name is free for a new job at any rate.
        let third = cluster.mount("reborn");
        fs::write(third.join("new"), content(1)).unwrap();
        first.finish_orphaned();
        second.finish_orphaned();
        third.finish();
    });
}

#[test]
fn mounts_work_on_without_a_controller() {
    with_cluster(|cluster| {
        let (first, second) = written(cluster, "orphan");
        cluster.controller().kill();
        assert_eq!(count_lost(second.path(), "old-"), 0);
        write_files(second.path(), "new-");
        assert_eq!(count_lost(first.path(), "new-"), 0);
        first.finish();
        second.finish();
    });
}

#[test]
fn a_new_controller_knows_servers_and_jobs_again() {
    with_cluster(|cluster| {
        let (first, second) = written(cluster, "kept");
        cluster.controller().restart();
        cluster.wait_ready();
        let control = cluster.control();
        until(GONE_DEADLINE, "the job to be known", || {
            let jobs = control.jobs().unwrap_or_default();
            jobs.iter().any(|job| job.name == "kept" && job.mounts == 2)
        });
        let third = cluster.mount("kept");
        assert_eq!(count_lost(third.path(), "old-"), 0);
        for mount in [first, second, third] {
            mount.finish();
        }
    });
}

#[test]
fn a_killed_mounts_completed_files_are_there_for_others() {
    with_cluster(|cluster| {
        let (mut first, second) = written(cluster, "murder");
        let open = File::create(first.join("unfinished")).unwrap();
        open.write_all_at(b"never closed", 0).unwrap();
        first.process().kill();
        drop(open);
        // The dead mount's leases may have to run out first.
        assert_eq!(count_lost_within(GONE_DEADLINE, second.path(), "old-"), 0);
        // What the dead mount held is released: names it had open can be changed and removed.
        let root = second.path().to_owned();
        within(
            2 * GONE_DEADLINE,
            "removing the dead mount's file",
            move || {
                fs::write(root.join("old-0"), content(5)).unwrap();
                // That it was made is lost, or not.
                if let Err(error) = fs::remove_file(root.join("unfinished")) {
                    assert_eq!(error.kind(), io::ErrorKind::NotFound);
                }
            },
        );
        second.finish();
    });
}

#[test]
fn names_that_a_killed_mount_changed_stay_changed() {
    with_cluster(|cluster| {
        let (mut first, second) = written(cluster, "names");
        let own = first.join("own");
        fs::create_dir(&own).unwrap();
        write_files(&own, "f-");
        fs::create_dir(own.join("inner")).unwrap();
        fs::create_dir(own.join("gone")).unwrap();
        fs::rename(own.join("f-0"), own.join("inner/moved")).unwrap();
        fs::remove_dir(own.join("gone")).unwrap();
        fs::remove_file(own.join("f-1")).unwrap();
        first.process().kill();
        let own = second.join("own");
        let names = within(
            2 * GONE_DEADLINE,
            "listing the dead mount's files",
            move || {
                assert_eq!(fs::read(own.join("inner/moved")).unwrap(), content(0));
                let names = fs::read_dir(&own).unwrap();
                let names: HashSet<_> = names.map(|name| name.unwrap().file_name()).collect();
                for index in 2..FILES {
                    assert!(fs::read(own.join(format!("f-{index}"))).unwrap() == content(index));
                }
                names
            },
        );
        assert!(names.contains(OsStr::new("inner")));
        for gone in ["f-0", "f-1", "gone"] {
            assert!(!names.contains(OsStr::new(gone)), "{gone}");
        }
        second.finish();
    });
}

#[test]
fn mounting_over_a_dead_mount_cleans_it_first() {
    with_cluster(|cluster| {
        let (mut first, second) = written(cluster, "again");
        first.process().kill();
        let path: PathBuf = first.path().to_owned();
        assert!(
            is_mounted(&path),
            "the dead mount is still in the kernel's list"
        );
        assert_eq!(errno_of(&fs::metadata(&path).unwrap_err()), Errno::ENOTCONN);
        let controller = cluster.controller_endpoint().to_owned();
        let output = pocket_tests::mount_command("again", &path, &["--controller", &controller])
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        // The dead mount's leases may have to run out first.
        assert_eq!(count_lost_within(GONE_DEADLINE, &path, "old-"), 0);
        nix::mount::umount2(&path, nix::mount::MntFlags::empty()).unwrap();
        second.finish();
    });
}

#[test]
fn a_deregistered_job_is_an_errno_on_its_mounts() {
    with_cluster(|cluster| {
        let (first, second) = written(cluster, "ended");
        cluster.expect_in_logs("job has ended");
        assert!(cluster.control().deregister("ended").unwrap());
        for mount in [&first, &second] {
            until(GONE_DEADLINE, "an errno", || {
                let root = mount.path().to_owned();
                within(GONE_DEADLINE, "create", move || {
                    File::create(root.join("new")).is_err()
                })
            });
        }
        let used = || {
            let servers = cluster.control().servers().unwrap();
            servers
                .iter()
                .filter_map(|server| server.usage)
                .map(|usage| usage.used_bytes)
                .sum::<u64>()
        };
        until(GONE_DEADLINE, "the blocks to be dropped", || used() == 0);
        first.finish_orphaned();
        second.finish_orphaned();
    });
}

#[test]
fn a_job_ends_when_its_last_mount_has_been_gone_for_the_lease() {
    with_cluster(|cluster| {
        let job_of = |cluster: &ProcessCluster, name: &str| {
            let jobs = cluster.control().jobs().unwrap();
            jobs.into_iter().find(|job| job.name == name)
        };
        let mount = cluster.mount_with("short", &["--lease", "1s"]);
        let kept = cluster.mount_with("kept", &["--lease", "1s", "--keep"]);
        fs::write(mount.join("f"), content(1)).unwrap();
        fs::write(kept.join("f"), content(2)).unwrap();
        mount.finish();
        kept.finish();
        until(2 * GONE_DEADLINE, "the job to lapse", || {
            job_of(cluster, "short").is_none()
        });
        assert!(job_of(cluster, "kept").is_some());
        let again = cluster.mount("kept");
        assert!(fs::read(again.join("f")).unwrap() == content(2));
        let new = cluster.mount("short");
        assert_eq!(fs::read_dir(new.path()).unwrap().count(), 0);
        again.finish();
        new.finish();
    });
}

/// Each of them waits for the one before: for a lock of the file's in the mount, and then for the
/// server.
#[test]
fn calls_that_wait_for_one_another_end_in_time_when_the_metadata_server_is_silent() {
    const CALLERS: usize = 8;
    with_cluster(|cluster| {
        cluster.expect_loss();
        let (mount, other) = (cluster.mount("queue"), cluster.mount("queue"));
        fs::write(mount.join("f"), content(0)).unwrap();
        // So that the mount has to ask.
        fs::metadata(other.join("f")).unwrap();
        let files: Vec<_> = (0..CALLERS)
            .map(|index| {
                let file = File::options().write(true).open(mount.join("f")).unwrap();
                file.write_all_at(&content(index), (index * KIB) as u64)
                    .unwrap();
                file
            })
            .collect();
        cluster.metadata().process().freeze();
        let callers: Vec<_> = (0..)
            .zip(files)
            .map(|(index, file)| {
                std::thread::spawn(move || {
                    let begun = Instant::now();
                    let done = match index % 4 {
                        0 => file.set_len(index * 100),
                        _ => file.sync_all(),
                    };
                    (done.map_err(|error| errno_of(&error)), begun.elapsed())
                })
            })
            .collect();
        for caller in callers {
            let (done, taken) = caller.join().unwrap();
            assert!(taken < GONE_DEADLINE, "{taken:?}");
            assert_eq!(done, Err(Errno::EIO));
        }
        cluster.metadata().process().thaw();
        let path = mount.join("f");
        until(GONE_DEADLINE, "the mount to work again", move || {
            fs::write(&path, "again").is_ok() && fs::read(&path).is_ok_and(|it| it == b"again")
        });
        mount.finish();
        other.finish();
    });
}
