//! Transfers of a spindle: few at a time, in the order of place, so that its arm sweeps.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::{Device, Transfer};

/// Transfers with the disk at a time: enough to keep it busy, few enough that order is ours.
const IN_FLIGHT_MAX: usize = 4;

/// A device whose waiting transfers are begun in the order of place, upwards from the last one and
/// then from the lowest again, so that none waits for more than two sweeps.
pub(in crate::engine) struct Elevator {
    inner: Arc<Inner>,
}

struct Inner {
    device: Arc<dyn Device>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// By place, and the order of arrival where that is the same.
    transfers: BTreeMap<(u64, u64), Transfer>,
    arrived: u64,
    /// Where the arm is taken to be.
    arm: (u64, u64),
    in_flight: usize,
}

impl Elevator {
    /// Puts transfers to `device` in order.
    pub(in crate::engine) fn new(device: Arc<dyn Device>) -> Self {
        let waiting = Mutex::default();
        let inner = Arc::new(Inner { device, waiting });
        Elevator { inner }
    }
}

impl Waiting {
    /// The next on the way up, or else the lowest.
    fn next(&mut self) -> Option<Transfer> {
        if self.in_flight >= IN_FLIGHT_MAX {
            return None;
        }
        let upwards = self.transfers.range(self.arm..).next();
        let (place, _) = upwards.or_else(|| self.transfers.first_key_value())?;
        self.arm = *place;
        self.in_flight += 1;
        self.transfers.remove(&self.arm)
    }
}

impl Inner {
    /// Begins what may be begun.
    fn go_on(self: &Arc<Self>) {
        while let Some(transfer) = { self.waiting.lock().next() } {
            let Transfer {
                direction,
                at,
                buffer,
                done,
            } = transfer;
            let inner = Arc::downgrade(self);
            self.device.submit(Transfer {
                direction,
                at,
                buffer,
                done: Box::new(move |result, buffer| {
                    done(result, buffer);
                    if let Some(inner) = Weak::upgrade(&inner) {
                        inner.waiting.lock().in_flight -= 1;
                        inner.go_on();
                    }
                }),
            });
        }
    }
}

impl Device for Elevator {
    fn submit(&self, transfer: Transfer) {
        {
            let mut waiting = self.inner.waiting.lock();
            waiting.arrived += 1;
            let place = (transfer.at, waiting.arrived);
            waiting.transfers.insert(place, transfer);
        }
        self.inner.go_on();
    }

    fn reach(&self, bytes: u64) -> io::Result<()> {
        self.inner.device.reach(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.device.sync()
    }

    fn discard(&self, at: u64, bytes: u64) -> io::Result<()> {
        self.inner.device.discard(at, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::device::{Direction, SectorBuffer};

    /// Keeps transfers until they are asked for.
    #[derive(Default)]
    struct Held(Mutex<Vec<Transfer>>);

    impl Device for Held {
        fn submit(&self, transfer: Transfer) {
            self.0.lock().push(transfer);
        }

        fn reach(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn discard(&self, _: u64, _: u64) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn waiting_transfers_are_begun_upwards_from_the_last() {
        let held = Arc::new(Held::default());
        let elevator = Elevator::new(held.clone());
        for at in [50, 10, 60, 20, 40, 30, 70, 10] {
            elevator.submit(Transfer {
                direction: Direction::Read,
                at: at * 4096,
                buffer: SectorBuffer::new(4096),
                done: Box::new(|_, _| ()),
            });
        }
        let mut begun = Vec::new();
        loop {
            let taken = { held.0.lock().drain(..).collect::<Vec<_>>() };
            if taken.is_empty() {
                break;
            }
            for transfer in taken {
                begun.push(transfer.at / 4096);
                (transfer.done)(Ok(()), transfer.buffer);
            }
        }
        // The first four came to an idle disk; then the sweep goes on from 20.
        assert_eq!(begun, [50, 10, 60, 20, 30, 40, 70, 10]);
    }
}
