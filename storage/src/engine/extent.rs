//! How long blocks may be, and what they are charged: the same on every medium.

use pocket_proto::{BlockAddress, Failure, Status};

/// The largest block of any job.
pub(super) const BLOCK_BYTES_MAX: usize = 16 << 20;
/// Blocks are charged in these units: what an allocator and the maps take beside the bytes is
/// then covered for small ones too.
const CHARGE_UNIT_BYTES: u64 = 512;

/// What a block of this length is charged.
pub(super) fn charge_of(length_bytes: usize) -> u64 {
    (length_bytes as u64).next_multiple_of(CHARGE_UNIT_BYTES)
}

/// How long a block is after a punch of its bytes from `offset` to `end`.
pub(super) fn punched_length(length: usize, offset: usize, end: usize) -> usize {
    if end >= length {
        length.min(offset)
    } else {
        length
    }
}

/// [`Status::Invalid`] where the range is of no block.
pub(super) fn check_address(address: BlockAddress) -> Result<(), Failure> {
    check_range(address.offset_bytes, address.length_bytes as usize)
}

/// [`Status::Invalid`] where the range is of no block.
pub(super) fn check_range(offset_bytes: u32, length_bytes: usize) -> Result<(), Failure> {
    if offset_bytes as usize + length_bytes <= BLOCK_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::new(
        Status::Invalid,
        format!(
            "{length_bytes} bytes at {offset_bytes} of a block, which ends at {BLOCK_BYTES_MAX}"
        ),
    ))
}

/// [`Status::Invalid`] unless both ends of a copy are ranges of blocks, of one length.
pub(super) fn check_copy(from: BlockAddress, to: BlockAddress) -> Result<(), Failure> {
    check_address(from)?;
    check_address(to)?;
    if from.length_bytes == to.length_bytes {
        return Ok(());
    }
    Err(Failure::new(
        Status::Invalid,
        format!(
            "a copy of {} bytes over {}",
            from.length_bytes, to.length_bytes
        ),
    ))
}

/// First and one behind the last byte.
pub(super) fn range(address: BlockAddress) -> (usize, usize) {
    let offset = address.offset_bytes as usize;
    (offset, offset + address.length_bytes as usize)
}
