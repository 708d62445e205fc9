//! What stands on the medium, and how it is read back: nothing read is believed before it was
//! checked.
//!
//! ```text
//! medium:   two superblocks, in turn │ from 1 MiB on: segments of one size
//! segment:  header │ batches, each at a sector ──►          ◄── summary of all entries │ footer
//! batch:    header, entries │ short payloads, packed │ long payloads, each at a sector
//! ```
//!
//! A segment belongs to one job while its header says so. Its header bears a number drawn when it
//! was opened (the nonce), and so does every batch in it: what former uses of the segment, or
//! programs, left on the medium is never taken for a batch. The summary is written when the segment
//! is full; without one the batches are looked for. All numbers are little-endian.

use crc32c::crc32c;
use pocket_proto::{BlockIndex, InodeId, JobId};

use super::entry::{Entry, decode_entries};
use crate::engine::device::SECTOR_BYTES;

/// Where segments begin.
pub(super) const SEGMENTS_AT: u64 = 1 << 20;
/// Bytes in front of a table's entries.
pub(super) const TABLE_HEADER_BYTES: usize = 32;
/// The first place in a segment for a batch.
pub(super) const BATCHES_AT: u32 = SECTOR_BYTES as u32;

const SUPERBLOCK_MAGIC: u64 = u64::from_le_bytes(*b"PKTBLOCK");
const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"PKTSEGMT");
const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"PKTB");
const SUMMARY_MAGIC: u32 = u32::from_le_bytes(*b"PKTS");
const FORMAT_VERSION: u32 = 1;
const SUPERBLOCK_BYTES: usize = 96;
const SEGMENT_HEADER_BYTES: usize = 48;
/// No medium is made of smaller segments, nor of larger ones.
pub(super) const SEGMENT_BYTES_MIN: u32 = 1 << 20;
pub(super) const SEGMENT_BYTES_MAX: u32 = 64 << 20;

/// What is known of a whole medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// The higher of the two counts.
    pub(super) generation: u64,
    pub(super) segment_bytes: u32,
    pub(super) segments: u32,
    /// The server whose blocks these are, and the life of its data.
    pub(super) server: u64,
    pub(super) incarnation: u64,
    /// The boot of the machine that wrote this.
    pub(super) boot: u128,
    /// Everything written is on the medium: nobody has written since.
    pub(super) clean: bool,
}

/// What a sector that should be a superblock is instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSuperblock {
    /// Zeros.
    Blank,
    /// One of ours that is damaged or half written.
    Damaged,
    /// One of another version.
    Version(u32),
    /// Something else.
    Foreign,
}

impl Superblock {
    /// Where this generation is written.
    pub(super) fn place(&self) -> u64 {
        (self.generation % 2) * SECTOR_BYTES as u64
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SUPERBLOCK_BYTES);
        bytes.extend(SUPERBLOCK_MAGIC.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(FORMAT_VERSION.to_le_bytes());
        bytes.extend(self.generation.to_le_bytes());
        bytes.extend(self.segment_bytes.to_le_bytes());
        bytes.extend(self.segments.to_le_bytes());
        bytes.extend(self.server.to_le_bytes());
        bytes.extend(self.incarnation.to_le_bytes());
        bytes.extend(self.boot.to_le_bytes());
        bytes.extend(u64::from(self.clean).to_le_bytes());
        seal(&mut bytes, 8);
        bytes
    }

    pub(super) fn decode(sector: &[u8]) -> Result<Self, NoSuperblock> {
        if sector.iter().all(|byte| *byte == 0) {
            return Err(NoSuperblock::Blank);
        }
        let mut fields = Fields(sector);
        if fields.u64() != Some(SUPERBLOCK_MAGIC) {
            return Err(NoSuperblock::Foreign);
        }
        let mut read = || -> Option<(u32, Superblock)> {
            let (sum, version) = (fields.u32()?, fields.u32()?);
            let block = Superblock {
                generation: fields.u64()?,
                segment_bytes: fields.u32()?,
                segments: fields.u32()?,
                server: fields.u64()?,
                incarnation: fields.u64()?,
                boot: fields.u128()?,
                clean: fields.u64()? == 1,
            };
            let length = sector.len() - fields.0.len();
            (version != FORMAT_VERSION || sum == sum_of(&sector[..length], 8))
                .then_some((version, block))
        };
        match read() {
            Some((FORMAT_VERSION, block)) if block.is_sane() => Ok(block),
            Some((FORMAT_VERSION, _)) | None => Err(NoSuperblock::Damaged),
            Some((version, _)) => Err(NoSuperblock::Version(version)),
        }
    }

    fn is_sane(&self) -> bool {
        (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes)
            && self.segment_bytes.is_power_of_two()
            && self.segments > 0
    }

    /// The medium must have so many bytes.
    pub(super) fn medium_bytes(&self) -> u64 {
        SEGMENTS_AT + u64::from(self.segments) * u64::from(self.segment_bytes)
    }
}

