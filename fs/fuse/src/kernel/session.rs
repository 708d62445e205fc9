//! A session: the handshake, and the threads that read requests until the end of the connection.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use tokio::runtime::Handle;

use super::abi::{self, InitOut, capability};
use super::buffer::{Buffers, PAGE_BYTES};
use super::device::Device;
use super::handouts::Handouts;
use super::interrupts::Interrupts;
use super::notify::Notifier;
use super::operation::{InitArguments, Operation};
use super::reply::{Channel, Reply};
use super::request::{Dialect, Refusal, Request};
use crate::metrics::Requests;

/// Largest write and read, bytes: one block of the default size.
const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// Requests that the kernel may have under way in the background (read-ahead, write-back), and how
/// many make it slow down.
const BACKGROUND_REQUESTS_MAX: u16 = 64;
const BACKGROUND_REQUESTS_MANY: u16 = BACKGROUND_REQUESTS_MAX / 4 * 3;
/// Room for what comes with the data of a write.
const HEADER_BYTES_MAX: usize = PAGE_BYTES;
/// A request of at least so many bytes is kept where it was read, if the handler wants to keep it:
/// little of the buffer is lost then.
const SHARED_BYTES_MIN: usize = REQUEST_BYTES_MAX as usize / 2;
/// Times are kept to the nanosecond.
const TIME_GRAIN_NS: u32 = 1;

/// Asked for as far as the kernel has it.
const WANTED: u64 = capability::ASYNC_READ
    | capability::POSIX_LOCKS
    | capability::FLOCK_LOCKS
    | capability::EXPORT_SUPPORT
    | capability::BIG_WRITES
    | capability::DONT_MASK
    | capability::PARALLEL_DIROPS
    | capability::DO_READDIRPLUS
    | capability::ASYNC_DIO
    | capability::ATOMIC_O_TRUNC
    | capability::HANDLE_KILLPRIV_V2
    | capability::SETXATTR_EXT
    | capability::CACHE_SYMLINKS
    | capability::DIRECT_IO_ALLOW_MMAP
    | capability::MAX_PAGES
    | capability::INIT_EXT;

/// What access control lists need: without the flags of SETXATTR there is no telling whose
/// set-group-id bits must go.
const ACLS: u64 = capability::POSIX_ACL | capability::SETXATTR_EXT;

/// Who does what requests ask for.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Called on a thread that reads requests: it must not wait for anything. What the request
    /// borrows is gone when this returns, the answer may come later.
    fn handle(&self, request: Request<'_>, reply: Reply);
}

/// A connection that has shaken hands.
#[derive(Debug)]
pub(crate) struct Session {
    channel: Arc<Channel>,
    agreed: u64,
}

impl Session {
    /// Shakes hands over a new connection. Threads that wait for operations are watched on
    /// `runtime`. `acls`: the kernel is to obey access control lists, if it can.
    pub(crate) fn begin(device: OwnedFd, runtime: Handle, acls: bool) -> io::Result<Self> {
        let channel = Arc::new(Channel {
            device: Device::new(device),
            interrupts: Interrupts::new(runtime),
            requests: Arc::default(),
            handouts: Arc::new(Handouts::new()),
        });
        let agreed = shake_hands(&channel, acls)?;
        Ok(Session { channel, agreed })
    }

    /// Whether the kernel obeys access control lists.
    pub(crate) fn has_acls(&self) -> bool {
        self.agreed & ACLS == ACLS
    }

    /// What is counted of its requests.
    pub(crate) fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.channel.requests)
    }

    /// A way to tell the kernel what it must forget.
    pub(crate) fn notifier(&self) -> io::Result<Notifier> {
        let handouts = Arc::clone(&self.channel.handouts);
        Ok(Notifier::new(self.channel.device.try_share()?, handouts))
    }

    /// Serves with so many threads until the end of the connection.
    pub(crate) fn run(self, threads: usize, handler: Arc<impl Handler>) -> io::Result<()> {
        let dialect = dialect(self.agreed);
        let mut channels = Vec::with_capacity(threads);
        for _ in 1..threads {
            channels.push(Arc::new(Channel {
                device: self.channel.device.try_clone()?,
                interrupts: Arc::clone(&self.channel.interrupts),
                requests: Arc::clone(&self.channel.requests),
                handouts: Arc::clone(&self.channel.handouts),
            }));
        }
        channels.push(self.channel);
        let buffers = Buffers::new(REQUEST_BYTES_MAX as usize + HEADER_BYTES_MAX);
        let spawn = |(index, channel): (usize, Arc<Channel>)| {
            let (handler, buffers) = (Arc::clone(&handler), Arc::clone(&buffers));
            thread::Builder::new()
                .name(format!("fuse-{index}"))
                .spawn(move || read_requests(&channel, dialect, &buffers, &*handler))
        };
        let readers: Vec<_> = channels.into_iter().enumerate().map(spawn).collect();
        let mut outcome = Ok(());
        for reader in readers {
            let ended = reader.and_then(|reader| {
                let panicked = |_| io::Error::other("a thread that read requests panicked");
                reader.join().unwrap_or_else(|panic| Err(panicked(panic)))
            });
            outcome = outcome.and(ended);
        }
        outcome
    }
}

