//! Inodes whose attributes the kernel was handed a moment ago.
//!
//! The answer to a LOOKUP is out of our hands once it is written, but the inode that it tells of is made
//! only when the thread that waits for it runs. A notification that comes in between finds no inode, and
//! what the answer said would then be believed for as long as it was valid. So who notifies in vain asks
//! here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// More than a thread that was woken waits for a processor.
const RECENT: Duration = Duration::from_secs(1);
/// Inodes that are remembered at once, about; a power of two.
const SLOTS: usize = 1 << 12;
/// Bits of a slot that hold the time, in milliseconds; the others hold the inode's lowest.
const TIME_BITS: u32 = 20;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// See the module. What two inodes of one slot tell of each other is at most that one is recent which is
/// not.
#[derive(Debug)]
pub(crate) struct Handouts {
    began: Instant,
    slots: Box<[AtomicU64]>,
}

impl Handouts {
    pub(crate) fn new() -> Self {
        Handouts {
            began: Instant::now(),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// To be called before the kernel is answered.
    pub(crate) fn note(&self, inode: u64) {
        let noted = (inode << TIME_BITS) | self.now();
        self.slot(inode).store(noted, Ordering::Release);
    }

    /// Whether the kernel may be about to make this inode.
    pub(crate) fn is_recent(&self, inode: u64) -> bool {
        let noted = self.slot(inode).load(Ordering::Acquire);
        let age = self.now().wrapping_sub(noted & TIME_MASK) & TIME_MASK;
        noted >> TIME_BITS == (inode << TIME_BITS) >> TIME_BITS
            && u128::from(age) <= RECENT.as_millis()
    }

    fn slot(&self, inode: u64) -> &AtomicU64 {
        &self.slots[inode as usize % SLOTS]
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 & TIME_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_out_a_moment_ago_is_recent_and_nothing_else() {
        let handouts = Handouts::new();
        for inode in [1, 7, u64::MAX >> TIME_BITS] {
            assert!(!handouts.is_recent(inode));
            handouts.note(inode);
            assert!(handouts.is_recent(inode));
        }
        assert!(!handouts.is_recent(7 + SLOTS as u64));
        let earlier = Handouts {
            began: handouts.began - 2 * RECENT,
            slots: handouts.slots,
        };
        assert!(!earlier.is_recent(7));
    }
}
