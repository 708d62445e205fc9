//! Space taken from the grant for buffered data of one file, until storage servers have said what
//! the data really took.

use std::collections::BTreeMap;
use std::ops::Range;

use super::state::{File, State, pieces};

/// Storage servers allocate in steps of this many bytes.
const ALLOCATION_UNIT_BYTES: u32 = 512;

/// See the module.
pub(super) struct Reservation {
    /// No holes: everything below the committed size has its space already.
    pub(super) dense: bool,
    /// Taken and not yet accounted for by a commit, bytes.
    pub(super) taken_bytes: i64,
    /// Writes through that have taken space and are not yet stored.
    pub(super) through_writes: u32,
    /// How far space was taken in each block written since all was last stored.
    ends: BTreeMap<u64, u32>,
    /// Bytes of the file whose space was allocated through this mount (fallocate), holes or not.
    promised: Range<u64>,
}

impl Reservation {
    pub(super) fn new(dense: bool) -> Self {
        Reservation {
            dense,
            taken_bytes: 0,
            through_writes: 0,
            ends: BTreeMap::new(),
            promised: 0..0,
        }
    }

    /// Data of a block now reach up to `end`.
    pub(super) fn reach(&mut self, block: u64, end: u32) {
        let reached = self.ends.entry(block).or_insert(0);
        *reached = (*reached).max(round_up(end));
    }

    /// The blocks of `range` reach to its end now. A block has its space from its start on.
    pub(super) fn promise(&mut self, block_bytes: u32, range: Range<u64>) {
        let start = range.start - range.start % u64::from(block_bytes);
        let known = &mut self.promised;
        *known = if start <= known.end && known.start <= range.end {
            start.min(known.start)..range.end.max(known.end)
        } else {
            start..range.end
        };
    }

    /// What is allocated is not known any more.
    pub(super) fn doubt(&mut self) {
        self.dense = false;
        self.promised = 0..0;
    }

    /// The file was cut or grown by a truncate.
    pub(super) fn resized(&mut self, size: u64, old_size: u64) {
        self.promised = 0..0;
        self.dense = size == 0 || (self.dense && size <= old_size);
        self.ends.clear();
    }
}

impl File {
    /// Space that writing `length` bytes at `offset` (none: at the end) must be able to count on.
    pub(crate) fn space_needed(&self, offset: Option<u64>, length: u32) -> u64 {
        let state = self.state.lock();
        let offset = offset.unwrap_or(state.size);
        state.space_needed(self.block_bytes, offset, length)
    }
}

impl State {
    /// For each block touched: the growth of its end beyond what it holds or has been taken.
    pub(super) fn space_needed(&self, block_bytes: u32, offset: u64, length: u32) -> u64 {
        pieces(block_bytes, offset, length)
            .map(|(block, start, length)| {
                let end = round_up(start + length);
                let taken = self.reservation.ends.get(&block).copied().unwrap_or(0);
                let held = taken.max(self.allocated_end(block_bytes, block));
                u64::from(end.saturating_sub(held))
            })
            .sum()
    }

    /// Bytes of `block` that have their space on the server, as far as is known.
    fn allocated_end(&self, block_bytes: u32, block: u64) -> u32 {
        let start = block * u64::from(block_bytes);
        let promised = &self.reservation.promised;
        let dense = match self.reservation.dense {
            true => self.committed_size,
            false => 0,
        };
        let end = match promised.contains(&start) {
            true => dense.max(promised.end),
            false => dense,
        };
        let behind = end.saturating_sub(start);
        round_up(behind.min(u64::from(block_bytes)) as u32)
    }

    /// A write through has taken `space` bytes.
    pub(crate) fn begin_through(&mut self, space: u64) {
        self.reservation.taken_bytes += space as i64;
        self.reservation.through_writes += 1;
    }

    /// A write through is stored, or has failed.
    pub(crate) fn end_through(&mut self) {
        self.reservation.through_writes = self.reservation.through_writes.saturating_sub(1);
    }

    /// A write through did not come about: the space is the caller's again.
    pub(crate) fn cancel_through(&mut self, space: u64) {
        self.reservation.taken_bytes -= space as i64;
        self.end_through();
    }

    /// If all is stored and committed: what was taken and not used, for the grant.
    pub(super) fn settle(&mut self) -> i64 {
        let under_way = !self.dirty.is_empty() || self.reservation.through_writes > 0;
        if under_way || self.allocated_delta != 0 {
            return 0;
        }
        self.reservation.ends.clear();
        std::mem::take(&mut self.reservation.taken_bytes)
    }

    /// The file is closed for good, perhaps after a commit that failed.
    pub(crate) fn give_up_reservation(&mut self) -> i64 {
        let taken = std::mem::take(&mut self.reservation.taken_bytes);
        taken - self.allocated_delta.max(0)
    }
}

pub(super) fn round_up(bytes: u32) -> u32 {
    bytes.next_multiple_of(ALLOCATION_UNIT_BYTES)
}
