//! One block's bytes.

use bytes::{Bytes, BytesMut};

use crate::engine::file_blocks::Held;

/// Reads up to this length out of a longer block are copied: that is cheaper than the copy of the
/// whole block which the next write would need while a reader holds it.
const COPIED_READ_BYTES_MAX: usize = 16 << 10;
/// A block that grows piece by piece gets this fraction of its length as room to grow, so that
/// appending copies a bounded number of times while memory stays close to what is charged.
const GROWTH_DIVISOR: usize = 16;

/// A block: its bytes, shared with readers until changed.
pub(super) struct Block(Bytes);

impl Held for Block {
    fn length_bytes(&self) -> usize {
        self.0.len()
    }
}

impl Block {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The bytes held of the range asked for.
    pub(super) fn read(&self, offset: usize, length: usize) -> Bytes {
        let start = offset.min(self.0.len());
        let end = (offset + length).min(self.0.len());
        if end - start <= COPIED_READ_BYTES_MAX && end - start < self.0.len() {
            Bytes::copy_from_slice(&self.0[start..end])
        } else {
            self.0.slice(start..end)
        }
    }

    /// The block as it is, leaving an empty one behind.
    pub(super) fn take(&mut self) -> Block {
        Block(std::mem::take(&mut self.0))
    }

    /// The block after a write into `old`; beside it, a buffer that is no longer needed, for the
    /// caller to drop where it holds no lock.
    pub(super) fn written(old: Option<Block>, offset: usize, data: Bytes) -> (Block, Bytes) {
        let old = old.map_or_else(Bytes::new, |block| block.0);
        if offset == 0 && data.len() >= old.len() {
            return (Block(data), old);
        }
        let end = offset + data.len();
        let (mut bytes, spent) = writable(old, end);
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(&data);
        (Block(bytes.freeze()), spent)
    }

    /// The block grown with zeros to `length`, and with zeros from `zeros_from` on up to there;
    /// beside it, a buffer that is no longer needed.
    pub(super) fn zeroed(old: Option<Block>, zeros_from: usize, length: usize) -> (Block, Bytes) {
        let old = old.map_or_else(Bytes::new, |block| block.0);
        let kept = zeros_from.min(old.len());
        if kept == 0 && old.len() <= length {
            // Memory that was never touched is zeros already, and costs nothing until it is.
            return (Block(BytesMut::zeroed(length).freeze()), old);
        }
        let (mut bytes, spent) = writable(old, length);
        let end = length.min(bytes.len());
        bytes[kept.min(end)..end].fill(0);
        if bytes.len() < length {
            bytes.resize(length, 0);
        }
        (Block(bytes.freeze()), spent)
    }

    /// The block after its bytes from `offset` to `end` were punched; beside it, a buffer that is
    /// no longer needed.
    pub(super) fn punched(mut self, offset: usize, end: usize) -> (Block, Bytes) {
        if end >= self.len() {
            let old = self.0.clone();
            self.truncate(offset);
            return (self, old);
        }
        Block::zeroed(Some(self), offset, end)
    }

    /// Forgets all but the first `keep` bytes and gives their memory back.
    pub(super) fn truncate(&mut self, keep: usize) {
        if keep < self.0.len() {
            self.0 = Bytes::copy_from_slice(&self.0[..keep]);
        }
    }
}

/// The bytes of `old`, in a buffer of their own that can grow to `end` without another copy; beside
/// it, a buffer that is no longer needed.
fn writable(old: Bytes, end: usize) -> (BytesMut, Bytes) {
    let old = match old.try_into_mut() {
        Ok(unique) if unique.capacity() >= end => return (unique, Bytes::new()),
        Ok(unique) => unique.freeze(),
        Err(shared) => shared,
    };
    let length = old.len().max(end);
    let capacity = if old.is_empty() || length == old.len() {
        length
    } else {
        // Blocks end at a power of two, so no room is wasted behind a full one.
        (length + length / GROWTH_DIVISOR).min(length.next_power_of_two())
    };
    let mut bytes = BytesMut::with_capacity(capacity);
    bytes.extend_from_slice(&old);
    (bytes, old)
}
