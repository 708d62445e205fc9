//! Buffered data of one block: what was written and is not yet on its server.

use bytes::{Bytes, BytesMut};
use pocket_storage_client::Payload;
use tokio::sync::OwnedSemaphorePermit;

use super::write_data::{Buffer, WritePart};

/// First growth of an extent reserves so much at once, so that small appends do not copy.
const EXTENT_GROWTH_BYTES: usize = 64 << 10;

/// A run of buffered bytes.
struct Extent {
    start: u32,
    data: Buffer,
    /// The write budget's bytes for `data`.
    permit: OwnedSemaphorePermit,
}

impl Extent {
    fn end(&self) -> u32 {
        self.start + self.data.len() as u32
    }
}

/// A run of bytes on its way to the server.
pub(super) struct Sending {
    pub(super) start: u32,
    pub(super) data: Payload,
    _permit: OwnedSemaphorePermit,
}

/// Where a range of a dirty block can be read from.
pub(super) enum Held {
    /// All of it is in memory.
    Whole(Bytes),
    /// None of it is in memory: the server has it.
    Nothing,
    /// Some of it: send what is buffered first, then ask the server.
    Partly,
}

/// Buffered data of a block, in disjoint extents sorted by start.
#[derive(Default)]
pub(super) struct DirtyBlock {
    pending: Vec<Extent>,
    sending: Vec<Sending>,
    /// Number of the oldest write that is not yet stored.
    pub(super) oldest: u64,
    /// Number of the oldest write in `pending`.
    pending_since: u64,
    /// Someone waits for `pending` to follow what is being sent.
    pub(super) wanted: bool,
}

impl DirtyBlock {
    /// Buffers `data` at `start`; later data replace earlier.
    pub(super) fn write(
        &mut self,
        start: u32,
        data: WritePart<'_>,
        permit: OwnedSemaphorePermit,
        number: u64,
    ) {
        if self.pending.is_empty() {
            self.pending_since = number;
            if self.sending.is_empty() {
                self.oldest = number;
            }
        }
        let end = start + data.len() as u32;
        // The extents that touch [start, end].
        let first = self.pending.partition_point(|extent| extent.end() < start);
        let last = self.pending.partition_point(|extent| extent.start <= end);
        if first == last {
            let extent = Extent {
                start,
                data: data.into(),
                permit,
            };
            self.pending.insert(first, extent);
            return;
        }
        let mut rest = self.pending.drain(first + 1..last).collect::<Vec<_>>();
        let extent = &mut self.pending[first];
        extent.permit.merge(permit);
        let data = if rest.is_empty() && start == extent.end() {
            match extent.data.append(data) {
                Some(data) => data,
                None => return,
            }
        } else {
            data
        };
        if start < extent.start {
            let mut joined = BytesMut::with_capacity((extent.end().max(end) - start) as usize);
            joined.extend_from_slice(&data);
            if end < extent.end() {
                let behind = (end - extent.start) as usize..extent.data.len();
                joined.extend_from_slice(&extent.data.slice(behind));
            }
            (extent.start, extent.data) = (start, Buffer::Own(joined));
        } else {
            let at = (start - extent.start) as usize;
            let own = extent.data.own();
            let inside = data.len().min(own.len() - at);
            own[at..at + inside].copy_from_slice(&data[..inside]);
            if inside < data.len() {
                reserve(own, data.len() - inside);
                own.extend_from_slice(&data[inside..]);
            }
        }
        for swallowed in rest.drain(..) {
            if swallowed.end() > extent.end() {
                let tail = (extent.end() - swallowed.start) as usize;
                let behind = swallowed.data.slice(tail..swallowed.data.len());
                extent.data.own().extend_from_slice(&behind);
            }
            extent.permit.merge(swallowed.permit);
        }
        // What was replaced is not held any more.
        let surplus = extent.permit.num_permits() - extent.data.len();
        drop(extent.permit.split(surplus));
    }

    /// Whether one extent covers the whole block.
    pub(super) fn is_full(&self, block_bytes: u32) -> bool {
        matches!(self.pending.as_slice(), [extent] if extent.start == 0 && extent.end() >= block_bytes)
    }

    /// Whether something waits to be sent.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether something is being sent.
    pub(super) fn is_sending(&self) -> bool {
        !self.sending.is_empty()
    }

