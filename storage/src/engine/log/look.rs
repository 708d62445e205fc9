//! Looking through the segments of a medium: which are in use, and what they say.

use std::io;

use super::{
    entry::{CHUNK_BYTES, Entry, What},
    format::{BATCHES_AT, SEGMENTS_AT, SegmentHeader, Superblock, TABLE_HEADER_BYTES, TableHeader},
};
use crate::engine::device::{Device, SECTOR_BYTES, read_many, read_wait};

/// Segments looked at together.
const LOOKED_AT_TOGETHER: usize = 128;

/// What segments have.
#[derive(Default)]
pub(super) struct Found {
    pub(super) used: Vec<(SegmentHeader, Vec<Entry>)>,
    /// Neither free nor in use.
    pub(super) foreign: Vec<u32>,
    pub(super) unreadable: Vec<u32>,
}

pub(super) fn look_at_segments(device: &dyn Device, superblock: &Superblock) -> Found {
    let segment_bytes = superblock.segment_bytes;
    let place = |index: u32| SEGMENTS_AT + u64::from(index) * u64::from(segment_bytes);
    let footer = u64::from(segment_bytes) - SECTOR_BYTES as u64;
    let mut found = Found::default();
    let all: Vec<_> = (0..superblock.segments).collect();
    for some in all.chunks(LOOKED_AT_TOGETHER) {
        let ends: Vec<_> = some
            .iter()
            .flat_map(|index| [place(*index), place(*index) + footer])
            .map(|at| (at, SECTOR_BYTES))
            .collect();
        let ends = read_many(device, &ends);
        for (index, ends) in some.iter().zip(ends.as_chunks::<2>().0) {
            let header = match &ends[0] {
                Ok(sector) if sector.iter().all(|byte| *byte == 0) => continue,
                Ok(sector) => SegmentHeader::decode(sector, *index),
                Err(_) => {
                    found.unreadable.push(*index);
                    continue;
                }
            };
            let Some(header) = header else {
                found.foreign.push(*index);
                continue;
            };
            let footer = ends[1].as_ref().ok();
            let summary = footer
                .and_then(|sector| TableHeader::decode_summary(sector, &header, segment_bytes))
                .and_then(|table| summary(device, place(*index), &table, segment_bytes));
            match summary.map_or_else(|| scan(device, place(*index), &header, segment_bytes), Ok) {
                Ok(entries) => found.used.push((header, entries)),
                Err(_) => found.unreadable.push(*index),
            }
        }
    }
    found
}

fn summary(
    device: &dyn Device,
    segment_at: u64,
    table: &TableHeader,
    segment_bytes: u32,
) -> Option<Vec<Entry>> {
    let at = segment_at + u64::from(table.position);
    let read = read_wait(device, at, table.table_bytes as usize).ok()?;
    table.entries(&read[..table.table_bytes as usize], segment_bytes)
}

/// The entries of all whole batches of a segment that has no summary.
fn scan(
    device: &dyn Device,
    segment_at: u64,
    header: &SegmentHeader,
    segment_bytes: u32,
) -> io::Result<Vec<Entry>> {
    let segment = read_wait(device, segment_at, segment_bytes as usize)?;
    Ok(scan_image(&segment, header))
}

/// The same over the bytes of a segment.
pub(super) fn scan_image(segment: &[u8], header: &SegmentHeader) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut at = BATCHES_AT as usize;
    while at < segment.len() {
        match batch_at(segment, header, at) {
            Some((batch, bytes)) => {
                entries.extend(batch);
                at += bytes;
            }
            None => at += SECTOR_BYTES,
        }
    }
    entries
}

fn batch_at(segment: &[u8], header: &SegmentHeader, at: usize) -> Option<(Vec<Entry>, usize)> {
    // Segments are far shorter than 4 GiB.
    let segment_bytes = segment.len() as u32;
    let bytes = segment.get(at..)?;
    let table = TableHeader::decode_batch(bytes, header, at as u32, segment_bytes)?;
    let body = bytes.get(TABLE_HEADER_BYTES..)?;
    let entries = table.entries(body.get(..table.table_bytes as usize)?, segment_bytes)?;
    let sound = entries.iter().all(|entry| is_sound(segment, entry));
    sound.then_some((entries, table.batch_bytes as usize))
}

/// Whether the payload is what was written.
fn is_sound(segment: &[u8], entry: &Entry) -> bool {
    let What::Data {
        at, length, sums, ..
    } = &entry.what
    else {
        return true;
    };
    let start = *at as usize;
    let payload = segment.get(start..start + *length as usize);
    payload.is_some_and(|payload| {
        let chunks = payload.chunks(CHUNK_BYTES);
        chunks
            .zip(sums)
            .all(|(chunk, sum)| crc32c::crc32c(chunk) == *sum)
    })
}
