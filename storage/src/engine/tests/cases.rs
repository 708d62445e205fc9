//! Cases: what an engine holds, and what it is charged.

use bytes::Bytes;
use pocket_proto::{
    BlockAddress, BlockIndex, BlockSpan, Failure, Fill, HELD_BLOCKS_MAX, InodeId, JobId, Status,
};

use super::Subject;
use crate::engine::{BlockRead, EngineUsage};

const JOB: JobId = JobId(1);
const OTHER_JOB: JobId = JobId(2);
const FILE: InodeId = InodeId(10);
const FIRST: BlockIndex = BlockIndex(0);

pub(in crate::engine) fn bytes(length: usize, seed: u8) -> Bytes {
    (0..length)
        .map(|at| (at as u8).wrapping_mul(7).wrapping_add(seed))
        .collect()
}

pub(in crate::engine) fn address(
    inode: InodeId,
    block: BlockIndex,
    offset: u32,
    length: u32,
) -> BlockAddress {
    BlockAddress {
        inode,
        block,
        offset_bytes: offset,
        length_bytes: length,
    }
}

fn read(engine: &impl Subject, offset: u32, length: u32) -> BlockRead {
    engine
        .read(JOB, address(FILE, FIRST, offset, length))
        .unwrap()
}

fn write(engine: &impl Subject, offset: u32, data: Bytes) -> Result<i64, Failure> {
    engine.write(JOB, FILE, FIRST, offset, data)
}

fn allocate(engine: &impl Subject, offset: u32, length: u32, fill: Fill) -> Result<i64, Failure> {
    engine.allocate(JOB, address(FILE, FIRST, offset, length), fill)
}

fn punch(engine: &impl Subject, offset: u32, length: u32) -> i64 {
    engine
        .punch(JOB, address(FILE, FIRST, offset, length))
        .unwrap()
}

pub(super) fn absent_block_is_a_hole_and_a_short_one_is_not<S: Subject>() {
    let subject = S::new(1 << 20);
    let engine = &subject;
    assert_eq!(
        read(engine, 0, 100),
        BlockRead {
            bytes: Bytes::new(),
            hole: true
        }
    );
    write(engine, 0, bytes(10, 1)).unwrap();
    assert_eq!(
        read(engine, 4, 100),
        BlockRead {
            bytes: bytes(10, 1).slice(4..),
            hole: false
        }
    );
    assert_eq!(
        read(engine, 10, 100),
        BlockRead {
            bytes: Bytes::new(),
            hole: false
        }
    );
    assert_eq!(
        read(engine, 5000, 0),
        BlockRead {
            bytes: Bytes::new(),
            hole: false
        }
    );
}

pub(super) fn gap_before_a_write_reads_as_zeros<S: Subject>() {
    let subject = S::new(1 << 20);
    let engine = &subject;
    write(engine, 1000, bytes(10, 1)).unwrap();
    assert_eq!(read(engine, 0, 1000).bytes, vec![0; 1000]);
    write(engine, 3000, bytes(10, 2)).unwrap();
    assert_eq!(read(engine, 1010, 1990).bytes, vec![0; 1990]);
    assert_eq!(read(engine, 1000, 10).bytes, bytes(10, 1));
}

pub(super) fn bytes_cut_off_do_not_come_back_when_the_block_grows_again<S: Subject>() {
    let subject = S::new(1 << 20);
    let engine = &subject;
    write(engine, 0, bytes(5000, 1)).unwrap();
    engine.truncate(JOB, FILE, FIRST, 100);
    write(engine, 4000, bytes(10, 2)).unwrap();
    assert_eq!(read(engine, 0, 100).bytes, bytes(5000, 1).slice(..100));
    assert_eq!(read(engine, 100, 3900).bytes, vec![0; 3900]);
}

