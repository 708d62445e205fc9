//! Two mounts of one job: names at once, data from close to open, and what is atomic.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    path::Path,
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{
        AT_FDCWD, AtFlags, FallocateFlags, RenameFlags, copy_file_range, fallocate, renameat2,
    },
    unistd::{Whence, linkat, lseek},
};
use pocket_tests::{FileHandle, Map, Sharing, get_xattr, set_xattr, until, with_cluster};

/// Runs a claim on the directories of two mounts of a new job.
fn on_two_mounts(claim: impl FnOnce(&Path, &Path)) {
    with_cluster(|cluster| {
        let first = cluster.mount("shared");
        let second = cluster.mount("shared");
        claim(first.path(), second.path());
        first.finish();
        second.finish();
    });
}

fn is_absent(path: impl AsRef<Path>) -> bool {
    matches!(fs::symlink_metadata(path), Err(error) if error.kind() == ErrorKind::NotFound)
}

fn names(path: impl AsRef<Path>) -> BTreeSet<String> {
    let entries = fs::read_dir(path).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect()
}

#[test]
fn a_name_made_on_one_mount_is_on_the_other_at_once() {
    on_two_mounts(|a, b| {
        fs::create_dir(a.join("d")).unwrap();
        for index in 0..50 {
            let (maker, looker) = if index % 2 == 0 { (a, b) } else { (b, a) };
            let name = format!("d/{index}");
            // Looked at before, so that its absence may be cached.
            assert!(is_absent(looker.join(&name)) && is_absent(maker.join(&name)));
            match index % 5 {
                0 => drop(File::create(maker.join(&name)).unwrap()),
                1 => fs::create_dir(maker.join(&name)).unwrap(),
                2 => symlink("target", maker.join(&name)).unwrap(),
                3 => fs::rename(maker.join("d/0"), maker.join(&name)).unwrap(),
                _ => {
                    File::create(maker.join("d/0")).unwrap();
                    fs::hard_link(maker.join("d/0"), maker.join(&name)).unwrap();
                }
            }
            assert!(!is_absent(looker.join(&name)), "{name}");
            assert!(names(looker.join("d")).contains(&index.to_string()));
            if index % 5 == 2 {
                File::create(maker.join("d/0")).unwrap();
            }
        }
    });
}

#[test]
fn a_name_removed_on_one_mount_is_gone_on_the_other_at_once() {
    on_two_mounts(|a, b| {
        for index in 0..50 {
            let (maker, remover) = if index % 2 == 0 { (a, b) } else { (b, a) };
            let (file, folder) = (format!("f{index}"), format!("d{index}"));
            File::create(maker.join(&file)).unwrap();
            fs::create_dir(maker.join(&folder)).unwrap();
            assert!(fs::metadata(remover.join(&file)).is_ok());
            fs::remove_file(remover.join(&file)).unwrap();
            fs::remove_dir(remover.join(&folder)).unwrap();
            assert!(is_absent(maker.join(&file)) && is_absent(maker.join(&folder)));
        }
        assert_eq!(names(a), BTreeSet::new());
    });
}

#[test]
fn a_rename_is_seen_as_one_step() {
    on_two_mounts(|a, b| {
        fs::write(a.join("0"), "the file").unwrap();
        for index in 0..50 {
            let (renamer, looker) = if index % 2 == 0 { (a, b) } else { (b, a) };
            let (old, new) = (index.to_string(), (index + 1).to_string());
            assert_eq!(fs::read(looker.join(&old)).unwrap(), b"the file");
            fs::rename(renamer.join(&old), renamer.join(&new)).unwrap();
            assert!(is_absent(looker.join(&old)), "{old}");
            assert_eq!(fs::read(looker.join(&new)).unwrap(), b"the file");
        }
    });
}

#[test]
fn who_opens_after_close_reads_what_was_written() {
    on_two_mounts(|a, b| {
        for index in 0..40_u8 {
            let (writer, reader) = if index % 2 == 0 { (a, b) } else { (b, a) };
            // The same size each time, so that nothing but the data tells.
            let data = vec![index; 1_500_000];
            fs::write(writer.join("f"), &data).unwrap();
            assert!(fs::read(reader.join("f")).unwrap() == data, "round {index}");
            assert!(fs::read(writer.join("f")).unwrap() == data, "round {index}");
        }
    });
}

#[test]
fn who_opens_after_fsync_reads_what_was_written() {
    on_two_mounts(|a, b| {
        let file = File::create(a.join("f")).unwrap();
        for index in 0..20_u8 {
            file.write_all_at(&vec![index; 100_000], 0).unwrap();
            file.sync_all().unwrap();
            assert_eq!(fs::metadata(b.join("f")).unwrap().len(), 100_000);
            assert!(fs::read(b.join("f")).unwrap() == vec![index; 100_000]);
        }
    });
}

