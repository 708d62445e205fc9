//! Media that fail.

use pocket_proto::{BlockIndex, InodeId, Status};

use super::{FIRST, JOB, open, read};
use crate::engine::{
    device::Fault,
    tests::{Subject, address, bytes},
};

fn status(log: &impl Subject, inode: u64) -> Result<Vec<u8>, Status> {
    let place = address(InodeId(inode), FIRST, 0, 1 << 20);
    let read = log.read(JOB, place);
    read.map(|read| read.bytes.to_vec())
        .map_err(|failure| failure.status)
}

#[test]
fn reads_that_fail_or_find_other_bytes_are_lost_and_counted() {
    let log = open(4 << 20);
    for length in [100, 5000, 200_000] {
        log.write(JOB, InodeId(length), FIRST, 0, bytes(length as usize, 1))
            .unwrap();
    }
    let mut errors = 0;
    for fault in [Fault::Reads, Fault::Flip] {
        log.device.set_fault(Some(fault));
        for length in [5000, 200_000] {
            assert_eq!(status(&log, length), Err(Status::Lost), "{fault:?}");
            errors += 1;
        }
    }
    assert_eq!(log.engine().medium().errors, errors);
    log.device.set_fault(None);
    for length in [100, 5000, 200_000] {
        assert_eq!(status(&log, length), Ok(bytes(length as usize, 1).to_vec()));
    }
}

#[test]
fn writes_that_were_never_done_are_not_read_as_what_was_there_before() {
    let log = open(4 << 20);
    log.write(JOB, InodeId(1), FIRST, 0, bytes(9000, 1))
        .unwrap();
    log.device.set_fault(Some(Fault::Ignore));
    log.write(JOB, InodeId(1), FIRST, 0, bytes(9000, 2))
        .unwrap();
    log.device.set_fault(None);
    assert_eq!(status(&log, 1), Err(Status::Lost));
    log.write(JOB, InodeId(1), FIRST, 0, bytes(9000, 3))
        .unwrap();
    assert_eq!(status(&log, 1), Ok(bytes(9000, 3).to_vec()));
}

#[test]
fn a_write_that_fails_once_is_done_elsewhere() {
    for fault in [Fault::Writes(1), Fault::NoRoom(2)] {
        let mut log = open(4 << 20);
        log.write(JOB, InodeId(1), FIRST, 0, bytes(9000, 1))
            .unwrap();
        log.device.set_fault(Some(fault));
        log.write(JOB, InodeId(2), FIRST, 0, bytes(9000, 2))
            .unwrap();
        log.write(JOB, InodeId(3), FIRST, 0, bytes(9000, 3))
            .unwrap();
        for orderly in [true, false] {
            for inode in 1..=3 {
                assert_eq!(
                    read(&log, JOB, inode),
                    Some(bytes(9000, inode as u8).to_vec())
                );
            }
            log = log.restarted(orderly).ok().unwrap();
        }
    }
}

#[test]
fn a_medium_that_goes_on_failing_takes_nothing_new_and_keeps_what_it_has() {
    let log = open(4 << 20);
    log.write(JOB, InodeId(1), FIRST, 0, bytes(9000, 1))
        .unwrap();
    log.device.set_fault(Some(Fault::Writes(u32::MAX)));
    let write = |block| {
        let written = log.write(JOB, InodeId(2), BlockIndex(block), 0, bytes(9000, 2));
        written.unwrap_err().status
    };
    assert_eq!(write(0), Status::Lost);
    let refused = (1..20).map(write).find(|status| *status != Status::Lost);
    assert_eq!(refused, Some(Status::ServerFull));
    assert!(log.engine().medium().failed);
    assert_eq!(status(&log, 1), Ok(bytes(9000, 1).to_vec()));
    assert_eq!(status(&log, 2), Err(Status::Lost));
}

#[test]
fn what_cannot_be_read_is_still_lost_when_its_segment_was_emptied() {
    let mut log = open(1 << 20);
    log.write(JOB, InodeId(1), FIRST, 0, bytes(9000, 1))
        .unwrap();
    log.device.damage(|_, sector| {
        if sector
            .windows(64)
            .any(|window| window == &bytes(9000, 1)[4096..4160])
        {
            sector[100] ^= 1;
        }
    });
    // So much is written over and over that the first segment is emptied.
    for round in 0..100_u64 {
        for inode in 2..5 {
            log.write(JOB, InodeId(inode), FIRST, 0, bytes(200_000, round as u8))
                .unwrap();
        }
    }
    assert_eq!(status(&log, 1), Err(Status::Lost));
    for orderly in [true, false] {
        log = log.restarted(orderly).ok().unwrap();
        assert_eq!(status(&log, 1), Err(Status::Lost));
    }
    assert_eq!(log.usage().blocks, 4);
}
