//! Entries: what a batch says, one operation on blocks each.

use crc32c::crc32c;
use pocket_proto::{BlockIndex, InodeId};

use super::format::Fields;
use crate::engine::extent::BLOCK_BYTES_MAX;

/// Bytes of payload that one checksum is of: what a small read fetches.
pub(super) const CHUNK_BYTES: usize = 4096;
/// An entry without checksums.
pub(super) const ENTRY_BYTES: usize = 56;

/// What an entry says, as of its `seq`.
///
/// Entries are applied in the order of `seq`. One that was copied, because its segment was given
/// up, keeps it: copying changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) inode: InodeId,
    pub(super) block: BlockIndex,
    pub(super) what: What,
    pub(super) seq: u64,
    /// When it was written here; never before `seq`. What it says of the block's length is of then.
    pub(super) written: u64,
}

/// The kinds of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A range of the block holds these bytes.
    Data {
        offset: u32,
        length: u32,
        block_length: u32,
        /// Where in the segment the bytes are.
        at: u32,
        /// One for each [`CHUNK_BYTES`] of them.
        sums: Box<[u32]>,
    },
    /// A range of the block holds nothing, which reads as zeros; the block is so long (0: it is
    /// dropped). An empty range just tells the length.
    Punch {
        offset: u32,
        length: u32,
        block_length: u32,
    },
    /// A range of the block is lost.
    Lost {
        offset: u32,
        length: u32,
        block_length: u32,
    },
    /// So many blocks, from this one on, are dropped.
    Drop { count: u64 },
}

const DATA: u32 = 1;
const PUNCH: u32 = 2;
const LOST: u32 = 3;
const DROP: u32 = 4;

impl Entry {
    /// Appends the entry to a table.
    pub(super) fn encode(&self, table: &mut Vec<u8>) {
        let (kind, offset, length, block_length, at) = match &self.what {
            What::Data {
                offset,
                length,
                block_length,
                at,
                ..
            } => (DATA, *offset, *length, *block_length, *at),
            What::Punch {
                offset,
                length,
                block_length,
            } => (PUNCH, *offset, *length, *block_length, 0),
            What::Lost {
                offset,
                length,
                block_length,
            } => (LOST, *offset, *length, *block_length, 0),
            What::Drop { count } => (DROP, *count as u32, (*count >> 32) as u32, 0, 0),
        };
        table.extend(kind.to_le_bytes());
        table.extend(block_length.to_le_bytes());
        table.extend(self.inode.0.to_le_bytes());
        table.extend(self.block.0.to_le_bytes());
        table.extend(offset.to_le_bytes());
        table.extend(length.to_le_bytes());
        table.extend(at.to_le_bytes());
        table.extend([0; 4]);
        table.extend(self.seq.to_le_bytes());
        table.extend(self.written.to_le_bytes());
        if let What::Data { sums, .. } = &self.what {
            for sum in sums {
                table.extend(sum.to_le_bytes());
            }
        }
    }

    /// Bytes that it takes in a table.
    pub(super) fn encoded_bytes(payload_bytes: usize) -> usize {
        ENTRY_BYTES + 4 * payload_bytes.div_ceil(CHUNK_BYTES)
    }
}

/// The checksums of a payload.
pub(super) fn sums_of(payload: &[u8]) -> Box<[u32]> {
    payload.chunks(CHUNK_BYTES).map(crc32c).collect()
}

/// Reads `count` entries that take all of `bytes`; `None` if that is not what they are, or if one
/// makes no sense.
pub(super) fn decode_entries(bytes: &[u8], count: u32, segment_bytes: u32) -> Option<Vec<Entry>> {
    let most = bytes.len() / ENTRY_BYTES;
    if count as usize > most {
        return None;
    }
    let mut fields = Fields(bytes);
    let entries: Option<Vec<_>> = (0..count)
        .map(|_| decode(&mut fields, segment_bytes))
        .collect();
    entries.filter(|_| fields.0.is_empty())
}

fn decode(fields: &mut Fields<'_>, segment_bytes: u32) -> Option<Entry> {
    let (kind, block_length) = (fields.u32()?, fields.u32()?);
    let (inode, block) = (fields.inode()?, fields.block()?);
    let (offset, length, at) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let _unused = fields.u32()?;
    let (seq, written) = (fields.u64()?, fields.u64()?);
    let end = u64::from(offset) + u64::from(length);
    let in_block = end <= BLOCK_BYTES_MAX as u64 && block_length as usize <= BLOCK_BYTES_MAX;
    let what = match kind {
        DATA => {
            let in_segment = u64::from(at) + u64::from(length) <= u64::from(segment_bytes);
            let held = length > 0 && end <= u64::from(block_length);
            if !(in_block && in_segment && held) {
                return None;
            }
            let sums = (0..(length as usize).div_ceil(CHUNK_BYTES)).map(|_| fields.u32());
            What::Data {
                offset,
                length,
                block_length,
                at,
                sums: sums.collect::<Option<_>>()?,
            }
        }
        PUNCH if in_block => What::Punch {
            offset,
            length,
            block_length,
        },
        LOST if in_block && length > 0 && end <= u64::from(block_length) => What::Lost {
            offset,
            length,
            block_length,
        },
        DROP => What::Drop {
            count: u64::from(offset) | u64::from(length) << 32,
        },
        _ => return None,
    };
    (seq <= written).then_some(Entry {
        inode,
        block,
        what,
        seq,
        written,
    })
}