#[test]
fn a_file_open_on_both_mounts_shows_each_others_completed_writes() {
    on_two_mounts(|a, b| {
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(path.join("f")).unwrap()
        };
        let (one, other) = (open(a), open(b));
        for index in 0..100_u64 {
            let (writer, reader) = if index % 2 == 0 {
                (&one, &other)
            } else {
                (&other, &one)
            };
            let text = format!("{index:06}");
            writer.write_all_at(text.as_bytes(), index * 6).unwrap();
            let mut found = [0; 6];
            reader.read_exact_at(&mut found, index * 6).unwrap();
            assert_eq!(found, text.as_bytes());
            assert_eq!(reader.metadata().unwrap().len(), index * 6 + 6);
        }
    });
}

#[test]
fn an_open_on_another_mount_sees_writes_not_yet_closed() {
    on_two_mounts(|a, b| {
        let writer = File::create(a.join("f")).unwrap();
        writer.write_all_at(b"buffered", 0).unwrap();
        // This open ends the writer's buffering.
        let mut reader = File::open(b.join("f")).unwrap();
        let mut found = String::new();
        reader.read_to_string(&mut found).unwrap();
        assert_eq!(found, "buffered");
        writer.write_all_at(b"!", 8).unwrap();
        reader.read_to_string(&mut found).unwrap();
        assert_eq!(found, "buffered!");
    });
}

#[test]
fn attributes_set_on_one_mount_are_seen_on_the_other() {
    on_two_mounts(|a, b| {
        fs::write(a.join("f"), "data").unwrap();
        for index in 0..30 {
            let (setter, looker) = if index % 2 == 0 { (a, b) } else { (b, a) };
            let status = || fs::metadata(looker.join("f")).unwrap();
            status();
            let mode = 0o600 + index;
            fs::set_permissions(setter.join("f"), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(status().mode() & 0o7777, mode);
            let file = OpenOptions::new()
                .write(true)
                .open(setter.join("f"))
                .unwrap();
            file.set_len(u64::from(index)).unwrap();
            assert_eq!(status().len(), u64::from(index));
            drop(file);
            set_xattr(
                &setter.join("f"),
                "user.round",
                mode.to_string().as_bytes(),
                0,
            )
            .unwrap();
            let value = get_xattr(&looker.join("f"), "user.round").unwrap();
            assert_eq!(value, mode.to_string().as_bytes());
            let link = format!("link-{index}");
            fs::hard_link(setter.join("f"), setter.join(&link)).unwrap();
            assert_eq!(status().nlink(), 2);
            fs::remove_file(setter.join(&link)).unwrap();
            assert_eq!(status().nlink(), 1);
        }
    });
}

#[test]
fn truncating_on_one_mount_leaves_no_old_data_on_the_other() {
    on_two_mounts(|a, b| {
        for index in 0..20 {
            let (one, other) = if index % 2 == 0 { (a, b) } else { (b, a) };
            fs::write(one.join("f"), vec![7; 2_000_000]).unwrap();
            assert_eq!(fs::read(other.join("f")).unwrap().len(), 2_000_000);
            let file = OpenOptions::new()
                .write(true)
                .open(other.join("f"))
                .unwrap();
            file.set_len(1000).unwrap();
            file.set_len(1_500_000).unwrap();
            drop(file);
            let mut expected = vec![0; 1_500_000];
            expected[..1000].fill(7);
            assert!(
                fs::read(one.join("f")).unwrap() == expected,
                "round {index}"
            );
        }
    });
}

#[test]
fn o_excl_lets_one_mount_win() {
    on_two_mounts(|a, b| {
        for round in 0..50 {
            let create = |path: &Path| File::create_new(path.join(round.to_string())).is_ok();
            let wins = at_once(|| create(a), || create(b));
            assert!(wins.0 != wins.1, "round {round}: {wins:?}");
        }
    });
}

#[test]
fn one_of_two_renames_of_a_name_wins() {
    on_two_mounts(|a, b| {
        for round in 0..50 {
            fs::write(a.join("source"), round.to_string()).unwrap();
            let take = |path: &Path, target: &str| {
                fs::rename(path.join("source"), path.join(target)).is_ok()
            };
            let wins = at_once(|| take(a, "one"), || take(b, "other"));
            assert!(wins.0 != wins.1, "round {round}: {wins:?}");
            let winner = if wins.0 { "one" } else { "other" };
            assert_eq!(
                fs::read(b.join(winner)).unwrap(),
                round.to_string().as_bytes()
            );
            fs::remove_file(a.join(winner)).unwrap();
        }
    });
}

#[test]
fn appends_of_both_mounts_are_all_there_and_whole() {
    on_two_mounts(|a, b| {
        let append = |path: &Path, who: char| {
            let mut options = OpenOptions::new();
            let mut file = options
                .append(true)
                .create(true)
                .open(path.join("log"))
                .unwrap();
            for index in 0..300 {
                let line = format!("{who}{index:04}{}\n", "x".repeat(index % 50));
                file.write_all(line.as_bytes()).unwrap();
            }
        };
        at_once(|| append(a, 'a'), || append(b, 'b'));
        for path in [a, b] {
            let text = fs::read_to_string(path.join("log")).unwrap();
            let mut lines: Vec<_> = text.lines().collect();
            for line in &lines {
                let index: usize = line[1..5].parse().unwrap();
                assert_eq!(line.len(), 5 + index % 50, "{line}");
            }
            lines.sort_unstable();
            lines.dedup();
            assert_eq!(lines.len(), 600);
        }
    });
}

#[test]
fn a_directory_is_removed_or_gets_a_file_never_both() {
    on_two_mounts(|a, b| {
        for round in 0..50 {
            let folder = format!("d{round}");
            fs::create_dir(a.join(&folder)).unwrap();
            let (made, removed) = at_once(
                || File::create_new(a.join(&folder).join("f")).is_ok(),
                || fs::remove_dir(b.join(&folder)).is_ok(),
            );
            assert!(
                made != removed,
                "round {round}: made {made}, removed {removed}"
            );
            assert_eq!(is_absent(b.join(&folder)), removed);
        }
    });
}

#[test]
fn both_mounts_work_in_one_directory() {
    on_two_mounts(|a, b| {
        let work = |path: &Path, who: &str| {
            for index in 0..200 {
                let name = path.join(format!("{who}-{index}"));
                fs::write(&name, format!("{who} {index}")).unwrap();
                if index % 3 == 0 {
                    fs::remove_file(&name).unwrap();
                }
            }
        };
        at_once(|| work(a, "a"), || work(b, "b"));
        let of = |who: &'static str| {
            let kept = (0..200).filter(|index| index % 3 != 0);
            kept.map(move |index| format!("{who}-{index}"))
        };
        let expected: BTreeSet<_> = of("a").chain(of("b")).collect();
        for path in [a, b] {
            assert_eq!(names(path), expected);
            for name in &expected {
                let text = fs::read_to_string(path.join(name)).unwrap();
                assert_eq!(text, name.replace('-', " "));
            }
        }
    });
}

