//! Storage servers that are paused and killed under writers and readers: what was acknowledged and
//! is not on a killed server reads back whole, what was on it is EIO, and nobody ever reads
//! anything else. What jobs hold is what servers hold after every step.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    time::Duration,
};

use pocket_tests::{
    Mount, ProcessCluster, Shape,
    load::{Answers, Load},
    try_until, until, with_cluster, with_shape,
};

const BLOCK_BYTES: usize = 64 << 10;
/// A server that is back is used again, and its blocks are read, within this.
const BACK_DEADLINE: Duration = Duration::from_secs(20);

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
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
        let mut load = Load::new(cluster, "lossy");
        load.around(Answers::Whole, || ());
        cluster.check_account(|bytes| bytes > 0);

        // A pause that everybody notices loses nothing.
        load.around(Answers::WholeOrEio, || {
            cluster.storage(0).process().freeze();
        });
        cluster.storage(0).process().thaw();
        let back = try_until(BACK_DEADLINE, || {
            load.lost_blocks(cluster).is_empty().then_some(())
        });
        assert!(back.is_some(), "{:?}", load.lost_blocks(cluster));
        load.remove_rewritten();
        cluster.check_account(|bytes| bytes > 0);

        // A death loses what was on the server, and nothing else.
        let endpoint = cluster.storage(1).endpoint().to_owned();
        load.around(Answers::WholeOrEio, || cluster.storage(1).kill());
        let lost = load.lost_blocks(cluster);
        assert_eq!(lost, load.blocks_on(&endpoint));
        assert!(!lost.is_empty(), "the server held something");

        // It comes back with nothing: what is lost stays so, and it is used again.
        load.around(Answers::WholeOrEio, || cluster.storage(1).restart());
        until(BACK_DEADLINE, "the new server to be used", || {
            cluster.storage_used(1) > 0 || {
                load.around(Answers::WholeOrEio, || ());
                false
            }
        });
        assert_eq!(load.lost_blocks(cluster), lost);

        load.remove_files();
        cluster.check_account(|bytes| bytes == 0);
        load.finish();
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
