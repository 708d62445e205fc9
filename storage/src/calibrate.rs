//! Measures what a medium moves, so that placement packs by real figures.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use pocket_proto::{BlockAddress, BlockIndex, Failure, InodeId, JobId};
use tokio::task::JoinSet;

use crate::engine::BlockEngine;

/// How long writes are measured, and reads.
const SPAN: Duration = Duration::from_secs(1);
/// Transfers under way at a time.
const DEPTH: u64 = 8;
const BLOCK_BYTES: u32 = 1 << 20;
/// Blocks that each of them goes round: more than is kept in memory, less than any server holds.
const BLOCKS: u64 = 2;
const INODE: InodeId = InodeId(1);

/// What the engine moves in a second, in bytes: the lesser of what it writes and what it reads, in
/// blocks of 1 MiB. Takes two seconds, and 16 MiB of room, which are free again afterwards.
pub(crate) async fn calibrate(engine: &Arc<dyn BlockEngine>) -> Result<u64, Failure> {
    let job = JobId::random();
    let data: Bytes = (0..BLOCK_BYTES).map(|at| (at * 31) as u8).collect();
    let write = |engine: Arc<dyn BlockEngine>, block| {
        // As requests come: in a buffer of their own.
        let data = Bytes::copy_from_slice(&data);
        async move {
            let written = engine.write(job, INODE, block, 0, data);
            written.finished().await.map(drop)
        }
    };
    let read = |engine: Arc<dyn BlockEngine>, block| async move {
        let address = BlockAddress {
            inode: INODE,
            block,
            offset_bytes: 0,
            length_bytes: BLOCK_BYTES,
        };
        engine.read(job, address).finished().await.map(drop)
    };
    let measured = match rate(engine, write).await {
        Ok(written) => rate(engine, read).await.map(|read| read.min(written)),
        Err(failure) => Err(failure),
    };
    engine.drop_job(job).finished().await?;
    measured
}

/// Bytes a second of an operation that moves a block.
async fn rate<F>(
    engine: &Arc<dyn BlockEngine>,
    operation: impl Fn(Arc<dyn BlockEngine>, BlockIndex) -> F,
) -> Result<u64, Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let start = Instant::now();
    let mut under_way = JoinSet::new();
    let mut begun = 0;
    let mut done = 0;
    loop {
        while begun < done + DEPTH && start.elapsed() < SPAN {
            let block = BlockIndex(begun % (DEPTH * BLOCKS));
            under_way.spawn(operation(Arc::clone(engine), block));
            begun += 1;
        }
        match under_way.join_next().await {
            Some(Ok(outcome)) => outcome?,
            Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
            None => break,
        }
        done += 1;
    }
    let bytes = done * u64::from(BLOCK_BYTES);
    Ok((bytes as f64 / start.elapsed().as_secs_f64()) as u64)
}