pub(super) fn blocks_are_charged_by_their_length<S: Subject>() {
    let subject = S::new(1 << 20);
    let engine = &subject;
    assert_eq!(write(engine, 0, bytes(1, 1)), Ok(512));
    assert_eq!(write(engine, 0, bytes(512, 1)), Ok(0));
    assert_eq!(write(engine, 100, bytes(413, 1)), Ok(512));
    assert_eq!(write(engine, 0, bytes(10, 1)), Ok(0));
    assert_eq!(write(engine, 5000, Bytes::new()), Ok(0));
    assert_eq!(engine.usage().used_bytes, 1024);
    assert_eq!(engine.usage().blocks, 1);
    assert_eq!(engine.truncate(JOB, FILE, FIRST, 512), -512);
    assert_eq!(engine.truncate(JOB, FILE, FIRST, 600), 0);
    assert_eq!(engine.truncate(JOB, FILE, FIRST, 0), -512);
    assert_eq!(
        engine.usage(),
        EngineUsage {
            capacity_bytes: 1 << 20,
            ..EngineUsage::default()
        }
    );
}

pub(super) fn capacity_is_reached_exactly_and_a_write_over_it_changes_nothing<S: Subject>() {
    let subject = S::new(4096);
    let engine = &subject;
    write(engine, 0, bytes(2048, 1)).unwrap();
    let other = |length| engine.write(JOB, InodeId(11), FIRST, 0, bytes(length, 2));
    let full = other(2049).unwrap_err();
    assert_eq!(full.status, Status::ServerFull);
    assert!(full.message.contains("2KiB of 4KiB used"), "{full}");
    assert_eq!(engine.usage().used_bytes, 2048);
    assert!(
        engine
            .read(JOB, address(InodeId(11), FIRST, 0, 1))
            .unwrap()
            .hole
    );
    assert_eq!(other(2048), Ok(2048));
    assert_eq!(
        write(engine, 2048, bytes(1, 3)).unwrap_err().status,
        Status::ServerFull
    );
    assert_eq!(read(engine, 0, 4096).bytes, bytes(2048, 1));
    // What is there may be written over, and what is freed can be had.
    assert_eq!(write(engine, 0, bytes(2048, 4)), Ok(0));
    assert_eq!(engine.remove_inodes(JOB, &[InodeId(11)]), -2048);
    assert_eq!(write(engine, 2048, bytes(2048, 5)), Ok(2048));
}