/// Whose a segment is, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) index: u32,
    pub(super) job: JobId,
    pub(super) nonce: u64,
    /// The clock when it was opened: whatever in it was superseded before that was never in it.
    pub(super) opened: u64,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.extend(SEGMENT_MAGIC.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.index.to_le_bytes());
        bytes.extend(self.job.0.to_le_bytes());
        bytes.extend(self.nonce.to_le_bytes());
        bytes.extend(self.opened.to_le_bytes());
        seal(&mut bytes, 8);
        bytes
    }

    /// The header of segment `index`; `None` where the segment is free.
    pub(super) fn decode(sector: &[u8], index: u32) -> Option<Self> {
        let mut fields = Fields(sector);
        let (magic, sum) = (fields.u64()?, fields.u32()?);
        let header = SegmentHeader {
            index: fields.u32()?,
            job: JobId(fields.u64()?),
            nonce: fields.u64()?,
            opened: fields.u64()?,
        };
        let length = sector.len() - fields.0.len();
        let sound = magic == SEGMENT_MAGIC && sum == sum_of(&sector[..length], 8);
        (sound && header.index == index).then_some(header)
    }
}

/// Entries that stand together: those of a batch, in front of their payloads, or a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableHeader {
    nonce: u64,
    /// Where in the segment the header (of a batch) or the first entry (of a summary) is.
    pub(super) position: u32,
    /// The whole batch; 0 for a summary.
    pub(super) batch_bytes: u32,
    pub(super) table_bytes: u32,
    count: u32,
    sum: u32,
    magic: u32,
}

/// Which of the two a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableKind {
    Batch { batch_bytes: u32 },
    Summary,
}

/// The header of a table of `count` encoded entries.
pub(super) fn encode_table_header(
    kind: TableKind,
    nonce: u64,
    position: u32,
    count: u32,
    entries: &[u8],
) -> [u8; TABLE_HEADER_BYTES] {
    let (magic, batch_bytes) = match kind {
        TableKind::Batch { batch_bytes } => (BATCH_MAGIC, batch_bytes),
        TableKind::Summary => (SUMMARY_MAGIC, 0),
    };
    let mut header = [0; TABLE_HEADER_BYTES];
    header[0..4].copy_from_slice(&magic.to_le_bytes());
    header[8..16].copy_from_slice(&nonce.to_le_bytes());
    header[16..20].copy_from_slice(&position.to_le_bytes());
    header[20..24].copy_from_slice(&batch_bytes.to_le_bytes());
    // Tables lie in segments, which are far shorter than 4 GiB.
    header[24..28].copy_from_slice(&(entries.len() as u32).to_le_bytes());
    header[28..32].copy_from_slice(&count.to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c(&header[8..]), entries);
    header[4..8].copy_from_slice(&sum.to_le_bytes());
    header
}

impl TableHeader {
    /// Reads what may be the header of a batch that stands at `position`. The sum is checked with
    /// the entries.
    pub(super) fn decode_batch(
        bytes: &[u8],
        segment: &SegmentHeader,
        position: u32,
        segment_bytes: u32,
    ) -> Option<Self> {
        let header = Self::decode(bytes, BATCH_MAGIC, segment)?;
        let whole = u64::from(position) + u64::from(header.batch_bytes);
        let fits = whole <= u64::from(segment_bytes)
            && header.batch_bytes as usize >= TABLE_HEADER_BYTES
            && (header.batch_bytes as usize).is_multiple_of(SECTOR_BYTES)
            && header.table_bytes as usize <= header.batch_bytes as usize - TABLE_HEADER_BYTES;
        (header.position == position && fits).then_some(header)
    }

    /// Reads the footer of a segment, which tells where its summary is; `None` if it has none.
    pub(super) fn decode_summary(
        bytes: &[u8],
        segment: &SegmentHeader,
        segment_bytes: u32,
    ) -> Option<Self> {
        let header = Self::decode(bytes, SUMMARY_MAGIC, segment)?;
        let end = u64::from(header.position) + u64::from(header.table_bytes);
        let footer_at = segment_bytes - SECTOR_BYTES as u32;
        let fits = header.position >= BATCHES_AT
            && (header.position as usize).is_multiple_of(SECTOR_BYTES)
            && end <= u64::from(footer_at);
        fits.then_some(header)
    }

    fn decode(bytes: &[u8], magic: u32, segment: &SegmentHeader) -> Option<Self> {
        let mut fields = Fields(bytes);
        let header = TableHeader {
            magic: fields.u32()?,
            sum: fields.u32()?,
            nonce: fields.u64()?,
            position: fields.u32()?,
            batch_bytes: fields.u32()?,
            table_bytes: fields.u32()?,
            count: fields.u32()?,
        };
        (header.magic == magic && header.nonce == segment.nonce).then_some(header)
    }

    /// The entries behind this header, or of this footer; `None` unless all are sound.
    pub(super) fn entries(&self, entries: &[u8], segment_bytes: u32) -> Option<Vec<Entry>> {
        let kind = match self.magic {
            BATCH_MAGIC => TableKind::Batch {
                batch_bytes: self.batch_bytes,
            },
            _ => TableKind::Summary,
        };
        let sound = encode_table_header(kind, self.nonce, self.position, self.count, entries);
        if sound[4..8] != self.sum.to_le_bytes() {
            return None;
        }
        decode_entries(entries, self.count, segment_bytes)
    }
}

/// Fixed-size numbers, one after the other.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_le_bytes)
    }

    pub(super) fn inode(&mut self) -> Option<InodeId> {
        self.u64().map(InodeId)
    }

    pub(super) fn block(&mut self) -> Option<BlockIndex> {
        self.u64().map(BlockIndex)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }
}

/// Puts the checksum of everything behind it at `at`.
fn seal(bytes: &mut [u8], at: usize) {
    let sum = sum_of(bytes, at);
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

fn sum_of(bytes: &[u8], at: usize) -> u32 {
    crc32c(bytes.get(at + 4..).unwrap_or_default())
}
