//! Mounts that are stopped or cut off and come back: what they had under way changes nothing any
//! more.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use nix::errno::Errno;
use pocket_tests::{
    Cut, Map, Mount, Network, ProcessCluster, Sharing, errno_of, is_root, until, with_cluster,
    within,
};

/// The lease of a session, with room for a machine under load.
const LEASE: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(2);
/// Longer than anything here takes that is not about the lease.
const PATIENCE: Duration = Duration::from_secs(20);

const BLOCK_BYTES: u64 = 1 << 20;
const BLOCKS: u64 = 24;
/// What is written late.
const LATE_BYTES: usize = 4096;

/// Starting a process closes, in the child, descriptors that the other test has open: that is a close
/// as any other, and may be the one that is told of a failure.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn with_cluster_alone(body: impl FnOnce(&mut ProcessCluster)) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    with_cluster(body);
}

fn open(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

/// Excuses what a mount says that was silent.
fn expect_silence(cluster: &mut ProcessCluster) {
    cluster.expect_in_logs("session with the metadata server lost");
    cluster.expect_in_logs("buffered data lost");
    // The recall that it did not answer in time.
    cluster.expect_in_logs("a file that became shared was not committed");
}

/// Two mounts, the first of which will be stopped.
fn two_mounts(cluster: &mut ProcessCluster) -> (Mount, Mount) {
    expect_silence(cluster);
    (cluster.mount("fence"), cluster.mount("fence"))
}

/// Two mounts, the first of which will be cut off.
fn two_mounts_and_a_network(cluster: &mut ProcessCluster) -> (Mount, Mount, Network) {
    expect_silence(cluster);
    cluster.expect_in_logs("metadata server is away, trying on");
    let (cut_off, network) = cluster.mount_through_network("fence");
    (cut_off, cluster.mount("fence"), network)
}

/// The mount that was stopped works as any other, and sees what was done meanwhile.
fn works_again(stopped: &Mount, other: &Mount, expected: &[u8]) {
    let (path, wanted) = (stopped.join("f"), expected.to_vec());
    until(
        PATIENCE,
        "fresh data on the mount that was stopped",
        move || fs::read(&path).is_ok_and(|found| found == wanted),
    );
    fs::write(stopped.join("later"), "from the one").unwrap();
    assert_eq!(fs::read(other.join("later")).unwrap(), b"from the one");
    let file = open(&stopped.join("f"));
    file.write_all_at(b"again", 0).unwrap();
    drop(file);
    assert_eq!(fs::read(other.join("f")).unwrap()[..5], *b"again");
    fs::write(other.join("f"), "and back").unwrap();
    assert_eq!(fs::read(stopped.join("f")).unwrap(), b"and back");
}

/// Bytes that wait in the sockets of a server on this host for it to read them.
fn unread_bytes(endpoint: &str) -> u64 {
    let port: u16 = endpoint.rsplit(':').next().unwrap().parse().unwrap();
    let port = format!(":{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let unread = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, queues) = (fields.next()?, fields.nth(2)?);
        let (_, unread) = queues.split_once(':')?;
        let unread = u64::from_str_radix(unread, 16).ok()?;
        local.ends_with(&port).then_some(unread)
    });
    unread.sum()
}

/// A mount that falls silent while it writes holds another up for the lease time, and what it writes
/// after that changes nothing, whenever it comes.
fn falls_silent_while_it_writes(
    cluster: &mut ProcessCluster,
    (mut silent, other): (Mount, Mount),
    fall_silent: impl FnOnce(&mut Mount),
    be_heard: impl FnOnce(&mut Mount),
) {
    let whole = vec![b'o'; (BLOCKS * BLOCK_BYTES) as usize];
    fs::write(silent.join("f"), whole).unwrap();
    assert_eq!(
        fs::metadata(other.join("f")).unwrap().len(),
        BLOCKS * BLOCK_BYTES
    );
    // Blocks are sent as they fill: some are under way whenever the mount falls silent.
    let file = open(&silent.join("f"));
    let (report, reports) = mpsc::channel();
    let writer = std::thread::spawn(move || {
        for round in 0_u64.. {
            let data = vec![round as u8; BLOCK_BYTES as usize];
            if let Err(error) = file.write_all_at(&data, round % BLOCKS * BLOCK_BYTES) {
                return errno_of(&error);
            }
            report.send(round).unwrap_or_default();
        }
        unreachable!("it writes until it fails")
    });
    let under_way = reports.iter().find(|round| *round > 2 * BLOCKS);
    assert!(under_way.is_some());
    fall_silent(&mut silent);

    let begun = Instant::now();
    let path = other.join("f");
    let found = within(PATIENCE, "reading a silent mount's file", move || {
        fs::read(path).unwrap()
    });
    let waited = begun.elapsed();
    assert!(waited < LEASE + SLACK, "{waited:?}");
    let changed = open(&other.join("f"));
    changed.write_all_at(b"new", 0).unwrap();
    drop(changed);
    let expected = [b"new", &found[3..]].concat();

    be_heard(&mut silent);
    let told = within(PATIENCE, "the writer", move || writer.join().unwrap());
    assert_eq!(told, Errno::EIO);
    let witness = cluster.mount("fence");
    assert!(fs::read(witness.join("f")).unwrap() == expected);
    works_again(&silent, &other, &expected);
    // Nothing comes later, either.
    assert_eq!(fs::read(witness.join("f")).unwrap(), b"and back");
    for mount in [silent, other, witness] {
        mount.finish();
    }
}