    /// Moves what is pending into sending; false if there is nothing to send.
    pub(super) fn begin(&mut self) -> bool {
        debug_assert!(
            self.sending.is_empty(),
            "one write-back of a block at a time"
        );
        self.wanted = false;
        self.sending = self
            .pending
            .drain(..)
            .map(
                |Extent {
                     start,
                     data,
                     permit,
                 }| Sending {
                    start,
                    data: data.freeze(),
                    _permit: permit,
                },
            )
            .collect();
        !self.sending.is_empty()
    }

    /// What is being sent.
    pub(super) fn sending(&self) -> Vec<(u32, Payload)> {
        self.sending
            .iter()
            .map(|sending| (sending.start, sending.data.clone()))
            .collect()
    }

    /// What was being sent is stored (or given up). True if nothing is left.
    pub(super) fn finish(&mut self) -> bool {
        self.sending.clear();
        self.oldest = self.pending_since;
        self.pending.is_empty()
    }

    /// Where [start, end) can be read from.
    pub(super) fn held(&self, start: u32, end: u32) -> Held {
        let touches = |from: u32, to: u32| from < end && start < to;
        if let Some(extent) = self.pending.iter().find(|e| touches(e.start, e.end())) {
            if extent.start <= start && end <= extent.end() {
                let from = (start - extent.start) as usize;
                let to = (end - extent.start) as usize;
                return Held::Whole(extent.data.slice(from..to));
            }
            return Held::Partly;
        }
        let to = |sending: &Sending| sending.start + sending.data.len() as u32;
        match self.sending.iter().find(|s| touches(s.start, to(s))) {
            Some(sending) if sending.start <= start && end <= to(sending) => {
                let from = (start - sending.start) as usize;
                Held::Whole(sending.data.slice(from..from + (end - start) as usize))
            }
            Some(_) => Held::Partly,
            None => Held::Nothing,
        }
    }
}

/// Doubles, from a first step on: small appends must not copy the extent each time.
fn reserve(data: &mut BytesMut, more: usize) {
    if data.capacity() - data.len() < more {
        data.reserve(
            more.max(data.len())
                .max(EXTENT_GROWTH_BYTES.min(data.len() * 4)),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tokio::sync::Semaphore;

    use super::*;

    proptest! {
        #[test]
        fn extents_hold_what_an_array_would(
            writes in prop::collection::vec((0u32..200, 1u32..60), 1..40),
            cut in 0usize..40,
            reads in prop::collection::vec((0u32..250, 1u32..80), 20),
        ) {
            let budget = Arc::new(Semaphore::new(1 << 20));
            let mut block = DirtyBlock::default();
            let mut model = vec![None; 400];
            for (number, (start, len)) in writes.iter().copied().enumerate() {
                if number == cut {
                    block.begin();
                }
                let data = vec![number as u8; len as usize];
                let permit = Arc::clone(&budget).try_acquire_many_owned(len).unwrap();
                let shared = Bytes::from(data);
                let part = match number % 2 {
                    0 => WritePart::Borrowed(&shared),
                    _ => WritePart::Shared(shared.clone()),
                };
                block.write(start, part, permit, number as u64);
                model[start as usize..(start + len) as usize].fill(Some(number as u8));
            }
            let extents = &block.pending;
            prop_assert!(extents.windows(2).all(|pair| pair[0].end() < pair[1].start));
            for (start, len) in reads {
                let want = &model[start as usize..(start + len) as usize];
                match block.held(start, start + len) {
                    Held::Whole(bytes) => {
                        let got: Vec<_> = bytes.iter().map(|byte| Some(*byte)).collect();
                        prop_assert_eq!(got, want.to_vec());
                    }
                    Held::Nothing => prop_assert!(want.iter().all(Option::is_none)),
                    Held::Partly => prop_assert!(want.iter().any(Option::is_some)),
                }
            }
            let held = |block: &DirtyBlock| -> usize {
                let pending = block.pending.iter().map(|extent| extent.data.len());
                let sending = block.sending.iter().map(|sending| sending.data.len());
                pending.chain(sending).sum()
            };
            prop_assert_eq!(budget.available_permits(), (1 << 20) - held(&block));
            drop(block);
            prop_assert_eq!(budget.available_permits(), 1 << 20);
        }
    }
}
