//! A medium in memory, for tests: it remembers what was not synced, so that a power cut can take it,
//! and fails as it is told to.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, mpsc},
    thread,
};

use parking_lot::Mutex;

use super::{Device, Direction, SECTOR_BYTES, Transfer};

type Sectors = BTreeMap<u64, Box<[u8; SECTOR_BYTES]>>;

/// What goes wrong with transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Fault {
    /// Reads fail.
    Reads,
    /// So many writes fail, with only half of each done.
    Writes(u32),
    /// So many writes fail because there is no room.
    NoRoom(u32),
    /// Reads find one bit changed.
    Flip,
    /// Writes are answered and never done.
    Ignore,
}

/// A medium without end.
pub(in crate::engine) struct MemoryDevice {
    image: Arc<Mutex<Image>>,
    queue: mpsc::Sender<Transfer>,
}

#[derive(Default)]
struct Image {
    synced: Sectors,
    /// In the order of their completion, a sector each.
    unsynced: Vec<(u64, Box<[u8; SECTOR_BYTES]>)>,
    /// What a reader sees.
    seen: Sectors,
    fault: Option<Fault>,
}

impl Default for MemoryDevice {
    fn default() -> Self {
        Self::with(Sectors::new())
    }
}

impl MemoryDevice {
    fn with(sectors: Sectors) -> Self {
        let image = Arc::new(Mutex::new(Image {
            synced: sectors.clone(),
            seen: sectors,
            ..Image::default()
        }));
        let (queue, transfers) = mpsc::channel::<Transfer>();
        let shared = Arc::clone(&image);
        thread::spawn(move || {
            for mut transfer in transfers {
                let result = shared.lock().carry_out(&mut transfer);
                (transfer.done)(result, transfer.buffer);
            }
        });
        MemoryDevice { image, queue }
    }

    /// The medium after a power cut: of the sectors written since the last sync those are there
    /// that `survives` says.
    pub(in crate::engine) fn after_power_cut(&self, mut survives: impl FnMut() -> bool) -> Self {
        let image = self.image.lock();
        let mut sectors = image.synced.clone();
        for (at, sector) in &image.unsynced {
            if survives() {
                sectors.insert(*at, sector.clone());
            }
        }
        Self::with(sectors)
    }

    pub(in crate::engine) fn set_fault(&self, fault: Option<Fault>) {
        self.image.lock().fault = fault;
    }

    /// Changes bytes of the medium.
    pub(in crate::engine) fn damage(&self, mut change: impl FnMut(u64, &mut [u8])) {
        let mut image = self.image.lock();
        for (at, sector) in &mut image.seen {
            change(*at * SECTOR_BYTES as u64, &mut sector[..]);
        }
    }

    /// Whether the bytes stand anywhere on the medium.
    pub(in crate::engine) fn contains(&self, bytes: &[u8]) -> bool {
        let image = self.image.lock();
        let mut sectors = image.seen.values();
        sectors.any(|sector| sector.windows(bytes.len()).any(|window| window == bytes))
    }
}

impl Device for MemoryDevice {
    fn submit(&self, transfer: Transfer) {
        if let Err(mpsc::SendError(transfer)) = self.queue.send(transfer) {
            (transfer.done)(Err(io::Error::other("ended")), transfer.buffer);
        }
    }

    fn reach(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut image = self.image.lock();
        image.synced = image.seen.clone();
        image.unsynced.clear();
        Ok(())
    }

    fn discard(&self, at: u64, bytes: u64) -> io::Result<()> {
        let sector = SECTOR_BYTES as u64;
        for at in at / sector..(at + bytes) / sector {
            self.image.lock().seen.remove(&at);
        }
        Ok(())
    }
}

impl Image {
    fn carry_out(&mut self, transfer: &mut Transfer) -> io::Result<()> {
        let first = transfer.at / SECTOR_BYTES as u64;
        match transfer.direction {
            Direction::Read => self.read(first, &mut transfer.buffer),
            Direction::Write => self.write(first, &transfer.buffer),
        }
    }

    fn read(&mut self, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.fault == Some(Fault::Reads) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        for (at, sector) in (first..).zip(buffer.as_chunks_mut::<SECTOR_BYTES>().0) {
            match self.seen.get(&at) {
                Some(held) => *sector = **held,
                None => sector.fill(0),
            }
        }
        if self.fault == Some(Fault::Flip) {
            buffer[buffer.len() / 2] ^= 0x10;
        }
        Ok(())
    }

    fn write(&mut self, first: u64, buffer: &[u8]) -> io::Result<()> {
        let sectors = buffer.as_chunks::<SECTOR_BYTES>().0;
        let (done, result) = match &mut self.fault {
            Some(Fault::Writes(left)) if *left > 0 => {
                *left -= 1;
                let failed = io::Error::from_raw_os_error(libc::EIO);
                (sectors.len() / 2, Err(failed))
            }
            Some(Fault::NoRoom(left)) if *left > 0 => {
                *left -= 1;
                (0, Err(io::Error::from_raw_os_error(libc::ENOSPC)))
            }
            Some(Fault::Ignore) => (0, Ok(())),
            _ => (sectors.len(), Ok(())),
        };
        for (at, sector) in (first..).zip(&sectors[..done]) {
            self.seen.insert(at, Box::new(*sector));
            self.unsynced.push((at, Box::new(*sector)));
        }
        result
    }
}
