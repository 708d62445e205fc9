//! Batches: how entries and payloads lie in one transfer.

use std::sync::Arc;

use super::{
    entry::{Entry, What},
    format::{TABLE_HEADER_BYTES, TableKind, encode_table_header},
    job::Pending,
    segment::Segment,
};
use crate::engine::device::{SECTOR_BYTES, SectorBuffer};

/// Payloads from this length on begin at a sector, so that a part of them is read without the rest.
const ALIGNED_FROM: usize = SECTOR_BYTES;
/// Shorter ones begin at a multiple of this.
const PACKED_ALIGNMENT: usize = 8;

/// A batch that has its place.
pub(super) struct Batch {
    pub(super) entries: Vec<Pending>,
    pub(super) segment: Arc<Segment>,
    /// Where it is in the segment, and how long.
    pub(super) at: u32,
    pub(super) bytes: usize,
    pub(super) table_bytes: usize,
    /// The segment's header goes with it.
    pub(super) with_header: bool,
}

/// Bytes that a batch takes, as entries are added.
#[derive(Clone, Copy, Default)]
pub(super) struct BatchSize {
    pub(super) table: usize,
    packed: usize,
    aligned: usize,
}

impl BatchSize {
    pub(super) fn with(self, payload: usize) -> Self {
        let long = payload >= ALIGNED_FROM;
        BatchSize {
            table: self.table + Entry::encoded_bytes(payload),
            packed: self.packed
                + if long {
                    0
                } else {
                    payload.next_multiple_of(PACKED_ALIGNMENT)
                },
            aligned: self.aligned
                + if long {
                    payload.next_multiple_of(SECTOR_BYTES)
                } else {
                    0
                },
        }
    }

    /// Where aligned payloads begin.
    fn front(self) -> usize {
        (TABLE_HEADER_BYTES + self.table + self.packed).next_multiple_of(SECTOR_BYTES)
    }

    /// Bytes that payloads take.
    pub(super) fn payload(self) -> usize {
        self.packed + self.aligned
    }

    pub(super) fn total(self) -> usize {
        self.front() + self.aligned
    }
}

/// Says where in the segment each payload is.
pub(super) fn place_payloads(entries: &mut [Pending], batch_at: u32, size: BatchSize) {
    let mut packed = TABLE_HEADER_BYTES + size.table;
    let mut aligned = size.front();
    for pending in entries {
        let length = pending.data.len();
        let What::Data { at, .. } = &mut pending.entry.what else {
            continue;
        };
        let (next, step) = match length >= ALIGNED_FROM {
            true => (&mut aligned, length.next_multiple_of(SECTOR_BYTES)),
            false => (&mut packed, length.next_multiple_of(PACKED_ALIGNMENT)),
        };
        *at = batch_at + *next as u32;
        *next += step;
    }
}

impl Batch {
    /// The bytes to be written.
    pub(super) fn encode(&self) -> SectorBuffer {
        let front = if self.with_header { SECTOR_BYTES } else { 0 };
        let mut buffer = SectorBuffer::new(front + self.bytes);
        if self.with_header {
            let header = self.segment.header.encode();
            buffer[..header.len()].copy_from_slice(&header);
            buffer[header.len()..SECTOR_BYTES].fill(0);
        }
        let body = &mut buffer[front..];
        let mut table = Vec::with_capacity(self.table_bytes);
        let mut filled = TABLE_HEADER_BYTES + self.table_bytes;
        for pending in &self.entries {
            pending.entry.encode(&mut table);
        }
        // Packed payloads first, then aligned ones: gaps are cleared on the way.
        for packed in [true, false] {
            for pending in &self.entries {
                let What::Data { at, .. } = &pending.entry.what else {
                    continue;
                };
                if (pending.data.len() < ALIGNED_FROM) != packed {
                    continue;
                }
                let start = (*at - self.at) as usize;
                body[filled..start].fill(0);
                filled = start + pending.data.len();
                body[start..filled].copy_from_slice(&pending.data);
            }
        }
        body[filled..].fill(0);
        let kind = TableKind::Batch {
            batch_bytes: self.bytes as u32,
        };
        let nonce = self.segment.header.nonce;
        let header = encode_table_header(kind, nonce, self.at, self.entries.len() as u32, &table);
        body[..TABLE_HEADER_BYTES].copy_from_slice(&header);
        body[TABLE_HEADER_BYTES..][..table.len()].copy_from_slice(&table);
        buffer
    }
}
