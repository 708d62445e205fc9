//! Transfers by a few threads that wait for them: where io_uring is refused.

use std::{
    io,
    os::unix::fs::FileExt,
    sync::{Arc, mpsc},
    thread,
};

use parking_lot::Mutex;

use super::{Device, Direction, Transfer, file::Medium};

/// Transfers carried out at a time.
const THREADS: usize = 16;

/// A pool of threads over a file.
pub(super) struct ThreadDevice {
    medium: Arc<Medium>,
    queue: mpsc::Sender<Transfer>,
}

impl ThreadDevice {
    /// Starts the threads; they end when this is dropped.
    pub(super) fn start(medium: Arc<Medium>) -> Self {
        let (queue, transfers) = mpsc::channel::<Transfer>();
        let transfers = Arc::new(Mutex::new(transfers));
        for _ in 0..THREADS {
            let (medium, transfers) = (Arc::clone(&medium), Arc::clone(&transfers));
            thread::spawn(move || {
                loop {
                    let next = transfers.lock().recv();
                    match next {
                        Ok(transfer) => carry_out(&medium, transfer),
                        Err(_) => return,
                    }
                }
            });
        }
        ThreadDevice { medium, queue }
    }
}

impl Device for ThreadDevice {
    fn submit(&self, transfer: Transfer) {
        if let Err(mpsc::SendError(transfer)) = self.queue.send(transfer) {
            let ended = io::Error::other("the threads of the device have ended");
            (transfer.done)(Err(ended), transfer.buffer);
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

fn carry_out(medium: &Medium, mut transfer: Transfer) {
    let result = match transfer.direction {
        Direction::Read => medium.file.read_exact_at(&mut transfer.buffer, transfer.at),
        Direction::Write => medium.file.write_all_at(&transfer.buffer, transfer.at),
    };
    (transfer.done)(result, transfer.buffer);
}