pub(super) fn capacity_holds_under_concurrent_writers<S: Subject>() {
    let subject = S::new(1000 * 512);
    let engine = &subject;
    let written: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4_u64)
            .map(|writer| {
                scope.spawn(move || {
                    let write = |at| {
                        let inode = InodeId(writer * 1000 + at);
                        engine.write(JOB, inode, FIRST, 0, bytes(512, 0)).is_ok()
                    };
                    (0..400_u64).filter(|at| write(*at)).count()
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .sum()
    });
    assert_eq!(written, 1000);
    assert_eq!(engine.usage().used_bytes, 1000 * 512);
    assert_eq!(engine.drop_job(JOB), -1000 * 512);
    assert_eq!(engine.usage().blocks, 0);
}

pub(super) fn truncation_drops_the_blocks_behind<S: Subject>() {
    let subject = S::new(1 << 20);
    let engine = &subject;
    for block in 0..5 {
        engine
            .write(JOB, FILE, BlockIndex(block), 0, bytes(1024, block as u8))
            .unwrap();
    }
    assert_eq!(
        engine.truncate(JOB, FILE, BlockIndex(2), 512),
        -512 - 2 * 1024
    );
    let length = |block| {
        let read = engine
            .read(JOB, address(FILE, BlockIndex(block), 0, 2000))
            .unwrap();
        (!read.hole).then_some(read.bytes.len())
    };
    let lengths: Vec<_> = (0..5).map(length).collect();
    assert_eq!(lengths, [Some(1024), Some(1024), Some(512), None, None]);
    assert_eq!(engine.truncate(JOB, FILE, BlockIndex(1), 0), -1024 - 512);
    assert_eq!(engine.truncate(JOB, FILE, BlockIndex(u64::MAX), 1), 0);
    assert_eq!(engine.truncate(JOB, InodeId(99), FIRST, 0), 0);
    assert_eq!(engine.usage().blocks, 1);
}

pub(super) fn jobs_do_not_see_each_other<S: Subject>() {
    let subject = S::new(1 << 20);
    let engine = &subject;
    write(engine, 0, bytes(100, 1)).unwrap();
    assert!(
        engine
            .read(OTHER_JOB, address(FILE, FIRST, 0, 100))
            .unwrap()
            .hole
    );
    engine
        .write(OTHER_JOB, FILE, FIRST, 0, bytes(100, 2))
        .unwrap();
    assert_eq!(engine.remove_inodes(OTHER_JOB, &[FILE, FILE]), -512);
    assert_eq!(engine.drop_job(OTHER_JOB), 0);
    assert_eq!(read(engine, 0, 100).bytes, bytes(100, 1));
}

pub(super) fn range_beyond_the_largest_block_is_invalid<S: Subject>() {
    let subject = S::new(1 << 30);
    let engine = &subject;
    for (offset, length) in [(u32::MAX, u32::MAX), (16 << 20, 1), (1, 16 << 20)] {
        let read = engine.read(JOB, address(FILE, FIRST, offset, length));
        assert_eq!(read.unwrap_err().status, Status::Invalid);
    }
    let written = write(engine, 16 << 20, bytes(1, 0));
    assert_eq!(written.unwrap_err().status, Status::Invalid);
    assert_eq!(engine.usage().used_bytes, 0);
    assert!(write(engine, (16 << 20) - 1, bytes(1, 0)).is_ok());
}

pub(super) fn reader_keeps_what_it_read_while_the_block_changes<S: Subject>() {
    let subject = S::new(4 << 20);
    let engine = &subject;
    write(engine, 0, bytes(100_000, 1)).unwrap();
    let held = read(engine, 0, 100_000).bytes;
    write(engine, 50_000, bytes(10, 9)).unwrap();
    engine.truncate(JOB, FILE, FIRST, 60_000);
    assert_eq!(held, bytes(100_000, 1));
    assert_eq!(read(engine, 50_000, 10).bytes, bytes(10, 9));
    engine.drop_job(JOB);
    assert_eq!(held, bytes(100_000, 1));
}

pub(super) fn allocation_keeps_what_is_there_and_zeroing_does_not<S: Subject>() {
    let subject = S::new(1 << 20);
    let engine = &subject;
    write(engine, 0, bytes(1000, 1)).unwrap();
    assert_eq!(allocate(engine, 500, 3596, Fill::Missing), Ok(3072));
    let read_back = read(engine, 0, 5000).bytes;
    assert_eq!(read_back.len(), 4096);
    assert_eq!(&read_back[..1000], &bytes(1000, 1)[..]);
    assert!(read_back[1000..].iter().all(|byte| *byte == 0));
    assert_eq!(allocate(engine, 100, 200, Fill::Missing), Ok(0));
    assert_eq!(allocate(engine, 100, 200, Fill::All), Ok(0));
    let zeroed = read(engine, 0, 1000).bytes;
    assert_eq!(&zeroed[..100], &bytes(1000, 1)[..100]);
    assert_eq!(zeroed[100..300], [0; 200]);
    assert_eq!(&zeroed[300..], &bytes(1000, 1)[300..]);
    assert_eq!(allocate(engine, 9000, 0, Fill::Missing), Ok(0));
}

pub(super) fn allocation_that_does_not_fit_changes_nothing<S: Subject>() {
    let subject = S::new(4096);
    let engine = &subject;
    write(engine, 0, bytes(1000, 1)).unwrap();
    for fill in [Fill::Missing, Fill::All] {
        let full = allocate(engine, 0, 4097, fill).unwrap_err();
        assert_eq!(full.status, Status::ServerFull);
        assert_eq!(read(engine, 0, 5000).bytes, bytes(1000, 1));
        assert_eq!(engine.usage().used_bytes, 1024);
    }
    assert_eq!(allocate(engine, 0, 4096, Fill::Missing), Ok(3072));
}

pub(super) fn punching_frees_whole_blocks_and_ends_and_zeroes_the_rest<S: Subject>() {
    let subject = S::new(1 << 20);
    let engine = &subject;
    write(engine, 0, bytes(4096, 1)).unwrap();
    assert_eq!(punch(engine, 1000, 1000), 0);
    assert_eq!(read(engine, 1000, 1000).bytes, vec![0; 1000]);
    assert_eq!(punch(engine, 2048, 1 << 20), -2048);
    assert_eq!(read(engine, 0, 4096).bytes.len(), 2048);
    assert_eq!(punch(engine, 3000, 1000), 0);
    assert_eq!(punch(engine, 0, 2048), -2048);
    assert!(read(engine, 0, 1).hole);
    assert_eq!(engine.usage().blocks, 0);
    assert_eq!(punch(engine, 0, 2048), 0);
}

pub(super) fn copy_is_a_block_of_its_own<S: Subject>() {
    let subject = S::new(1 << 20);
    let engine = &subject;
    let (from, to) = (
        address(FILE, FIRST, 0, 100_000),
        address(FILE, BlockIndex(7), 0, 100_000),
    );
    write(engine, 0, bytes(100_000, 1)).unwrap();
    let charge = 100_000_u64.next_multiple_of(512) as i64;
    assert_eq!(engine.copy(JOB, from, to), Ok(charge));
    write(engine, 50, bytes(10, 9)).unwrap();
    assert_eq!(engine.read(JOB, to).unwrap().bytes, bytes(100_000, 1));
    // What the source lacks is punched.
    engine.drop_blocks(
        JOB,
        BlockSpan {
            inode: FILE,
            first: FIRST,
            count: 1,
        },
    );
    assert_eq!(engine.copy(JOB, from, to), Ok(-charge));
    assert_eq!(engine.usage().blocks, 0);
}

pub(super) fn many_blocks_are_told_in_several_answers<S: Subject>() {
    let subject = S::new(64 << 20);
    let engine = &subject;
    for block in 0..HELD_BLOCKS_MAX as u64 + 10 {
        engine
            .write(JOB, FILE, BlockIndex(block * 2), 0, bytes(1, 1))
            .unwrap();
    }
    let span = |first| BlockSpan {
        inode: FILE,
        first: BlockIndex(first),
        count: u64::MAX,
    };
    let told = engine.list(JOB, span(0));
    assert_eq!(told.blocks.len(), HELD_BLOCKS_MAX);
    assert_eq!(told.told_to, BlockIndex(2 * HELD_BLOCKS_MAX as u64 - 1));
    let rest = engine.list(JOB, span(told.told_to.0));
    assert_eq!(rest.blocks.len(), 10);
    assert_eq!(rest.told_to, BlockIndex(u64::MAX));
    assert!(engine.list(OTHER_JOB, span(0)).blocks.is_empty());
}

pub(super) fn inodes_that_hold_blocks_are_told_in_order<S: Subject>() {
    let subject = S::new(1 << 20);
    let engine = &subject;
    for inode in [70, 3, 35, 36, 37, 38] {
        let inode = InodeId(inode);
        engine.write(JOB, inode, FIRST, 0, bytes(4, 1)).unwrap();
    }
    engine.remove_inodes(JOB, &[InodeId(36)]);
    engine.truncate(JOB, InodeId(37), FIRST, 0);
    engine
        .punch(JOB, address(InodeId(38), FIRST, 0, 4))
        .unwrap();
    let told = |after, count| engine.inodes(JOB, InodeId(after), count);
    assert_eq!(told(0, 10), [3, 35, 70].map(InodeId));
    assert_eq!(told(3, 1), [InodeId(35)]);
    assert!(told(70, 10).is_empty());
    assert!(engine.inodes(OTHER_JOB, InodeId(0), 10).is_empty());
}

pub(super) fn space_operations_refuse_what_no_block_holds<S: Subject>() {
    let subject = S::new(1 << 20);
    let engine = &subject;
    for (offset, length) in [(16 << 20, 1), (u32::MAX, u32::MAX), (0, (16 << 20) + 1)] {
        let (address, fine) = (
            address(FILE, FIRST, offset, length),
            address(FILE, FIRST, 0, length),
        );
        let refusals = [
            engine.allocate(JOB, address, Fill::Missing),
            engine.allocate(JOB, address, Fill::All),
            engine.punch(JOB, address),
            engine.copy(JOB, address, fine),
            engine.copy(JOB, fine, address),
        ];
        for refusal in refusals {
            assert_eq!(refusal.unwrap_err().status, Status::Invalid);
        }
    }
    let uneven = engine.copy(JOB, address(FILE, FIRST, 0, 5), address(FILE, FIRST, 10, 6));
    assert_eq!(uneven.unwrap_err().status, Status::Invalid);
    engine.drop_job(JOB);
    let gone = allocate(engine, 0, 1, Fill::Missing).unwrap_err();
    assert_eq!(gone.status, Status::JobGone);
}
