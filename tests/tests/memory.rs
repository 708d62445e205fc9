//! Memory is bounded: a mount's by its budget, a storage server's by its capacity.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
    thread,
};

use nix::unistd::Pid;
use pocket_tests::{Shape, with_shape};

const MIB: u64 = 1 << 20;

/// What a line of /proc/PID/status says, in bytes: VmHWM is the most memory ever resident.
fn memory(pid: Pid, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

fn peak(pid: Pid) -> u64 {
    memory(pid, "VmHWM:")
}

fn shape(storage_capacity: &'static str) -> Shape {
    Shape {
        storage_servers: 1,
        storage_capacity,
        ..Shape::default()
    }
}

fn write_large(path: &Path, bytes: u64) {
    let mut file = File::create(path).unwrap();
    let piece = vec![3; MIB as usize];
    for _ in 0..bytes / MIB {
        file.write_all(&piece).unwrap();
    }
}

fn read_large(path: &Path) -> u64 {
    let mut file = File::open(path).unwrap();
    let mut piece = vec![0; MIB as usize];
    let mut total = 0;
    loop {
        match file.read(&mut piece).unwrap() {
            0 => return total,
            count => total += count as u64,
        }
    }
}

#[test]
fn a_mounts_memory_stays_within_its_budget() {
    const BUDGET: u64 = 128 * MIB;
    /// What is not data: stacks, tables, the kernel's requests under way, the allocator's slack.
    const REST: u64 = 32 * MIB;
    const FILE: u64 = 160 * MIB;
    with_shape(shape("1GiB"), |cluster| {
        let mut mount = cluster.mount_with(
            "budget",
            &["--capacity", "1GiB", "--memory-budget", "128MiB"],
        );
        let pid = mount.process().pid();
        let before = peak(pid);
        thread::scope(|scope| {
            for index in 0..4 {
                let path = mount.join(index.to_string());
                scope.spawn(move || write_large(&path, FILE));
            }
        });
        thread::scope(|scope| {
            for index in 0..4 {
                let path = mount.join(index.to_string());
                scope.spawn(move || assert_eq!(read_large(&path), FILE));
            }
        });
        for index in 0..5000 {
            fs::write(mount.join(format!("small-{index}")), "small").unwrap();
        }
        let grown = peak(pid) - before;
        assert!(grown < BUDGET + REST, "grew by {} MiB", grown / MIB);
        mount.finish();
    });
}

#[test]
fn a_storage_servers_memory_is_its_capacity_and_a_tenth() {
    const CAPACITY: u64 = 128 * MIB;
    with_shape(shape("128MiB"), |cluster| {
        let pid = cluster.storage(0).process().pid();
        let before = peak(pid);
        let mount = cluster.mount_with(
            "full",
            &["--capacity", "128MiB", "--max-capacity", "128MiB"],
        );
        // Large files, freed, then small ones, so that the allocator has to cope with both.
        for index in 0..7 {
            write_large(&mount.join(format!("large-{index}")), 16 * MIB);
        }
        for index in 0..7 {
            fs::remove_file(mount.join(format!("large-{index}"))).unwrap();
        }
        let mut written = 0;
        while written < 30_000
            && fs::write(mount.join(format!("small-{written}")), [5; 3000]).is_ok()
        {
            written += 1;
        }
        assert!(written > 25_000, "{written} files of 3000 bytes");
        let grown = peak(pid) - before;
        assert!(
            grown < CAPACITY + CAPACITY / 10,
            "grew by {} MiB",
            grown / MIB
        );
        mount.finish();
    });
}