#[test]
fn a_file_removed_on_one_mount_lives_while_open_on_the_other() {
    on_two_mounts(|a, b| {
        fs::write(a.join("f"), vec![5; 300_000]).unwrap();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(a.join("f"))
            .unwrap();
        fs::remove_file(b.join("f")).unwrap();
        assert!(is_absent(a.join("f")));
        fs::write(b.join("f"), "another file").unwrap();
        let mut found = vec![0; 300_000];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == vec![5; 300_000]);
        file.write_all_at(b"still mine", 300_000).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 300_010);
        assert_eq!(fs::read(a.join("f")).unwrap(), b"another file");
    });
}

#[test]
fn a_map_made_when_the_file_is_opened_anew_shows_what_the_other_mount_wrote() {
    on_two_mounts(|one, other| {
        let old = vec![b'o'; 100_000];
        fs::write(one.join("f"), &old).unwrap();
        let map = |path: &Path| {
            let file = File::open(path.join("f")).unwrap();
            Map::new(file, old.len(), Sharing::Private).unwrap()
        };
        // This one keeps the pages in the kernel's memory.
        let before = map(one);
        assert!(before.read(0, old.len()) == old);
        for round in [b'1', b'2', b'3'] {
            let new = vec![round; old.len()];
            fs::write(other.join("f"), &new).unwrap();
            assert!(map(one).read(0, new.len()) == new);
        }
        drop(before);
    });
}

#[test]
fn a_path_through_a_directory_made_anew_on_the_other_mount_is_found() {
    on_two_mounts(|one, other| {
        for round in 0..50 {
            fs::create_dir_all(other.join("d/e")).unwrap();
            fs::write(other.join("d/e/f"), round.to_string()).unwrap();
            // The kernel still has the directories of the round before, of which nothing is left.
            let found = fs::read_to_string(one.join("d/e/f")).unwrap();
            assert_eq!(found, round.to_string());
            fs::remove_dir_all(other.join("d")).unwrap();
        }
    });
}

