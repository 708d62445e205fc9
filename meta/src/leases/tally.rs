//! How many leases there are, all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The sum of all parts.
#[derive(Debug, Default)]
pub(super) struct Tally(Arc<AtomicUsize>);

/// What one holder has of it, until it is dropped.
#[derive(Debug)]
pub(super) struct Part {
    whole: Arc<AtomicUsize>,
    count: usize,
}

impl Tally {
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// One that counts nothing yet.
    pub(super) fn part(&self) -> Part {
        Part {
            whole: Arc::clone(&self.0),
            count: 0,
        }
    }
}

impl Part {
    pub(super) fn set(&mut self, count: usize) {
        self.whole.fetch_add(count, Ordering::Relaxed);
        self.whole.fetch_sub(self.count, Ordering::Relaxed);
        self.count = count;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0);
    }
}