fn read_requests(
    channel: &Arc<Channel>,
    dialect: Dialect,
    buffers: &Arc<Buffers>,
    handler: &impl Handler,
) -> io::Result<()> {
    let mut buffer = buffers.take();
    loop {
        let length = channel.device.receive(buffer.bytes())?;
        let served = match length {
            0 => return Ok(()),
            SHARED_BYTES_MIN.. => {
                let full = std::mem::replace(&mut buffer, buffers.take());
                let shared = full.share(length);
                let request = Request::decode(&shared, dialect).map(|request| Request {
                    shared: Some(&shared),
                    ..request
                });
                serve(request, channel, handler)
            }
            _ => {
                let request = Request::decode(&buffer.bytes()[..length], dialect);
                serve(request, channel, handler)
            }
        };
        if served.is_break() {
            return Ok(());
        }
    }
}

fn serve(
    request: Result<Request<'_>, Refusal>,
    channel: &Arc<Channel>,
    handler: &impl Handler,
) -> std::ops::ControlFlow<()> {
    match request {
        Ok(request) => {
            let reply = Reply::new(
                Arc::clone(channel),
                (request.unique, request.opcode),
                request.thread,
            );
            serve_decoded(request, reply, channel, handler)
        }
        Err(refusal) => {
            refuse(channel, refusal);
            std::ops::ControlFlow::Continue(())
        }
    }
}

/// Serves what is not an operation of the file system, and hands on what is.
fn serve_decoded(
    request: Request<'_>,
    reply: Reply,
    channel: &Channel,
    handler: &impl Handler,
) -> std::ops::ControlFlow<()> {
    match request.operation {
        Operation::Interrupt { unique } => {
            reply.forgo();
            channel.interrupts.deliver(unique);
        }
        Operation::Forget | Operation::NotifyReply => reply.forgo(),
        Operation::Init(_) => reply.error(libc::EIO),
        Operation::Destroy => {
            reply.ok();
            return std::ops::ControlFlow::Break(());
        }
        _ => handler.handle(request, reply),
    }
    std::ops::ControlFlow::Continue(())
}

fn refuse(channel: &Arc<Channel>, refusal: Refusal) {
    tracing::warn!(%refusal, "refused what the kernel sent");
    if let Refusal::Malformed { unique, opcode } = refusal {
        let reply = Reply::new(Arc::clone(channel), (unique, opcode), 0);
        match opcode {
            abi::opcode::FORGET | abi::opcode::BATCH_FORGET | abi::opcode::INTERRUPT => {
                reply.forgo();
            }
            _ => reply.error(libc::EIO),
        }
    }
}

/// Answers the flags that were agreed on.
fn shake_hands(channel: &Arc<Channel>, acls: bool) -> io::Result<u64> {
    let mut buffer = Buffers::new(REQUEST_BYTES_MAX as usize + HEADER_BYTES_MAX).take();
    loop {
        let length = channel.device.receive(buffer.bytes())?;
        if length == 0 {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let request = Request::decode(&buffer.bytes()[..length], Dialect::default());
        let request =
            request.map_err(|refusal| io::Error::new(io::ErrorKind::InvalidData, refusal))?;
        let reply = Reply::new(Arc::clone(channel), (request.unique, request.opcode), 0);
        let Operation::Init(offer) = request.operation else {
            reply.error(libc::EIO);
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the kernel's first request was not INIT",
            ));
        };
        if offer.major > abi::MAJOR {
            // It asks again with the number that it is told.
            reply.value(&InitOut {
                major: abi::MAJOR,
                minor: abi::MINOR,
                ..InitOut::default()
            });
            continue;
        }
        if offer.major < abi::MAJOR || offer.minor < abi::MINOR_MIN {
            reply.error(libc::EPROTO);
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "the kernel speaks FUSE {}.{}, which is too old: {}.{} is needed",
                    offer.major,
                    offer.minor,
                    abi::MAJOR,
                    abi::MINOR_MIN
                ),
            ));
        }
        let agreed = agree(offer.capabilities, acls);
        let accepted = accept(offer, agreed);
        tracing::debug!(?offer, ?accepted, "shook hands with the kernel");
        reply.value(&accepted);
        return Ok(agreed);
    }
}

/// What both sides have.
fn agree(offered: u64, acls: bool) -> u64 {
    match acls && offered & ACLS == ACLS {
        true => offered & (WANTED | ACLS),
        false => offered & WANTED,
    }
}

fn dialect(agreed: u64) -> Dialect {
    Dialect {
        long_setxattr: agreed & capability::SETXATTR_EXT != 0,
    }
}

fn accept(offer: InitArguments, agreed: u64) -> InitOut {
    InitOut {
        major: abi::MAJOR,
        minor: abi::MINOR,
        max_readahead: offer.read_ahead_bytes_max.min(REQUEST_BYTES_MAX),
        flags: agreed as u32,
        flags2: (agreed >> 32) as u32,
        max_background: BACKGROUND_REQUESTS_MAX,
        congestion_threshold: BACKGROUND_REQUESTS_MANY,
        max_write: REQUEST_BYTES_MAX,
        time_gran: TIME_GRAIN_NS,
        max_pages: (REQUEST_BYTES_MAX as usize / PAGE_BYTES) as u16,
        ..InitOut::default()
    }
}

#[cfg(test)]
mod tests;
