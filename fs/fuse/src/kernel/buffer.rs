//! Memory that requests are read into.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// The pages of the machines that are served.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Buffers kept for the next requests, while nobody needs them.
const SPARE_MAX: usize = 8;

/// Buffers of one length, used again and again: fresh memory would have to be cleared page by page.
#[derive(Debug)]
pub(crate) struct Buffers {
    spare: Mutex<Vec<Vec<u8>>>,
    length: usize,
}

impl Buffers {
    pub(crate) fn new(length: usize) -> Arc<Self> {
        Arc::new(Buffers {
            spare: Mutex::new(Vec::new()),
            length,
        })
    }

    /// A buffer of whatever content.
    pub(crate) fn take(self: &Arc<Self>) -> Buffer {
        let spare = self.spare.lock().pop();
        let memory = spare.unwrap_or_else(|| vec![0; self.length + PAGE_BYTES]);
        let start = memory.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
        Buffer {
            memory,
            start,
            length: self.length,
            home: Arc::clone(self),
        }
    }
}

/// A buffer that begins at a page, so that the kernel copies whole pages. It goes back where it came
/// from.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
    home: Arc<Buffers>,
}

impl Buffer {
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }

    /// The first `length` bytes, to be kept in pieces for as long as any is needed.
    pub(crate) fn share(mut self, length: usize) -> Bytes {
        self.length = length;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut spare = self.home.spare.lock();
        if spare.len() < SPARE_MAX {
            spare.push(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_begin_at_a_page_and_are_as_long_as_asked() {
        for length in [1, 4096, 1 << 20] {
            let mut buffer = Buffers::new(length).take();
            assert_eq!(buffer.bytes().len(), length);
            assert_eq!(buffer.bytes().as_ptr() as usize % PAGE_BYTES, 0);
        }
    }

    #[test]
    fn buffers_come_back_with_the_last_piece() {
        let buffers = Buffers::new(100);
        let mut buffer = buffers.take();
        buffer.bytes()[..5].copy_from_slice(b"abcde");
        let shared = buffer.share(5);
        let piece = shared.slice(3..);
        drop(shared);
        assert_eq!(buffers.spare.lock().len(), 0);
        assert_eq!(piece, b"de"[..]);
        drop(piece);
        assert_eq!(buffers.spare.lock().len(), 1);
        let again = buffers.take();
        assert_eq!(again.as_ref().len(), 100);
    }

    #[test]
    fn few_buffers_are_kept() {
        let buffers = Buffers::new(10);
        let taken: Vec<_> = (0..2 * SPARE_MAX).map(|_| buffers.take()).collect();
        drop(taken);
        assert_eq!(buffers.spare.lock().len(), SPARE_MAX);
    }
}
