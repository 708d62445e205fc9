//! Memory that devices can read and write directly: aligned to sectors, used again and again.
//!
//! A buffer comes with whatever bytes its former use left; whoever fills it in part says how much of
//! it is to be believed.

#![allow(unsafe_code)]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

use parking_lot::Mutex;

use super::SECTOR_BYTES;

/// Sizes kept for another use: powers of two from one sector on, up to 2 MiB.
const CLASSES: usize = 10;
/// Kept of each class, at most so many bytes: some more than is usually in flight.
const KEPT_BYTES_PER_CLASS: usize = 16 << 20;

static KEPT: [Mutex<Vec<Memory>>; CLASSES] = [const { Mutex::new(Vec::new()) }; CLASSES];

/// Bytes of a whole number of sectors, aligned to one.
pub(in crate::engine) struct SectorBuffer {
    /// Taken when the buffer is dropped.
    memory: Option<Memory>,
    bytes: usize,
}

struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is owned, and reached through the one value that owns it.
unsafe impl Send for Memory {}
// SAFETY: shared references only read.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, SECTOR_BYTES)
            .expect("buffers are far smaller than the address space");
        // SAFETY: the layout is not empty: buffers have at least one sector.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Memory { start, layout }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nobody else has it.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

impl SectorBuffer {
    /// A buffer for `bytes`, which is rounded up to whole sectors, at least one.
    pub(in crate::engine) fn new(bytes: usize) -> Self {
        let bytes = bytes.max(1).next_multiple_of(SECTOR_BYTES);
        let kept = class(bytes).and_then(|class| KEPT[class].lock().pop());
        let memory = kept.unwrap_or_else(|| {
            Memory::new(class(bytes).map_or(bytes, |class| SECTOR_BYTES << class))
        });
        SectorBuffer {
            memory: Some(memory),
            bytes,
        }
    }

    /// A buffer of zeros.
    pub(in crate::engine) fn zeroed(bytes: usize) -> Self {
        let mut buffer = Self::new(bytes);
        buffer.fill(0);
        buffer
    }

    fn start(&self) -> *mut u8 {
        let memory = self.memory.as_ref().expect("taken by drop alone");
        memory.start.as_ptr()
    }
}

/// The smallest class that holds `bytes`; none where they are too many to be kept.
fn class(bytes: usize) -> Option<usize> {
    let class = bytes.next_power_of_two().trailing_zeros() - SECTOR_BYTES.trailing_zeros();
    Some(class as usize).filter(|class| *class < CLASSES)
}

impl Deref for SectorBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes are allocated, and were zeroed before their first use.
        unsafe { std::slice::from_raw_parts(self.start(), self.bytes) }
    }
}

impl DerefMut for SectorBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the reference is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.bytes) }
    }
}

impl AsRef<[u8]> for SectorBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for SectorBuffer {
    fn drop(&mut self) {
        let (Some(memory), Some(class)) = (self.memory.take(), class(self.bytes)) else {
            return;
        };
        let kept_max = KEPT_BYTES_PER_CLASS / memory.layout.size();
        let mut kept = KEPT[class].lock();
        if kept.len() < kept_max {
            kept.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_of_whole_sectors() {
        for (asked, got) in [(0, 4096), (1, 4096), (4097, 8192), (3 << 20, 3 << 20)] {
            for _ in 0..3 {
                let mut buffer = SectorBuffer::new(asked);
                assert_eq!(buffer.len(), got);
                assert_eq!(buffer.as_ptr() as usize % SECTOR_BYTES, 0);
                buffer.fill(1);
            }
        }
        assert_eq!(SectorBuffer::zeroed(5000)[..], [0; 8192]);
    }
}
