//! Locks of both families, with a counter that is incremented under one.

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::fcntl::{FcntlArg, fcntl};
use pocket_tests::history::locks::Hold;
use rand::Rng;

use super::{
    clients::{on_all, read_and_write},
    findings::Findings,
    place::Place,
};

/// Bytes that are locked, of fcntl's locks.
const LOCKED_BYTES: u64 = 4;
/// Locks through one descriptor.
const LOCKS: usize = 8;

/// A lock that was asked for and granted, and what was done under it. Answers what the counter was
/// if it was incremented.
fn hold(
    (client, family): (usize, &'static str),
    (range, exclusive): (Range<u64>, bool),
    file: &File,
    from: u64,
    findings: &Findings,
) -> Option<u64> {
    let now = || findings.now();
    let mut until = from;
    let (mut word, mut counted) = ([0; 8], None);
    // A read tells that the lock was there when it was called.
    let called = now();
    let read = file.read_exact_at(&mut word, 0);
    let done = read.and_then(|()| {
        until = called;
        if exclusive && family == "flock" {
            let (called, value) = (now(), u64::from_le_bytes(word));
            file.write_all_at(&(value + 1).to_le_bytes(), 0)?;
            until = called;
            counted = Some(value);
        }
        let called = now();
        file.read_exact_at(&mut word, 0)?;
        until = called;
        Ok(())
    });
    if let Err(error) = done {
        findings.unknown(family, &error);
    }
    findings.holds.lock().unwrap().push(Hold {
        client,
        family,
        range,
        exclusive,
        from,
        until,
    });
    counted
}

/// Locks of open files, and a counter in the file that is locked.
pub(super) fn flock(places: &[Place], seed: u64, stop: &AtomicBool, findings: &Findings) {
    on_all(places, seed, |client, place, dice| {
        while !stop.load(Ordering::Relaxed) {
            let exclusive = dice.random_bool(0.7);
            let opened = read_and_write().open(place.enter().join("flock"));
            let locked = opened.and_then(|file| {
                match exclusive {
                    true => file.lock()?,
                    false => file.lock_shared()?,
                }
                Ok((file, findings.now()))
            });
            match locked {
                Ok((file, from)) => {
                    let what = (0..u64::MAX, exclusive);
                    let counted = hold((client, "flock"), what, &file, from, findings);
                    // What was written is lost with a mount that dies before.
                    match file.unlock() {
                        Ok(()) => findings.counted.lock().unwrap().extend(counted),
                        Err(error) => findings.unknown("unlock", &error),
                    }
                }
                Err(error) => findings.unknown("flock", &error),
            }
        }
    });
}

/// Locks of processes, which this process is on each mount.
pub(super) fn lock_records(places: &[Place], seed: u64, stop: &AtomicBool, findings: &Findings) {
    let lock = |file: &File, kind: i32, range: &Range<u64>| -> io::Result<()> {
        let lock = libc::flock {
            l_type: kind as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: range.start as i64,
            l_len: (range.end - range.start) as i64,
            l_pid: 0,
        };
        fcntl(file, FcntlArg::F_SETLKW(&lock))?;
        Ok(())
    };
    on_all(places, seed, |client, place, dice| {
        while !stop.load(Ordering::Relaxed) {
            let opened = read_and_write().open(place.enter().join("records"));
            let file = match opened {
                Ok(file) => file,
                Err(error) => {
                    findings.unknown("open", &error);
                    continue;
                }
            };
            for _ in 0..LOCKS {
                let start = dice.random_range(0..LOCKED_BYTES);
                let range = start..dice.random_range(start..LOCKED_BYTES) + 1;
                let exclusive = dice.random_bool(0.6);
                let kind = match exclusive {
                    true => libc::F_WRLCK,
                    false => libc::F_RDLCK,
                };
                let locked = lock(&file, kind, &range);
                let from = findings.now();
                let done = locked.and_then(|()| {
                    let what = (range.clone(), exclusive);
                    hold((client, "fcntl"), what, &file, from, findings);
                    lock(&file, libc::F_UNLCK, &range)
                });
                if let Err(error) = done {
                    findings.unknown("fcntl", &error);
                    break;
                }
            }
        }
    });
}
