//! What was read through one handle of a file that is read once: whether that is all of it.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Pieces that are remembered, of which a reader in order has one. Who reads in more pieces than
/// that has not read the file to its end as far as is known here.
const PIECES_MAX: usize = 4096;

/// Ranges that were read.
#[derive(Debug, Default)]
pub(crate) struct ReadRanges(Mutex<Pieces>);

#[derive(Debug, Default)]
struct Pieces {
    /// By where they begin: where they end. They neither overlap nor touch.
    ends: BTreeMap<u64, u64>,
    /// Something was asked for, if only to find that there is nothing.
    asked: bool,
}

impl ReadRanges {
    /// Notes that `length` bytes were read at `offset`: 0 at the end of the file.
    pub(crate) fn note(&self, offset: u64, length: u64) {
        let mut pieces = self.0.lock();
        pieces.asked = true;
        let (mut start, mut end) = (offset, offset.saturating_add(length));
        if start == end {
            return;
        }
        while let Some((&first, &last)) = pieces.ends.range(..=end).next_back()
            && last >= start
        {
            pieces.ends.remove(&first);
            start = start.min(first);
            end = end.max(last);
        }
        if pieces.ends.len() < PIECES_MAX {
            pieces.ends.insert(start, end);
        }
    }

    /// How much of the file was read without a gap, from its start; none if nobody read.
    pub(crate) fn bytes_from_start(&self) -> Option<u64> {
        let pieces = self.0.lock();
        pieces
            .asked
            .then(|| pieces.ends.get(&0).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ranges: &[(u64, u64)]) -> Option<u64> {
        let read = ReadRanges::default();
        for (offset, length) in ranges {
            read.note(*offset, *length);
        }
        read.bytes_from_start()
    }

    #[test]
    fn pieces_join_in_whatever_order_they_were_read() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[(0, 0)]), Some(0));
        assert_eq!(read(&[(0, 10), (10, 5)]), Some(15));
        assert_eq!(read(&[(10, 5), (0, 10)]), Some(15));
        assert_eq!(read(&[(20, 5), (0, 10), (5, 20)]), Some(25));
        assert_eq!(read(&[(0, 10), (11, 5)]), Some(10));
        assert_eq!(read(&[(1, 10)]), Some(0));
        assert_eq!(read(&[(0, 5), (10, 5), (20, 5), (3, 30)]), Some(33));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let read = ReadRanges::default();
        for piece in 0..2 * PIECES_MAX as u64 {
            read.note(piece * 2, 1);
        }
        assert_eq!(read.0.lock().ends.len(), PIECES_MAX);
    }
}
