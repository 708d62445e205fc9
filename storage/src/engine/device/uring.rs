//! Transfers through io_uring, by one thread that owns the ring.
//!
//! Whoever asks puts the transfer into a queue, and wakes the thread if it sleeps; the thread submits
//! what is queued, as one batch, and calls completions. Requests belong to that thread alone because
//! the kernel gives up what a thread that ends had submitted. A transfer that the kernel carried out
//! in part is submitted again for the rest.

#![allow(unsafe_code)]

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsRawFd, RawFd},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use io_uring::{IoUring, opcode, squeue, types};
use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::Mutex;
use tracing::error;

use super::{Device, Direction, Done, Transfer, file::Medium};

/// Transfers with the kernel at a time; further ones wait in the queue.
const IN_FLIGHT_MAX: usize = 256;
/// The file, as registered with the ring.
const FILE: types::Fixed = types::Fixed(0);
/// Marks the request that waits for a wake-up; transfers are marked by their slot.
const WAKE: u64 = u64::MAX;

/// A ring over a file, and its thread.
pub(super) struct UringDevice {
    medium: Arc<Medium>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: EventFd,
}

#[derive(Default)]
struct Queue {
    transfers: VecDeque<Transfer>,
    /// The thread waits for the kernel and must be woken.
    asleep: bool,
    /// The device is being dropped, or has failed: nothing more is taken.
    ended: bool,
}

impl UringDevice {
    /// Sets a ring up. Fails where the system does not let us.
    pub(super) fn start(medium: Arc<Medium>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?,
        });
        let (started, outcome) = mpsc::sync_channel(1);
        let (ours, file) = (Arc::clone(&shared), Arc::clone(&medium));
        let thread = thread::Builder::new()
            .name("pocket-uring".to_owned())
            .spawn(move || match Ring::new(ours, file.file.as_raw_fd()) {
                Ok(ring) => {
                    // Whoever started the thread waits for this.
                    let _ = started.send(Ok(()));
                    ring.run();
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            })?;
        outcome
            .recv()
            .map_err(|_| io::Error::other("the thread of the ring has ended"))??;
        Ok(UringDevice {
            medium,
            shared,
            thread: Some(thread),
        })
    }
}

impl Device for UringDevice {
    fn submit(&self, transfer: Transfer) {
        let mut queue = self.shared.queue.lock();
        if queue.ended {
            drop(queue);
            return (transfer.done)(Err(ended()), transfer.buffer);
        }
        queue.transfers.push_back(transfer);
        let wakes = std::mem::take(&mut queue.asleep);
        drop(queue);
        if wakes {
            self.shared.wake();
        }
    }

    fn reach(&self, bytes: u64) -> io::Result<()> {
        self.medium.reach(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.medium.sync()
    }

    fn discard(&self, at: u64, bytes: u64) -> io::Result<()> {
        self.medium.discard(at, bytes)
    }
}

impl Drop for UringDevice {
    fn drop(&mut self) {
        self.shared.queue.lock().ended = true;
        self.shared.wake();
        let Some(thread) = self.thread.take() else {
            return;
        };
        // The last completion may drop the device on the ring's own thread, which then ends by
        // itself.
        if thread.thread().id() != thread::current().id() {
            // A panic of it was told when it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn wake(&self) {
        // Fails only if the counter is full, and then the thread is being woken anyway.
        let _ = self.wake.write(1);
    }
}

/// What the thread has.
struct Ring {
    shared: Arc<Shared>,
    uring: IoUring,
    slots: Vec<Option<InFlight>>,
    free: Vec<usize>,
    /// Parts of transfers that are to be submitted again.
    again: Vec<usize>,
    /// Where the kernel puts what it reads from the wake-up descriptor.
    woken: Box<[u8; 8]>,
    wake_armed: bool,
}

struct InFlight {
    transfer: Transfer,
    /// Bytes that are over.
    done_bytes: usize,
}

impl Ring {
    fn new(shared: Arc<Shared>, file: RawFd) -> io::Result<Self> {
        let entries = 2 * IN_FLIGHT_MAX as u32;
        // Completions are looked for by this thread alone, when it asks: cheaper, from Linux 6.1 on.
        let uring = IoUring::builder()
            .dontfork()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(entries)
            .or_else(|_| IoUring::builder().dontfork().build(entries))?;
        uring.submitter().register_files(&[file])?;
        Ok(Ring {
            shared,
            uring,
            slots: (0..IN_FLIGHT_MAX).map(|_| None).collect(),
            free: (0..IN_FLIGHT_MAX).rev().collect(),
            again: Vec::new(),
            woken: Box::new([0; 8]),
            wake_armed: false,
        })
    }

