//! How the engine treats memory.

use std::collections::HashSet;

use pocket_proto::Status;

use super::*;
use crate::engine::tests::{Subject, address, bytes};

const JOB: JobId = JobId(1);
const FILE: InodeId = InodeId(10);
const FIRST: BlockIndex = BlockIndex(0);

fn engine(capacity: u64) -> DramEngine {
    DramEngine::new(ByteCount(capacity))
}

fn read(engine: &DramEngine, offset: u32, length: u32) -> BlockRead {
    Subject::read(engine, JOB, address(FILE, FIRST, offset, length)).unwrap()
}

fn write(engine: &DramEngine, offset: u32, data: Bytes) -> Result<i64, Failure> {
    Subject::write(engine, JOB, FILE, FIRST, offset, data)
}

#[test]
fn dropped_job_is_gone_at_once_and_does_not_come_back() {
    let engine = engine(1 << 20);
    let straggler = {
        write(&engine, 0, bytes(100, 1)).unwrap();
        engine.job(JOB).unwrap()
    };
    assert_eq!(Subject::drop_job(&engine, JOB), -512);
    assert_eq!(Subject::drop_job(&engine, JOB), 0);
    assert!(read(&engine, 0, 100).hole);
    assert_eq!(
        write(&engine, 0, bytes(100, 1)).unwrap_err().status,
        Status::JobGone
    );
    // A writer that had the job in hand when it was dropped.
    let late = straggler.write(&engine.capacity, FILE, FIRST, 0, bytes(100, 1));
    assert!(matches!(late, Ok(None)));
    assert_eq!(Subject::usage(&engine).used_bytes, 0);
}

#[test]
fn whole_blocks_are_neither_copied_in_nor_out() {
    let engine = engine(4 << 20);
    let data = bytes(1 << 20, 1);
    let at = data.as_ptr();
    write(&engine, 0, data).unwrap();
    assert_eq!(read(&engine, 0, 1 << 20).bytes.as_ptr(), at);
    assert_eq!(read(&engine, 0, 2 << 20).bytes.as_ptr(), at);
}

#[test]
fn write_into_a_block_that_nobody_reads_happens_in_place() {
    let engine = engine(4 << 20);
    let data = bytes(1 << 20, 1);
    let at = data.as_ptr();
    write(&engine, 0, data).unwrap();
    for offset in [0, 5000, (1 << 20) - 4096] {
        write(&engine, offset, bytes(4096, 2)).unwrap();
    }
    assert_eq!(read(&engine, 0, 1 << 20).bytes.as_ptr(), at);
}

#[test]
fn block_that_grows_piece_by_piece_is_copied_a_bounded_number_of_times() {
    let engine = engine(4 << 20);
    let mut places = HashSet::new();
    for piece in 0..256 {
        write(&engine, piece * 4096, bytes(4096, 1)).unwrap();
        places.insert(read(&engine, 0, 1 << 20).bytes.as_ptr());
    }
    assert!(places.len() < 100, "{} copies", places.len());
    assert_eq!(Subject::usage(&engine).used_bytes, 1 << 20);
}