#[test]
fn a_synced_directory_has_its_names_when_its_mount_is_killed() {
    with_cluster(|cluster| {
        let (mut one, other) = (cluster.mount("synced"), cluster.mount("synced"));
        fs::create_dir(one.join("d")).unwrap();
        for name in 0..100 {
            File::create(one.join(format!("d/{name}"))).unwrap();
        }
        File::open(one.join("d")).unwrap().sync_all().unwrap();
        one.process().kill();
        assert_eq!(names(other.join("d")).len(), 100);
        other.finish();
    });
}

#[test]
fn a_directorys_own_times_follow_within_a_second_or_so() {
    on_two_mounts(|a, b| {
        fs::create_dir(a.join("d")).unwrap();
        let modified = |path: &Path| fs::metadata(path.join("d")).unwrap().modified().unwrap();
        modified(b);
        File::create(a.join("d/f")).unwrap();
        let now = modified(a);
        let lag_max = Duration::from_millis(1500);
        until(lag_max, "the directory's time on the other mount", || {
            modified(b) == now
        });
    });
}

#[test]
fn what_many_write_on_one_mount_is_read_by_many_on_the_other() {
    const TASKS: u8 = 6;
    on_two_mounts(|a, b| {
        fs::create_dir(a.join("shuffle")).unwrap();
        let piece = |mapper: u8, reducer: u8| vec![mapper * TASKS + reducer; 100_000];
        let name = |mapper: u8, reducer: u8| format!("shuffle/{mapper}-{reducer}");
        thread::scope(|scope| {
            for mapper in 0..TASKS {
                scope.spawn(move || {
                    for reducer in 0..TASKS {
                        fs::write(a.join(name(mapper, reducer)), piece(mapper, reducer)).unwrap();
                    }
                });
            }
        });
        thread::scope(|scope| {
            for reducer in 0..TASKS {
                scope.spawn(move || {
                    for mapper in 0..TASKS {
                        let found = fs::read(b.join(name(mapper, reducer))).unwrap();
                        assert!(found == piece(mapper, reducer), "{mapper} to {reducer}");
                    }
                });
            }
        });
    });
}

/// Runs both at the same time.
fn at_once<A: Send, B: Send>(
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B + Send,
) -> (A, B) {
    let start = std::sync::Barrier::new(2);
    thread::scope(|scope| {
        let one = scope.spawn(|| {
            start.wait();
            one()
        });
        start.wait();
        let other = other();
        (one.join().unwrap(), other)
    })
}

#[test]
fn ranges_allocated_punched_and_copied_on_one_mount_are_seen_on_the_other() {
    on_two_mounts(|a, b| {
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(path.join("f")).unwrap()
        };
        let (one, other) = (open(a), open(b));
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let length = 3 << 20;
        for round in 0..10 {
            let (writer, reader) = match round % 2 {
                0 => (&one, &other),
                _ => (&other, &one),
            };
            let mut expected = vec![round as u8 + 1; length];
            writer.write_all_at(&expected, 0).unwrap();
            let offset = round * 150_000;
            fallocate(reader, punch, offset as i64, 1 << 20).unwrap();
            expected[offset..offset + (1 << 20)].fill(0);
            fallocate(writer, FallocateFlags::empty(), 0, length as i64 + 5000).unwrap();
            expected.resize(length + 5000, 0);
            // The kernel copies up to the end that it knows.
            assert_eq!(reader.metadata().unwrap().len(), length as u64 + 5000);
            let (mut from, mut to) = (0, length as i64);
            let copied = copy_file_range(reader, Some(&mut from), reader, Some(&mut to), 4000);
            assert_eq!(copied, Ok(4000));
            expected.copy_within(0..4000, length);
            let mut found = vec![1; length + 5000];
            for file in [writer, reader] {
                assert_eq!(file.metadata().unwrap().len(), found.len() as u64);
                file.read_exact_at(&mut found, 0).unwrap();
                assert!(found == expected, "round {round}");
            }
            let hole = lseek(writer, offset as i64, Whence::SeekData).unwrap();
            assert!(hole <= offset as i64 + (1 << 20));
            writer.set_len(length as u64).unwrap();
        }
    });
}

#[test]
fn who_opens_after_a_punch_reads_no_older_data() {
    on_two_mounts(|a, b| {
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        for size in [10_000, 3 << 20] {
            fs::write(a.join("f"), vec![7; size]).unwrap();
            // Both keep it now.
            for path in [a, b] {
                assert!(fs::read(path.join("f")).unwrap() == vec![7; size]);
            }
            let file = File::options().write(true).open(b.join("f")).unwrap();
            fallocate(&file, punch, 1000, 5000).unwrap();
            drop(file);
            let mut expected = vec![7; size];
            expected[1000..6000].fill(0);
            for path in [b, a] {
                assert!(fs::read(path.join("f")).unwrap() == expected);
            }
        }
    });
}

