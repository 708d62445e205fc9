//! Answers: one per request, from any thread.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use zerocopy::{Immutable, IntoBytes};

use super::abi::{self, Dirent, EntryOut};
use super::device::Device;
use super::handouts::Handouts;
use super::interrupts::{Interrupts, Until};
use crate::metrics::Requests;

/// The kernel takes no larger errno.
const ERRNO_MAX: i32 = 511;

/// What answers need: the descriptor that the request was read from, and where they are counted.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) device: Device,
    pub(crate) interrupts: Arc<Interrupts>,
    pub(crate) requests: Arc<Requests>,
    pub(crate) handouts: Arc<Handouts>,
}

/// The right to answer a request. It is answered once, with EIO if it is dropped.
pub(crate) struct Reply {
    /// None once answered.
    channel: Option<Arc<Channel>>,
    unique: u64,
    opcode: u32,
    asked: Instant,
    /// The thread that waits for the answer.
    thread: u32,
}

impl Reply {
    /// The right to answer the request `unique` of kind `opcode`, read just now.
    pub(crate) fn new(channel: Arc<Channel>, (unique, opcode): (u64, u32), thread: u32) -> Self {
        // Nobody waits for an answer to 0; sent nevertheless, it would be a notification.
        let channel = (unique != 0).then_some(channel);
        Reply {
            channel,
            unique,
            opcode,
            asked: Instant::now(),
            thread,
        }
    }

    pub(crate) fn ok(self) {
        self.send(0, &[]);
    }

    /// Answers nothing, where the kernel expects nothing.
    pub(crate) fn forgo(mut self) {
        self.channel = None;
    }

    /// Answers an errno (`libc::E*`).
    pub(crate) fn error(self, errno: i32) {
        let errno = match errno {
            1..=ERRNO_MAX => errno,
            _ => libc::EIO,
        };
        self.send(-errno, &[]);
    }

    /// Answers a struct.
    pub(crate) fn value(self, value: &(impl IntoBytes + Immutable)) {
        self.send(0, &[value.as_bytes()]);
    }

    /// Answers an entry, with what comes behind it in `value`.
    pub(crate) fn entry(self, entry: &EntryOut, value: &(impl IntoBytes + Immutable)) {
        self.hand_out(entry.handed_out());
        self.value(value);
    }

    /// Answers what a directory holds.
    pub(crate) fn listing(self, listing: &Listing) {
        self.hand_out(listing.handed_out.iter().copied());
        self.bytes(listing.bytes());
    }

    fn hand_out(&self, inodes: impl IntoIterator<Item = u64>) {
        if let Some(channel) = &self.channel {
            inodes
                .into_iter()
                .for_each(|inode| channel.handouts.note(inode));
        }
    }

    /// Answers bytes.
    pub(crate) fn bytes(self, bytes: &[u8]) {
        self.send(0, &[bytes]);
    }

    /// Answers bytes that lie in several places.
    pub(crate) fn pieces(self, pieces: &[&[u8]]) {
        self.send(0, pieces);
    }

    fn send(mut self, error: i32, pieces: &[&[u8]]) {
        self.send_once(error, pieces);
    }

    fn send_once(&mut self, error: i32, pieces: &[&[u8]]) {
        let Some(channel) = self.channel.take() else {
            return;
        };
        let took = self.asked.elapsed();
        channel.requests.answered(self.opcode, took, error);
        if let Err(failure) = channel.device.send(self.unique, error, pieces) {
            // ENOENT: nobody waits any more, because the connection has ended.
            tracing::debug!(unique = self.unique, %failure, "an answer was not taken");
        }
    }

    /// Runs `operation` to its end, whatever happens. If the process that waits for it is killed
    /// before, it is answered with EINTR and can go; then the right to answer is gone when this
    /// returns, and what the operation made is the caller's to undo.
    pub(crate) async fn unless_killed<T>(
        self,
        operation: impl Future<Output = T>,
    ) -> (T, Option<Reply>) {
        self.unless(Until::Killed, operation).await
    }

