//! Storage servers on disks: real processes, real mounts.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet, ffi::CString, fs, os::unix::ffi::OsStrExt, path::Path, time::Duration,
};

use pocket_tests::{ProcessCluster, Shape, try_until, with_shape};

const MIB: usize = 1 << 20;
/// A mount finds a server that is back within this.
const BACK_DEADLINE: Duration = Duration::from_secs(10);

fn content(seed: usize, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| (at * 31 + at / 4096 + seed) as u8)
        .collect()
}

/// The lines of `getfattr -n user.pocket.layout`.
fn layout(path: &Path) -> String {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut value = vec![0_u8; 64 << 10];
    #[allow(unsafe_code)]
    // SAFETY: both names end in NUL, and the value is as long as said.
    let length = unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"user.pocket.layout".as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    value.truncate(usize::try_from(length).unwrap());
    String::from_utf8(value).unwrap()
}

fn on_one_disk(body: impl FnOnce(&mut ProcessCluster)) {
    let shape = Shape {
        storage_servers: 0,
        disk_servers: 1,
        ..Shape::default()
    };
    with_shape(shape, body);
}

#[test]
fn blocks_on_a_disk_outlive_their_servers_process() {
    on_one_disk(|cluster| {
        // What the others say of a server that died.
        for words in ["storage", "controller", "unavailable", "server"] {
            cluster.expect_in_logs(words);
        }
        let mount = cluster.mount("outlives");
        let files: Vec<_> = (1..20).map(|file| content(file, file * 90_000)).collect();
        for (number, data) in files.iter().enumerate() {
            fs::write(mount.path().join(number.to_string()), data).unwrap();
        }
        fs::remove_file(mount.path().join("3")).unwrap();
        cluster.storage(0).restart();
        // While it was away its blocks could not be read; a mount looks again after a moment.
        for (number, data) in files.iter().enumerate().filter(|(number, _)| *number != 3) {
            let path = mount.path().join(number.to_string());
            let found = try_until(BACK_DEADLINE, || fs::read(&path).ok());
            assert!(found.unwrap() == *data, "file {number}");
        }
        fs::write(mount.path().join("later"), &files[5]).unwrap();
        assert!(fs::read(mount.path().join("later")).unwrap() == files[5]);
    });
}

#[test]
fn a_file_goes_on_in_the_next_tier_where_memory_is_full() {
    let shape = Shape {
        storage_servers: 1,
        storage_capacity: "24MiB",
        disk_servers: 1,
        disk_capacity: "512MiB",
        ..Shape::default()
    };
    with_shape(shape, |cluster| {
        let mount = cluster.mount_with("spills", &["--capacity", "120MiB"]);
        let path = mount.path().join("file");
        let data = content(1, 100 * MIB);
        fs::write(&path, &data).unwrap();
        assert!(fs::read(&path).unwrap() == data);
        let layout = layout(&path);
        let runs = layout.lines().skip(1);
        let tiers: BTreeSet<_> = runs
            .filter_map(|line| line.split(' ').next_back())
            .collect();
        assert_eq!(tiers, BTreeSet::from(["dram", "nvme"]), "{layout}");
    });
}