#[test]
fn a_stopped_mount_delays_others_for_the_lease_and_its_late_writes_change_nothing() {
    with_cluster_alone(|cluster| {
        let mounts = two_mounts(cluster);
        falls_silent_while_it_writes(
            cluster,
            mounts,
            |stopped| stopped.process().freeze(),
            |stopped| stopped.process().thaw(),
        );
    });
}

/// As far as the servers can tell, a network that is cut one way is a mount that does not answer, or
/// one that does not hear.
fn is_cut_off_while_it_writes(cut: Cut) {
    if !is_root() {
        return;
    }
    with_cluster_alone(|cluster| {
        let (cut_off, other, network) = two_mounts_and_a_network(cluster);
        falls_silent_while_it_writes(
            cluster,
            (cut_off, other),
            |_| network.cut(cut),
            |_| network.mend(),
        );
    });
}

#[test]
fn a_mount_that_is_cut_off_delays_others_for_the_lease_and_its_late_writes_change_nothing() {
    is_cut_off_while_it_writes(Cut::Both);
}

#[test]
fn a_mount_that_is_not_heard_delays_others_for_the_lease_and_its_late_writes_change_nothing() {
    is_cut_off_while_it_writes(Cut::ToServers);
}

#[test]
fn a_mount_that_hears_nothing_delays_others_for_the_lease_and_its_late_writes_change_nothing() {
    is_cut_off_while_it_writes(Cut::ToMount);
}

#[test]
fn a_mount_that_is_cut_off_loses_what_it_buffered_and_shows_nothing_that_others_have_changed() {
    if !is_root() {
        return;
    }
    with_cluster_alone(|cluster| {
        let (cut_off, other, network) = two_mounts_and_a_network(cluster);
        for name in ["data", "removed", "buffered", "unsynced"] {
            fs::write(cut_off.join(name), "old").unwrap();
            assert_eq!(fs::read(other.join(name)).unwrap(), b"old");
        }
        // What it knows: names, present and absent, and content that it need not ask for.
        let data = File::open(cut_off.join("data")).unwrap();
        let read = move || {
            let mut found = [0; 3];
            data.read_exact_at(&mut found, 0)
                .map(|()| found)
                .map_err(|error| errno_of(&error))
        };
        assert_eq!(read(), Ok(*b"old"));
        fs::metadata(cut_off.join("removed")).unwrap();
        fs::metadata(cut_off.join("made")).unwrap_err();
        let buffered = open(&cut_off.join("buffered"));
        buffered.write_all_at(b"soon", 0).unwrap();
        let unsynced = open(&cut_off.join("unsynced"));
        network.cut(Cut::Both);
        // It does not know yet. The above may have been written back by itself; this was not.
        buffered.write_all_at(b"late", 0).unwrap();
        unsynced.write_all_at(b"late", 0).unwrap();

        let begun = Instant::now();
        let root = other.path().to_owned();
        within(PATIENCE, "changing what a mount knew", move || {
            fs::write(root.join("data"), "new").unwrap();
            fs::remove_file(root.join("removed")).unwrap();
            fs::write(root.join("made"), "made").unwrap();
            fs::write(root.join("buffered"), "new").unwrap();
        });
        let waited = begun.elapsed();
        assert!(waited < LEASE + SLACK, "{waited:?}");

        let look = |name: &str| {
            let path = cut_off.join(name);
            move || {
                let found = fs::metadata(path).map(|status| status.len());
                found.map_err(|error| errno_of(&error))
            }
        };
        let looking = ["removed", "made"].map(|name| std::thread::spawn(look(name)));
        let reading = std::thread::spawn(move || (read(), read));
        let syncing = std::thread::spawn(move || (nix::unistd::fsync(&buffered), buffered));
        for looking in looking {
            let found = within(PATIENCE, "a look at a name", || looking.join().unwrap());
            assert_eq!(found, Err(Errno::EIO));
        }
        let (found, read) = within(PATIENCE, "a read", || reading.join().unwrap());
        assert_eq!(found, Err(Errno::EIO));
        let (told, buffered) = within(PATIENCE, "fsync", || syncing.join().unwrap());
        assert_eq!(told, Err(Errno::EIO));

        network.mend();
        until(PATIENCE, "what others have done meanwhile", || {
            look("removed")() == Err(Errno::ENOENT) && look("made")() == Ok(4)
        });
        assert_eq!(read(), Ok(*b"new"));
        assert_eq!(fs::read(cut_off.join("buffered")).unwrap(), b"new");
        // Nobody has heard of this loss yet: who opens the file hears of it, once, and who wrote.
        let opened = File::open(cut_off.join("unsynced")).unwrap();
        for file in [opened, unsynced] {
            let told = [0, 1].map(|_| nix::unistd::fsync(&file));
            assert_eq!(told, [Err(Errno::EIO), Ok(())]);
        }
        let refused = buffered.write_all_at(b"x", 0);
        assert_eq!(refused.map_err(|error| errno_of(&error)), Err(Errno::EIO));
        drop((buffered, read));
        fs::write(cut_off.join("again"), "again").unwrap();
        assert_eq!(fs::read(other.join("again")).unwrap(), b"again");
        assert_eq!(fs::read(other.join("buffered")).unwrap(), b"new");
        cut_off.finish();
        other.finish();
    });
}

