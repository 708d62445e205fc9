//! Reading: what is in memory is answered at once, the rest is fetched, checked and put together.

use std::{io, ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use pocket_proto::{Failure, JobId, Status};
use tokio::sync::oneshot;

use super::{
    block::{Extent, LogBlock},
    core::Core,
    entry::CHUNK_BYTES,
    record::{Place, Record},
    segment::Segment,
};
use crate::engine::{
    BlockRead, Completion,
    device::{Direction, SECTOR_BYTES, SectorBuffer, Transfer},
};

/// Bytes being fetched at a time; further reads wait, in the order in which they came.
pub(super) const READING_BYTES_MAX: usize = 64 << 20;

/// A range of a block, and where its bytes are; what no part has is zeros.
pub(super) struct Plan {
    range: Range<u32>,
    parts: Vec<Part>,
}

struct Part {
    offset: u32,
    bytes: Source,
}

impl Part {
    fn fetched_bytes(&self) -> usize {
        match &self.bytes {
            Source::Medium(fetch) => fetch.bytes,
            _ => 0,
        }
    }
}

enum Source {
    Memory(Bytes),
    Medium(Fetch),
    Lost,
}

/// Bytes of a record that must be fetched.
pub(super) struct Fetch {
    record: Arc<Record>,
    segment: Arc<Segment>,
    /// On the medium, in whole sectors.
    at: u64,
    bytes: usize,
    /// Where in what is fetched the first whole chunk is, and the bytes wanted.
    chunks_at: usize,
    first_chunk: usize,
    chunk_bytes: usize,
    wanted: Range<usize>,
}

impl Plan {
    /// A plan for the bytes of a block between two offsets that it has.
    pub(super) fn new(core: &Core, block: &LogBlock, range: Range<u32>) -> Self {
        let parts = block
            .extents(range.start, range.end)
            .map(|extent| Part {
                offset: extent.offset,
                bytes: source(core, &extent),
            })
            .collect();
        Plan { range, parts }
    }

    /// Carries the plan out.
    pub(super) fn read(self, core: &Arc<Core>, job: JobId) -> Completion<Result<Bytes, Failure>> {
        let lost = |part: &Part| matches!(part.bytes, Source::Lost);
        if self.parts.iter().any(lost) {
            return Completion::Now(Err(lost_bytes()));
        }
        let in_memory = |part: &Part| matches!(part.bytes, Source::Memory(_));
        if self.parts.iter().all(in_memory) {
            let parts = self.parts.into_iter().filter_map(|part| match part.bytes {
                Source::Memory(bytes) => Some((part.offset, bytes)),
                _ => None,
            });
            return Completion::Now(Ok(joined(self.range, parts.collect())));
        }
        let core = Arc::clone(core);
        let range = self.range;
        let bytes: usize = self.parts.iter().map(Part::fetched_bytes).sum();
        Completion::later(async move {
            let room = core
                .reading
                .acquire_many(bytes.min(READING_BYTES_MAX) as u32)
                .await;
            // All are under way before the first is awaited.
            let parts: Vec<_> = self
                .parts
                .into_iter()
                .map(|part| (part.offset, begin(&core, part.bytes)))
                .collect();
            let mut found = Vec::with_capacity(parts.len());
            for (offset, part) in parts {
                let bytes = match part {
                    Begun::Done(bytes) => bytes,
                    Begun::UnderWay(fetch, answer) => finish(&core, job, &fetch, answer).await?,
                };
                found.push((offset, bytes));
            }
            drop(room);
            Ok(joined(range, found))
        })
    }
}

/// What a read answers about a range of a block that holds fewer or more bytes.
pub(super) fn found(bytes: Result<Bytes, Failure>) -> Result<BlockRead, Failure> {
    bytes.map(|bytes| BlockRead { bytes, hole: false })
}

fn source(core: &Core, extent: &Extent) -> Source {
    let record = &extent.record;
    let start = (extent.offset - record.offset) as usize;
    let wanted = start..start + extent.length as usize;
    match record.place() {
        Place::Memory(bytes)
        | Place::Segment {
            recent: Some(bytes),
            ..
        } => Source::Memory(bytes.slice(wanted)),
        Place::Segment { segment, at, .. } => {
            Source::Medium(Fetch::new(core, record, segment, at, wanted))
        }
        Place::Lost(_) => Source::Lost,
    }
}

impl Fetch {
    /// A fetch of the `wanted` bytes of a record's payload, with the chunks they are in.
    fn new(
        core: &Core,
        record: &Arc<Record>,
        segment: Arc<Segment>,
        at: u32,
        wanted: Range<usize>,
    ) -> Self {
        let length = record.length as usize;
        let first_chunk = wanted.start / CHUNK_BYTES;
        let chunks =
            first_chunk * CHUNK_BYTES..wanted.end.next_multiple_of(CHUNK_BYTES).min(length);
        let start = core.space.place(segment.header.index) + u64::from(at) + chunks.start as u64;
        let behind = start + chunks.len() as u64;
        let sector = SECTOR_BYTES as u64;
        let from = start / sector * sector;
        let chunks_at = (start - from) as usize;
        let wanted_at = chunks_at + wanted.start - chunks.start;
        Fetch {
            record: Arc::clone(record),
            segment,
            at: from,
            bytes: (behind.next_multiple_of(sector) - from) as usize,
            chunks_at,
            first_chunk,
            chunk_bytes: chunks.len(),
            wanted: wanted_at..wanted_at + wanted.len(),
        }
    }

    /// The bytes wanted, if what was fetched is what was written.
    fn check(&self, buffer: SectorBuffer) -> Option<Bytes> {
        let chunks = buffer[self.chunks_at..][..self.chunk_bytes].chunks(CHUNK_BYTES);
        let sums = self.record.sums.get(self.first_chunk..)?;
        let sound = chunks
            .zip(sums)
            .all(|(chunk, sum)| crc32c::crc32c(chunk) == *sum);
        sound.then(|| Bytes::from_owner(buffer).slice(self.wanted.clone()))
    }
}

/// All bytes of an extent, for copying it; waits. `None`: they are lost.
pub(super) fn read_extent(core: &Core, job: JobId, extent: &Extent) -> Option<Bytes> {
    match source(core, extent) {
        Source::Memory(bytes) => Some(bytes),
        Source::Medium(fetch) => {
            let fetched = crate::engine::device::read_wait(&*core.device, fetch.at, fetch.bytes);
            checked(core, job, &fetch, fetched).ok()
        }
        Source::Lost => None,
    }
}

enum Begun {
    Done(Bytes),
    UnderWay(Fetch, oneshot::Receiver<io::Result<SectorBuffer>>),
}

fn begin(core: &Core, source: Source) -> Begun {
    let fetch = match source {
        Source::Medium(fetch) => fetch,
        Source::Memory(bytes) => return Begun::Done(bytes),
        // Refused before anything was begun.
        Source::Lost => return Begun::Done(Bytes::new()),
    };
    let (sender, receiver) = oneshot::channel();
    core.device.submit(Transfer {
        direction: Direction::Read,
        at: fetch.at,
        buffer: SectorBuffer::new(fetch.bytes),
        done: Box::new(move |result, buffer| {
            // Whoever asked may have gone.
            let _ = sender.send(result.map(|()| buffer));
        }),
    });
    Begun::UnderWay(fetch, receiver)
}

async fn finish(
    core: &Core,
    job: JobId,
    fetch: &Fetch,
    answer: oneshot::Receiver<io::Result<SectorBuffer>>,
) -> Result<Bytes, Failure> {
    let ended = |_| Err(io::Error::other("the device has ended"));
    let fetched = answer.await.unwrap_or_else(ended);
    checked(core, job, fetch, fetched)
}

fn checked(
    core: &Core,
    job: JobId,
    fetch: &Fetch,
    fetched: io::Result<SectorBuffer>,
) -> Result<Bytes, Failure> {
    let cause = match fetched.map(|buffer| fetch.check(buffer)) {
        Ok(Some(bytes)) => return Ok(bytes),
        Ok(None) => io::Error::other(format!(
            "checksum does not match in segment {}",
            fetch.segment.header.index
        )),
        Err(error) => error,
    };
    core.note_error("reading", job, &cause);
    Err(lost_bytes())
}

fn lost_bytes() -> Failure {
    Failure::new(Status::Lost, "the medium has lost these bytes")
}

/// The parts at their offsets, with zeros between them.
fn joined(range: Range<u32>, parts: Vec<(u32, Bytes)>) -> Bytes {
    let length = range.len();
    if let [(offset, bytes)] = &parts[..]
        && *offset == range.start
        && bytes.len() == length
    {
        return bytes.clone();
    }
    let mut whole = BytesMut::zeroed(length);
    for (offset, bytes) in parts {
        let start = (offset - range.start) as usize;
        whole[start..start + bytes.len()].copy_from_slice(&bytes);
    }
    whole.freeze()
}