#[test]
fn a_file_that_gets_its_first_name_is_on_the_other_mount_with_its_content() {
    on_two_mounts(|a, b| {
        for index in 0..20 {
            let path = format!("f{index}");
            assert!(is_absent(b.join(&path)));
            let mut options = OpenOptions::new();
            let options = options.write(true).custom_flags(libc::O_TMPFILE);
            let file = options.open(a).unwrap();
            let expected = vec![index | 1; 300_000];
            file.write_all_at(&expected, 0).unwrap();
            let (empty, here) = (AtFlags::AT_EMPTY_PATH, a.join(&path));
            linkat(&file, "", AT_FDCWD, &here, empty).unwrap();
            // Still open here.
            assert_eq!(fs::metadata(b.join(&path)).unwrap().len(), 300_000);
            assert!(fs::read(b.join(&path)).unwrap() == expected);
            file.write_all_at(b"more", 300_000).unwrap();
            drop(file);
            assert_eq!(fs::read(b.join(&path)).unwrap().len(), 300_004);
        }
    });
}

#[test]
fn a_file_removed_on_one_mount_gets_no_new_name_on_the_other() {
    on_two_mounts(|a, b| {
        fs::write(a.join("f"), "data").unwrap();
        let file = File::options().read(true).write(true).open(a.join("f"));
        let file = file.unwrap();
        fs::remove_file(b.join("f")).unwrap();
        let again = linkat(
            &file,
            "",
            AT_FDCWD,
            &a.join("again"),
            AtFlags::AT_EMPTY_PATH,
        );
        assert_eq!(again, Err(Errno::ENOENT));
        file.write_all_at(b"more", 4).unwrap();
        let mut found = [0; 8];
        file.read_exact_at(&mut found, 0).unwrap();
        assert_eq!(&found, b"datamore");
        assert!(names(a).is_empty() && names(b).is_empty());
    });
}

#[test]
fn a_whiteout_takes_a_names_place_on_both_mounts() {
    on_two_mounts(|a, b| {
        fs::create_dir(a.join("d")).unwrap();
        for index in 0..20 {
            let (mover, looker) = if index % 2 == 0 { (a, b) } else { (b, a) };
            let (old, new) = (format!("d/old{index}"), format!("d/new{index}"));
            fs::write(mover.join(&old), "data").unwrap();
            assert!(fs::metadata(looker.join(&old)).unwrap().is_file());
            assert!(is_absent(looker.join(&new)));
            let (from, to) = (mover.join(&old), mover.join(&new));
            let whiteout = RenameFlags::RENAME_WHITEOUT;
            renameat2(AT_FDCWD, &from, AT_FDCWD, &to, whiteout).unwrap();
            for mount in [mover, looker] {
                let left = fs::symlink_metadata(mount.join(&old)).unwrap();
                assert!(left.file_type().is_char_device() && left.rdev() == 0);
                assert_eq!(fs::read(mount.join(&new)).unwrap(), b"data");
            }
        }
        assert_eq!(names(a.join("d")), names(b.join("d")));
        assert_eq!(names(a.join("d")).len(), 40);
    });
}

/// As an NFS server does after a restart: a handle that was given out leads to the file although the
/// kernel has never heard of it.
#[test]
fn a_file_is_found_by_its_handle_where_nobody_has_looked_it_up() {
    if !pocket_tests::is_root() {
        return; // Opening by handle takes a capability.
    }
    on_two_mounts(|a, b| {
        fs::create_dir_all(a.join("d/deeper")).unwrap();
        fs::write(a.join("d/deeper/f"), "found").unwrap();
        let file = FileHandle::of(&a.join("d/deeper/f")).unwrap();
        let directory = FileHandle::of(&a.join("d/deeper")).unwrap();
        let mut content = String::new();
        file.open(b).unwrap().read_to_string(&mut content).unwrap();
        assert_eq!(content, "found");
        // A directory is joined to those above it.
        let opened = directory.open(b).unwrap();
        let status = opened.metadata().unwrap();
        assert_eq!(
            status.ino(),
            fs::metadata(b.join("d/deeper")).unwrap().ino()
        );
        fs::remove_file(a.join("d/deeper/f")).unwrap();
        assert_eq!(file.open(b).unwrap_err(), Errno::ESTALE);
    });
}
