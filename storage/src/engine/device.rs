//! What an engine keeps its blocks on: a file or a block device, read and written beside the page
//! cache, many requests at a time.
//!
//! Every transfer starts at a multiple of [`SECTOR_BYTES`], as long as one, from or to a
//! [`SectorBuffer`]. Its completion is called on a thread of the device, and must not block.

mod buffer;
mod elevator;
mod file;
#[cfg(test)]
mod memory;
mod threads;
mod uring;

use std::{io, sync::mpsc};

pub(super) use buffer::SectorBuffer;
pub(super) use elevator::Elevator;
pub use file::OpenError;
pub(super) use file::open;
#[cfg(test)]
pub(super) use memory::{Fault, MemoryDevice};

/// Unit of transfers: what every medium of today writes as one.
pub(super) const SECTOR_BYTES: usize = 4096;

/// Called once with what came of a transfer, and with its buffer.
pub(super) type Done = Box<dyn FnOnce(io::Result<()>, SectorBuffer) + Send>;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// One transfer of a whole buffer.
pub(super) struct Transfer {
    pub(super) direction: Direction,
    /// First byte on the device.
    pub(super) at: u64,
    pub(super) buffer: SectorBuffer,
    pub(super) done: Done,
}

/// A medium of fixed size.
///
/// Transfers may be carried out in any order; a write that is done outlives the process, and after
/// a [`Device::sync`] that began later the machine.
pub(super) trait Device: Send + Sync + 'static {
    /// Begins a transfer and returns.
    fn submit(&self, transfer: Transfer);

    /// Makes sure that there are so many bytes.
    fn reach(&self, bytes: u64) -> io::Result<()>;

    /// Waits until everything written is on the medium.
    fn sync(&self) -> io::Result<()>;

    /// Says that the content of a range is of no use any more. What it reads as then is anything.
    fn discard(&self, at: u64, bytes: u64) -> io::Result<()>;
}

/// Reads and waits; for threads that have nothing else to do.
pub(super) fn read_wait(device: &dyn Device, at: u64, bytes: usize) -> io::Result<SectorBuffer> {
    transfer_wait(device, Direction::Read, at, SectorBuffer::new(bytes))
}

/// Writes and waits; for threads that have nothing else to do.
pub(super) fn write_wait(device: &dyn Device, at: u64, buffer: SectorBuffer) -> io::Result<()> {
    transfer_wait(device, Direction::Write, at, buffer).map(drop)
}

/// Reads of several ranges, all under way together; waits for all.
pub(super) fn read_many(
    device: &dyn Device,
    ranges: &[(u64, usize)],
) -> Vec<io::Result<SectorBuffer>> {
    let (sender, receiver) = mpsc::channel();
    for (number, (at, bytes)) in ranges.iter().enumerate() {
        let sender = sender.clone();
        device.submit(Transfer {
            direction: Direction::Read,
            at: *at,
            buffer: SectorBuffer::new(*bytes),
            done: Box::new(move |result, buffer| {
                // Whoever waits is still there.
                let _ = sender.send((number, result.map(|()| buffer)));
            }),
        });
    }
    drop(sender);
    let mut read: Vec<_> = receiver.iter().collect();
    read.sort_by_key(|(number, _)| *number);
    read.into_iter().map(|(_, result)| result).collect()
}

fn transfer_wait(
    device: &dyn Device,
    direction: Direction,
    at: u64,
    buffer: SectorBuffer,
) -> io::Result<SectorBuffer> {
    let (sender, receiver) = mpsc::sync_channel(1);
    device.submit(Transfer {
        direction,
        at,
        buffer,
        done: Box::new(move |result, buffer| {
            // Whoever waits is still there.
            let _ = sender.send(result.map(|()| buffer));
        }),
    });
    let lost = |_| Err(io::Error::other("the device has ended"));
    receiver.recv().unwrap_or_else(lost)
}