    async fn unless<T>(
        self,
        until: Until,
        operation: impl Future<Output = T>,
    ) -> (T, Option<Reply>) {
        let mut operation = pin!(operation);
        match self.race(until, operation.as_mut()).await {
            Some(outcome) => (outcome, Some(self)),
            None => {
                self.error(libc::EINTR);
                (operation.await, None)
            }
        }
    }

    /// Runs `operation`, which undoes itself when it is dropped. If a signal comes before its end,
    /// it is dropped, and then answered with EINTR: what the process does next comes behind that.
    pub(crate) async fn or_drop<T>(
        self,
        until: Until,
        operation: impl Future<Output = T>,
    ) -> Option<(T, Reply)> {
        // Boxed, so that it can be dropped before the answer.
        let mut operation = Box::pin(operation);
        let outcome = self.race(until, operation.as_mut()).await;
        drop(operation);
        match outcome {
            Some(outcome) => Some((outcome, self)),
            None => {
                self.error(libc::EINTR);
                None
            }
        }
    }

    /// What comes of `operation`; `None` if what it is not to wait for comes first.
    async fn race<T>(
        &self,
        until: Until,
        mut operation: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let Some(channel) = &self.channel else {
            return Some(operation.await);
        };
        let mut interrupted = channel.interrupts.watch(self.unique, self.thread, until);
        // The operation first: one that ends at once is never entered in the table.
        poll_fn(|context| match operation.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => interrupted.poll(context).map(|()| None),
        })
        .await
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.send_once(-libc::EIO, &[]);
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({})", self.unique)
    }
}

impl EntryOut {
    /// The inode whose attributes the kernel may keep from now on, if any.
    fn handed_out(&self) -> Option<u64> {
        let is_kept = self.attr_valid != 0 || self.attr_valid_nsec != 0;
        is_kept.then_some(self.nodeid)
    }
}

/// A validity as the kernel takes it: seconds and nanoseconds.
pub(crate) fn validity(validity: Duration) -> (u64, u32) {
    (validity.as_secs(), validity.subsec_nanos())
}

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListedName<'a> {
    pub(crate) inode: u64,
    /// Where reading goes on behind it.
    pub(crate) cookie: u64,
    /// The type bits of its mode.
    pub(crate) kind: u32,
    pub(crate) name: &'a [u8],
}

/// The names that one answer to READDIR or READDIRPLUS holds.
#[derive(Debug)]
pub(crate) struct Listing {
    records: Vec<u8>,
    handed_out: Vec<u64>,
    bytes_max: usize,
}

impl Listing {
    /// An empty one, which is the end of the directory.
    pub(crate) fn new(bytes_max: u32) -> Self {
        let bytes_max = bytes_max as usize;
        Listing {
            records: Vec::with_capacity(bytes_max.min(64 << 10)),
            handed_out: Vec::new(),
            bytes_max,
        }
    }

    /// Adds a name; false if there is no room for it.
    pub(crate) fn add(&mut self, listed: ListedName<'_>) -> bool {
        self.push(&[], listed)
    }

    /// Adds a name with what a lookup of it would answer; false if there is no room for it.
    pub(crate) fn add_with_entry(&mut self, entry: &EntryOut, listed: ListedName<'_>) -> bool {
        let added = self.push(entry.as_bytes(), listed);
        if added {
            self.handed_out.extend(entry.handed_out());
        }
        added
    }

    fn push(&mut self, entry: &[u8], listed: ListedName<'_>) -> bool {
        let length = entry.len() + size_of::<Dirent>() + listed.name.len();
        let end = (self.records.len() + length).next_multiple_of(abi::DIRECTORY_RECORD_ALIGN);
        let Ok(namelen) = u32::try_from(listed.name.len()) else {
            return false;
        };
        if end > self.bytes_max {
            return false;
        }
        let dirent = Dirent {
            ino: listed.inode,
            off: listed.cookie,
            namelen,
            kind: (listed.kind & libc::S_IFMT) >> 12,
        };
        self.records.extend_from_slice(entry);
        self.records.extend_from_slice(dirent.as_bytes());
        self.records.extend_from_slice(listed.name);
        self.records.resize(end, 0);
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.records
    }
}

#[cfg(test)]
mod tests;