/// Pages are written whole, with what others have written to the rest of them meanwhile.
#[test]
fn what_was_stored_in_a_map_of_a_stopped_mount_undoes_nothing_that_others_wrote() {
    with_cluster_alone(|cluster| {
        let (mut stopped, other) = two_mounts(cluster);
        fs::write(stopped.join("f"), vec![b'o'; LATE_BYTES]).unwrap();
        assert!(fs::read(other.join("f")).unwrap() == vec![b'o'; LATE_BYTES]);
        let mapped = open(&stopped.join("f"));
        let mut map = Map::new(mapped, LATE_BYTES, Sharing::Shared).unwrap();
        map.write(0, b"late");
        stopped.process().freeze();
        let path = other.join("f");
        within(PATIENCE, "writing a stopped mount's file", move || {
            open(&path).write_all_at(b"new", 100).unwrap()
        });
        stopped.process().thaw();

        let mut expected = vec![b'o'; LATE_BYTES];
        expected[100..103].copy_from_slice(b"new");
        let path = stopped.join("f");
        until(PATIENCE, "the mount to see what others wrote", || {
            fs::read(&path).is_ok_and(|found| found == expected)
        });
        assert_eq!(map.sync(), Err(Errno::EIO), "what was stored is lost");
        assert!(map.read(0, LATE_BYTES) == expected);
        assert!(fs::read(other.join("f")).unwrap() == expected);
        map.write(0, b"again");
        map.sync().unwrap();
        drop(map);
        expected[..5].copy_from_slice(b"again");
        assert!(fs::read(other.join("f")).unwrap() == expected);
        stopped.finish();
        other.finish();
    });
}

#[test]
fn a_write_in_a_storage_servers_socket_changes_nothing_once_its_mount_is_fenced() {
    with_cluster_alone(|cluster| {
        cluster.expect_in_logs("missed its heartbeats");
        cluster.expect_in_logs("no storage server is alive");
        let (mut stopped, other) = two_mounts(cluster);
        let witness = cluster.mount("fence");
        fs::write(stopped.join("f"), vec![b'o'; LATE_BYTES]).unwrap();
        let file = open(&stopped.join("f"));
        // Over each of its connections once, so that all are open.
        for _ in 0..4 {
            file.write_all_at(&[b'o'; LATE_BYTES], 0).unwrap();
            file.sync_all().unwrap();
        }
        for index in 0..2 {
            cluster.storage(index).process().freeze();
        }
        let syncing = std::thread::spawn(move || {
            file.write_all_at(&[b'L'; LATE_BYTES], 0).unwrap();
            (nix::unistd::fsync(&file), file)
        });
        let endpoints = [0, 1].map(|index| cluster.storage(index).endpoint().to_owned());
        until(PATIENCE, "the write to be on its way", || {
            endpoints
                .iter()
                .map(|endpoint| unread_bytes(endpoint))
                .sum::<u64>()
                > LATE_BYTES as u64
        });
        stopped.process().freeze();

        // No storage server answers, but none is vouched for any more by then.
        let frozen = Instant::now();
        let path = other.join("f");
        let changed = within(PATIENCE, "opening a stopped mount's file", move || {
            open(&path)
        });
        let waited = frozen.elapsed();
        assert!(waited < LEASE + SLACK, "{waited:?}");
        for index in 0..2 {
            cluster.storage(index).process().thaw();
        }
        within(PATIENCE, "writing to servers that were frozen", move || {
            changed.write_all_at(b"new", 0).unwrap();
            changed.sync_all().unwrap();
        });
        let mut expected = vec![b'o'; LATE_BYTES];
        expected[..3].copy_from_slice(b"new");
        assert!(fs::read(witness.join("f")).unwrap() == expected);

        stopped.process().thaw();
        let (told, file) = within(PATIENCE, "fsync", move || syncing.join().unwrap());
        assert_eq!(told, Err(Errno::EIO));
        // It is told once, and has nothing more to do with what the others have.
        assert_eq!(nix::unistd::fsync(&file), Ok(()));
        let refused = file.write_all_at(b"x", 0).map_err(|error| errno_of(&error));
        assert_eq!(refused, Err(Errno::EIO));
        drop(file);
        assert!(fs::read(witness.join("f")).unwrap() == expected);
        works_again(&stopped, &other, &expected);
        for mount in [stopped, other, witness] {
            mount.finish();
        }
    });
}