    fn run(mut self) {
        let mut finished = Vec::new();
        while self.fill() {
            match self.uring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => return self.fail(&error),
            }
            self.shared.queue.lock().asleep = false;
            self.reap(&mut finished);
            for (done, result, buffer) in finished.drain(..) {
                done(result, buffer);
            }
        }
    }

    /// Hands what is queued to the kernel. False: all is over.
    fn fill(&mut self) -> bool {
        for slot in std::mem::take(&mut self.again) {
            self.push(slot);
        }
        let shared = Arc::clone(&self.shared);
        let mut queue = shared.queue.lock();
        while let Some(slot) = self.free.pop() {
            let Some(transfer) = queue.transfers.pop_front() else {
                self.free.push(slot);
                break;
            };
            self.slots[slot] = Some(InFlight {
                transfer,
                done_bytes: 0,
            });
            self.push(slot);
        }
        let in_flight = IN_FLIGHT_MAX - self.free.len();
        if queue.ended && in_flight == 0 && queue.transfers.is_empty() {
            return false;
        }
        queue.asleep = true;
        drop(queue);
        if !self.wake_armed {
            let wake = self.shared.wake.as_raw_fd();
            let read = opcode::Read::new(types::Fd(wake), self.woken.as_mut_ptr(), 8);
            self.push_entry(read.build().user_data(WAKE));
            self.wake_armed = true;
        }
        true
    }

    /// Hands the rest of a slot's transfer to the kernel.
    fn push(&mut self, slot: usize) {
        let Some(InFlight {
            transfer,
            done_bytes,
        }) = &mut self.slots[slot]
        else {
            return;
        };
        let at = transfer.at + *done_bytes as u64;
        let rest = &mut transfer.buffer[*done_bytes..];
        // Buffers are far shorter than 4 GiB.
        let length = rest.len() as u32;
        let entry = match transfer.direction {
            Direction::Read => opcode::Read::new(FILE, rest.as_mut_ptr(), length)
                .offset(at)
                .build(),
            Direction::Write => opcode::Write::new(FILE, rest.as_ptr(), length)
                .offset(at)
                .build(),
        };
        self.push_entry(entry.user_data(slot as u64));
    }

    fn push_entry(&mut self, entry: squeue::Entry) {
        // SAFETY: the memory that the entry names is owned by a slot, or by the ring itself, until
        // its completion has been reaped.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        pushed.expect("the queue has room for every slot and the wake-up");
    }

    /// Collects what is over.
    fn reap(&mut self, finished: &mut Vec<(Done, io::Result<()>, super::SectorBuffer)>) {
        for completion in self.uring.completion() {
            if completion.user_data() == WAKE {
                self.wake_armed = false;
                continue;
            }
            let slot = completion.user_data() as usize;
            let Some(in_flight) = &mut self.slots[slot] else {
                continue;
            };
            let result = match completion.result() {
                error if error < 0 => match io::Error::from_raw_os_error(-error) {
                    passing if is_passing(&passing) => {
                        self.again.push(slot);
                        continue;
                    }
                    error => Err(error),
                },
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => {
                    in_flight.done_bytes += bytes as usize;
                    if in_flight.done_bytes < in_flight.transfer.buffer.len() {
                        self.again.push(slot);
                        continue;
                    }
                    Ok(())
                }
            };
            if let Some(InFlight { transfer, .. }) = self.slots[slot].take() {
                self.free.push(slot);
                finished.push((transfer.done, result, transfer.buffer));
            }
        }
    }

    /// The kernel serves this ring no longer. What is with it may still be written to: that memory
    /// is given up.
    fn fail(mut self, error: &io::Error) {
        error!(%error, "io_uring failed: the device is given up");
        let queued = {
            let mut queue = self.shared.queue.lock();
            queue.ended = true;
            std::mem::take(&mut queue.transfers)
        };
        for transfer in queued {
            (transfer.done)(Err(ended()), transfer.buffer);
        }
        for in_flight in self.slots.drain(..).flatten() {
            std::mem::forget(in_flight.transfer.buffer);
            (in_flight.transfer.done)(Err(ended()), super::SectorBuffer::new(0));
        }
        std::mem::forget(self.woken);
    }
}

/// Whether the same request may succeed at once.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
    )
}

fn ended() -> io::Error {
    io::Error::other("the device has ended")
}
